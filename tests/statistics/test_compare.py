"""A candidate against its baseline: values worked out by hand and by other libraries, and every edge on purpose."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ftcheck.metrics import FloatArray
from ftcheck.statistics import Comparison, Noise, SeedNoise, compare, decide, pooled, seed_noise
from tests.statistics.test_estimate import f1, mean, perplexity, scores

Trained = {"fixed_baseline": False, "fixed_candidate": False}
Fixed = {"fixed_baseline": True, "fixed_candidate": True}

BEFORE = [scores("1111111100"), scores("1111111011")]
AFTER = [scores("1111001000"), scores("1110011100")]


def compared(before: Sequence[FloatArray], after: Sequence[FloatArray], **given: Any) -> Comparison:
    settings = {"greater_is_better": True, "scale": "proportion", **Trained, **given}
    return compare(before, after, settings.pop("aggregate", mean), **settings)


def noise(comparison: Comparison) -> Noise:
    assert comparison.noise is not None, comparison.no_bounds
    return comparison.noise


def changed(n: int, broken: int, fixed: int = 0) -> tuple[FloatArray, FloatArray]:
    """0/1 statistics of two models that are right on all but `fixed`, and on all but `broken`, of n examples."""
    before, after = np.ones((n, 2)), np.ones((n, 2))
    before[broken : broken + fixed, 0] = 0
    after[:broken, 0] = 0
    return before, after


def test_two_runs_a_side_by_hand() -> None:
    found = compared(BEFORE, AFTER, relative=0.1)
    parts = noise(found)
    assert found.difference == pytest.approx(0.3)
    assert parts.v_e == pytest.approx(0.014667, abs=5e-7)
    assert (parts.s2, parts.d, parts.a) == pytest.approx((0.005, 0.016111, 0), abs=5e-7)
    assert (parts.nu, parts.nu_e, parts.c, parts.b) == pytest.approx((2, 9, 1, 0.005))
    assert (found.low, found.high) == pytest.approx((0.077999, 0.522001), abs=5e-7)
    assert found.relative is not None
    assert (found.relative.difference, found.relative.high) == pytest.approx((0.215, 0.438535), abs=5e-7)
    assert (found.examples, found.discordant) == (10, 5)
    assert found.seed_source == "runs"


def test_one_fixed_model_a_side_by_hand() -> None:
    before, after = changed(200, broken=12, fixed=8)
    found = compared([before], [after], **Fixed)
    assert found.difference == pytest.approx(0.02)
    assert (found.discordant, found.seed_source) == (20, "none")
    assert noise(found).v_e == pytest.approx(0.00050551, abs=5e-9)
    assert noise(found).nu_e == pytest.approx(44.726, abs=5e-4)
    assert found.high - found.difference == pytest.approx(0.037764, abs=5e-7)


def test_where_only_seeds_matter_it_is_the_two_sample_t_test() -> None:
    before, after = (0.861, 0.853, 0.866), (0.842, 0.851, 0.839)
    s2 = float(np.var(before, ddof=1) + np.var(after, ddof=1)) / 2
    parts = Noise(v_e=0, nu_e=math.inf, c=2 / 3, s2=s2, d=0, nu=4, b=s2 * 2 / 3)
    difference = float(np.mean(before) - np.mean(after))
    reference = stats.ttest_ind(before, after, alternative="greater")
    assert difference - parts.half_width(0.95) == pytest.approx(0.004854, abs=5e-7)
    assert difference - parts.half_width(0.95) == pytest.approx(reference.confidence_interval(0.95).low, rel=1e-9)
    assert parts.tail(difference) == pytest.approx(0.018822, abs=5e-7)
    assert parts.tail(difference) == pytest.approx(reference.pvalue, rel=1e-9)


def test_a_mean_of_scores_by_fixed_models_is_the_paired_t_test_but_for_its_caution() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.random(40), rng.random(40) - 0.1
    found = compared([scores(before.tolist())], [scores(after.tolist())], scale="unbounded", **Fixed)
    reference = stats.ttest_rel(before, after)
    cautious = reference.statistic / math.sqrt(1 + 2 / 40)
    assert found.p_value == pytest.approx(2 * float(stats.t.sf(cautious, noise(found).nu_e)), rel=1e-6)
    assert found.p_value == pytest.approx(reference.pvalue, rel=0.25)


@pytest.mark.parametrize("difference", [0.001, 0.02, 0.5])
def test_p_is_where_the_bound_meets_zero(difference: float) -> None:
    parts = noise(compared(BEFORE, AFTER))
    p = parts.tail(difference)
    assert parts.half_width(1 - p) == pytest.approx(difference, rel=1e-9)
    assert parts.tail(-difference) == 1 - p


def test_p_of_no_difference_and_of_an_impossible_one() -> None:
    parts = noise(compared(BEFORE, AFTER))
    assert parts.tail(0.0) == 0.5
    assert dataclasses.replace(parts, nu=0, b=0.0, nu_e=math.inf).tail(10.0) == pytest.approx(1e-15, rel=1e-6)


def test_two_sided_p_doubles_the_smaller_tail() -> None:
    worse, better = compared(BEFORE, AFTER), compared(AFTER, BEFORE)
    assert worse.p_value == pytest.approx(2 * worse.p_worse)
    assert better.p_worse == pytest.approx(1 - worse.p_worse)
    assert better.p_value == pytest.approx(worse.p_value)


def test_unequal_runs_take_the_larger_of_pooled_and_separate_seed_noise() -> None:
    steady = [scores("1" * 30 + "0" * 10)] * 5
    restless = [scores("1" * 36 + "0" * 4), scores("1" * 24 + "0" * 16)]
    parts = noise(compared(steady, restless))
    s2 = float(np.var([0.9, 0.6], ddof=1))
    assert parts.nu == 5
    assert parts.s2 == pytest.approx(s2 / 5)
    assert parts.b == pytest.approx(s2 / 2)
    other = noise(compared(restless, steady))
    assert (other.b, other.c) == pytest.approx((parts.b, 1 / 5 + 1 / 2))


def test_a_fixed_side_brings_no_seed_noise() -> None:
    parts = noise(compared(BEFORE, AFTER, fixed_baseline=True))
    alone = seed_noise(AFTER, mean)
    assert (parts.c, parts.nu, parts.s2, parts.d) == pytest.approx((1 / 2, 1, alone.s2, alone.d))
    assert parts.b == pytest.approx(alone.s2 / 2)


def test_fixed_weights_on_both_sides_have_the_noise_of_examples_only() -> None:
    parts = noise(compared(BEFORE, AFTER, **Fixed))
    assert (parts.c, parts.b, parts.nu, parts.sigma2) == (0, 0, 0, 0)


def test_calibration_runs_are_one_more_source_of_degrees_of_freedom() -> None:
    calibration = seed_noise([scores("1111111000"), scores("1111110100"), scores("1111011000")], mean)
    parts = noise(compared(BEFORE, AFTER, calibration=calibration))
    own = [seed_noise(side, mean) for side in (BEFORE, AFTER)]
    expected = pooled([*own, calibration])
    assert expected is not None
    assert (parts.nu, parts.s2, parts.d) == pytest.approx((4, expected.s2, expected.d))
    assert expected.s2 == pytest.approx((own[0].s2 + own[1].s2 + 2 * calibration.s2) / 4)


def test_one_run_a_side_is_judged_by_calibration() -> None:
    calibration = SeedNoise(s2=4e-4, d=0.0, nu=4)
    found = compared(BEFORE[:1], AFTER[:1], calibration=calibration, prior_sd=0.5)
    assert (found.seed_source, noise(found).nu, noise(found).prior_sd) == ("calibration", 4, 0)
    assert noise(found).b == pytest.approx(8e-4)


def test_one_run_a_side_without_an_estimate_allows_for_twice_the_prior() -> None:
    found, alone = compared(BEFORE[:1], AFTER[:1], prior_sd=0.01), compared(BEFORE[:1], AFTER[:1], **Fixed)
    z = (alone.high - alone.difference) / math.sqrt(noise(alone).v_e)
    assert found.seed_source == "prior"
    assert found.high - found.difference == pytest.approx(z * math.sqrt(noise(alone).v_e + 2 * 0.02**2))
    one_side = compared(BEFORE[:1], AFTER[:1], prior_sd=0.01, fixed_baseline=True)
    assert one_side.high - one_side.difference == pytest.approx(z * math.sqrt(noise(alone).v_e + 0.02**2))


def test_runs_make_a_prior_superfluous() -> None:
    assert compared(BEFORE, AFTER, prior_sd=0.5) == compared(BEFORE, AFTER)
    assert compared(BEFORE, AFTER[:1], prior_sd=0.5).seed_source == "runs"


def test_one_trained_run_a_side_and_no_estimate_has_no_bounds() -> None:
    found = compared(BEFORE[:1], AFTER[:1])
    assert math.isnan(found.low)
    assert math.isnan(found.p_value)
    assert found.no_bounds == "one trained run a side can't tell the recipe from its luck"
    assert found.difference == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("aggregate", "scale", "rows", "unit"),
    [
        pytest.param(mean, "proportion", scores("1" * 40 + "0" * 10), 1.0, id="score"),
        pytest.param(
            perplexity, "perplexity", np.array([[20, 10], [33, 12], [8, 5], [60, 20.0]]), 13.124334, id="perplexity"
        ),
        pytest.param(mean, "unbounded", scores([10.0, 30.0] * 25), 10.0, id="no-scale-so-the-spread-of-examples"),
    ],
)
def test_no_example_that_differs_is_no_certainty(aggregate: Any, scale: Any, rows: FloatArray, unit: float) -> None:
    found = compared([rows], [rows], aggregate=aggregate, scale=scale, **Fixed)
    assert (found.difference, found.discordant) == (0, 0)
    assert noise(found).v_e == pytest.approx(2 / len(rows) ** 2 * unit**2, rel=1e-6)
    assert noise(found).nu_e == len(rows) - 1


def test_a_relative_margin_is_as_cautious_where_no_example_differs() -> None:
    rows = scores("1" * 40 + "0" * 10)
    found = compared([rows], [rows], relative=0.01, **Fixed)
    assert found.relative is not None
    assert found.relative.noise is not None
    assert found.relative.noise.v_e == pytest.approx(2 / 50**2)


def test_few_examples_that_differ_count_double() -> None:
    before, after = changed(50, broken=1, fixed=1)
    influence_squares = 2 / 50**2
    assert noise(compared([before], [after], **Fixed)).v_e == pytest.approx(50 / 49 * influence_squares * (1 + 2 / 2))


def test_rounding_makes_no_example_differ() -> None:
    runs = [scores(np.random.default_rng(seed).random(60).tolist()) for seed in range(3)]
    found = compared(runs, runs[::-1])
    assert found.discordant == 0
    assert noise(found).v_e == pytest.approx(2 / 60**2)


def test_what_is_the_same_prediction_differs_by_nothing() -> None:
    found = compared(BEFORE[:1], BEFORE[:1], same=True, relative=0.1)
    assert (found.difference, found.low, found.high, found.p_value, found.no_bounds) == (0, 0, 0, 1, "")
    assert found.relative is not None
    assert found.relative.high == pytest.approx(-0.08)


def test_less_is_better_turns_the_sign() -> None:
    up, down = compared(BEFORE, AFTER), compared(BEFORE, AFTER, greater_is_better=False)
    assert (down.difference, down.low, down.high) == pytest.approx((-up.difference, -up.high, -up.low))


def test_a_relative_margin_of_a_metric_whose_less_is_better() -> None:
    rows = np.array([[20, 10], [33, 12], [8, 5], [60, 20.0]])
    found = compared(
        [rows],
        [rows * [1.1, 1]],
        aggregate=perplexity,
        scale="perplexity",
        greater_is_better=False,
        relative=0.05,
        **Fixed,
    )
    assert found.relative is not None
    assert found.relative.difference == pytest.approx(found.value_candidate - 1.05 * found.value_baseline)


@pytest.mark.parametrize("value", ["0" * 40, "1" * 20 + "0" * 20])
def test_a_relative_margin_needs_a_baseline_above_zero(value: str) -> None:
    rows = scores(value) - [[0.5, 0]] * 40
    with pytest.raises(ValueError, match="needs a baseline above 0"):
        compared([rows], [rows], relative=0.1, **Fixed)


@pytest.mark.parametrize(
    ("before", "after", "aggregate", "why"),
    [
        pytest.param(scores(""), scores(""), mean, "no examples", id="none"),
        pytest.param(np.zeros((5, 2)), np.zeros((5, 2)), mean, "no examples", id="none-that-counts"),
        pytest.param(scores("1"), scores("0"), mean, "one example", id="one"),
        pytest.param(scores([math.nan, 1.0]), scores("11"), mean, "a run's value is not a finite number", id="nan"),
        pytest.param(scores("11"), scores([math.inf, 1.0]), mean, "a run's value is not a finite number", id="inf"),
        pytest.param(
            np.array([[1.0, 1.0], [1.0, 0.0]]),
            np.array([[1.0, 1.0], [0.0, 0.0]]),
            mean,
            "one of the examples decides whether there is a value at all",
            id="only",
        ),
    ],
)
def test_where_there_are_no_bounds_the_comparison_says_why(
    before: FloatArray, after: FloatArray, aggregate: Any, why: str
) -> None:
    found = compared([before], [after], aggregate=aggregate, **Fixed)
    assert (found.no_bounds, found.noise) == (why, None)
    assert math.isnan(found.high)


def test_statistics_that_give_the_values_only_have_no_bounds() -> None:
    found = compared(BEFORE, AFTER, no_interval="it doesn't add up over examples")
    assert found.no_bounds == "it doesn't add up over examples"
    assert found.difference == pytest.approx(0.3)
    assert (found.noise, decide(found, 0.1)) == (None, "inconclusive")


def test_the_same_prediction_without_a_value_fails() -> None:
    rows = scores([math.nan, 1.0])
    found = compared([rows], [rows], same=True)
    assert (found.same, decide(found, 0.1)) == (False, "fail")


def test_examples_that_count_on_neither_side_are_left_out() -> None:
    pad = np.zeros((7, 2))
    padded = [[np.concatenate([pad, run, pad]) for run in side] for side in (BEFORE, AFTER)]
    assert compared(*padded) == compared(BEFORE, AFTER)


def test_clusters_are_added_up() -> None:
    clusters = np.array([3, 3, 1, 1, 1, 7, 7, 9, 9, 9])
    added = [[np.stack([run[clusters == of].sum(axis=0) for of in (1, 3, 7, 9)]) for run in s] for s in (BEFORE, AFTER)]
    found, by_hand = compared(BEFORE, AFTER, clusters=clusters), compared(*added)
    assert (found.examples, found.clusters) == (10, 4)
    assert noise(found) == noise(by_hand)
    with pytest.raises(ValueError, match="10 examples need one cluster id each"):
        compared(BEFORE, AFTER, clusters=clusters[:4])


def test_a_look_among_several_has_a_stricter_level() -> None:
    once, often = compared(BEFORE, AFTER), compared(BEFORE, AFTER, looks=7)
    assert often.confidence == pytest.approx(1 - 0.0128, abs=5e-5)
    assert often.low < once.low < once.high < often.high
    assert often.p_worse == once.p_worse


@pytest.mark.parametrize("confidence", [0.5, 1.0, 95.0, math.nan])
def test_a_confidence_that_bounds_nothing_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"must lie between 0\.5 and 1"):
        compared(BEFORE, AFTER, confidence=confidence)


def test_sides_need_runs_of_the_same_examples() -> None:
    with pytest.raises(ValueError, match="runs on both sides"):
        compared([], AFTER)
    with pytest.raises(ValueError, match="statistics of one shape"):
        compared(BEFORE, [scores("10")])


def test_it_is_plain_data() -> None:
    found = compared(BEFORE, AFTER, relative=0.1)
    text = json.dumps(dataclasses.asdict(found), allow_nan=False)
    assert json.loads(text)["noise"]["nu_e"] == 9


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[FloatArray], list[FloatArray], np.random.Generator]:
    """F1 statistics of one to four runs a side on 5 to 60 examples."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, runs = draw(st.integers(5, 60)), (draw(st.integers(2, 4)), draw(st.integers(1, 4)))
    gold = rng.integers(1, 4, size=n)
    sides = [
        [np.column_stack([rng.binomial(gold, 0.7), rng.integers(1, 4, size=n), gold]).astype(float) for _ in range(k)]
        for k in runs
    ]
    return sides[0], sides[1], rng


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_swapping_the_sides_turns_the_signs(
    world: tuple[list[FloatArray], list[FloatArray], np.random.Generator],
) -> None:
    before, after, _ = world
    there, back = compared(before, after, aggregate=f1), compared(after, before, aggregate=f1)
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_the_order_of_examples_and_of_runs_does_not_matter(
    world: tuple[list[FloatArray], list[FloatArray], np.random.Generator],
) -> None:
    before, after, rng = world
    order = rng.permutation(len(before[0]))
    plain = compared(before, after, aggregate=f1, relative=0.05)
    mixed = compared(
        [run[order] for run in before[::-1]], [run[order] for run in after[::-1]], aggregate=f1, relative=0.05
    )
    assert (mixed.low, mixed.high, mixed.p_worse) == pytest.approx((plain.low, plain.high, plain.p_worse), rel=1e-6)
    assert mixed.relative is not None
    assert plain.relative is not None
    assert mixed.relative.high == pytest.approx(plain.relative.high, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(worlds(), st.floats(0.01, 100))
def test_the_unit_of_a_metric_without_a_scale_does_not_matter(
    world: tuple[list[FloatArray], list[FloatArray], np.random.Generator], unit: float
) -> None:
    before, after, _ = world
    plain = compared(before, after, aggregate=f1, scale="unbounded")
    scaled = compared(before, after, aggregate=lambda totals: unit * f1(totals), scale="unbounded")
    assert (scaled.low, scaled.high) == pytest.approx((unit * plain.low, unit * plain.high), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_examples_alone_are_the_least_noise(
    world: tuple[list[FloatArray], list[FloatArray], np.random.Generator],
) -> None:
    before, after, _ = world
    trained, fixed = compared(before, after, aggregate=f1), compared(before, after, aggregate=f1, **Fixed)
    assert trained.low <= fixed.low + 1e-12
    assert trained.high >= fixed.high - 1e-12


@settings(max_examples=30, deadline=None)
@given(worlds(), st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_wider_margin_never_turns_a_pass_around(
    world: tuple[list[FloatArray], list[FloatArray], np.random.Generator], first: float, second: float
) -> None:
    before, after, _ = world
    found = compared([np.tile(run, (6, 1)) for run in before], [np.tile(run, (6, 1)) for run in after], aggregate=f1)
    ranks = {"fail": 0, "inconclusive": 1, "pass": 2}
    narrow, wide = (ranks[decide(found, margin)] for margin in sorted((first, second)))
    assert narrow <= wide
