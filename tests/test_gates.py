"""Gates: bounds on the mean over seeds; what has no value never passes."""

from __future__ import annotations

import math

import pytest

from ftcheck import gates
from ftcheck.results import GateResult, Verdict
from ftcheck.spec import Gate
from tests.report.results import metric


@pytest.mark.parametrize(
    ("value", "gate", "expected"),
    [
        pytest.param(0.86, Gate(metric="accuracy", min=0.86), ["pass"], id="exactly-the-minimum"),
        pytest.param(0.8599, Gate(metric="accuracy", min=0.86), ["fail"], id="just-below"),
        pytest.param(0.86, Gate(metric="accuracy", max=0.86), ["pass"], id="exactly-the-maximum"),
        pytest.param(0.87, Gate(metric="accuracy", max=0.86), ["fail"], id="above-the-maximum"),
        pytest.param(0.7, Gate(metric="accuracy", min=0.8, max=0.9), ["fail", "pass"], id="both-bounds"),
        pytest.param(math.nan, Gate(metric="accuracy", min=0.0), ["fail"], id="nan-is-not-at-least"),
        pytest.param(math.nan, Gate(metric="accuracy", max=1.0), ["fail"], id="nan-is-not-at-most"),
        pytest.param(math.inf, Gate(metric="accuracy", max=1.0), ["fail"], id="infinite"),
        pytest.param(0.9, Gate(metric="accuracy"), [], id="no-bound"),
    ],
)
def test_a_bound_is_judged_on_the_mean(value: float, gate: Gate, expected: list[Verdict]) -> None:
    found = gates.judge([gate], {"accuracy": metric(value=value, half=None)})
    assert [result.verdict for result in found] == expected


def test_a_gated_metric_that_is_missing_fails() -> None:
    (found,) = gates.judge([Gate(metric="macro_f1", min=0.1)], {"accuracy": metric()})
    assert found.verdict == "fail"
    assert found.message == "macro_f1 has no value, so it can't be at least 0.1"


def test_the_message_says_what_was_wanted_and_what_came() -> None:
    (found,) = gates.judge([Gate(metric="accuracy", max=0.9)], {"accuracy": metric(value=0.95)})
    assert found.message == "accuracy 0.95 is above the maximum 0.9"


def test_a_value_is_shown_with_enough_digits_to_differ_from_its_limit() -> None:
    (found,) = gates.judge([Gate(metric="accuracy", min=0.86)], {"accuracy": metric(value=0.8599996)})
    assert found.message == "accuracy 0.8599996 is below the minimum 0.86"


def result(verdict: Verdict) -> GateResult:
    return GateResult(metric="m", bound="min", limit=0.0, value=0.0, verdict=verdict, message="")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        pytest.param([], "pass", id="no-gates"),
        pytest.param(["pass", "fail", "pass"], "fail", id="one-fails"),
        pytest.param(["inconclusive", "pass"], "inconclusive", id="undecided"),
        pytest.param(["fail", "incomparable"], "incomparable", id="incomparable-is-worse"),
    ],
)
def test_a_case_is_as_bad_as_its_worst_gate(verdicts: list[Verdict], expected: Verdict) -> None:
    assert gates.verdict([result(verdict) for verdict in verdicts]) == expected
