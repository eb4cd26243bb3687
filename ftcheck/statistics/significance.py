"""Tests that a report may show beside a verdict. No gate decides by them: they know the noise of examples only (or, the
seed permutation, that of seeds only), and resampling is no better than the jackknife where the gates need it.

Everything random is drawn from `numpy.random.default_rng(seed)` with the caller's seed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ftcheck.statistics import blocks
from ftcheck.statistics.blocks import Aggregate

if TYPE_CHECKING:
    import numpy.typing as npt

    from ftcheck.metrics import FloatArray, NumberArray

_RESAMPLES_AT_ONCE = 250
_NUMBERS_AT_ONCE = 1 << 22
"""Of the weights of examples that are held at a time: of many examples few resamples' are."""
_MOST_PERMUTATIONS = 200_000


def mcnemar(broken: int, fixed: int) -> float:
    """Exact two-sided p of one model a side on 0/1 scores (McNemar 1947): of `broken` + `fixed` examples that changed,
    as uneven a split by chance. 1 where none did."""
    from scipy.special import bdtr

    changed = broken + fixed
    return min(1.0, 2 * float(bdtr(min(broken, fixed), changed, 0.5))) if changed else 1.0


def approximate_randomization(
    baseline: Sequence[NumberArray],
    candidate: Sequence[NumberArray],
    aggregate: Aggregate,
    *,
    seed: int,
    resamples: int = 10_000,
) -> float:
    """Two-sided p of |M_b - M_c| if the sides were swapped at random, example by example, all runs of one together
    (Noreen 1989): noise of examples only.

    Both hold one (n, c) array of statistics per run, aligned, as many runs each. Where the examples that differ allow
    no more than `resamples` different swaps, all are tried and p is exact; else it is (as large + 1) / (resamples + 1).
    sacrebleu counts larger differences only, not equal ones. Raises ValueError for different numbers of runs.
    """
    if len(baseline) != len(candidate):
        raise ValueError(f"swapping examples needs as many runs a side, got {len(baseline)} and {len(candidate)}")
    differ = np.logical_or.reduce([_differ(*pair) for pair in zip(baseline, candidate, strict=True)])
    changed = int(differ.sum())
    rest = [blocks.totals(rows[~differ]) for rows in baseline]
    old, new = ([rows[differ] for rows in side] for side in (baseline, candidate))

    def differences(swaps: npt.NDArray[np.bool_]) -> FloatArray:
        return np.abs(swapped_differences(old, new, aggregate, swaps, rest))

    observed = float(differences(np.zeros((1, changed), dtype=bool))[0])
    # Equal differences, but for rounding, count as equal.
    as_large = observed * (1 - 1e-9) - 1e-15
    if changed < resamples.bit_length():
        swaps = np.array(list(itertools.product((False, True), repeat=changed)), dtype=bool)
        return float((differences(swaps) >= as_large).mean())
    drawn = _swaps(np.random.default_rng(seed), len(differ), resamples)
    hits = sum(int((differences(swaps[:, differ]) >= as_large).sum()) for swaps in drawn)
    return (hits + 1) / (resamples + 1)


def _differ(before: NumberArray, after: NumberArray) -> npt.NDArray[np.bool_]:
    """(n,): whether an example's rows differ."""
    pairs = zip(blocks.parts(before), blocks.parts(after), strict=True)
    return np.concatenate([(first != second).any(axis=1) for first, second in pairs])


def _swaps(rng: np.random.Generator, examples: int, resamples: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Fair coins in chunks (r, n). A bit is drawn for each, 32 at a time: a chunk of 32 rows draws whole numbers."""
    for size in _chunks(resamples):
        for start in range(0, size, 32):
            yield rng.integers(2, size=(min(32, size - start), examples), dtype=bool)


def swapped_differences(
    baseline: Sequence[NumberArray],
    candidate: Sequence[NumberArray],
    aggregate: Aggregate,
    swaps: npt.NDArray[np.bool_],
    rest: Sequence[FloatArray],
) -> FloatArray:
    """M_b - M_c with the sides of some examples swapped: swaps (r, n) -> (r,). `rest` is what examples that are the
    same on both sides add up to, (c,) a run."""
    difference: FloatArray = np.zeros(len(swaps))
    for before, after, same in zip(baseline, candidate, rest, strict=True):
        change, start = np.zeros((len(swaps), before.shape[1])), 0
        for first, second in zip(blocks.floats(before), blocks.floats(after), strict=True):
            change += swaps[:, start : start + len(first)] @ (second - first)
            start += len(first)
        first, second = (same + blocks.totals(rows) for rows in (before, after))
        difference += aggregate(first + change) - aggregate(second - change)
    return difference / len(baseline)


def seed_permutation(
    baseline: Sequence[float], candidate: Sequence[float], *, greater_is_better: bool, seed: int
) -> float:
    """One-sided p of "the candidate's seeds are no worse": the share of ways to deal the runs' values to the two sides
    whose means differ by as much.

    Exact up to 200,000 ways (10 seeds a side), beyond that as many at random. With 3 seeds a side no p is below 0.05,
    with fewer none below 0.17. Noise of seeds only. Raises ValueError for a side without runs.
    """
    if not baseline or not candidate:
        raise ValueError("a permutation of seeds needs runs on both sides")
    values = np.array([*baseline, *candidate], dtype=np.float64) * (1 if greater_is_better else -1)
    k, n = len(candidate), len(values)
    ways = math.comb(n, k)
    # The candidate's sum decides: the sum of all is the same in every deal. Equal but for rounding counts as equal.
    as_low = values[len(baseline) :].sum() + 1e-9 * float(np.ptp(values))
    if ways <= _MOST_PERMUTATIONS:
        dealt = np.fromiter(itertools.chain.from_iterable(itertools.combinations(range(n), k)), np.intp, ways * k)
        return float((values[dealt.reshape(ways, k)].sum(axis=1) <= as_low).mean())
    rng = np.random.default_rng(seed)
    found = 0
    for size in _chunks(_MOST_PERMUTATIONS):  # they draw what all at once would, of 100 seeds a side without 640 MB
        drawn = rng.permuted(np.tile(values, (size, 1)), axis=1)[:, :k].sum(axis=1)
        found += int((drawn <= as_low).sum())
    return (found + 1) / (_MOST_PERMUTATIONS + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """A paired bootstrap over examples of M_b - M_c, in the metric's unit and direction."""

    difference: float
    low: float
    high: float
    """Percentile interval."""
    p_value: float
    """sacrebleu's and Moses' (Koehn 2004): how often |d*| is further above its mean than |d| is above 0; 1 where d is
    0, which they call significant."""


def paired_bootstrap(
    baseline: Sequence[NumberArray],
    candidate: Sequence[NumberArray],
    aggregate: Aggregate,
    *,
    seed: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Bootstrap:
    """Resamples examples with replacement, the same ones for every run of both sides.

    Both hold one (n, c) array of statistics per run, aligned. Where few different rows are seen the numbers of each are
    drawn at once, multinomial; else each example's by itself, Poisson with mean 1, which needs a metric that doesn't
    change when all totals are multiplied by one number (all of ftcheck's are such).
    """
    joined = np.hstack([*baseline, *candidate])
    examples = len(joined)
    found = distinct(joined, most=examples // 4)
    rng = np.random.default_rng(seed)
    rows: npt.NDArray[np.floating]
    weights: Iterator[npt.NDArray[np.floating]]
    if found is not None:
        rows, counts = found
        sizes = _chunks(resamples, of=len(rows))
        weights = (rng.multinomial(examples, counts / examples, size=size) * 1.0 for size in sizes)
    else:
        # Single precision halves the time; six digits of a resample's totals are plenty.
        rows, weights = joined.astype(np.float32), _poisson(rng, examples, resamples)
    sides = len(baseline), len(candidate)
    differences = np.concatenate([resampled_differences(weight, rows, sides, aggregate) for weight in weights])
    of_baseline, of_candidate = ([blocks.value(run, aggregate) for run in side] for side in (baseline, candidate))
    observed = float(np.mean(of_baseline) - np.mean(of_candidate))
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Bootstrap(
        difference=observed,
        low=float(low),
        high=float(high),
        p_value=bootstrap_p(differences, observed) if observed else 1.0,
    )


def resampled_differences(
    weights: npt.NDArray[np.floating], rows: npt.NDArray[np.floating], runs: tuple[int, int], aggregate: Aggregate
) -> FloatArray:
    """M_b - M_c of resamples: weights (r, n) of the rows (n, (k_b + k_c)·c) of all runs side by side -> (r,)."""
    totals = (weights @ rows).astype(np.float64, copy=False).reshape(len(weights), sum(runs), -1)
    values = aggregate(totals)
    difference: FloatArray = values[:, : runs[0]].mean(axis=1) - values[:, runs[0] :].mean(axis=1)
    return difference


def bootstrap_p(differences: FloatArray, observed: float) -> float:
    """(#{|d*| - mean |d*| > |d|} + 1) / (resamples + 1)."""
    sizes = np.abs(differences)
    return (int((sizes - sizes.mean() > abs(observed)).sum()) + 1) / (len(sizes) + 1)


def _poisson(rng: np.random.Generator, examples: int, resamples: int) -> Iterator[npt.NDArray[np.floating]]:
    """Poisson(1) counts in chunks (r, n), looked up by 16 random bits: ten times as fast as `rng.multinomial`."""
    ordinals = (np.arange(1 << 16) + 0.5) / (1 << 16)
    cumulative = np.cumsum([math.exp(-1) / math.factorial(count) for count in range(12)])
    table = np.searchsorted(cumulative, ordinals).astype(np.float32)
    for size in _chunks(resamples, of=examples):
        yield table[rng.integers(1 << 16, size=(size, examples), dtype=np.uint16)]


def distinct(rows: NumberArray, *, most: int) -> tuple[FloatArray, npt.NDArray[np.int64]] | None:
    """(the different rows, in order; how often each is there), None for more than `most`.

    They are counted by their bytes: each is looked at once, where `np.unique` sorts them all, column by column.
    """
    seen: Counter[bytes] = Counter()
    for part in blocks.parts(rows):
        plain = np.ascontiguousarray(part + part.dtype.type(0))  # -0.0 is 0.0
        seen.update(plain.view(f"V{plain.strides[0]}")[:, 0].tolist())
        if len(seen) > most:
            return None
    table = np.frombuffer(b"".join(seen), rows.dtype).reshape(-1, rows.shape[1])
    order = np.lexsort(table.T[::-1])
    return table[order].astype(np.float64), np.fromiter(seen.values(), np.int64, len(seen))[order]


def _chunks(resamples: int, *, of: int = 1) -> Iterator[int]:
    """How many at a time, where each has as many numbers. An even count: what is drawn in 16 bits is the same then,
    however many are drawn at a time."""
    at_once = min(_RESAMPLES_AT_ONCE, max(2, _NUMBERS_AT_ONCE // max(1, of) // 2 * 2))
    full, rest = divmod(resamples, at_once)
    yield from itertools.repeat(at_once, full)
    if rest:
        yield rest
