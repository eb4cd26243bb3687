"""95 % intervals hold the truth in about 95 % of simulated worlds, with seeds that vary a little or a lot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from ftcheck.metrics import FloatArray
from ftcheck.statistics import estimate

ACCURACY, WORLDS = 0.86, 400
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(81)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def mean(totals: FloatArray) -> FloatArray:
    value: FloatArray = totals[..., 0] / totals[..., 1]
    return value


def population(seed_effect: FloatArray) -> FloatArray:
    """Accuracy on unlimited examples of difficulty N(0, 4), of a model with this seed effect on the probit scale."""
    value: FloatArray = ndtr((np.sqrt(5) * ndtri(ACCURACY) + seed_effect) / np.sqrt(5))
    return value


def seed_effect_sd(wanted: float) -> float:
    """The standard deviation of the seed effect that gives accuracy this standard deviation over seeds."""

    def excess(sd: float) -> float:
        values = population(sd * NODES)
        return float(np.sqrt(WEIGHTS @ (values - WEIGHTS @ values) ** 2)) - wanted

    return float(brentq(excess, 1e-6, 3)) if wanted else 0.0


@pytest.mark.parametrize(
    ("runs", "examples", "seed_sd"),
    [
        pytest.param(1, 400, 0.0, id="one-model"),
        pytest.param(2, 400, 0.02, id="two-runs-seeds-dominate"),
        pytest.param(3, 100, 0.003, id="three-runs-examples-dominate"),
        pytest.param(3, 400, 0.01, id="three-runs"),
        pytest.param(5, 1000, 0.02, id="five-runs-seeds-dominate"),
    ],
)
def test_coverage_in_the_accuracy_world(runs: int, examples: int, seed_sd: float) -> None:
    rng = np.random.default_rng([runs, examples])
    sd = seed_effect_sd(seed_sd)
    truth = float(WEIGHTS @ population(sd * NODES))
    covered = 0
    for _ in range(WORLDS):
        difficulty = rng.normal(0, 2, size=examples)
        effects = rng.normal(0, sd, size=(runs, 1))
        right = rng.random((runs, examples)) < ndtr(np.sqrt(5) * ndtri(ACCURACY) + difficulty + effects)
        rows = [np.stack([run, np.ones(examples)], axis=1, dtype=np.float64) for run in right]
        interval = estimate(rows, mean, scale="proportion", binary=True, fixed=runs == 1).interval
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert 0.925 <= covered / WORLDS <= 0.99
