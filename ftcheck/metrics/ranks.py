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

FEW = 16_384
"""Places below it fit 16 bits, and a table of their blocks the processor's cache."""
BLOCK = 48


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
        + _both_above(one, other)
    )
    without = _correlation(left, one.squares_without(), other.squares_without(), n - 1)
    return float(value), np.asarray(without)


class _Ranked:
    """Values by their ranks from 1, equal ones sharing the mean of theirs."""

    def __init__(self, values: FloatArray) -> None:
        import numpy as np

        n = len(values)
        self._n, self._order = n, np.argsort(values)
        ordered = values[self._order]
        new = ordered[1:] != ordered[:-1]
        self.tied = not new.all()
        if self.tied:
            self._order = np.argsort(values, kind="stable")
        self.places: Ints = np.empty(n, dtype=np.int64)
        """(n,): 0 to n - 1, equal ones in their order."""
        self.places[self._order] = np.arange(n)
        self.start: Ints = self.places
        """(n,): how many are below."""
        self._end: Ints = self.places + 1
        self._ties = np.empty(0)
        if self.tied:
            ends = np.concatenate([[0], np.flatnonzero(new) + 1, [n]])
            group = np.concatenate([[0], np.cumsum(new)])[self.places]
            self.start, self._end = ends[group], ends[group + 1]
            self._ties = np.diff(ends).astype(np.float64)
        self.ranks: FloatArray = (self.start + self._end + 1) / 2

    @property
    def places_backwards(self) -> Ints:
        """(n,): 0 to n - 1, equal ones in the reverse of their order."""
        places: Ints = self.start + self._end - 1 - self.places
        return places

    @property
    def squares(self) -> float:
        """Σ r²: that of 1 to n, less (t³ - t) / 12 for every t that are equal."""
        return self._n * (self._n + 1) * (2 * self._n + 1) / 6 - float((self._ties**3 - self._ties).sum()) / 12

    def squares_without(self) -> FloatArray | float:
        """Σ r² of the ranks that are left without each example: (n,), or one number for all of them."""
        n = self._n - 1
        if not self.tied:
            return n * (n + 1) * (2 * n + 1) / 6
        t = (self._end - self.start).astype(float)
        # A group of t loses one: (t³ - t) - ((t - 1)³ - (t - 1)) = 3t(t - 1)
        lost = (float((self._ties**3 - self._ties).sum()) - 3 * t * (t - 1)) / 12
        left: FloatArray = n * (n + 1) * (2 * n + 1) / 6 - lost
        return left

    def of_those_above(self, weights: FloatArray) -> FloatArray:
        """Σ_{j≠i} c_ij weights_j: (n,)."""
        import numpy as np

        sums = np.concatenate([[0.0], np.cumsum(weights[self._order])])
        below = sums[self.start]
        upto = sums[self._end] if self.tied else below + weights
        above: FloatArray = sums[-1] - (below + upto + weights) / 2
        return above


def _correlation(products: Any, squares: Any, other_squares: Any, n: int) -> Any:
    """Pearson's r of ranks, whose mean is (n + 1) / 2, from sums of products and squares."""
    import numpy as np

    from ftcheck.metrics import counts

    middle = n * ((n + 1) / 2) ** 2
    spread = np.sqrt((squares - middle) * (other_squares - middle))
    return counts.ratio(np.asarray(products - middle), spread, empty=float("nan"))


def _both_above(one: _Ranked, other: _Ranked) -> FloatArray:
    """Σ_{j≠i} c_ij d_ij: (n,).

    Where some are equal, the mean of two counts: with equals in the order of their indices in x and in y, and in the
    reverse of it in both. Whoever equals i in one only is above it in one of the two, which makes ½; whoever equals it
    in both makes ½ too, where c_ij d_ij is ¼.
    """
    import numpy as np

    if not (one.tied or other.tied):
        return _dominators(one.places, other.places).astype(float)
    counts = _dominators(one.places, other.places) + _dominators(one.places_backwards, other.places_backwards)
    pairs = one.start * len(counts) + other.start
    _, which, times = np.unique(pairs, return_inverse=True, return_counts=True)
    mean: FloatArray = counts / 2 - (times[which] - 1) / 4
    return mean


def _dominators(one: Ints, other: Ints) -> Ints:
    """How many examples have a higher place in both orders than each: (n,) permutations of 0 to n - 1 twice -> (n,).

    Halves the examples by their places in `other`, until there are few enough for `_few_dominators`: the lower half
    has, besides its own, those of the upper that stand behind in `one`.
    """
    import numpy as np

    n = len(one)
    if n <= FEW:
        return _few_dominators(one, other)
    high = other >= n // 2
    in_order = np.empty(n, dtype=bool)
    in_order[one] = high
    highs, lows = np.cumsum(in_order)[one], np.cumsum(~in_order)[one]
    counts = np.where(high, 0, n - n // 2 - highs)
    counts[high] += _dominators(highs[high] - 1, other[high] - n // 2)
    counts[~high] += _dominators(lows[~high] - 1, other[~high])
    return counts


def _few_dominators(one: Ints, other: Ints) -> Ints:
    """`_dominators` of at most FEW examples: those of the same block of places in either order are compared one by one,
    those of higher blocks in both are counted in a table of blocks."""
    import numpy as np

    n = len(one)
    blocks = -(-n // BLOCK)
    row, column = one // BLOCK, other // BLOCK
    table = np.zeros((blocks + 1, blocks + 1), dtype=np.int32)
    table[:-1, :-1] = np.bincount(row * blocks + column, minlength=blocks * blocks).reshape(blocks, blocks)
    np.cumsum(table[::-1], axis=0, out=table[::-1])
    np.cumsum(table[:, ::-1], axis=1, out=table[:, ::-1])
    counts: Ints = table.reshape(-1)[(row + 1) * (blocks + 1) + column + 1]

    # In the same row those in any higher column; in the same column those in a higher row.
    size = blocks * BLOCK
    ordered = np.full(2 * size, -1, dtype=np.int16)
    ordered[one], ordered[other + size] = other, row
    lines = ordered.reshape(2 * blocks, BLOCK)
    behind = np.zeros_like(lines)
    for step in range(1, BLOCK):
        behind[:, :-step] += lines[:, step:] > lines[:, :-step]
    found = behind.reshape(-1)
    counts = counts + found[one] + found[other + size]
    return counts
