"""Example statistics for metrics that don't add up over examples (a rank correlation, an area under a curve).

The metric's value f and its values f_-i without each example i make the jackknife's influences
g_i = (n - 1) / n · (f - f_-i), centred. Rows [f + n·g_i, 1, 1] have the mean f exactly, and these influences: so
intervals and paired comparisons work as for any other metric, by the jackknife's linear approximation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray

MOST = 1000
"""Examples up to which a metric of unknown cost is computed once without each of them: work grows with the square."""


COLUMNS = 3
"""Of the statistics."""


def too_many(examples: int) -> str:
    """Why a metric of unknown cost has no interval over so many examples; empty where it has one."""
    if examples <= MOST:
        return ""
    return f"it doesn't add up over examples, and leaving out each in turn is done for at most {MOST:,} of them"


def statistics(value: float, without: FloatArray) -> FloatArray:
    """(n, 3) statistics for `aggregate`, from the metric and its values without each of n examples, (n,).

    An example without which there is no value (an area under a curve without its only positive) carries all of it, so
    that leaving it out gives none either.
    """
    import numpy as np

    rows = np.ones((len(without), 3))
    rows[:, 0] = value
    if len(without) < 2 or not np.isfinite(value):
        return rows
    if not np.isfinite(without).all():
        rows[:, :2] = 0
        rows[int(np.argmin(np.isfinite(without))), :2] = value, 1
        return rows
    influence = (len(without) - 1) / len(without) * (value - without)
    rows[:, 0] += len(without) * (influence - influence.mean())
    return rows


def aggregate(totals: FloatArray) -> FloatArray:
    """(..., 3) -> (...): the metric, NaN without examples."""
    from ftcheck.metrics import counts

    return counts.mean(totals[..., :2])
