"""What several charts draw alike: axes, intervals, series with their marks, legends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ftcheck.report.charts.scale import Scale, labels
from ftcheck.report.charts.svg import Canvas, number

Mark = Literal["", "dot", "ring", "square", "diamond", "cross"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a series is drawn: told apart by dash and mark as well as by colour."""

    line: str = ""
    """Style classes of its line; empty: no line."""
    mark: Mark = ""
    style: str = ""
    """Of the mark."""


NOW = Look(line="w", mark="dot", style="w fw")
THEN = Look(line="t d", mark="square", style="t fp")
SERIES = (
    NOW,
    THEN,
    Look(line="o p", mark="diamond", style="o fp"),
    Look(line="k l", mark="ring", style="k fp"),
)
"""Looks for as many series as a chart has at most."""


def mark(canvas: Canvas, x: float, y: float, look: Look, size: float = 3) -> None:
    """The mark of one point."""
    if look.mark == "square":
        canvas.square(x, y, size, look.style)
    elif look.mark == "diamond":
        canvas.diamond(x, y, size * 1.4, look.style)
    elif look.mark == "cross":
        twice = number(2 * size)
        canvas.path(f"M{number(x - size)} {number(y - size)}l{twice} {twice}m0-{twice}l-{twice} {twice}", look.style)
    elif look.mark:
        canvas.circle(x, y, size, look.style)


def series(canvas: Canvas, points: Sequence[tuple[float, float]], look: Look, *, marks: bool = True) -> None:
    """A line through `points` with their marks."""
    if len(points) == 1 and not look.mark:
        canvas.circle(*points[0], 2.5, look.line)
    elif look.line:
        canvas.polyline(points, look.line)
    if marks or len(points) == 1:
        for x, y in points:
            mark(canvas, x, y, look)


def interval(canvas: Canvas, y: float, low: float, high: float, style: str = "w h") -> None:
    """A horizontal interval with caps."""
    top = number(y - 4)
    canvas.path(f"M{number(low)} {top}v8M{number(low)} {number(y)}H{number(high)}M{number(high)} {top}v8", style)


def rows_axis(canvas: Canvas, scale: Scale, y: float, most: int = 4) -> None:
    """A horizontal axis under a row, with its ticks."""
    ticks = scale.ticks(most)
    _ruler(canvas, scale, y, ticks)
    for tick, text in zip(ticks, labels(ticks), strict=True):
        canvas.text(scale(tick), y + 13, text, "m s q")


def grid(canvas: Canvas, scale: Scale, ticks: Sequence[float], top: float, bottom: float) -> None:
    """Vertical lines behind rows."""
    lines = (f"M{number(scale(tick))} {number(top)}V{number(bottom)}" for tick in ticks)
    canvas.path("".join(lines), "g")


def _ruler(canvas: Canvas, scale: Scale, y: float, ticks: Sequence[float]) -> None:
    """A horizontal line with ticks under it, as one path."""
    marks = "".join(f"M{number(scale(tick))} {number(y)}v3" for tick in ticks)
    canvas.path(f"M{number(scale.start)} {number(y)}H{number(scale.end)}{marks}", "x")


def frame(canvas: Canvas, x: Scale, y: Scale, *, x_title: str = "", y_title: str = "", ticks: int = 5) -> None:
    """Axes of an x-y plot with a grid; without `x_title` the x axis has no text (another panel below has
    it). `ticks`: about how many the y axis has."""
    rungs = y.ticks(ticks) if ticks else []
    if rungs:
        canvas.path("".join(f"M{number(x.start)} {number(y(rung))}H{number(x.end)}" for rung in rungs), "g")
    for rung, text in zip(rungs, labels(rungs), strict=True):
        canvas.text(x.start - 6, y(rung) + 4, text, "e s q", units=x.start - 20)
    stops = x.ticks(7)
    _ruler(canvas, x, y.start, stops)
    if x_title:
        for stop, text in zip(stops, labels(stops), strict=True):
            canvas.text(x(stop), y.start + 16, text, "m s q")
        canvas.text((x.start + x.end) / 2, y.start + 32, x_title, "m s")
    if y_title:
        canvas.text(x.start, y.end - 8, y_title, "s b", units=x.end - x.start)


Symbol = Callable[[Canvas, float, float], None]
"""Draws an entry of a legend around a point."""


def symbol(look: Look) -> Symbol:
    """A series in a legend."""

    def draw(canvas: Canvas, x: float, y: float) -> None:
        if look.line:
            canvas.line(x - 11, y, x + 11, y, look.line)
        mark(canvas, x, y, look)

    return draw


def legend(canvas: Canvas, y: float, entries: Sequence[tuple[Symbol, str]], start: float = 12) -> float:
    """Entries side by side, in as many lines as they take; returns where the last line is."""
    x = start
    for draw, text in entries:
        width = 34 + 6.4 * min(len(text), 60)
        if x > start and x + width > 640:
            x, y = start, y + 18
        draw(canvas, x + 11, y)
        canvas.text(x + 27, y + 4, text, "s", units=430)
        x += width + 8
    return y
