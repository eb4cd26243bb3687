"""Precision, recall and F1 out of counts: what classification and sequence labelling share.

Totals are laid out [hits × C, predicted × C, gold × C, examples] for C classes (entity types; C = 1 for a single class
or for counts pooled over classes), so `aggregate` needs no knowledge of the classes themselves.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray

Rate = Literal["precision", "recall", "f1"]
Average = Literal["macro", "weighted"]


def ratio(numerator: FloatArray, denominator: FloatArray, *, empty: float) -> FloatArray:
    """`numerator / denominator` elementwise, `empty` where the denominator is 0."""
    import numpy as np

    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), empty)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


def mean(totals: FloatArray) -> FloatArray:
    """Totals [sum, count] (..., 2) -> sum / count, NaN where nothing was counted."""
    return ratio(totals[..., 0], totals[..., 1], empty=float("nan"))


def rates(totals: FloatArray, rate: Rate) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Totals (..., 3C + 1) -> the rate, predictions and gold of each class, (..., C) each; 0/0 is 0.

    F1 is 2·hits / (predicted + gold), scikit-learn's form since 1.3.
    """
    import numpy as np

    hits, predicted, gold = np.split(totals[..., :-1], 3, axis=-1)
    if rate == "precision":
        return ratio(hits, predicted, empty=0.0), predicted, gold
    if rate == "recall":
        return ratio(hits, gold, empty=0.0), predicted, gold
    return ratio(2 * hits, predicted + gold, empty=0.0), predicted, gold


def _over_classes(values: FloatArray) -> FloatArray:
    """The sum over the last axis. Of many short rows NumPy adds each up by itself; of a few classes, columns come to
    the same sums much sooner."""
    import numpy as np

    if not 0 < values.shape[-1] < 8:
        return np.asarray(values.sum(-1))
    total: FloatArray = reduce(np.add, np.moveaxis(values, -1, 0))
    return total


def averaged(totals: FloatArray, rate: Rate, average: Average | None) -> FloatArray:
    """Totals (..., 3C + 1) -> (...): the rate of the only class, or the mean over classes.

    `macro` weighs all classes alike that were predicted or are gold, `weighted` by their gold count (0 without any).
    NaN without examples, and for `macro` without a class to average, as NumPy's mean of nothing.
    """
    import numpy as np

    values, predicted, gold = rates(totals, rate)
    if average is None:
        value = values[..., 0]
    elif average == "weighted":
        value = ratio(_over_classes(values * gold), _over_classes(gold), empty=0.0)
    else:
        present = (predicted + gold > 0).astype(np.float64)
        value = ratio(_over_classes(values), _over_classes(present), empty=float("nan"))
    return np.where(totals[..., -1] > 0, value, np.nan)
