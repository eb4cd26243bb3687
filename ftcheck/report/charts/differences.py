"""What the case was compared with: by how much it is worse, how sure that is, and the margin. A forest plot."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ftcheck.report import numbers
from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import Scale
from ftcheck.report.charts.svg import Canvas, Figure, Table, figure, joined
from ftcheck.results import CaseResult, ComparisonResult, GateResult

MOST = 18
"""Rows that are drawn, worst first; the table has all."""

_LEFT, _RIGHT = 224, 500
_MARKS: dict[str, drawing.Look] = {
    "pass": drawing.Look(mark="dot", style="w fw"),
    "fail": drawing.Look(mark="square", style="t ft"),
}
_UNDECIDED = drawing.Look(mark="ring", style="w fp")
Pair = tuple[GateResult, ComparisonResult]


def draw(result: CaseResult, id: str) -> Figure | None:
    """A row for each margin that was compared, those of a metric on one scale; None without any."""
    found = [
        (gate, gate.comparison)
        for gate in result.gates
        if gate.comparison is not None and math.isfinite(gate.comparison.difference)
    ]
    if not found:
        return None
    against = joined(dict.fromkeys(comparison.against for _, comparison in found))
    title = f"Difference to {against}"
    description = f"{_told(*found[0])}." + (f" {len(found) - 1} more in the table." if len(found) > 1 else "")
    return figure(
        id,
        title,
        description,
        _drawn(_shown(found)),
        Table(
            head=("metric", "part", "gate", "worse by", "bounds", "margin", "p", "examples", "verdict"),
            rows=tuple(_cells(*pair) for pair in found),
        ),
    )


def _shown(found: Sequence[Pair]) -> list[Pair]:
    """Those that are drawn, by metric in the gates' order; of many the worst."""
    kept = sorted(found, key=lambda pair: (bool(pair[0].part), _badness(*pair)))[:MOST]
    order = list(dict.fromkeys(gate.metric for gate, _ in found))
    return sorted(kept, key=lambda pair: order.index(pair[0].metric))


def _badness(gate: GateResult, found: ComparisonResult) -> float:
    return -found.difference / found.margin if found.margin else -found.difference


def _margin(gate: GateResult, found: ComparisonResult) -> float | None:
    """On the axis, where right is worse."""
    if found.margin is None:
        return None
    return -found.margin if gate.bound == "max_gain" else found.margin


def _told(gate: GateResult, found: ComparisonResult) -> str:
    digits = numbers.decimals((found.high - found.low) / 2)
    word = "worse" if found.difference >= 0 else "better"
    about = f"{gate.metric} of {gate.part}" if gate.part else gate.metric
    low, high = (numbers.plain(bound, digits) for bound in (found.low, found.high))
    return (
        f"{about} is {numbers.plain(abs(found.difference), digits)} {word} (worse by {low} to {high}): {gate.verdict}"
    )


def _cells(gate: GateResult, found: ComparisonResult) -> tuple[str, ...]:
    digits = numbers.decimals((found.high - found.low) / 2)
    return (
        gate.metric,
        gate.part,
        gate.demand,
        numbers.plain(found.difference, digits),
        f"[{numbers.plain(found.low, digits)}, {numbers.plain(found.high, digits)}]",
        "" if found.margin is None else numbers.plain(found.margin, digits),
        f"{found.p_value:.2g}",
        f"{found.examples:,}",
        gate.verdict,
    )


def _drawn(pairs: Sequence[Pair]) -> Canvas:
    canvas, y = Canvas(), 18.0
    by_metric: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_metric.setdefault(pair[0].metric, []).append(pair)
    for metric, rows in by_metric.items():
        y = _metric(canvas, metric, rows, y)
    entries = [
        (drawing.symbol(look), name)
        for name, look in (("pass", _MARKS["pass"]), ("fail", _MARKS["fail"]), ("undecided", _UNDECIDED))
        if any((gate.verdict if gate.verdict in _MARKS else "undecided") == name for gate, _ in pairs)
    ]
    if any(found.margin is not None for _, found in pairs):
        entries.append((_margin_symbol, "margin"))
    y = drawing.legend(canvas, y + 4, entries)
    return canvas.closed(y + 12)


def _metric(canvas: Canvas, metric: str, rows: Sequence[Pair], y: float) -> float:
    """The rows of one metric on one scale; returns where the next one begins."""
    values = [0.0]
    for gate, found in rows:
        values += [found.difference, found.low, found.high, _margin(gate, found) or 0.0]
    scale = Scale.around(values, _LEFT, _RIGHT)
    assert scale is not None, "0 is among the values"
    if all(gate.part for gate, _ in rows):
        canvas.text(_LEFT - 12, y + 4, metric, "e b", units=_LEFT - 18)
        y += 22
    bottom = y + 22 * len(rows) - 8
    canvas.line(scale(0), y - 12, scale(0), bottom, "x")
    for index, (gate, found) in enumerate(rows):
        _row(canvas, scale, y + 22 * index, gate, found)
    drawing.rows_axis(canvas, scale, bottom)
    canvas.text(_LEFT - 12, bottom + 13, "← better", "e s q")
    canvas.text(_RIGHT + 12, bottom + 13, "worse →", "s q")
    return bottom + 34


def _row(canvas: Canvas, scale: Scale, y: float, gate: GateResult, found: ComparisonResult) -> None:
    about = gate.part or gate.metric
    if gate.bound != "max_regression":
        about += f" ({gate.bound.removeprefix('max_')})"
    canvas.text(_LEFT - 12, y + 4, about, "e" if gate.part else "e b", units=_LEFT - 18)
    margin = _margin(gate, found)
    if margin is not None:
        canvas.path(f"M{scale(margin):.1f} {y - 8:.1f}v16", "h p")
    if math.isfinite(found.low) and math.isfinite(found.high):
        drawing.interval(canvas, y, scale(found.low), scale(found.high))
    look = _MARKS.get(gate.verdict, _UNDECIDED)
    drawing.mark(canvas, scale(found.difference), y, look, 5)
    digits = numbers.decimals((found.high - found.low) / 2)
    canvas.text(_RIGHT + 12, y + 4, numbers.plain(found.difference, digits), "b")
    canvas.text(640, y + 4, gate.verdict, "e", units=96)


def _margin_symbol(canvas: Canvas, x: float, y: float) -> None:
    canvas.path(f"M{x:g} {y - 8:g}v16", "h p")
