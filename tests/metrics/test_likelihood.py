"""Perplexity, bits per byte and token accuracy, weighted by tokens."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Lookup
from ftcheck.statistics import estimate
from tests.metrics.test_classification import value

LOOKUP = Lookup(inputs=frozenset({"tokens"}))
NAMES = ["perplexity", "bits_per_byte", "token_accuracy"]


def score(name: str, predictions: list[Any], references: list[Any]) -> float:
    return value(LOOKUP.build(name, Context()), predictions, references)


def test_perplexity_equals_exp_of_torch_cross_entropy_over_all_tokens() -> None:
    import torch

    generator = torch.Generator().manual_seed(1)
    lengths = [1, 7, 300]
    logits = [torch.randn(length, 11, generator=generator, dtype=torch.float64) for length in lengths]
    labels = [torch.randint(11, (length,), generator=generator) for length in lengths]
    sums = [
        float(torch.nn.functional.cross_entropy(*pair, reduction="sum")) for pair in zip(logits, labels, strict=True)
    ]
    right = [int((a.argmax(-1) == b).sum()) for a, b in zip(logits, labels, strict=True)]
    predictions, references = list(zip(sums, right, strict=True)), [(length, 3 * length) for length in lengths]
    mean = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(labels))
    assert score("perplexity", predictions, references) == pytest.approx(float(mean.exp()), rel=1e-14)
    assert score("bits_per_byte", predictions, references) == pytest.approx(float(mean) / math.log(2) / 3, rel=1e-14)
    assert score("token_accuracy", predictions, references) == sum(right) / sum(lengths)


@pytest.mark.parametrize(
    ("predictions", "references", "expected"),
    [
        pytest.param([(0.0, 5)], [(5, 9)], (1.0, 0.0, 1.0), id="certain-and-right"),
        pytest.param([(8 * math.log(2), 0)], [(2, 1)], (16.0, 8.0, 0.0), id="uniform-over-bytes"),
        pytest.param([(0.0, 0)], [(0, 0)], (math.nan, math.nan, math.nan), id="no-tokens"),
        pytest.param(
            [(0.0, 0), (2.0, 1)], [(0, 0), (2, 4)], (math.e, 0.5 / math.log(2), 0.5), id="an-empty-text-aside"
        ),
        pytest.param([(1e6, 0)], [(1, 1)], (math.inf, 1e6 / math.log(2), 0.0), id="beyond-floats"),
        pytest.param([(math.inf, 0)], [(3, 3)], (math.inf, math.inf, 0.0), id="impossible-text"),
        pytest.param([(math.nan, 1)], [(2, 2)], (math.nan, math.nan, 0.5), id="nan"),
    ],
)
def test_degenerate_input(predictions: list[Any], references: list[Any], expected: tuple[float, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [score(name, predictions, references) for name in NAMES]
    assert found == pytest.approx(list(expected), nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_leaving_examples_out_equals_computing_without_them(name: str) -> None:
    rng = np.random.default_rng(2)
    tokens = rng.integers(1, 50, size=9).tolist()
    predictions = [(float(rng.exponential(3)) * count, int(rng.integers(count + 1))) for count in tokens]
    references = [(count, 4 * count) for count in tokens]
    metric = LOOKUP.build(name, Context())
    rows = metric.statistics(predictions, references)
    again = [
        score(name, predictions[:row] + predictions[row + 1 :], references[:row] + references[row + 1 :])
        for row in range(9)
    ]
    assert metric.aggregate(rows.sum(axis=0) - rows).tolist() == pytest.approx(again, rel=1e-12)


def test_interval_of_perplexity_is_that_of_its_logarithm() -> None:
    metric = LOOKUP.build("perplexity", Context())
    rows = metric.statistics([(20, 0), (33, 0), (8, 0), (60, 0)], [(10, 1), (12, 1), (5, 1), (20, 1)])
    found = estimate([rows], metric.aggregate, scale=metric.scale, binary=metric.binary, fixed=False)
    assert found.value == pytest.approx(13.124334, abs=1e-6)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((5.061966, 34.027912), abs=1e-6)


def test_less_is_better_but_for_accuracy() -> None:
    assert [LOOKUP.describe(name).greater_is_better for name in NAMES] == [False, False, True]


@pytest.mark.parametrize(
    ("predictions", "references", "error"),
    [
        pytest.param([(1, 1)], [], "perplexity: 1 predictions for 0 references", id="lengths"),
        pytest.param([1.0], [(1, 1)], r"example 0 needs \[negative log likelihood, tokens right\]", id="no-pair"),
        pytest.param([(1, 1), (1, 1)], [(1, 1), (1,)], r"example 1 needs .* got \(1, 1\) and \(1,\)", id="short"),
        pytest.param([("1", 1)], [(1, 1)], "example 0 needs", id="text"),
    ],
)
def test_what_is_no_likelihood_is_refused(predictions: list[Any], references: list[Any], error: str) -> None:
    with pytest.raises(MetricError, match=error):
        LOOKUP.build("perplexity", Context()).statistics(predictions, references)
