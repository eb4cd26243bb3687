"""Primitives: influences of examples, their variance and degrees of freedom, and the one half-width.

Notation of this package: k runs on the same n examples; run s has statistics X_s (n × c) with column sums T_s and value
f_s = f(T_s); M is the mean of f_s, a bar the mean over runs, and a = n / (n - 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ftcheck.statistics.blocks import Aggregate, totals, without_each
from ftcheck.statistics.distributions import quantile

if TYPE_CHECKING:
    import numpy.typing as npt

    from ftcheck.metrics import FloatArray, NumberArray

    IntArray = npt.NDArray[np.int64]


def influence(rows: NumberArray, aggregate: Aggregate, total: FloatArray | None = None) -> FloatArray:
    """What each example adds to the metric: (n, c) statistics -> (n,), centred; NaN or infinite where f(T - X_i) is.
    `total` is what they add up to, where that is known.

    g_i = (n - 1) / n · (f(T) - f(T - X_i)), the jackknife's; for a mean (x_i - mean) / n.
    """
    n, total = len(rows), totals(rows) if total is None else total
    added = (n - 1) / n * (aggregate(total) - without_each(rows, aggregate, total))
    centred: FloatArray = added - added.mean()
    return centred


def example_variance(influences: FloatArray) -> float:
    """V_E = a Σ g_i²: the variance over examples of the number that the influences (n,) belong to."""
    n = len(influences)
    return n / (n - 1) * float(influences @ influences)


def example_df(influences: FloatArray) -> float:
    """ν_E = 2(Σg²)² / (Σg⁴ - (Σg²)²/n) within [3, n - 1]: how many degrees of freedom V_E is worth."""
    n = len(influences)
    # The unit cancels: with the largest as 1, fourth powers of a perplexity's influences can't overflow.
    squares = (influences / (np.abs(influences).max() or 1.0)) ** 2
    squared_sum = float(squares.sum()) ** 2
    excess = float(squares @ squares) - squared_sum / n
    return min(max(2 * squared_sum / excess, 3.0), n - 1.0) if excess > 0 else n - 1.0


def half_width(q: float, *, v_e: float, nu_e: float, a: float, b: float, nu: int) -> float:
    """h(q) = max((zA + tB) / √(A + B), z√V_E), z = t_{ν_E}(q), t = max(z, t_ν(q)); without seeds (ν = 0) z√V_E.

    Cochran and Cox's weighted t for two variances with different degrees of freedom, never below what examples alone
    give.
    """
    z = quantile(q, nu_e)
    floor = z * math.sqrt(v_e)
    if nu == 0 or a + b == 0:
        return floor
    t = max(z, quantile(q, nu))
    return max((z * a + t * b) / math.sqrt(a + b), floor)


def units(
    statistics: Sequence[NumberArray], clusters: IntArray | None = None
) -> tuple[Sequence[NumberArray], int, int | None]:
    """The rows that are drawn independently: (runs, examples, number of clusters or None).

    Each run's rows, without the examples that count in none. With `clusters` (n,), an id per example, rows are added up
    per cluster, as floats. Raises ValueError for no runs, or runs or clusters of different lengths.
    """
    if len({rows.shape for rows in statistics}) != 1:
        raise ValueError(f"runs need statistics of one shape, got {[rows.shape for rows in statistics]}")
    counted = _counted(statistics)
    runs = statistics if counted.all() else [rows[counted] for rows in statistics]
    examples = len(runs[0])
    if clusters is None:
        return runs, examples, None
    if clusters.shape != counted.shape:
        raise ValueError(f"{len(counted)} examples need one cluster id each, got an array of shape {clusters.shape}")
    ids, cluster_of = np.unique(clusters[counted], return_inverse=True)
    added = [np.zeros((len(ids), rows.shape[1])) for rows in runs]
    for total, rows in zip(added, runs, strict=True):
        np.add.at(total, cluster_of, rows)
    return added, examples, len(ids)


def _counted(statistics: Sequence[NumberArray]) -> npt.NDArray[np.bool_]:
    """(n,): which examples count in any run. The last column of most metrics counts examples: looking at it alone takes
    a thirtieth of the time."""
    for rows in statistics:
        if rows.shape[1] and rows[:, -1].all():
            return np.ones(len(rows), dtype=bool)
    found: npt.NDArray[np.bool_] = np.logical_or.reduce([rows.any(axis=1) for rows in statistics])
    return found


def too_few(examples: int, clusters: int | None) -> str:
    """Why nothing is known of a number's noise; empty from two examples, and two clusters, on."""
    if examples < 2:
        return "one example" if examples else "no examples"
    return "one cluster" if clusters == 1 else ""
