"""From a comparison and a margin to a verdict."""

from __future__ import annotations

import math
from typing import Literal

from ftcheck.statistics.comparison import Comparison

FEW_EXAMPLES = 30
"""With fewer, an interval is shown but decides nothing."""

FEW_CLUSTERS = 10
"""The same for clusters."""

Decision = Literal["pass", "fail", "inconclusive"]


def decide(comparison: Comparison, margin: float | None, *, proven: bool = False) -> Decision:
    """Whether the candidate is no worse than `margin` (δ, in the metric's unit; None: the comparison's relative one).

    - pass: U ≤ δ, shown to be no worse than the margin. Looked at first.
    - fail: d > δ and L > 0: measured to be worse by more than the margin, and shown to be worse. That is no proof of
      "worse by more than the margin"; `proven` asks for it: L > δ.
    - inconclusive: else, and always with fewer than 30 examples or 10 clusters, or without bounds.

    A candidate or baseline without a finite value fails. One prediction on both sides passes. Raises ValueError for a
    negative margin, or for None where the comparison has no relative margin, or one of a gain.
    """
    _check(comparison, margin, gain=False)
    if not math.isfinite(comparison.difference):
        return "fail"
    if comparison.same:
        return "pass"
    if _undecidable(comparison):
        return "inconclusive"
    beyond, low, high = _beyond(comparison, margin)
    if high <= 0:
        return "pass"
    worse = low > 0 if proven else beyond > 0 and comparison.low > 0
    return "fail" if worse else "inconclusive"


def decide_gain(comparison: Comparison, margin: float | None, *, proven: bool = False) -> Literal["pass", "fail"]:
    """Whether there is an alarm: the candidate is better by more than `margin`, which smells of a leak.

    The mirror image of `decide`, but only an alarm: it fails where -d > δ and U < 0 (`proven`: U < -δ) and has no
    objection elsewhere, however little is known. Arguments, errors and values that aren't finite as there; a relative
    margin of a gain is a comparison with a negative `relative`.
    """
    _check(comparison, margin, gain=True)
    if not math.isfinite(comparison.difference):
        return "fail"
    if comparison.same or _undecidable(comparison):
        return "pass"
    if margin is None:
        beyond, _, high = _beyond(comparison, None)
    else:
        beyond, high = comparison.difference + margin, comparison.high + margin
    better = high < 0 if proven else beyond < 0 and comparison.high < 0
    return "fail" if better else "pass"


def _beyond(comparison: Comparison, margin: float | None) -> tuple[float, float, float]:
    """(d, L, U) from the margin on."""
    if margin is not None:
        return comparison.difference - margin, comparison.low - margin, comparison.high - margin
    assert comparison.relative is not None
    return comparison.relative.difference, comparison.relative.low, comparison.relative.high


def _undecidable(comparison: Comparison) -> bool:
    few_clusters = comparison.clusters is not None and comparison.clusters < FEW_CLUSTERS
    return bool(comparison.no_bounds) or comparison.examples < FEW_EXAMPLES or few_clusters


def _check(comparison: Comparison, margin: float | None, *, gain: bool) -> None:
    if margin is None:
        relative = comparison.relative
        if relative is None or (relative.r > 0 if gain else relative.r < 0):
            raise ValueError(f"the comparison has no relative margin of a {'gain' if gain else 'regression'}")
    elif not margin >= 0:
        raise ValueError(f"a margin is 0 or more, got {margin}")
