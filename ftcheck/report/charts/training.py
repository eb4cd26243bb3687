"""Loss, metrics on the tune split and learning rate over the steps of a training, every seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import Scale
from ftcheck.report.charts.svg import Canvas, Figure, Table, figure
from ftcheck.results import CaseResult, RunResult

MOST_POINTS = 400
"""Of all lines of a panel together, about."""
_LEFT, _RIGHT = 62, 630
_SPENT = (
    "eval_loss",
    "eval_runtime",
    "eval_samples_per_second",
    "eval_steps_per_second",
    "eval_model_preparation_time",
)

Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Lines over the same steps on one scale."""

    title: str
    height: float
    lines: tuple[tuple[str, drawing.Look, tuple[Points, ...]], ...]
    """(name, look, a line a seed)."""
    log: bool = False


def draw(result: CaseResult, id: str) -> Figure | None:
    """Panels over common steps, as many as there is something logged for; None where nothing was logged twice."""
    panels = [panel for panel in (_loss(result.runs), _metrics(result.runs), _rate(result.runs)) if panel.lines]
    if all(len(points) < 2 for panel in panels for _, _, lines in panel.lines for points in lines):
        return None
    title = "Training"
    description = "; ".join(_told(panel) for panel in panels) + "."
    return figure(
        id,
        title,
        description,
        _drawn(panels),
        _table(result, panels),
    )


def _points(run: RunResult, name: str) -> Points:
    """(step, value) wherever `name` was logged as a number."""
    found = ((entry.get("step"), entry.get(name)) for entry in run.log_history)
    return [
        (float(step), float(value))
        for step, value in found
        if isinstance(step, int | float) and isinstance(value, int | float) and math.isfinite(value)
    ]


def _lines(runs: Sequence[RunResult], name: str) -> tuple[Points, ...]:
    return tuple(points for run in runs if (points := _points(run, name)))


def _loss(runs: Sequence[RunResult]) -> Panel:
    named = (("training loss", "loss", drawing.Look(line="w")), ("loss on the tune split", "eval_loss", drawing.THEN))
    lines = ((title, look, _lines(runs, name)) for title, name, look in named)
    return Panel(title="loss", height=150, lines=tuple(line for line in lines if line[2]))


def _metrics(runs: Sequence[RunResult]) -> Panel:
    """Up to four metrics; those between 0 and 1 where there are such, else the first."""
    logged = (key for run in runs for entry in run.log_history for key in entry)
    names = [name for name in dict.fromkeys(logged) if name.startswith("eval_") and name not in _SPENT]
    lines = [(name.removeprefix("eval_"), found) for name in names if (found := _lines(runs, name))]
    shares = [line for line in lines if all(0 <= value <= 1 for points in line[1] for _, value in points)]
    chosen = shares[: len(drawing.SERIES)] or lines[:1]
    return Panel(
        title="metrics on the tune split",
        height=110,
        lines=tuple((name, look, found) for (name, found), look in zip(chosen, drawing.SERIES, strict=False)),
    )


def _rate(runs: Sequence[RunResult]) -> Panel:
    """Of the first seed: the others follow the same schedule."""
    line = next(iter(_lines(runs, "learning_rate")), None)
    lines = () if line is None else (("learning rate", drawing.Look(line="k"), (line,)),)
    return Panel(title="learning rate", height=56, lines=lines)


def _told(panel: Panel) -> str:
    return ", ".join(
        f"{name} from {_short(lines[0][0][1])} to {_short(lines[0][-1][1])}" for name, _, lines in panel.lines
    )


def _short(value: float) -> str:
    return f"{value:.3g}"


def _drawn(panels: Sequence[Panel]) -> Canvas:
    steps = [step for panel in panels for _, _, lines in panel.lines for points in lines for step, _ in points]
    canvas, y = Canvas(), 22.0
    for index, panel in enumerate(panels):
        x = Scale.around([0.0, *steps], _LEFT, _RIGHT, pad=0.01, bounds=(0.0, math.inf))
        values = [value for _, _, lines in panel.lines for points in lines for _, value in points]
        scale = Scale.around(values, y + panel.height, y, bounds=(0.0, math.inf))
        assert x is not None, "a panel has lines, a line has points"
        assert scale is not None, "a panel has lines, a line has points"
        last = index == len(panels) - 1
        ticks = max(2, round(panel.height / 32))
        drawing.frame(canvas, x, scale, x_title="step" if last else "", y_title=panel.title, ticks=ticks)
        _draw(canvas, panel, x, scale)
        y += panel.height + 34
    entries = [
        (drawing.symbol(look), name)
        for panel in panels
        if panel.title != "learning rate"
        for name, look, _ in panel.lines
    ]
    y = drawing.legend(canvas, y + 12, entries)
    return canvas.closed(y + 10)


def _draw(canvas: Canvas, panel: Panel, x: Scale, y: Scale) -> None:
    many = sum(len(lines) for _, _, lines in panel.lines)
    for _, look, lines in panel.lines:
        for points in lines:
            kept = list(_thinned(points, max(24, MOST_POINTS // many)))
            places = [(x(step), y(value)) for step, value in kept]
            drawing.series(canvas, places, look, marks=bool(look.mark) and len(kept) * many <= 48)


def _thinned(points: Points, most: int) -> Iterator[tuple[float, float]]:
    """About `most` points: means of neighbours, the first and the last as they are."""
    first, *inner, last = points if len(points) > 1 else [points[0], points[0]]
    yield first
    size = math.ceil(len(points) / most)
    for start in range(0, len(inner), size):
        part = inner[start : start + size]
        step, value = (math.fsum(column) / len(part) for column in zip(*part, strict=True))
        yield step, value
    if len(points) > 1:
        yield last


def _table(result: CaseResult, panels: Sequence[Panel]) -> Table:
    """First and last value of each line; best too, since the last may not be the one kept."""
    rows = []
    for panel in panels:
        for name, _, lines in panel.lines:
            for number, points in enumerate(lines, 1):
                values = [value for _, value in points]
                found = (points[0][1], points[-1][1], min(values), max(values))
                rows.append((name, str(number), f"{points[-1][0]:,.0f}", *map(_short, found)))
    return Table(head=("logged", "run", "steps", "first", "last", "lowest", "highest"), rows=tuple(rows))
