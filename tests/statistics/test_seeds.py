"""Seed noise, measured and assumed; seeds that collapsed; levels corrected for looking often."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ftcheck.metrics import Scale
from ftcheck.statistics import (
    SeedNoise,
    clopper_pearson,
    collapsed,
    estimate,
    holm,
    noise_of,
    pooled,
    prior_sd,
    seed_noise,
    sequential_level,
)
from tests.statistics.test_estimate import components, mean, scores

RUNS = [scores(text) for text in ("11111000", "11110100", "11111110")]


def test_seed_noise_is_the_spread_of_an_estimate() -> None:
    found = estimate(RUNS, mean, scale="proportion", binary=True, fixed=False)
    noise = seed_noise(RUNS, mean)
    assert (noise.s2, noise.d, noise.nu) == pytest.approx((0.020833, 0.014881, 2), abs=5e-7)
    assert noise.sd == pytest.approx(math.sqrt(0.020833 - 0.014881), abs=1e-5)
    assert noise_of(components(found), found.per_run) == noise


def test_a_spread_smaller_than_its_examples_part_shows_no_seed_sd() -> None:
    assert SeedNoise(s2=0.01, d=0.02, nu=1).sd == 0


def test_fixed_weights_and_single_runs_have_no_seed_noise() -> None:
    for runs, fixed in ((RUNS, True), (RUNS[:1], False)):
        found = estimate(runs, mean, scale="proportion", binary=True, fixed=fixed)
        assert noise_of(components(found), found.per_run) is None


def test_seed_noise_of_clusters_adds_up_their_rows() -> None:
    clusters = np.arange(8) // 2
    added = [run.reshape(4, 2, 2).sum(axis=1) for run in RUNS]
    assert seed_noise(RUNS, mean, clusters=clusters) == seed_noise(added, mean)


def test_pooling_weighs_by_degrees_of_freedom() -> None:
    first, second = SeedNoise(s2=1.0, d=0.25, nu=1, values=(1.0, 2.0)), SeedNoise(s2=4.0, d=1.0, nu=2)
    assert pooled([first, second]) == SeedNoise(s2=3.0, d=0.75, nu=3)
    assert pooled([first]) == first
    assert pooled([]) is None


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        pytest.param([scores("10")], "two runs or more", id="one-run"),
        pytest.param([scores("1")] * 2, "two examples or more", id="one-example"),
        pytest.param([scores([math.nan, 1.0]), scores("10")], "whose value is finite", id="nan"),
    ],
)
def test_seed_noise_needs_runs_and_values(
    runs: list[np.ndarray[tuple[int, int], np.dtype[np.float64]]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        seed_noise(runs, mean)


@pytest.mark.parametrize(
    ("task", "dataset", "rows", "expected"),
    [
        pytest.param("text-classification", "nyu-mll/glue mrpc", 3668, 0.012, id="mrpc"),
        pytest.param("text-classification", "SetFit/RTE", 2490, 0.024, id="rte"),
        pytest.param("text-classification", "stanfordnlp/sst2", 67_000, 0.0045, id="sst2"),
        pytest.param("text-classification", "super_glue cb", 250, 0.10, id="cb"),
        pytest.param("text-classification", "fancyzhx/ag_news", 120_000, 0.0033, id="ag-news"),
        pytest.param("token-classification", "conll2003", 14_041, 0.0018, id="conll"),
        pytest.param("question-answering", "rajpurkar/squad_v2", 130_000, 0.0016, id="squad"),
        pytest.param("question-answering", "mrpc", 60_000, 0.005, id="a-name-of-another-task"),
        pytest.param("text-classification", "cbt-articles", 60_000, 0.005, id="part-of-a-word"),
        pytest.param("text-classification", "banking77", 4_999, 0.024, id="few-rows"),
        pytest.param("text-classification", None, 5_000, 0.012, id="some-rows"),
        pytest.param("text-classification", None, 50_000, 0.005, id="many-rows"),
        pytest.param("text-classification", None, None, 0.024, id="unknown-rows"),
    ],
)
def test_the_prior_is_published_or_guessed_by_the_rows(
    task: str, dataset: str | None, rows: int | None, expected: float
) -> None:
    sd, source = prior_sd(task, dataset, rows, scale="proportion", value=0.8)
    assert sd == pytest.approx(expected)
    assert source


def test_the_guess_says_that_it_is_one() -> None:
    assert prior_sd("fill-mask", None, 12_000, scale="proportion", value=0.5)[1] == (
        "a guess of 1.2 points for 12,000 training rows"
    )


@pytest.mark.parametrize("scale", ["perplexity", "unbounded"])
def test_without_points_the_guess_is_percent_of_the_value(scale: Scale) -> None:
    sd, source = prior_sd("text-classification", "mrpc", 4_000, scale=scale, value=20.0)
    assert sd == pytest.approx(0.48)
    assert source == "a guess of 2.4 % of the value for 4,000 training rows"


@pytest.mark.parametrize(
    ("values", "majority", "runs"),
    [
        pytest.param((0.86, 0.85, 0.684, 0.87), 0.684, (False, False, True, False), id="one-at-the-majority"),
        pytest.param((0.86, 0.85, 0.701, 0.87), 0.684, (False, False, True, False), id="a-tenth-of-the-gain"),
        pytest.param((0.86, 0.85, 0.710, 0.87), 0.684, (False, False, False, False), id="weak-but-learning"),
        pytest.param((0.86, 0.85, 0.500, 0.87), 0.684, (False, False, True, False), id="below-the-majority"),
        pytest.param((0.69, 0.70, 0.684, 0.70), 0.684, (False, False, False, False), id="others-hardly-better"),
        pytest.param((0.86, 0.684), 0.684, (False, True), id="two-runs"),
        pytest.param((0.684,), 0.684, (False,), id="one-run-has-no-others"),
        pytest.param((0.86, math.nan, 0.85), 0.684, (False, True, False), id="no-value"),
    ],
)
def test_a_run_that_kept_nothing_of_the_gain_collapsed(
    values: tuple[float, ...], majority: float, runs: tuple[bool, ...]
) -> None:
    assert collapsed(values, majority, examples=408).runs == runs


def test_less_is_better_and_another_range_are_turned_and_scaled() -> None:
    assert collapsed((0.4, 0.41, 0.99), 1.0, examples=400, greater_is_better=False).runs == (False, False, True)
    assert collapsed((31.0, 30.0, 0.4), 0.0, examples=400, unit=100).runs == (False, False, True)
    # Seven of a hundred BLEU points are within the noise of 400 examples, seven of one are not.
    assert collapsed((7.0, 7.0, 0.0), 0.0, examples=400, unit=100).runs == (False, False, False)


def test_a_perplexity_that_blew_up_collapsed() -> None:
    found = collapsed(
        (12.0, math.inf, 13.0, 40.0, 37.0), 0.0, examples=400, scale="perplexity", greater_is_better=False
    )
    # 40 is more than three times 13, the median of the others that have a value; 37 is not.
    assert found.runs == (False, True, False, True, False)
    assert collapsed((12.0, 12.5, 13.0, 40.0), 0.0, examples=400, scale="perplexity").runs == (
        False,
        False,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("values", "learns"),
    [
        pytest.param((0.684, 0.684, 0.68), False, id="none-better"),
        pytest.param((0.684, 0.69), True, id="one-better"),
        pytest.param((math.nan, 0.684), False, id="nan"),
    ],
)
def test_a_recipe_that_never_beats_the_majority_does_not_learn(values: tuple[float, ...], learns: bool) -> None:
    assert collapsed(values, 0.684, examples=408).learns is learns


def test_the_rate_of_collapses_has_an_interval() -> None:
    from statsmodels.stats.proportion import proportion_confint

    found = collapsed((0.86, 0.85, 0.684, 0.87, 0.86), 0.684, examples=408)
    assert found.count == 1
    assert (found.rate_low, found.rate_high) == pytest.approx(proportion_confint(1, 5, method="beta"))
    for hits in (0, 5):
        assert clopper_pearson(hits, 5) == pytest.approx(proportion_confint(hits, 5, method="beta"))


@pytest.mark.parametrize(("values", "examples"), [((), 10), ((0.5,), 0)])
def test_collapses_need_runs_and_examples(values: tuple[float, ...], examples: int) -> None:
    with pytest.raises(ValueError, match="one run or more"):
        collapsed(values, 0.5, examples=examples)


def test_levels_of_looks_by_hand() -> None:
    levels = [sequential_level(0.05, looks) for looks in (1, 2, 3, 4, 7)]
    assert levels == pytest.approx([0.05, 0.0308, 0.0232, 0.0189, 0.0128], abs=5e-5)
    with pytest.raises(ValueError, match="once or more"):
        sequential_level(0.05, 0)


def test_holm_is_statsmodels_in_any_order() -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm((0.012, 0.03, 0.04, 0.2)) == pytest.approx((0.048, 0.09, 0.09, 0.2))
    mixed = (0.2, 0.012, 0.9, 0.04, 0.03)
    assert holm(mixed) == pytest.approx(tuple(multipletests(mixed, method="holm")[1]))
    assert holm(()) == ()
