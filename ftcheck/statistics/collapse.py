"""Runs that learned nothing: on small data, some seeds of a fine-tuning end at the majority class."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftcheck.metrics import Scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """Which runs collapsed."""

    runs: tuple[bool, ...]
    """One per run, in the order given."""
    learns: bool
    """Whether any run is better than the predictor that always says the same; if none is, fail the case."""
    rate_low: float
    rate_high: float
    """Clopper and Pearson's 95 % interval for the share of seeds that collapse."""

    @property
    def count(self) -> int:
        return sum(self.runs)


def collapsed(
    values: Sequence[float],
    majority: float,
    *,
    examples: int,
    greater_is_better: bool = True,
    scale: Scale = "proportion",
    unit: float = 1.0,
) -> Collapse:
    """The runs with metrics `values` that collapsed.

    `majority` is τ, the metric of the constant predictor (the commonest class, the mean; 0 for F1, exact match and
    BLEU), `unit` the metric's range (100 for BLEU). A run collapsed if it keeps at most a tenth of what the median of
    the others gains over τ, and that gain is beyond the noise of `examples` examples, 3√(0.25/n). A perplexity
    collapsed if it isn't finite or more than three times the median of the others (`majority` plays no part).

    What has no value collapsed. Raises ValueError for no values or no examples.
    """
    if not values or examples < 1:
        raise ValueError("collapsed runs are found among one run or more, on one example or more")
    if scale == "perplexity":
        runs = tuple(_diverged(value, _others(values, index)) for index, value in enumerate(values))
        learns = any(math.isfinite(value) for value in values)
    else:
        gains = [(value - majority) * (1 if greater_is_better else -1) / unit for value in values]
        noise = 3 * math.sqrt(0.25 / examples)
        runs = tuple(_stayed(gain, _others(gains, index), noise) for index, gain in enumerate(gains))
        learns = any(gain > 0 for gain in gains)
    low, high = clopper_pearson(sum(runs), len(runs))
    return Collapse(runs=runs, learns=learns, rate_low=low, rate_high=high)


def _others(values: Sequence[float], index: int) -> float:
    """The median of the other runs that have a value; NaN without any."""
    others = [value for other, value in enumerate(values) if other != index and math.isfinite(value)]
    return statistics.median(others) if others else math.nan


def _stayed(gain: float, others: float, noise: float) -> bool:
    return not math.isfinite(gain) or (others >= noise and gain <= 0.1 * others)


def _diverged(value: float, others: float) -> bool:
    return not math.isfinite(value) or value > 3 * others


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval for a share (Clopper and Pearson 1934)."""
    tail = (1 - confidence) / 2
    if hits in (0, trials):  # most often: no need of SciPy, which takes long to import
        bound = tail ** (1 / trials)
        return (bound, 1.0) if hits else (0.0, 1 - bound)
    from scipy.special import betaincinv

    low, high = betaincinv([hits, hits + 1], [trials - hits + 1, trials - hits], [tail, 1 - tail])
    return float(low), float(high)
