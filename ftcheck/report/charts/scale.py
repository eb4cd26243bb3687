"""From values to places: linear and logarithmic scales with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

UNIT = (0.0, 1.0)
"""Where shares lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values low..high on units start..end (end < start for an axis that points up)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls,
        values: Iterable[float],
        start: float,
        end: float,
        *,
        pad: float = 0.06,
        log: bool = False,
        bounds: tuple[float, float] = (-math.inf, math.inf),
    ) -> Scale | None:
        """One that holds all `values` with room on both sides; None without a finite value. Where all values lie within
        `bounds`, so does the room. On a logarithmic one only values above 0 count."""
        known = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
        if not known:
            return None
        low, high = min(known), max(known)
        if log:
            return cls(low=low / 1.1, high=high * 1.1, start=start, end=end, log=True)
        room = (high - low) * pad or max(abs(high) * 0.05, 1e-3)
        if low < bounds[0] or high > bounds[1]:
            bounds = (-math.inf, math.inf)
        return cls(low=max(low - room, bounds[0]), high=min(high + room, bounds[1]), start=start, end=end)

    def __call__(self, value: float) -> float:
        """Where `value` lies; values outside lie on the rim."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def ticks(self, most: int = 5) -> list[float]:
        """About `most` round values within, at least two: steps of 1, 2 or 5 times a power of ten."""
        if self.log:
            return self._powers(most)
        step = _round_step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        while last - first + 1 > most:
            step = _round_step(step * 1.01)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        if last <= first and most < 8:
            return self.ticks(most + 1)
        return [index * step for index in range(first, last + 1)]

    def _powers(self, most: int) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            found = [f * 10.0**e for e in exponents for f in factors if self.low <= f * 10.0**e <= self.high]
            if len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that isn't below `least`."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def labels(ticks: Sequence[float]) -> list[str]:
    """The ticks' texts, with as many decimals as tell them apart: `0.80`, `0.85`; `2,000`; `5e-05`."""
    if any(abs(tick) >= 1e6 or 0 < abs(tick) < 1e-4 for tick in ticks):
        return [f"{tick:.3g}".replace("-", "−") if abs(tick) > 1e-12 else "0" for tick in ticks]
    texts = [f"{round(tick, 8):.8f}".rstrip("0") for tick in ticks]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [f"{round(tick, 8) + 0.0:,.{decimals}f}".replace("-", "−") for tick in ticks]
