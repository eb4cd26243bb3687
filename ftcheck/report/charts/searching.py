"""How a search went, trial by trial, and the curve of a learning-rate range test."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TypeVar

from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import Scale
from ftcheck.report.charts.svg import Canvas, Figure, Table, figure
from ftcheck.results import CaseResult, LearningRateCurve, SearchHistory

Row = TypeVar("Row")

_LEFT, _RIGHT = 70, 620
_COMPLETE = drawing.Look(mark="dot", style="w fw")
_PRUNED = drawing.Look(mark="square", style="t fp")
_FAILED = drawing.Look(mark="cross", style="h")


def draw_search(result: CaseResult, id: str) -> Figure | None:
    """What each trial came to, and the best so far; None without a search, or where no trial came to anything."""
    found = next((run.search for run in result.runs if run.search is not None), None)
    if found is None or all(trial.value is None or not math.isfinite(trial.value) for trial in found.trials):
        return None
    states = [trial.state for trial in found.trials]
    told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    best = next((trial for trial in found.trials if trial.number == found.best), None)
    taken = "" if best is None or best.value is None else f" Trial {best.number} was taken: {best.value:.4g}."
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.params))
    return figure(
        id,
        f"Search: {found.metric} by trial",
        f"{len(found.trials)} trials ({told}), to {found.direction} {found.metric} on the tune split.{taken}",
        _search_drawn(found),
        Table(
            head=("trial", "state", found.metric, *names),
            rows=tuple(
                (
                    f"{trial.number}{' (taken)' if trial.number == found.best else ''}",
                    trial.state,
                    _short(trial.value),
                    *(json.dumps(trial.params.get(name)) for name in names),
                )
                for trial in found.trials
            ),
        ),
    )


def _search_drawn(found: SearchHistory) -> Canvas:
    canvas = Canvas()
    values = {t.number: t.value for t in found.trials if t.value is not None and math.isfinite(t.value)}
    x = Scale.around([trial.number for trial in found.trials], _LEFT, _RIGHT, pad=0.04)
    y = Scale.around(values.values(), 200, 24)
    assert x is not None, "some trial has a value"
    assert y is not None, "some trial has a value"
    drawing.frame(canvas, x, y, x_title="trial", y_title=found.metric)
    canvas.polyline([(x(number), y(value)) for number, value in _best_so_far(found)], "w p")
    for trial in found.trials:
        value = values.get(trial.number)
        if value is None:
            drawing.mark(canvas, x(trial.number), 196, _FAILED)
        else:
            look = _COMPLETE if trial.state == "complete" else _PRUNED
            drawing.mark(canvas, x(trial.number), y(value), look, 3.5)
        if trial.number == found.best and value is not None:
            canvas.circle(x(trial.number), y(value), 8, "h")
    states = {trial.state for trial in found.trials}
    entries = [(drawing.symbol(_COMPLETE), "complete"), (drawing.symbol(drawing.Look(line="w p")), "best so far")]
    entries += [(drawing.symbol(_PRUNED), "pruned")] if "pruned" in states else []
    entries += [(drawing.symbol(_FAILED), "failed")] if "failed" in states else []
    entries.append((lambda on, at, high: on.circle(at, high, 6, "h"), "taken"))
    return canvas.closed(drawing.legend(canvas, 256, entries) + 12)


def _best_so_far(found: SearchHistory) -> list[tuple[int, float]]:
    """The corners of the staircase of complete trials."""
    better = max if found.direction == "maximize" else min
    corners: list[tuple[int, float]] = []
    for trial in found.trials:
        if trial.state == "complete" and trial.value is not None and math.isfinite(trial.value):
            before = corners[-1][1] if corners else trial.value
            corners += [(trial.number, before), (trial.number, better(before, trial.value))]
    return [*corners, (found.trials[-1].number, corners[-1][1])] if corners else []


def draw_rates(result: CaseResult, id: str) -> Figure | None:
    """Loss over the learning rate with what was suggested; None without a test that can be drawn."""
    found = next((run.lr_curve for run in result.runs if run.lr_curve is not None), None)
    if found is None or len(_drawable(found.rates, found.smoothed)) < 2:
        return None
    suggested = f"{found.suggestion:.2g}" if found.suggestion is not None else "none"
    lowest = f"; the loss is lowest at {found.lowest:.2g}" if found.lowest is not None else ""
    return figure(
        id,
        "Learning-rate range test",
        f"Suggested rate: {suggested}{lowest}. {len(found.rates)} rates from {found.rates[0]:.2g} to "
        f"{found.rates[-1]:.2g}.",
        _rates_drawn(found),
        Table(
            head=("learning rate", "loss", "smoothed"),
            rows=tuple(
                (_short(rate), _short(loss), _short(smooth))
                for rate, loss, smooth in _every(list(zip(found.rates, found.losses, found.smoothed, strict=False)), 20)
            ),
        ),
    )


def _rates_drawn(found: LearningRateCurve) -> Canvas:
    canvas = Canvas()
    raw, smoothed = _drawable(found.rates, found.losses), _drawable(found.rates, found.smoothed)
    x = Scale.around([rate for rate, _ in smoothed], _LEFT, _RIGHT, log=True)
    # A diverged loss is many times the first: the axis ends where the smoothed one does.
    y = Scale.around([loss for _, loss in smoothed], 200, 24, pad=0.15)
    assert x is not None, "the curve has two points"
    assert y is not None, "the curve has two points"
    drawing.frame(canvas, x, y, x_title="learning rate", y_title="loss")
    canvas.polyline([(x(rate), y(loss)) for rate, loss in _every(raw, 120)], "x")
    canvas.polyline([(x(rate), y(loss)) for rate, loss in _every(smoothed, 120)], "w")
    entries = [(drawing.symbol(drawing.Look(line="w")), "smoothed"), (drawing.symbol(drawing.Look(line="x")), "loss")]
    for rate, style, name in ((found.suggestion, "t d", "suggestion"), (found.lowest, "p", "lowest")):
        if rate is not None and rate > 0:
            canvas.line(x(rate), 24, x(rate), 200, style)
            entries.append((drawing.symbol(drawing.Look(line=style)), name))
    return canvas.closed(drawing.legend(canvas, 256, entries) + 12)


def _short(value: float | None) -> str:
    """Empty for NaN, which a results file doesn't have."""
    return "" if value is None or math.isnan(value) else f"{value:.4g}"


def _drawable(rates: Sequence[float], losses: Sequence[float]) -> list[tuple[float, float]]:
    """Where both are numbers; a results file has null where a loss was NaN."""
    pairs = zip(rates, losses, strict=False)
    return [(r, v) for r, v in pairs if r is not None and v is not None and r > 0 and math.isfinite(v)]


def _every(found: list[Row], most: int) -> list[Row]:
    """About `most` of them, evenly, the last among them."""
    step = max(1, math.ceil(len(found) / most))
    return [*found[:-1:step], found[-1]] if found else []
