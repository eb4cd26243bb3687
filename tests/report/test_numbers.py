"""Numbers are rounded to what their interval supports, and every report shows the same text of the same numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from ftcheck.comparing import Compared, Row
from ftcheck.operands import Operand
from ftcheck.report import comparison, markdown, numbers, terminal
from ftcheck.results import CaseResult, ComparisonResult, GateResult, MetricResult, Scale
from tests.report import results

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        pytest.param(0.8424, 0.0171, ("0.842", "[0.825, 0.860]"), id="two-digits-of-the-half-width"),
        pytest.param(0.8424, 0.171, ("0.84", "[0.67, 1.01]"), id="few-examples"),
        pytest.param(0.84237, 0.00171, ("0.8424", "[0.8407, 0.8441]"), id="many-examples"),
        pytest.param(0.5, 1e-9, ("0.500000", "[0.500000, 0.500000]"), id="at-most-six-places"),
        pytest.param(31.42, 2.345, ("31.4", "[29.1, 33.8]"), id="bleu"),
        pytest.param(1234.56, 98.7, ("1235", "[1136, 1333]"), id="large"),
        pytest.param(-0.1234, 0.05, ("−0.123", "[−0.173, −0.073]"), id="a-true-minus"),
        pytest.param(-0.0001, 0.05, ("0.000", "[−0.050, 0.050]"), id="no-minus-zero"),
        pytest.param(0.84241, None, ("0.8424", ""), id="no-interval"),
        pytest.param(1234.56, None, ("1235", ""), id="no-interval-four-digits"),
        pytest.param(12.3456, None, ("12.35", ""), id="no-interval-of-a-two-digit-number"),
        pytest.param(NAN, None, ("nan", ""), id="no-value"),
        pytest.param(INF, None, ("inf", ""), id="infinite"),
    ],
)
def test_a_value_and_its_interval(value: float, half: float | None, expected: tuple[str, str]) -> None:
    metric = results.metric(value=value, half=half)
    assert (numbers.value(metric), numbers.interval_of(metric)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param((-0.0193, -0.0301, -0.0084, "proportion"), "−1.9 pt [−3.0, −0.8]", id="points"),
        pytest.param((0.0193, 0.0084, 0.0301, "proportion"), "+1.9 pt [+0.8, +3.0]", id="better"),
        pytest.param((-0.3, -0.41, -0.19, "proportion"), "−30 pt [−41, −19]", id="few-examples"),
        pytest.param((-0.00193, -0.00301, -0.00084, "proportion"), "−0.19 pt [−0.30, −0.08]", id="many-examples"),
        pytest.param((0.52, 0.21, 0.83, "perplexity"), "+0.52 [+0.21, +0.83]", id="own-unit"),
        pytest.param((-1.25, -3.5, 1.0, "unbounded"), "−1.2 [−3.5, +1.0]", id="bleu"),
        pytest.param((0.0, 0.0, 0.0, "proportion"), "0.00 pt [0.00, 0.00]", id="the-same"),
        pytest.param((-0.01, -INF, INF, "proportion"), "−1.00 pt", id="no-bounds"),
        pytest.param((NAN, NAN, NAN, "proportion"), "nan", id="no-value"),
    ],
)
def test_a_change_and_its_interval(change: tuple[float, float, float, Scale], expected: str) -> None:
    assert str(numbers.Change(*change)) == expected


@pytest.mark.parametrize(
    ("margin", "exact", "expected"),
    [
        pytest.param(0.01, True, "1.0", id="as-the-change"),
        pytest.param(0.0025, True, "0.25", id="all-digits-of-what-a-suite-says"),
        pytest.param(0.0172, False, "1.7", id="measured"),
        pytest.param(0.0, True, "0.0", id="none"),
    ],
)
def test_a_margin_stands_in_the_unit_of_the_change(margin: float, exact: bool, expected: str) -> None:
    assert numbers.Change(-0.0193, -0.0301, -0.0084, "proportion").margin(margin, exact=exact) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(0.02101, 0.022, id="up"),
        pytest.param(0.021, 0.021, id="exact"),
        pytest.param(0.0995, 0.1, id="carries"),
        pytest.param(123.4, 130.0, id="large"),
        pytest.param(0.0, 0.0, id="zero"),
    ],
)
def test_what_can_be_proven_is_rounded_up_so_that_it_can(number: float, expected: float) -> None:
    assert numbers.rounded_up(number) == expected
    assert numbers.at_least(number) == f"{expected:g}"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(0.0312, ("0.031", "p = 0.031"), id="two-digits"),
        pytest.param(3.5e-9, ("<0.0001", "p < 0.0001"), id="tiny"),
        pytest.param(1.0, ("1", "p = 1"), id="one"),
    ],
)
def test_p_values(number: float, expected: tuple[str, str]) -> None:
    assert (numbers.p_value(number), numbers.p_equals(number)) == expected


REPORTED: dict[str, Any] = {
    "accuracy": ((0.842, 0.0193, 0.0084, 0.0301, True, "proportion"), "0.842", "−1.9 pt", "[−3.0, −0.8]"),
    "perplexity": ((12.43, 0.52, 0.21, 0.83, False, "perplexity"), "12.43", "+0.52", "[+0.21, +0.83]"),
    "bleu": ((31.4, 1.25, -1.0, 3.5, True, "unbounded"), "31.4", "−1.2", "[−3.5, +1.0]"),
}


def judged(name: str) -> tuple[CaseResult, MetricResult, ComparisonResult]:
    """A case that is worse in one metric."""
    value, difference, low, high, greater, scale = REPORTED[name][0]
    half = (high - low) / 2
    metric = results.metric(name, value, half, greater_is_better=greater, scale=scale)
    found = ComparisonResult(
        against="the baseline",
        reference=value + (difference if greater else -difference),
        value=value,
        difference=difference,
        low=low,
        high=high,
        confidence=0.95,
        p_value=0.001,
        p_worse=0.0005,
        examples=1725,
        runs=3,
        reference_runs=3,
        discordant=60,
        seed_source="runs",
        detectable=0.0231,
        provable=0.0191,
    )
    change = numbers.Change.of(found, metric)
    gate = GateResult(
        metric=name,
        bound="max_regression",
        limit=0.01,
        value=value,
        verdict="fail",
        message=f"{name} {numbers.plain(value, change.digits)}: {change}",
        shown_limit="≤ 0.01 worse",
        comparison=found,
    )
    return results.case(metrics=(metric,), gates=(gate,)), metric, found


@pytest.mark.parametrize("name", REPORTED)
def test_all_reports_show_the_same_text(name: str) -> None:
    case, metric, found = judged(name)
    _, value, delta, bounds = REPORTED[name]
    table = "\n".join(line.text for line in terminal.table([case], width=200, details=True))
    assert re.search(rf"^  {name} +{re.escape(value)}  ", table, re.MULTILINE)
    assert f"{delta} {bounds} at 95 % a side" in table
    assert f"{value}: {delta} {bounds}" in terminal.failure(case, Path("/"), Path("/"))
    page = markdown.page([case]).replace("\\", "")
    assert f"| {name} | {value} |" in page
    assert f"≤ 0.01 worse: {delta} {bounds} **fail**" in page
    row = Row(
        case="intents",
        device="cpu",
        metric=name,
        status="worse",
        greater_is_better=metric.greater_is_better,
        scale=metric.scale,
        a=found.reference,
        b=found.value,
        delta=-found.difference if metric.greater_is_better else found.difference,
        low=-found.high if metric.greater_is_better else found.low,
        high=-found.low if metric.greater_is_better else found.high,
        detectable=0.0231,
    )
    one = Operand(name="A", described="", sides=(), one_case=True)
    compared = comparison.of_two(Compared(a=one, b=one, rows=(row,), vanished=(), new=(), notes=()), "text")
    assert re.search(rf"{re.escape(value)} +{re.escape(delta)}  ", compared)
    assert bounds in compared
    assert "(detects 0.024)" in table
    assert "0.024" in compared
