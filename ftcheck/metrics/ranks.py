"""Spearman's rank correlation, and the one without each example, in time O(n log n).

Leaving out example i moves those above it down a rank and its equals half a rank: with c_ij = 1 where x_j > x_i, ½
where they are equal, else 0 (and d_ij the same of y), the products of the ranks r and s that are left add up to

    Σ_{j≠i} (r_j - c_ij)(s_j - d_ij) = Σ r_j s_j - r_i s_i - Σ_{j≠i} c_ij s_j - Σ_{j≠i} d_ij r_j + Σ_{j≠i} c_ij d_ij

The third and fourth terms are sums over the end of a sorted array, the last counts the points above and to the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.metrics import FloatArray

    Ints = npt.NDArray[np.int64]


def spearman(x: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
    """(n,) finite numbers twice, n > 1 -> Spearman's correlation, and the one without each example (n,).

    NaN where either side doesn't vary.
    """
    import numpy as np

    n = len(x)
    one, other = _Ranked(x), _Ranked(y)
    products = float(one.ranks @ other.ranks)
    value = _correlation(products, one.squares, other.squares, n)
    left = (
        products
        - one.ranks * other.ranks
        - one.of_those_above(other.ranks)
        - other.of_those_above(one.ranks)
        + _both_above(x, y, one.tied or other.tied)
    )
    without = _correlation(left, one.squares_without(), other.squares_without(), n - 1)
    return float(value), np.asarray(without)


class _Ranked:
    """Values by their ranks from 1, equal ones sharing the mean of theirs."""

    def __init__(self, values: FloatArray) -> None:
        import numpy as np

        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        group = np.cumsum(new) - 1
        ends = np.concatenate([np.flatnonzero(new), [len(values)]])
        self._start, self._end = np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.int64)
        self._start[self.order], self._end[self.order] = ends[group], ends[group + 1]
        self.ranks: FloatArray = (self._start + self._end + 1) / 2
        self._n, self._ties = len(values), np.diff(ends).astype(np.float64)
        self.tied = len(self._ties) < len(values)

    @property
    def squares(self) -> float:
        """Σ r²: that of 1 to n, less (t³ - t) / 12 for every t that are equal."""
        return self._n * (self._n + 1) * (2 * self._n + 1) / 6 - float((self._ties**3 - self._ties).sum()) / 12

    def squares_without(self) -> FloatArray:
        """Σ r² of the ranks that are left without each example: (n,)."""
        n, t = self._n - 1, (self._end - self._start).astype(float)
        # A group of t loses one: (t³ - t) - ((t - 1)³ - (t - 1)) = 3t(t - 1)
        lost = (float((self._ties**3 - self._ties).sum()) - 3 * t * (t - 1)) / 12
        left: FloatArray = n * (n + 1) * (2 * n + 1) / 6 - lost
        return left

    def of_those_above(self, weights: FloatArray) -> FloatArray:
        """Σ_{j≠i} c_ij weights_j: (n,)."""
        import numpy as np

        sums = np.concatenate([[0.0], np.cumsum(weights[self.order])])
        above: FloatArray = sums[-1] - (sums[self._start] + sums[self._end] + weights) / 2
        return above


def _correlation(products: Any, squares: Any, other_squares: Any, n: int) -> Any:
    """Pearson's r of ranks, whose mean is (n + 1) / 2, from sums of products and squares."""
    import numpy as np

    from ftcheck.metrics import counts

    middle = n * ((n + 1) / 2) ** 2
    spread = np.sqrt((squares - middle) * (other_squares - middle))
    return counts.ratio(np.asarray(products - middle), spread, empty=float("nan"))


def _both_above(x: FloatArray, y: FloatArray, tied: bool) -> FloatArray:
    """Σ_{j≠i} c_ij d_ij: (n,).

    c is the mean of "above" and "not below", so the sum is the mean of four counts: each of points above in both, under
    orders that put equal ones before or after each other.
    """
    import numpy as np

    if not tied:
        return _dominators(_places(x), _places(y)).astype(float)
    _, which, times = np.unique(np.stack([x, y]), axis=1, return_inverse=True, return_counts=True)
    copies = times[which.reshape(-1)] - 1
    total = np.zeros(len(x))
    for x_too in (False, True):  # whether equals in x count as above
        for y_too in (False, True):
            total += _dominators(_places(x, y if x_too else -y), _places(y, x if y_too else -x, backwards=True))
            total += copies if x_too and y_too else 0
    return total / 4


def _places(values: FloatArray, then: FloatArray | None = None, *, backwards: bool = False) -> Ints:
    """The place (0 to n - 1) of each in the order of `values`, equals by `then`, and those by their index."""
    import numpy as np

    index = np.arange(len(values))
    order = np.lexsort([-index if backwards else index, *([] if then is None else [then]), values])
    places = np.empty(len(values), dtype=np.int64)
    places[order] = index
    return places


def _dominators(one: Ints, other: Ints) -> Ints:
    """How many examples have a higher place in both orders than each: (n,) permutations of 0 to n - 1 twice -> (n,).

    Examples stand in the order `one`, in groups that agree in the high bits of `other`. One bit after the other splits
    each group in two; whoever has a 0 counts the ones that stand behind it in its group.
    """
    import numpy as np

    n = len(one)
    counts = np.zeros(n, dtype=np.int64)
    who = np.empty(n, dtype=np.int64)
    who[one] = np.arange(n)
    for bit in range(max(1, (n - 1).bit_length()) - 1, -1, -1):
        place = other[who]
        start = (place >> (bit + 1)) << (bit + 1)  # places are 0 to n - 1: so many stand before the group
        end = np.minimum(start + (2 << bit), n)
        ones = (place >> bit) & 1
        before = np.concatenate([[0], np.cumsum(ones)])
        behind = before[end] - before[:-1]
        counts[who] += np.where(ones == 0, behind, 0)
        in_group = before[:-1] - before[start]
        to = np.where(ones == 1, start + (1 << bit) + in_group, np.arange(n) - in_group)
        moved = np.empty(n, dtype=np.int64)
        moved[to] = who
        who = moved
    return counts
