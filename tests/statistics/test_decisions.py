"""Verdicts from bounds: which is looked at first, and what decides nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ftcheck.statistics import Comparison, Relative, decide, decide_gain
from tests.statistics.test_compare import compared
from tests.statistics.test_estimate import scores

PLAIN = compared(
    [scores("1" * 90 + "0" * 10)], [scores("0" + "1" * 89 + "0" * 10)], fixed_baseline=True, fixed_candidate=True
)


def of(low: float, high: float, **more: float) -> Comparison:
    """A comparison with these bounds."""
    return replace(PLAIN, difference=(low + high) / 2, low=low, high=high, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "verdict", "proven"),
    [
        pytest.param(-0.010, 0.010, "pass", "pass", id="within-the-margin"),
        pytest.param(-0.030, -0.020, "pass", "pass", id="better"),
        pytest.param(0.002, 0.008, "pass", "pass", id="worse-for-certain-but-within-the-margin"),
        pytest.param(-0.010, 0.012, "inconclusive", "inconclusive", id="could-be-beyond"),
        pytest.param(-0.001, 0.050, "inconclusive", "inconclusive", id="beyond-but-perhaps-chance"),
        pytest.param(0.001, 0.015, "inconclusive", "inconclusive", id="worse-but-measured-within"),
        pytest.param(0.001, 0.041, "fail", "inconclusive", id="worse-and-measured-beyond"),
        pytest.param(0.011, 0.041, "fail", "fail", id="proven-to-be-beyond"),
        pytest.param(0.010, 0.010, "pass", "pass", id="exactly-the-margin"),
    ],
)
def test_a_regression_is_judged_by_its_bounds(low: float, high: float, verdict: str, proven: str) -> None:
    assert decide(of(low, high), 0.01) == verdict
    assert decide(of(low, high), 0.01, proven=True) == proven


@pytest.mark.parametrize(
    ("low", "high", "verdict", "proven"),
    [
        pytest.param(-0.010, 0.010, "pass", "pass", id="within-the-margin"),
        pytest.param(0.020, 0.030, "pass", "pass", id="worse"),
        pytest.param(-0.050, 0.001, "pass", "pass", id="perhaps-chance"),
        pytest.param(-0.041, -0.001, "fail", "pass", id="better-and-measured-beyond"),
        pytest.param(-0.041, -0.011, "fail", "fail", id="proven-to-be-beyond"),
    ],
)
def test_a_gain_is_an_alarm_only_when_shown(low: float, high: float, verdict: str, proven: str) -> None:
    assert decide_gain(of(low, high), 0.01) == verdict
    assert decide_gain(of(low, high), 0.01, proven=True) == proven


@pytest.mark.parametrize(
    ("plain", "apart", "verdict", "proven"),
    [
        pytest.param((-0.01, 0.01), (-0.02, 0.0), "pass", "pass", id="within"),
        pytest.param((-0.01, 0.05), (-0.02, 0.03), "inconclusive", "inconclusive", id="perhaps-chance"),
        pytest.param((0.01, 0.05), (-0.01, 0.03), "fail", "inconclusive", id="worse-and-measured-beyond"),
        pytest.param((0.02, 0.06), (0.01, 0.05), "fail", "fail", id="proven"),
        pytest.param((0.001, 0.01), (-0.03, 0.02), "inconclusive", "inconclusive", id="measured-within"),
    ],
)
def test_a_relative_regression_needs_both_differences(
    plain: tuple[float, float], apart: tuple[float, float], verdict: str, proven: str
) -> None:
    share = Relative(r=0.02, difference=sum(apart) / 2, low=apart[0], high=apart[1], noise=None)
    found = replace(of(*plain), relative=share)
    assert decide(found, None) == verdict
    assert decide(found, None, proven=True) == proven
    gained = replace(
        of(-plain[1], -plain[0]),
        relative=replace(share, r=-0.02, difference=-share.difference, low=-apart[1], high=-apart[0]),
    )
    assert decide_gain(gained, None) == ("fail" if verdict == "fail" else "pass")
    assert decide_gain(gained, None, proven=True) == ("fail" if proven == "fail" else "pass")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_fails(value: float) -> None:
    found = replace(of(-0.01, 0.01), difference=value, low=math.nan, high=math.nan, no_bounds="not a number")
    assert decide(found, 0.5) == "fail"
    assert decide_gain(found, 0.5) == "fail"


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(of(0.2, 0.3, examples=29), id="examples"),
        pytest.param(of(0.2, 0.3, clusters=9), id="clusters"),
        pytest.param(replace(of(0.2, 0.3), no_bounds="one trained run a side"), id="no-bounds"),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_too_little_decides_nothing(found: Comparison, sign: int) -> None:
    turned = replace(found, difference=sign * found.difference, low=sign * found.low, high=sign * found.high)
    assert decide(turned, 0.01) == "inconclusive"
    assert decide_gain(turned, 0.01) == "pass"


def test_just_enough_decides() -> None:
    assert decide(of(0.2, 0.3, examples=30), 0.01) == "fail"
    assert decide(of(0.2, 0.3, clusters=10), 0.01) == "fail"


def test_the_same_prediction_passes_however_few_the_examples() -> None:
    rows = scores("10")
    found = compared([rows], [rows], same=True)
    assert decide(found, 0.0) == "pass"
    assert decide_gain(found, 0.0) == "pass"


def test_equal_fixed_models_need_a_margin_that_so_many_examples_prove() -> None:
    rows = scores("1" * 100)
    found = compared([rows], [rows], fixed_baseline=True, fixed_candidate=True)
    assert decide(found, 0.01) == "inconclusive"
    assert decide(found, 0.03) == "pass"


def test_one_trained_run_a_side_fails_only_beyond_any_plausible_seed_noise() -> None:
    before = scores("1" * 900 + "0" * 100)
    for right, verdict in ((870, "inconclusive"), (700, "fail")):
        after = scores("1" * right + "0" * (1000 - right))
        assert decide(compared([before], [after], prior_sd=0.012), 0.01) == verdict


@pytest.mark.parametrize("margin", [-0.01, math.nan])
def test_a_negative_margin_is_refused(margin: float) -> None:
    for judge in (decide, decide_gain):
        with pytest.raises(ValueError, match="a margin is 0 or more"):
            judge(PLAIN, margin)


def test_a_relative_margin_must_be_there_and_of_its_kind() -> None:
    rows = [scores(np.linspace(0, 1, 50).tolist())]
    loss, gain = (compared(rows, rows, same=True, relative=r) for r in (0.1, -0.1))
    assert (decide(loss, None), decide_gain(gain, None)) == ("pass", "pass")
    for judge, wrong in ((decide, PLAIN), (decide, gain), (decide_gain, PLAIN), (decide_gain, loss)):
        with pytest.raises(ValueError, match="no relative margin of a"):
            judge(wrong, None)
