"""Numbers as every report shows them: rounded to what their interval supports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck import sizes

if TYPE_CHECKING:
    from ftcheck.results import ComparisonResult, GateResult, Interval, MetricResult, Scale
    from ftcheck.statistics import Comparison

POINTS = 100
"""Percentage points in 1: what differences of proportions count in."""


def decimals(half_width: float | None) -> int:
    """Decimal places that show two digits of the half-width; 4 where nothing is known of it."""
    if half_width is None or not math.isfinite(half_width) or half_width <= 0:
        return 4
    return min(6, max(0, 1 - math.floor(math.log10(half_width))))


def value(metric: MetricResult) -> str:
    """A metric's value: `0.912`, `41.2 s`, `90.9 MB`, `22.7 M`."""
    return like(metric, metric.value)


def like(metric: MetricResult, number: float) -> str:
    """Another value of the same metric, e.g. of one seed, shown as the metric's own."""
    if metric.name.endswith("_bytes"):
        return sizes.in_words(number)
    if metric.name.endswith("_seconds"):
        return seconds(number)
    if metric.name.endswith("parameters") or metric.name.endswith("_per_second"):
        return sizes.scaled(number).rstrip()
    return plain(number, places(metric))


def places(metric: MetricResult) -> int:
    """Decimal places for a metric's value, its interval and its seeds' values; of one without an interval those that
    show four digits."""
    if metric.interval is not None:
        return decimals((metric.interval.high - metric.interval.low) / 2)
    if not math.isfinite(metric.value) or abs(metric.value) < 1:
        return 4
    return max(0, 3 - math.floor(math.log10(abs(metric.value))))


def plain(number: float, digits: int) -> str:
    """A number with `digits` decimal places and a true minus, none before a zero; `nan` and `inf` as words."""
    text = f"{number:.{digits}f}" if math.isfinite(number) else f"{number}"
    if text.startswith("-"):
        return f"−{text[1:]}" if text.strip("-0.") else text[1:]
    return text


def signed(number: float, digits: int) -> str:
    """The same with a plus: `+0.3`, `−1.9`, `0.0`."""
    text = plain(number, digits)
    return f"+{text}" if number > 0 and text.strip("0.") else text


def interval(found: Interval, digits: int) -> str:
    """`[0.902, 0.921]`."""
    return f"[{plain(found.low, digits)}, {plain(found.high, digits)}]"


def interval_of(metric: MetricResult) -> str:
    """A metric's interval beside its value; empty where there is none."""
    return interval(metric.interval, places(metric)) if metric.interval is not None else ""


def part_value(gate: GateResult, metric: MetricResult) -> str:
    """What a gate on a part of the rows judged; empty where that has no value."""
    if not math.isfinite(gate.value):
        return ""
    found = gate.comparison
    return plain(gate.value, places(metric) if found is None else Change.of(found, metric).digits)


def difference(metric: MetricResult, number: float) -> str:
    """A difference of two values that nothing is known of but the value's own interval: `−1.9 pt`."""
    if metric.scale == "proportion":
        return f"{signed(number * POINTS, max(0, places(metric) - 2))} pt"
    return signed(number, places(metric))


@dataclass(frozen=True, slots=True)
class Change:
    """By how much a value differs from another, and between which bounds: `−1.9 pt [−3.0, −0.8]`.

    Proportions (accuracy, F1) differ by percentage points, everything else by the metric's own unit.
    """

    value: float
    low: float
    high: float
    scale: Scale

    @classmethod
    def of(cls, found: ComparisonResult | Comparison, metric: MetricResult) -> Change:
        """The change that a comparison found. It counts what is worse; a change has the metric's own direction."""
        if metric.greater_is_better:
            return cls(-found.difference, -found.high, -found.low, metric.scale)
        return cls(found.difference, found.low, found.high, metric.scale)

    def __str__(self) -> str:
        number = self._signed(self.value)
        unit = " pt" if self.scale == "proportion" and math.isfinite(self.value) else ""
        return f"{number}{unit} {self.bounds}".rstrip()

    @property
    def bounds(self) -> str:
        """`[−3.0, −0.8]`; empty where there are none."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return f"[{self._signed(self.low)}, {self._signed(self.high)}]" if known else ""

    @property
    def digits(self) -> int:
        """Decimal places of the values that differ."""
        return decimals((self.high - self.low) / 2)

    def margin(self, number: float, *, exact: bool = True) -> str:
        """A margin in the same unit: `1.0`; with all of its own digits where it is `exact`, not measured."""
        text = plain(number * self._factor, self._places)
        own = f"{number * self._factor:.6g}"
        return own if exact and math.isfinite(number) and float(text.replace("−", "-")) != float(own) else text

    def _signed(self, number: float) -> str:
        return signed(number * self._factor, self._places)

    @property
    def _factor(self) -> int:
        return POINTS if self.scale == "proportion" else 1

    @property
    def _places(self) -> int:
        return max(0, self.digits - 2) if self.scale == "proportion" else self.digits


def rounded_up(number: float) -> float:
    """At least `number`, with two significant digits."""
    if not number > 0 or not math.isfinite(number):
        return number
    digits = 1 - math.floor(math.log10(number))
    scale = 10.0**digits
    return round(math.ceil(round(number * scale, 6)) / scale, max(digits, 0))


def at_least(number: float) -> str:
    """What a gate can detect or prove, in the metric's unit as a suite writes it."""
    return f"{rounded_up(number):g}"


def p_value(number: float) -> str:
    """`0.003`, `<0.0001`."""
    return "<0.0001" if number < 1e-4 else f"{number:.2g}"


def p_equals(number: float) -> str:
    """`p = 0.003`, `p < 0.0001`."""
    return "p < 0.0001" if number < 1e-4 else f"p = {number:.2g}"


def seconds(number: float) -> str:
    """`0.8 s`, `41 s`, `12 min 5 s`, `3 h 20 min`."""
    if not math.isfinite(number):
        return f"{number} s"
    if number < 10:
        return f"{number:.1f} s"
    whole = round(number)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, noun: str) -> str:
    """`1 seed`, `3 seeds`, `1,287 examples`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
