"""Numbers as every report shows them: rounded to what their interval supports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftcheck.results import Interval, MetricResult

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def decimals(half_width: float | None) -> int:
    """Decimal places that show two digits of the half-width; 4 where nothing is known of it."""
    if half_width is None or not math.isfinite(half_width) or half_width <= 0:
        return 4
    return min(6, max(0, 1 - math.floor(math.log10(half_width))))


def value(metric: MetricResult) -> str:
    """A metric's value: `0.912`, `41.2 s`, `90.9 MB`, `22.7 M`."""
    if metric.name.endswith("_bytes"):
        return f"{scaled(metric.value)}B"
    if metric.name.endswith("_seconds"):
        return seconds(metric.value)
    if metric.name.endswith("parameters") or metric.name.endswith("_per_second"):
        return scaled(metric.value).rstrip()
    return plain(metric.value, places(metric))


def places(metric: MetricResult) -> int:
    """Decimal places for a metric's value, its interval and its seeds' values."""
    return decimals(None if metric.interval is None else (metric.interval.high - metric.interval.low) / 2)


def plain(number: float, digits: int) -> str:
    """A number with `digits` decimal places; `nan` and `inf` as words."""
    return f"{number:.{digits}f}" if math.isfinite(number) else f"{number}"


def interval(found: Interval, digits: int) -> str:
    """`[0.902, 0.921]`."""
    return f"[{plain(found.low, digits)}, {plain(found.high, digits)}]"


def scaled(number: float) -> str:
    """Three significant digits with a decimal prefix: `22.7 M`, `90.9 M`, `312 `."""
    if not math.isfinite(number):
        return f"{number} "
    for size, prefix in UNITS:
        if abs(number) >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g} "


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
