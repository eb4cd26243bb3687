"""Each metric's value with its interval and its seeds, what it was compared with, and what its gates ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from ftcheck.report import numbers
from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import UNIT, Scale
from ftcheck.report.charts.svg import WIDTH, Canvas, Figure, Table, figure, joined
from ftcheck.results import CaseResult, GateResult, MetricResult

MOST = 14
"""Rows that are drawn; the table has all."""

_LEFT, _RIGHT = 150, 452
_ROW = 46
_NAMES = {
    "now": "mean and interval",
    "seed": "one seed",
    "then": "compared with",
    "margin": "within the margin",
    "limit": "min or max",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric with what it is measured against."""

    metric: MetricResult
    reference: float | None = None
    margins: tuple[tuple[float, float], ...] = ()
    """From the reference to what its margins allow, in the metric's unit."""
    limits: tuple[GateResult, ...] = ()

    def values(self) -> Iterator[float]:
        """All that must be seen."""
        yield self.metric.value
        yield from self.metric.per_seed
        if self.metric.interval is not None:
            yield from (self.metric.interval.low, self.metric.interval.high)
        if self.reference is not None:
            yield self.reference
        yield from (edge for band in self.margins for edge in band)
        yield from (gate.limit for gate in self.limits)


def draw(result: CaseResult, id: str) -> Figure | None:
    """A row for each metric that was estimated or is gated, each on its own scale; None without any."""
    rows = _rows(result)
    if not rows:
        return None
    title = "Metrics against baseline and limits"
    description = f"{joined(map(_told, rows[:3]))}{', and more in the table' if len(rows) > 3 else ''}."
    return figure(
        id,
        title,
        description,
        _Drawing(rows[:MOST]).drawn(),
        Table(
            head=("metric", "value", "interval", "seeds", "compared with", "gates"),
            rows=tuple(_cells(row, result) for row in rows),
        ),
    )


def _rows(result: CaseResult) -> list[Row]:
    """Gated metrics first."""
    gates: dict[str, list[GateResult]] = {}
    for gate in result.gates:
        if not gate.part:
            gates.setdefault(gate.metric, []).append(gate)
    shown = [m for m in result.metrics if m.name in gates or m.examples]
    shown = [m for m in shown if math.isfinite(m.value)]
    return [_row(metric, gates.get(metric.name, ())) for metric in sorted(shown, key=lambda m: m.name not in gates)]


def _row(metric: MetricResult, gates: Sequence[GateResult]) -> Row:
    compared = [(gate, gate.comparison) for gate in gates if gate.comparison is not None]
    main = next((found for gate, found in compared if gate.bound == "max_regression"), None)
    worse = -1.0 if metric.greater_is_better else 1.0
    return Row(
        metric=metric,
        reference=main.reference if main is not None else compared[0][1].reference if compared else None,
        margins=tuple(
            (found.reference, found.reference + (-worse if gate.bound == "max_gain" else worse) * found.margin)
            for gate, found in compared
            if found.margin is not None
        ),
        limits=tuple(gate for gate in gates if gate.bound in ("min", "max")),
    )


def _told(row: Row) -> str:
    metric = row.metric
    found = f"{metric.name} {numbers.value(metric)}"
    if metric.interval is not None:
        found += f" {numbers.interval(metric.interval, numbers.places(metric))}"
    if row.reference is not None:
        found += f" against {numbers.plain(row.reference, numbers.places(metric))}"
    return found


def _cells(row: Row, result: CaseResult) -> tuple[str, ...]:
    metric, digits = row.metric, numbers.places(row.metric)
    return (
        metric.name,
        numbers.value(metric),
        numbers.interval(metric.interval, digits) if metric.interval is not None else metric.no_interval,
        ", ".join(numbers.plain(value, digits) for value in metric.per_seed),
        "" if row.reference is None else numbers.plain(row.reference, digits),
        ", ".join(
            f"{gate.demand}: {gate.verdict}" for gate in result.gates if gate.metric == metric.name and not gate.part
        ),
    )


@dataclass(slots=True)
class _Drawing:
    """The chart as it is drawn; `used` collects what the legend must explain."""

    rows: Sequence[Row]
    canvas: Canvas = field(default_factory=Canvas)
    used: set[str] = field(default_factory=set)

    def drawn(self) -> Canvas:
        for index, row in enumerate(self.rows):
            self._row(row, index * _ROW + 18)
        bottom = len(self.rows) * _ROW + 16
        return self._legend(bottom)

    def _row(self, row: Row, y: float) -> None:
        canvas, metric = self.canvas, row.metric
        scale = Scale.around(row.values(), _LEFT, _RIGHT, bounds=UNIT)
        assert scale is not None, "rows without a finite value are left out"
        canvas.text(_LEFT - 12, y + 4, metric.name, "e", units=_LEFT - 16)
        drawing.rows_axis(canvas, scale, y + 12)
        self._against(row, scale, y)
        self._value(metric, scale, y)
        digits = numbers.places(metric)
        canvas.text(_RIGHT + 14, y + 4, numbers.value(metric), "b")
        if metric.interval is not None:
            text = numbers.interval(metric.interval, digits)
            canvas.text(WIDTH, y + 4, text, "e", units=120)

    def _against(self, row: Row, scale: Scale, y: float) -> None:
        canvas = self.canvas
        for low, high in map(sorted, row.margins):
            self.used.add("margin")
            canvas.rect(scale(low), y - 12, scale(high) - scale(low), 24, "n ft z")
            canvas.line(scale(low), y - 12, scale(low), y + 12, "t p")
            canvas.line(scale(high), y - 12, scale(high), y + 12, "t p")
        if row.reference is not None:
            self.used.add("then")
            x = scale(row.reference)
            canvas.line(x, y - 12, x, y + 12, "t d")
            canvas.square(x, y - 12, 3, "t fp")
        for gate in row.limits:
            self.used.add("limit")
            _limit(canvas, scale(gate.limit), y, at_least=gate.bound == "min")

    def _value(self, metric: MetricResult, scale: Scale, y: float) -> None:
        canvas, found = self.canvas, metric.interval
        self.used.add("now")
        if found is not None:
            drawing.interval(canvas, y, scale(found.low), scale(found.high))
        canvas.diamond(scale(metric.value), y, 6, "w fw")
        if len(metric.per_seed) > 1:
            self.used.add("seed")
            for value in metric.per_seed:
                if math.isfinite(value):
                    canvas.circle(scale(value), y - 8, 2.6, "w fp")

    def _legend(self, y: float) -> Canvas:
        entries = [(partial(_symbol, kind), text) for kind, text in _NAMES.items() if kind in self.used]
        return self.canvas.closed(drawing.legend(self.canvas, y, entries) + 12)


def _limit(canvas: Canvas, x: float, y: float, *, at_least: bool) -> None:
    """A bar with a foot that points to where values are allowed."""
    foot = 5 if at_least else -5
    canvas.path(f"M{x + foot:.1f} {y - 12:g}h{-foot}V{y + 12:g}h{foot}", "h")


def _symbol(kind: str, canvas: Canvas, x: float, y: float) -> None:
    if kind == "now":
        canvas.line(x - 8, y, x + 8, y, "w h")
        canvas.diamond(x, y, 5, "w fw")
    elif kind == "seed":
        canvas.circle(x, y, 2.6, "w fp")
    elif kind == "then":
        canvas.line(x, y - 7, x, y + 7, "t d")
        canvas.square(x, y - 7, 3, "t fp")
    elif kind == "margin":
        canvas.rect(x - 7, y - 7, 14, 14, "n ft z")
        canvas.path(f"M{x - 7:g} {y - 7:g}v14M{x + 7:g} {y - 7:g}v14", "t p")
    else:
        canvas.path(f"M{x + 3:g} {y - 7:g}h-5v14h5", "h")
