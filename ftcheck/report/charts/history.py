"""Gated metrics over the case's past: values with intervals, the baseline's steps, drift from the first accepted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from ftcheck.report import numbers
from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import UNIT, Scale, labels
from ftcheck.report.charts.svg import WIDTH, Canvas, Figure, Table, figure, joined, number
from ftcheck.results import CaseResult, HistoryPoint, MetricResult, PastValue

MOST = 4
"""Metrics that are drawn; the table has all."""

_LEFT, _RIGHT = 62, WIDTH - 16
_PANEL = 150
_NAMES = {
    "value": "result and interval",
    "baseline": "baseline",
    "anchor": "first accepted",
    "drift": "worse than the first accepted beyond chance",
}
_LEVELS = {"anchor": "o p", "baseline": "t d"}
"""What is drawn as a line of levels -> its style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One metric over time, the oldest first."""

    metric: MetricResult
    points: tuple[tuple[HistoryPoint, PastValue], ...]

    @property
    def digits(self) -> int:
        return numbers.places(self.metric)

    def values(self) -> Iterator[float]:
        """All that must be seen."""
        for _, value in self.points:
            yield value.value
            yield from (v for v in (value.low, value.high, value.baseline, value.anchor) if v is not None)


def draw(result: CaseResult, id: str) -> Figure | None:
    """A panel for each metric that has a past, its results at equal distances; None where none has."""
    lines = _lines(result)
    if not lines:
        return None
    title = "Results over time"
    description = f"{joined(map(_told, lines[:3]))}."
    head = ("metric", "when (UTC)", "value", "interval", "baseline", "first accepted", "drift", "case", "commit")
    rows = tuple(row for line in lines for row in _cells(line))
    return figure(id, title, description, _Drawing(lines[:MOST]).drawn(), Table(head=head, rows=rows))


def _lines(result: CaseResult) -> list[Line]:
    """The metrics that two results or more have a value of."""
    found = []
    for metric in result.metrics:
        points = [(point, point.values[metric.name]) for point in result.history if metric.name in point.values]
        points = [(point, value) for point, value in points if math.isfinite(value.value)]
        if len(points) > 1:
            found.append(Line(metric=metric, points=tuple(points)))
    return found


def _told(line: Line) -> str:
    (first, then), (last, now) = line.points[0], line.points[-1]
    told = (
        f"{line.metric.name} went from {numbers.plain(then.value, line.digits)} on {first.time[:10]} to "
        f"{numbers.plain(now.value, line.digits)} on {last.until[:10]} in {numbers.count(len(line.points), 'result')}"
    )
    accepted = [value.baseline for _, value in line.points if value.baseline is not None]
    steps = sum(before != after for before, after in pairwise(accepted))
    told += f", while the baseline changed {'once' if steps == 1 else f'{steps} times'}" if steps else ""
    return told + (", worse than the first accepted result beyond chance" if now.drifted else "")


def _cells(line: Line) -> Iterator[tuple[str, ...]]:
    for point, value in line.points:
        low, high, baseline, anchor = (
            "" if known is None else numbers.plain(known, line.digits)
            for known in (value.low, value.high, value.baseline, value.anchor)
        )
        yield (
            line.metric.name,
            point.time[:16].replace("T", " "),
            numbers.plain(value.value, line.digits),
            f"[{low}, {high}]" if low else "",
            baseline,
            anchor,
            "worse" if value.drifted else "",
            point.verdict,
            point.commit[:10] + (" with uncommitted changes" if point.commit and point.dirty else ""),
        )


@dataclass(slots=True)
class _Drawing:
    """The chart as it is drawn; `used` collects what the legend must explain."""

    lines: Sequence[Line]
    canvas: Canvas = field(default_factory=Canvas)
    used: set[str] = field(default_factory=set)

    def drawn(self) -> Canvas:
        for index, line in enumerate(self.lines):
            self._panel(line, index * _PANEL)
        entries = [(partial(_symbol, kind), text) for kind, text in _NAMES.items() if kind in self.used]
        return self.canvas.closed(drawing.legend(self.canvas, len(self.lines) * _PANEL + 12, entries) + 14)

    def _panel(self, line: Line, top: float) -> None:
        canvas = self.canvas
        scale = Scale.around(line.values(), top + _PANEL - 30, top + 26, bounds=UNIT)
        assert scale is not None, "lines have finite values"
        canvas.text(_LEFT, top + 14, line.metric.name, "b", units=_RIGHT - _LEFT)
        ticks = scale.ticks(4)
        for tick, text in zip(ticks, labels(ticks), strict=True):
            canvas.line(_LEFT, scale(tick), _RIGHT, scale(tick), "g")
            canvas.text(_LEFT - 6, scale(tick) + 4, text, "e s q")
        step = (_RIGHT - _LEFT) / len(line.points)
        places = [_LEFT + step * (index + 0.5) for index in range(len(line.points))]
        for kind, style in _LEVELS.items():
            steps = _steps(places, [getattr(value, kind) for _, value in line.points], step, scale)
            if steps:
                self.used.add(kind)
                canvas.path(steps, style)
        canvas.polyline([(x, scale(v.value)) for x, (_, v) in zip(places, line.points, strict=True)], "w z")
        for x, (_, value) in zip(places, line.points, strict=True):
            self._value(value, x, scale)
        self._dates(line, places, top + _PANEL - 12)

    def _value(self, value: PastValue, x: float, scale: Scale) -> None:
        y = scale(value.value)
        if value.low is not None and value.high is not None:
            self.canvas.line(x, scale(value.low), x, scale(value.high), "w")
        self.used.add("drift" if value.drifted else "value")
        _symbol("drift" if value.drifted else "value", self.canvas, x, y)

    def _dates(self, line: Line, places: Sequence[float], y: float) -> None:
        """The days of the first and the last result, and as many between as there is room for."""
        count = len(places)
        every = max(1, math.ceil(count * 76 / (_RIGHT - _LEFT)))
        for index in range(0, count, every):
            self.canvas.text(places[index], y, line.points[index][0].time[:10], "m s q")


def _steps(places: Sequence[float], levels: Sequence[float | None], step: float, scale: Scale) -> str:
    """A path of level parts, each as wide as its result's room; upright where the level changes, broken where there is
    none."""
    path, connected = "", False
    for x, level in zip(places, levels, strict=True):
        if level is not None and math.isfinite(level):
            left, y = x - step / 2, scale(level)
            path += f"V{number(y)}" if connected else f"M{number(left)} {number(y)}"
            path += f"H{number(left + step)}"
            connected = True
        else:
            connected = False
    return path


def _symbol(kind: str, canvas: Canvas, x: float, y: float) -> None:
    if kind in _LEVELS:
        canvas.line(x - 8, y, x + 8, y, _LEVELS[kind])
    elif kind == "drift":
        canvas.path(f"M{number(x - 6)} {number(y - 4)}h12l-6 10z", "o fp h")
    else:
        canvas.diamond(x, y, 4.5, "w fw")
