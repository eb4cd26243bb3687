"""Precision, recall and F1 by class, beside what the case was compared with."""

from __future__ import annotations

from collections.abc import Sequence

from ftcheck.breakdown import ClassScore
from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import UNIT, Scale
from ftcheck.report.charts.svg import WIDTH, Canvas, Figure, Table, figure
from ftcheck.results import CaseResult

MOST = 20
"""Classes that are drawn and told: those that lost most, or without a comparison the worst."""

_LEFT, _RIGHT, _ROW = 236, 536, 20


def draw(result: CaseResult, id: str) -> Figure | None:
    """A row a class: F1, and precision and recall around it; None without classes."""
    found = () if result.breakdown is None else result.breakdown.classes
    if not found or result.breakdown is None:
        return None
    shown = sorted(found, key=_badness)[:MOST]
    title = "Precision, recall and F1 by class"
    description = _told(shown, len(found))
    return figure(
        id,
        title,
        description,
        _drawn(shown),
        _table(shown, result.breakdown.classes_of),
    )


def _badness(score: ClassScore) -> tuple[float, float, str]:
    """Largest loss of F1 first; then the lowest F1."""
    return (0.0 if score.then is None else score.f1 - score.then[2], score.f1, score.name)


def _told(shown: Sequence[ClassScore], known: int) -> str:
    worst = shown[0]
    told = f"{worst.name} has an F1 of {worst.f1:.3f}"
    if worst.then is not None:
        told += f", {worst.then[2]:.3f} before"
    if known > len(shown):
        which = "that lost most" if worst.then is not None else "with the lowest F1"
        told = f"The {len(shown)} of {known} classes {which}. {told}"
    return f"{told}."


def _table(shown: Sequence[ClassScore], of: str) -> Table:
    compared = any(score.then is not None for score in shown)
    head = ("class", of or "examples", "precision", "recall", "F1")
    rows = []
    for score in shown:
        row = [score.name, f"{score.support:,}", *(f"{v:.3f}" for v in (score.precision, score.recall, score.f1))]
        if compared:
            row += ["", "", ""] if score.then is None else [f"{value:.3f}" for value in score.then]
        rows.append(tuple(row))
    more = ("precision before", "recall before", "F1 before") if compared else ()
    return Table(head=(*head, *more), rows=tuple(rows))


def _drawn(shown: Sequence[ClassScore]) -> Canvas:
    values = [value for s in shown for value in (s.precision, s.recall, s.f1, *(s.then or ()))]
    scale = Scale.around(values, _LEFT, _RIGHT, bounds=UNIT)
    assert scale is not None, "there is a class"
    canvas = Canvas()
    bottom = 14.0 + _ROW * len(shown)
    drawing.grid(canvas, scale, scale.ticks(6), 4, bottom)
    for index, score in enumerate(shown):
        _row(canvas, scale, 16.0 + _ROW * index, score)
    drawing.rows_axis(canvas, scale, bottom, 6)
    y = drawing.legend(canvas, bottom + 32, _legend(any(score.then is not None for score in shown)))
    return canvas.closed(y + 10)


def _row(canvas: Canvas, scale: Scale, y: float, score: ClassScore) -> None:
    canvas.text(_LEFT - 12, y + 4, score.name, "e s", units=_LEFT - 16)
    ends = sorted((("P", score.precision), ("R", score.recall)), key=lambda end: end[1])
    canvas.line(scale(ends[0][1]), y, scale(ends[1][1]), y, "w")
    if scale(ends[1][1]) - scale(ends[0][1]) > 10:
        for (name, value), style, shift in zip(ends, ("e", ""), (-3, 3), strict=True):
            canvas.text(scale(value) + shift, y + 3.5, name, f"{style} s q".strip())
    if score.then is not None:
        canvas.square(scale(score.then[2]), y, 4, "t fp")
    canvas.circle(scale(score.f1), y, 3.5, "w fw")
    canvas.text(_RIGHT + 14, y + 4, f"{score.f1:.3f}", "s b")
    canvas.text(WIDTH, y + 4, f"n {score.support:,}", "e s q")


def _legend(compared: bool) -> list[tuple[drawing.Symbol, str]]:
    entries = [
        (drawing.symbol(drawing.Look(mark="dot", style="w fw")), "F1"),
        (drawing.symbol(drawing.Look(line="w")), "from precision (P) to recall (R)"),
    ]
    before = (drawing.symbol(drawing.Look(mark="square", style="t fp")), "F1 before")
    return [*entries, before] if compared else entries
