"""How often intervals and verdicts are right in worlds whose truth is known: a cell or two of each claim.

Random seeds are fixed; the bounds allow for three standard errors of so few worlds. All cells, in more worlds, are in
benchmarks/verdict_simulation.py and docs/verdicts.md.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.statistics import experiments
from tests.statistics.worlds import ACCURACY, WORLDS, Side, World, effect_sd, truth

CELL = 150
"""Worlds."""


def at_most(share: float, worlds: int = CELL) -> float:
    """Percent that a true share in percent exceeds by chance once in a thousand times."""
    return share + 300 * math.sqrt(share / 100 * (1 - share / 100) / worlds)


def rng(*cell: int) -> np.random.Generator:
    return np.random.default_rng([7, *cell])


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_world_s_truth_is_what_many_examples_and_seeds_give(world: World) -> None:
    draws = rng(1)
    assert truth(world, 0.0) == pytest.approx(
        float(world.aggregate(world.draw(draws, 200_000, 0.0, [Side(runs=1)])[0][0][0].sum(axis=0))), rel=0.01
    )
    effects = effect_sd(world, 1.0) * draws.standard_normal((20_000, world.effects))
    values = world.population(effects)
    unit = truth(world, 1.0) if world.scale == "perplexity" else 1.0
    assert values.std() / unit == pytest.approx(0.01, rel=0.05)
    assert values.mean() == pytest.approx(truth(world, 1.0), rel=0.002)


@pytest.mark.parametrize(
    ("metric", "n", "sd"),
    [
        pytest.param("accuracy", 100, 0.3, id="accuracy-examples-dominate"),
        pytest.param("accuracy", 1000, 2.0, id="accuracy-seeds-dominate"),
        pytest.param("macro-F1", 400, 1.0, id="macro-f1"),
        pytest.param("entity F1", 400, 1.0, id="entity-f1"),
        pytest.param("BLEU", 400, 1.0, id="bleu"),
        pytest.param("perplexity", 400, 1.0, id="perplexity"),
    ],
)
def test_intervals_cover_and_equal_recipes_rarely_fail(metric: str, n: int, sd: float) -> None:
    found = experiments.grid(rng(n), CELL, metric, n, sd)
    for runs in ("1 fixed", "2", "3", "5"):
        assert 100 - at_most(6.5) <= found[f"covers, {runs}"]
    for k in experiments.RUNS:
        assert found[f"false fails, {k}+{k}"] <= at_most(5)


@pytest.mark.parametrize("metric", [world.name for world in WORLDS])
def test_three_seeds_catch_a_drop_of_three_points(metric: str) -> None:
    found = experiments.verdicts(rng(2), 100, metric, 3000, 0.5, 3.0, 1.0)
    assert found["fail, 3+3"] >= 92
    assert found["pass, 3+3"] == 0


def test_an_honest_retrain_passes_or_is_inconclusive_and_rarely_fails() -> None:
    found = experiments.verdicts(rng(3), CELL, "accuracy", 3000, 0.5, 0.0, 1.0)
    assert 33 <= found["pass, 3+3"] <= 57
    assert found["fail, 3+3"] <= at_most(3)
    assert found["proven fail, 3+3"] == 0


@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
def test_a_drop_of_exactly_the_margin_rarely_passes_and_is_rarely_proven(metric: str) -> None:
    plain = experiments.verdicts(rng(4), CELL, metric, 3000, 0.5, 1.0, 1.0)
    of_baseline = experiments.relative(rng(5), CELL, metric, 3000, 0.5, 2.0, 2.0)
    for found in (plain, of_baseline):
        for k in experiments.RUNS:
            assert found[f"pass, {k}+{k}"] <= at_most(5)
            assert found[f"proven fail, {k}+{k}"] <= at_most(5)


@pytest.mark.parametrize("what", [what for what in experiments.HARD if "3 times" not in what])
def test_equal_recipes_rarely_fail_in_harder_worlds(what: str) -> None:
    assert experiments.hard(rng(6), CELL, what, 1000, 1.0)["false fails"] <= at_most(5)


@cache
def shares(experiment: Any, given: tuple[Any, ...]) -> experiments.Shares:
    """One cell, for all that is claimed of it."""
    found: experiments.Shares = experiment(rng(8), CELL, *given)
    return found


@pytest.mark.parametrize(
    ("experiment", "given", "share", "low", "high"),
    [
        pytest.param(experiments.prior, (1.0, 0.0), "fail", 0, 2, id="the-prior-is-cautious"),
        pytest.param(experiments.prior, (1.0, 10.0), "fail", 97, 100, id="a-prior-shows-what-is-plain"),
        pytest.param(experiments.sequential, (1.0, 0.0, 0.0), "fail", 0, at_most(5), id="seeds-added-until-decided"),
        pytest.param(experiments.clustered, (0.9, 1), "covers by rows", 60, 85, id="rows-of-clusters-deceive"),
        pytest.param(experiments.clustered, (0.9, 1), "covers by clusters", 91, 100, id="clusters-cover"),
        pytest.param(
            experiments.collapse, ("accuracy", 3000), "named rightly", 98, 100, id="collapsed-seeds-are-named"
        ),
        pytest.param(experiments.collapse, ("accuracy", 3000), "inconclusive, count", 98, 100, id="collapses-count"),
        pytest.param(experiments.collapse, ("accuracy", 3000), "fail, drop", 0, at_most(5), id="collapses-dropped"),
        pytest.param(experiments.several, (5, 0.3), "any gate fails, Holm", 0, at_most(5), id="holm"),
        pytest.param(experiments.several, (5, 0.3), "its gate fails", 0, at_most(5), id="slice"),
        pytest.param(experiments.gain, (0.5, 0.0, 0.0), "alarm, 3+3", 0, at_most(5), id="no-gain-no-alarm"),
        pytest.param(experiments.gain, (0.5, 3.0, 1.0), "relative alarm, 3+3", 92, 100, id="a-gain-alarms"),
        pytest.param(experiments.few_differ, (400, 5.0), "pass", 0, at_most(5), id="few-examples-that-differ"),
        pytest.param(experiments.planned, (400, 3, 20), "passes at the provable margin", 68, 90, id="provable"),
        pytest.param(experiments.planned, (400, 3, 20), "the detectable drop fails at 1", 68, 90, id="detectable"),
        pytest.param(experiments.would_decide, (400, 0.5), "decided by k'", 68, 95, id="seeds-that-decide"),
    ],
)
def test_claims(experiment: Any, given: tuple[Any, ...], share: str, low: float, high: float) -> None:
    assert low <= shares(experiment, given)[share] <= high


def test_a_world_repeats_with_its_seed() -> None:
    first, second = (ACCURACY.draw(rng(9), 20, 1.0, [Side(runs=1)])[0][0][0] for _ in range(2))
    assert (first == second).all()
