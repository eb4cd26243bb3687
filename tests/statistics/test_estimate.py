"""One case's interval: values worked out by hand and by other libraries, and every edge on purpose."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from ftcheck import statistics
from ftcheck.metrics import Context, FloatArray, Lookup
from ftcheck.statistics import Aggregate, Estimate, Spread, blocks, estimate, half_width

LOOKUP = Lookup(inputs=frozenset({"label"}))


def mean(totals: FloatArray) -> FloatArray:
    """Totals [sum, count] -> sum / count, NaN of nothing."""
    with np.errstate(invalid="ignore"):
        value: FloatArray = totals[..., 0] / totals[..., 1]
    return value


def f1(totals: FloatArray) -> FloatArray:
    """Totals [hits, predicted, gold] -> F1, 0 of nothing."""
    value: FloatArray = 2 * totals[..., 0] / np.maximum(totals[..., 1] + totals[..., 2], 1)
    return value


def perplexity(totals: FloatArray) -> FloatArray:
    """Totals [negative log likelihood, tokens] -> perplexity."""
    value: FloatArray = np.exp(totals[..., 0] / totals[..., 1])
    return value


def scores(values: list[float] | str) -> FloatArray:
    """Example scores (or a string of 0 and 1) -> statistics [score, 1]."""
    return np.array([[float(score), 1.0] for score in values]).reshape(-1, 2)


def of_share(right: int, n: int, *, fixed: bool = True) -> Estimate:
    return estimate([scores("1" * right + "0" * (n - right))], mean, scale="proportion", binary=True, fixed=fixed)


def bounds(found: Estimate) -> tuple[float, float]:
    assert found.interval is not None, found.no_interval
    return found.interval.low, found.interval.high


def components(found: Estimate) -> Spread:
    assert found.spread is not None
    return found.spread


def test_accuracy_of_three_runs_by_hand() -> None:
    runs = [scores(text) for text in ("11111000", "11110100", "11111110")]
    found = estimate(runs, mean, scale="proportion", binary=True, fixed=False)
    spread = components(found)
    assert found.value == pytest.approx(0.708333, abs=5e-7)
    assert found.per_run == (0.625, 0.625, 0.875)
    assert (spread.v_e, spread.s2, spread.d) == pytest.approx((0.017609, 0.020833, 0.014881), abs=5e-7)
    assert (spread.a, spread.b) == pytest.approx((0.012649, 0.006944), abs=5e-7)
    assert spread.nu == 2
    assert spread.half_width(0.975) == pytest.approx(0.390573, abs=5e-7)
    assert bounds(found) == pytest.approx((0.310679, 0.929008), abs=5e-7)
    assert spread.seed_sd == pytest.approx(math.sqrt(0.020833 - 0.014881), abs=1e-4)
    assert found.interval is not None
    assert (found.interval.about, found.interval.confidence, found.examples) == ("recipe", 0.95, 8)


def test_mean_of_scores_equals_the_t_interval() -> None:
    from scipy.stats import ttest_1samp

    sample = [0.2, 0.9, 0.5, 0.7, 1, 0.4]
    found = estimate([scores(sample)], mean, scale="unbounded", binary=False, fixed=False)
    reference = ttest_1samp(sample, 0).confidence_interval()
    assert components(found).v_e == pytest.approx(0.015611, abs=5e-7)
    assert bounds(found) == pytest.approx((0.295487, 0.937847), abs=5e-7)
    assert bounds(found) == pytest.approx((reference.low, reference.high), rel=1e-12)


def test_f1_by_hand() -> None:
    rows = np.array([[1, 1, 1], [0, 1, 1], [2, 2, 2], [1, 2, 1], [0, 0, 1.0]])
    found = estimate([rows], f1, scale="proportion", binary=False, fixed=False)
    assert (found.value, components(found).v_e) == pytest.approx((0.666667, 0.042690), abs=5e-7)
    assert components(found).nu_e == 4
    assert bounds(found) == pytest.approx((0.189628, 0.944733), abs=5e-7)


def test_perplexity_by_hand() -> None:
    rows = np.array([[20, 10], [33, 12], [8, 5], [60, 20.0]])
    found = estimate([rows], perplexity, scale="perplexity", binary=False, fixed=True)
    assert (found.value, components(found).v_e) == pytest.approx((13.124334, 15.436777), abs=5e-7)
    assert components(found).nu_e == 3
    assert bounds(found) == pytest.approx((5.061966, 34.027912), abs=5e-7)


def test_half_width_of_two_variances_by_hand() -> None:
    found = half_width(0.95, v_e=4e-5, nu_e=math.inf, a=1e-5, b=3e-5, nu=2)
    assert found == pytest.approx(0.016451, abs=5e-7)


@pytest.mark.parametrize(
    ("spread", "expected"),
    [
        pytest.param({"v_e": 4e-5, "a": 4e-5, "b": 0.0, "nu": 0}, 2.353363 * math.sqrt(4e-5), id="no-seeds"),
        pytest.param({"v_e": 4e-5, "a": 0.0, "b": 0.0, "nu": 2}, 2.353363 * math.sqrt(4e-5), id="no-variance-left"),
        pytest.param(
            {"v_e": 4e-5, "a": 0.0, "b": 1e-6, "nu": 2}, 2.353363 * math.sqrt(4e-5), id="examples-are-the-floor"
        ),
        pytest.param({"v_e": 0.0, "a": 0.0, "b": 1e-6, "nu": 2}, 2.919986e-3, id="t-of-the-seeds"),
        pytest.param({"v_e": 0.0, "a": 0.0, "b": 1e-6, "nu": 50}, 2.353363e-3, id="never-below-t-of-the-examples"),
    ],
)
def test_half_width_has_a_floor(spread: dict[str, Any], expected: float) -> None:
    assert half_width(0.95, nu_e=3, **spread) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("influences", "expected"),
    [
        pytest.param([1.0, -1.0] * 5, 9, id="all-alike"),
        pytest.param([0.0] * 10, 9, id="none"),
        pytest.param([1.0] + [0.0] * 49, 3, id="one-example-decides"),
        pytest.param([1.0, -1.0], 1, id="two-examples"),
    ],
)
def test_degrees_of_freedom_stay_within_range(influences: list[float], expected: float) -> None:
    assert statistics.example_df(np.array(influences)) == expected


@pytest.mark.parametrize(
    ("right", "n", "expected"),
    [
        pytest.param(351, 408, (0.823283, 0.890584), id="351-of-408"),
        pytest.param(9, 10, (0.595850, 0.982124), id="9-of-10"),
        pytest.param(30, 30, (0.886487, 1.0), id="all-right"),
        pytest.param(0, 30, (0.0, 1 - 0.886487), id="all-wrong"),
        pytest.param(1, 2, None, id="two-examples"),
    ],
)
@pytest.mark.parametrize("fixed", [pytest.param(True, id="fixed"), pytest.param(False, id="one-trained-run")])
def test_one_model_of_right_and_wrong_is_wilson(
    right: int, n: int, expected: tuple[float, float] | None, fixed: bool
) -> None:
    from statsmodels.stats.proportion import proportion_confint

    found = of_share(right, n, fixed=fixed)
    assert bounds(found) == pytest.approx(proportion_confint(right, n, method="wilson"), rel=1e-12, abs=1e-15)
    if expected is not None:
        assert bounds(found) == pytest.approx(expected, abs=5e-7)
    assert found.interval is not None
    assert (found.interval.method, found.interval.about) == ("wilson", "model")


def test_a_part_of_the_data_equals_its_own_rows() -> None:
    runs = [scores("1101011"), scores("1101110")]
    padded = [np.concatenate([np.zeros((5, 2)), run, np.zeros((90, 2))]) for run in runs]
    alone, part = (estimate(given, mean, scale="proportion", binary=True, fixed=False) for given in (runs, padded))
    assert part == alone
    assert part.examples == 7


def test_clusters_are_added_up_and_no_longer_right_or_wrong() -> None:
    runs = [scores("110101110100"), scores("110111110000")]
    clusters = np.array([5, 5, 5, 2, 2, 2, 8, 8, 8, 1, 1, 1])
    added = [run.reshape(4, 3, 2).sum(axis=1) for run in runs]
    grouped = estimate(runs, mean, scale="proportion", binary=True, fixed=False, clusters=clusters)
    by_hand = estimate(added, mean, scale="proportion", binary=False, fixed=False)
    assert (grouped.examples, grouped.clusters, by_hand.clusters) == (12, 4, None)
    assert components(grouped).nu_e <= 3
    assert bounds(grouped) == pytest.approx(bounds(by_hand))


def test_clusters_of_examples_that_do_not_count_are_none() -> None:
    rows = np.concatenate([scores("1101"), np.zeros((2, 2))])
    found = estimate([rows], mean, scale="proportion", binary=True, fixed=True, clusters=np.array([0, 0, 1, 1, 2, 2]))
    assert (found.examples, found.clusters) == (4, 2)


def test_one_cluster_has_no_interval_and_each_example_needs_an_id() -> None:
    rows = scores("1101")
    found = estimate([rows], mean, scale="proportion", binary=True, fixed=True, clusters=np.zeros(4, np.int64))
    assert found.no_interval == "one cluster"
    with pytest.raises(ValueError, match="4 examples need one cluster id each"):
        estimate([rows], mean, scale="proportion", binary=True, fixed=True, clusters=np.zeros(3, np.int64))


def test_runs_that_differ_in_which_examples_count_stay_paired() -> None:
    first, second = np.array([[1, 1], [0, 0], [0, 1.0]]), np.array([[1, 1], [1, 1], [0, 1.0]])
    assert estimate([first, second], mean, scale="proportion", binary=False, fixed=False).examples == 3


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float32])
def test_statistics_stored_as_small_numbers_give_the_same(kind: Any) -> None:
    rows = scores("1101011")
    small, plain = (
        estimate([run], mean, scale="proportion", binary=False, fixed=True) for run in (rows.astype(kind), rows)
    )
    assert small == plain


def test_all_right_in_every_run_is_no_certainty() -> None:
    found = estimate([scores("1" * 40)] * 3, mean, scale="proportion", binary=True, fixed=False)
    low, high = bounds(found)
    assert (components(found).s2, components(found).v_e, high) == (0, 0, 1)
    assert low == pytest.approx(bounds(of_share(40, 40))[0])
    assert found.interval is not None
    assert found.interval.about == "recipe"


def test_equal_runs_are_decided_by_the_examples() -> None:
    rows = scores([0.2, 0.9, 0.5, 0.7, 1, 0.4])
    once, thrice = (estimate([rows] * k, mean, scale="unbounded", binary=False, fixed=False) for k in (1, 3))
    assert bounds(thrice) == pytest.approx(bounds(once))
    assert components(thrice).seed_sd == 0


def test_fixed_weights_have_no_seed_noise() -> None:
    runs = [scores("1110100111"), scores("1110100110")]
    found = estimate(runs, mean, scale="proportion", binary=True, fixed=True)
    assert components(found).nu == 0
    assert components(found).seed_sd is None
    assert found.interval is not None
    assert found.interval.about == "model"


def test_scores_that_are_all_alike_have_an_interval_of_no_width() -> None:
    found = estimate([scores([0.5] * 40)], mean, scale="proportion", binary=False, fixed=True)
    assert bounds(found) == (0.5, 0.5)


def test_a_perfect_f1_that_hangs_on_one_example_bounds_nothing() -> None:
    metric = LOOKUP.build("f1[b]", Context(labels=("a", "b")))
    rows = metric.statistics([1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0])
    found = estimate([rows], metric.aggregate, scale="proportion", binary=False, fixed=True)
    assert (found.value, bounds(found)) == (1, (0, 1))


@pytest.mark.parametrize(
    ("runs", "aggregate", "reason"),
    [
        pytest.param([scores("")], mean, "no examples", id="no-examples"),
        pytest.param([np.zeros((4, 2))], mean, "no examples", id="none-that-counts"),
        pytest.param([scores("1")], mean, "one example", id="one-example"),
        pytest.param([scores([0.5, math.nan, 1])], mean, "a run's value is not a finite number", id="nan"),
        pytest.param([scores("10"), scores([1, math.inf])], mean, "a run's value is not a finite number", id="inf"),
        pytest.param(
            [np.array([[1.0, 1.0], [1.0, 0.0]])],
            mean,
            "one of the examples decides whether there is a value",
            id="only",
        ),
    ],
)
def test_where_there_is_no_interval_the_estimate_says_why(
    runs: list[FloatArray], aggregate: Aggregate, reason: str
) -> None:
    found = estimate(runs, aggregate, scale="proportion", binary=False, fixed=False)
    assert found.interval is None
    assert found.spread is None
    assert found.no_interval.startswith(reason)


def test_nan_in_one_run_makes_the_mean_nan() -> None:
    found = estimate([scores("10"), scores([math.nan, 1])], mean, scale="proportion", binary=False, fixed=False)
    assert math.isnan(found.value)
    assert found.per_run[0] == 0.5


def test_no_examples_have_no_value() -> None:
    assert math.isnan(estimate([scores("")], mean, scale="proportion", binary=True, fixed=True).value)


def test_a_perplexity_without_finite_bounds_has_no_interval() -> None:
    rows = np.array([[0.0, 10_000.0], [1_000.0, 2.0], [1.0, 1.0]])
    found = estimate([rows], perplexity, scale="perplexity", binary=False, fixed=True)
    assert found.value == pytest.approx(math.exp(1_001 / 10_003))
    assert found.interval is None
    assert found.no_interval == "too few examples, or too uneven ones, to bound it"


@pytest.mark.parametrize("n", [2, 3, 5, 29])
def test_few_examples_still_show_an_interval_within_range(n: int) -> None:
    assert n < statistics.FEW_EXAMPLES
    rng = np.random.default_rng(n)
    runs = [scores((rng.random(n) < 0.7).tolist()) for _ in range(2)]
    low, high = bounds(estimate(runs, mean, scale="proportion", binary=True, fixed=False))
    assert 0 <= low < high <= 1


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_outside_0_to_1_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        estimate([scores("10")], mean, scale="proportion", binary=True, fixed=True, confidence=confidence)


@pytest.mark.parametrize(
    "runs", [pytest.param([], id="no-runs"), pytest.param([scores("1"), scores("10")], id="shapes")]
)
def test_runs_must_be_of_the_same_examples(runs: list[FloatArray]) -> None:
    with pytest.raises(ValueError, match="runs need statistics of one shape"):
        estimate(runs, mean, scale="proportion", binary=True, fixed=True)


def test_a_higher_confidence_is_wider() -> None:
    runs = [scores("11111000"), scores("11110100")]
    intervals = [
        bounds(estimate(runs, mean, scale="proportion", binary=True, fixed=False, confidence=confidence))
        for confidence in (0.8, 0.95, 0.99)
    ]
    widths = [high - low for low, high in intervals]
    assert widths == sorted(widths)


def test_one_gold_class_has_an_interval_for_accuracy_and_macro_f1() -> None:
    references, predictions = [0] * 50, [0] * 45 + [1] * 5
    for name in ("accuracy", "macro_f1"):
        metric = LOOKUP.build(name, Context(labels=("a", "b")))
        rows = metric.statistics(predictions, references)
        low, high = bounds(estimate([rows], metric.aggregate, scale=metric.scale, binary=metric.binary, fixed=True))
        assert 0 <= low < statistics.value(rows, metric.aggregate) < high <= 1


def test_influence_is_the_jackknife_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 3, size=(57, 3)).astype(np.float64)
    totals = rows.sum(axis=0)
    left_out = np.array([f1(totals - row) for row in rows])
    expected = 56 / 57 * (f1(totals) - left_out)
    monkeypatch.setattr(blocks, "_NUMBERS", 10)
    assert statistics.influence(rows, f1) == pytest.approx(expected - expected.mean(), abs=1e-16)


def test_importing_it_loads_neither_scipy_nor_pytest() -> None:
    code = (
        "import sys, ftcheck.statistics; assert not {'scipy', 'pytest', 'torch', 'ftcheck.metrics'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
