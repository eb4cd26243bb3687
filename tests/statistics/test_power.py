"""What a gate can decide, and what would decide it: against figures worked out, and against simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from ftcheck.statistics import (
    Comparison,
    Needed,
    Noise,
    Plan,
    SeedNoise,
    decide,
    decided_by,
    detectable,
    plan,
    plan_again,
    provable,
)
from tests.statistics.test_compare import changed, compared
from tests.statistics.test_decisions import PLAIN
from tests.statistics.test_estimate import scores

SEEDS = SeedNoise(s2=1.8654e-5 + 0.005**2, d=1.8654e-5, nu=2)
THREE = plan(SEEDS, runs_baseline=3, runs_candidate=3)


def measured(difference: float, noise: Noise, **more: float) -> Comparison:
    """A comparison that measured this difference with this noise."""
    h = noise.half_width(0.95)
    return replace(
        PLAIN,
        difference=difference,
        low=difference - h,
        high=difference + h,
        noise=noise,
        fixed_baseline=noise.c == 0,
        fixed_candidate=noise.c == 0,
        **{"examples": 3000, "runs_baseline": 3, "runs_candidate": 3, **more},  # type: ignore[arg-type]
    )


TRAINED = Noise(v_e=2e-5, nu_e=400, c=2 / 3, s2=SEEDS.s2, d=SEEDS.d, nu=4, b=SEEDS.s2 * 2 / 3)


def test_by_hand() -> None:
    assert (THREE.c, THREE.nu, THREE.a) == pytest.approx((2 / 3, 4, 0))
    assert detectable(THREE, 0.01) == pytest.approx(0.016993, abs=5e-7)
    assert provable(THREE) == pytest.approx(0.016420, abs=5e-7)


def test_at_these_the_power_is_80_percent() -> None:
    assert THREE.fails(detectable(THREE, 0.01), 0.01) == pytest.approx(0.8, abs=1e-6)
    assert THREE.passes(0, provable(THREE)) == pytest.approx(0.8, abs=1e-6)
    proven = detectable(THREE, 0.01, proven=True)
    assert THREE.fails(proven, 0.01, proven=True) == pytest.approx(0.8, abs=1e-6)
    # Proving "worse by more than the margin" takes what proving a margin takes, on top of it.
    assert proven == pytest.approx(0.01 + provable(THREE))


@pytest.mark.parametrize("drop", [0.0, 0.01, 0.03])
def test_chances_are_those_of_normal_seeds(drop: float) -> None:
    rng = np.random.default_rng(1)
    runs = rng.normal(0, math.sqrt(SEEDS.s2), size=(20_000, 2, 3))
    runs[:, 1] -= drop
    differences = runs[:, 0].mean(axis=1) - runs[:, 1].mean(axis=1)
    s2 = runs.var(axis=2, ddof=1).mean(axis=1)
    noises = [Noise(v_e=SEEDS.d * 2 / 3, nu_e=math.inf, c=2 / 3, s2=s, d=SEEDS.d, nu=4, b=s * 2 / 3) for s in s2[:2000]]
    h = np.array([noise.half_width(0.95) for noise in noises])
    d = differences[:2000]
    assert THREE.passes(drop, 0.01) == pytest.approx(float((d + h <= 0.01).mean()), abs=0.03)
    assert THREE.fails(drop, 0.01) == pytest.approx(float(((d > 0.01) & (d - h > 0)).mean()), abs=0.03)


def test_more_runs_detect_and_prove_more() -> None:
    plans = [plan(SEEDS, runs_baseline=k, runs_candidate=k) for k in (2, 3, 5, 10)]
    for figures in ([detectable(each, 0.01) for each in plans], [provable(each) for each in plans]):
        assert figures == sorted(figures, reverse=True)


def test_the_last_comparison_tells_how_much_examples_vary() -> None:
    last = measured(0.0, TRAINED)
    informed = plan(SEEDS, runs_baseline=3, runs_candidate=3, last=last)
    assert (informed.a, informed.nu_e) == (TRAINED.a, 400)
    assert provable(informed) > provable(THREE)


def test_fixed_weights_have_no_seeds_to_plan_for() -> None:
    before, after = changed(200, broken=12, fixed=8)
    last = compared([before], [after], fixed_baseline=True, fixed_candidate=True)
    planned = plan(None, runs_baseline=1, runs_candidate=1, fixed_baseline=True, fixed_candidate=True, last=last)
    assert (planned.c, planned.nu, planned.sd) == pytest.approx((0, 0, math.sqrt(0.00050551)), rel=1e-5)
    assert planned == plan_again(last)
    z = 0.037764 / math.sqrt(0.00050551)
    assert provable(planned) == pytest.approx((z + 0.841621) * math.sqrt(0.00050551), rel=1e-4)


def test_one_run_a_side_plans_with_the_prior() -> None:
    planned = plan(SEEDS, runs_baseline=1, runs_candidate=1, prior_sd=0.01)
    assert (planned.nu, planned.d, planned.sigma2, planned.c) == pytest.approx((0, 0, 1e-4, 2))
    # The bound allows for twice the prior, the truth is taken to be the prior.
    assert provable(planned) == pytest.approx((2 * 1.644854 + 0.841621) * 0.01 * math.sqrt(2), rel=1e-5)
    with pytest.raises(ValueError, match="needs their seed noise"):
        plan(SEEDS, runs_baseline=1, runs_candidate=1)
    assert plan(SEEDS, runs_baseline=1, runs_candidate=1, calibration_nu=4).nu == 4


def test_without_any_noise_what_is_measured_is_true() -> None:
    certain = Plan(a=0, d=0, sigma2=0, c=0, nu=0)
    assert (provable(certain), detectable(certain, 0.01)) == pytest.approx((0, 0.01), abs=1e-12)


def test_what_is_said_to_decide_does_and_less_does_not() -> None:
    found = measured(0.0, TRAINED)
    needed = decided_by(found, 0.015)
    again = plan_again(found)
    assert needed.seeds is not None
    chances = [replace(again, c=2 / k, nu=2 * k - 2).passes(0.0, 0.015) for k in (needed.seeds - 1, needed.seeds)]
    assert chances[0] < 0.8 <= chances[1]


def test_more_examples_decide_where_seeds_do_not_matter() -> None:
    before, after = changed(200, broken=12, fixed=8)
    found = compared([before], [after], fixed_baseline=True, fixed_candidate=True)
    assert decide(found, 0.0) == "inconclusive"
    needed = decided_by(found, 0.0)
    assert needed.examples is not None
    assert (needed.seeds, needed.seeds_why) == (None, "cannot")
    again = plan_again(found)
    chances = [
        replace(again, a=again.a * 200 / n, nu_e=again.nu_e * n / 200).fails(0.02, 0.0)
        for n in (needed.examples - 1, needed.examples)
    ]
    assert chances[0] < 0.8 <= chances[1]
    assert needed.sentence() == f"About {needed.examples:,} examples would decide."


def test_seeds_decide_where_examples_alone_cannot() -> None:
    noisy = replace(TRAINED, s2=4e-4, b=4e-4 * 2 / 3)
    needed = decided_by(measured(0.0, noisy), 0.02)
    assert (needed.examples, needed.examples_why) == (None, "cannot")
    assert needed.seeds is not None
    assert needed.sentence() == f"About {needed.seeds} seeds a side would decide."


def test_a_difference_on_the_margin_is_not_worth_deciding() -> None:
    needed = decided_by(measured(0.0099, TRAINED), 0.01)
    assert needed.seeds is None
    assert (
        "sits on the margin" in Needed(examples=None, seeds=None, examples_why="cannot", seeds_why="margin").sentence()
    )
    fixed = compared(*([side] for side in changed(400, broken=8)), fixed_baseline=True, fixed_candidate=True)
    on_it = decided_by(fixed, fixed.difference * 1.001)
    assert (on_it.examples, on_it.examples_why) == (None, "margin")
    assert "sits on the margin" in on_it.sentence()


def test_where_neither_alone_decides_it_says_so() -> None:
    heavy = Noise(v_e=4e-3, nu_e=300, c=2 / 3, s2=4e-2, d=1e-5, nu=4, b=4e-2 * 2 / 3)
    needed = decided_by(measured(0.0, heavy), 0.01)
    assert (needed.examples_why, needed.seeds_why) == ("cannot", "cannot")
    assert needed.sentence() == "Neither more examples nor more seeds alone would decide; more of both might."


def test_a_gate_on_too_few_examples_needs_enough_of_them_first() -> None:
    found = compared(
        [scores("1" * 15 + "0" * 5)], [scores("0" * 10 + "1" * 5 + "0" * 5)], fixed_baseline=True, fixed_candidate=True
    )
    assert decide(found, 0.1) == "inconclusive"
    needed = decided_by(found, 0.1)
    assert (needed.examples, needed.seeds) == (30, None)


def test_seeds_make_up_for_no_lack_of_examples() -> None:
    needed = decided_by(measured(0.0, TRAINED, examples=29), 0.015)
    assert (needed.seeds, needed.seeds_why) == (None, "cannot")


def test_seeds_that_nobody_would_pay_for_are_not_advised() -> None:
    only_seeds = replace(TRAINED, v_e=1e-9, d=0.0)
    needed = decided_by(measured(0.0, only_seeds), 0.0011)
    assert (needed.seeds, needed.seeds_why) == (None, "margin")


def test_clusters_are_what_more_is_needed_of() -> None:
    found = compared(
        [scores("1" * 100)],
        [scores("0" * 6 + "1" * 94)],
        fixed_baseline=True,
        fixed_candidate=True,
        clusters=np.arange(100) // 20,
    )
    needed = decided_by(found, 0.001)
    assert found.clusters == 5
    assert needed.examples is None or needed.examples >= 10


def test_one_side_s_seeds_are_added_where_the_other_is_fixed() -> None:
    before, after = [scores("1" * 90 + "0" * 10)], [scores("1" * 87 + "0" * 13), scores("1" * 84 + "0" * 16)]
    found = compared(before, after, fixed_baseline=True)
    needed = decided_by(found, 0.0)
    assert needed.seeds is None or needed.seeds >= 3


def test_a_relative_margin_is_that_share_of_the_baseline() -> None:
    before, after = changed(200, broken=12, fixed=8)
    found = compared([before], [after], fixed_baseline=True, fixed_candidate=True, relative=0.05)
    assert decided_by(found, None) == decided_by(found, 0.05 * found.value_baseline)
    with pytest.raises(ValueError, match="no relative margin"):
        decided_by(replace(found, relative=None), None)


def test_what_has_no_bounds_has_no_plan() -> None:
    with pytest.raises(ValueError, match="one trained run a side"):
        plan_again(compared([scores("1101")], [scores("1001")]))


def halved(enough: Callable[[float], bool], high: float) -> float:
    """Where `enough` turns true above 0, as near as floats are."""
    while not enough(high):
        high *= 2
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def chance(limit: float, worse: float, sd: float) -> float:
    """Of measuring less than `limit`, where the truth is `worse`."""
    return NormalDist(worse, sd).cdf(limit)


KNOWN = [
    pytest.param(
        dict(zip(("a", "d", "sigma2", "c", "nu_e"), values, strict=True)),
        confidence,
        id="-".join(map(str, (*values, confidence))),
    )
    for values in product((1e-7, 2.5e-4), (0.0, 1e-5), (0.0, 4e-4), (0.0, 2.0), (9.0, math.inf))
    for confidence in (0.9, 0.95)
]


@pytest.mark.parametrize(("values", "confidence"), KNOWN)
@pytest.mark.parametrize("power", [0.6, 0.8, 0.95])
def test_without_estimated_seed_noise_figures_are_those_of_a_search(
    values: dict[str, float], confidence: float, power: float
) -> None:
    """The half-width is one number: what is searched for here is one quantile there."""
    planned = Plan(nu=0, confidence=confidence, **values)
    sd = math.sqrt(values["a"] + (values["d"] + values["sigma2"]) * values["c"])
    allowed = math.sqrt(values["a"] + (values["d"] + 4 * values["sigma2"]) * values["c"])
    distribution = stats.norm if math.isinf(values["nu_e"]) else stats.t(values["nu_e"])
    width = float(distribution.ppf(confidence)) * allowed

    def passes(margin: float) -> bool:
        return chance(margin - width, 0.0, sd) >= power

    assert provable(planned, power=power) == pytest.approx(halved(passes, width), rel=1e-9)
    for margin, proven in product((0.0, width / 2, 3 * width), (False, True)):
        limit = margin + width if proven else max(margin, width)

        def fails(worse: float, limit: float = limit) -> bool:
            return 1 - chance(limit, worse, sd) >= power

        expected = max(margin, halved(fails, limit + sd))
        assert detectable(planned, margin, power=power, proven=proven) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("nu_e", [3.0, 29.0, 2999.0, math.inf])
@pytest.mark.parametrize("c", [0.0, 2.0])
@pytest.mark.parametrize("widths", [-3.0, -1.0, 0.01, 0.5, 1.0, 2.0, 3.0])
def test_p_without_estimated_seed_noise_is_the_level_at_which_the_bound_is_0(
    nu_e: float, c: float, widths: float
) -> None:
    noise = Noise(v_e=3e-5, nu_e=nu_e, c=c, prior_sd=0.004)
    difference = widths * noise.half_width(0.95)

    def beyond(level: float) -> bool:
        """Whether the bound at this tail leaves out 0 on the side of the difference."""
        return noise.half_width(1 - level) <= abs(difference)

    low, high = 0.0, 0.5
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    expected = high if difference > 0 else 1 - high
    assert noise.tail(difference) == pytest.approx(expected, rel=1e-9, abs=0)
