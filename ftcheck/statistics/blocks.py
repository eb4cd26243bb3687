"""Example statistics as floats, some rows at a time: where they are kept a number may take a byte, and a table of many
classes is eight times as large as floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, NumberArray

Aggregate = Callable[["FloatArray"], "FloatArray"]
"""Totals (..., c) -> values (...): `Metric.aggregate`."""

_NUMBERS = 1 << 17
"""Held at a time: 1 MiB stays in the cache."""


def parts(rows: NumberArray) -> Iterator[NumberArray]:
    """(n, c) statistics in blocks, in order; of no rows one block of none."""
    step = max(1, _NUMBERS // max(1, rows.shape[1]))
    for start in range(0, max(1, len(rows)), step):
        yield rows[start : start + step]


def floats(rows: NumberArray) -> Iterator[FloatArray]:
    """The same as floats."""
    return (part.astype(np.float64, copy=False) for part in parts(rows))


def totals(rows: NumberArray) -> FloatArray:
    """(n, c) statistics -> what they add up to, (c,)."""
    added: FloatArray = rows.sum(axis=0, dtype=np.float64)
    return added


def value(rows: NumberArray, aggregate: Aggregate) -> float:
    """The metric of all examples."""
    return float(aggregate(totals(rows)))


def of_each(rows: NumberArray, aggregate: Aggregate) -> FloatArray:
    """The metric of each example alone, (n,)."""
    return np.concatenate([aggregate(block) for block in floats(rows)])


def without_each(rows: NumberArray, aggregate: Aggregate, total: FloatArray) -> FloatArray:
    """The metric without each example, (n,), of rows that add up to `total`.

    Collapsing equal rows first does not pay: for macro-F1 of 77 classes on 10,000 examples, finding them (np.unique)
    takes 92 ms, leaving out every example one by one less than 10 ms.
    """
    return np.concatenate([aggregate(total - part) for part in parts(rows)])
