"""What the tests of metric families share: a value, and influences by brute force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ftcheck import statistics
from ftcheck.metrics import Context, FloatArray, Input, Lookup, Metric
from ftcheck.statistics import blocks


def metric(name: str, given: Input, *labels: str, **options: Any) -> Metric:
    return Lookup(inputs=frozenset({given})).build(name, Context(labels=labels, options=options))


def value(built: Metric, predictions: Sequence[Any], references: Sequence[Any]) -> float:
    return statistics.value(built.statistics(predictions, references), built.aggregate)


def without_each(built: Metric, predictions: Sequence[Any], references: Sequence[Any]) -> FloatArray:
    """The metric without each example in turn, as the statistics have it."""
    rows = built.statistics(predictions, references)
    return blocks.without_each(rows, built.aggregate, blocks.totals(rows))


def scored_without_each(
    score: Callable[[Any, Any], float], predictions: Sequence[Any], references: Sequence[Any]
) -> FloatArray:
    """The same by scoring anew each time."""
    kept = [[j for j in range(len(references)) if j != i] for i in range(len(references))]
    return np.array([score([predictions[j] for j in rest], [references[j] for j in rest]) for rest in kept])
