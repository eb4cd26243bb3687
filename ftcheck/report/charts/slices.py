"""A metric on parts of the judged rows, and by the length of the input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ftcheck.breakdown import PartScore
from ftcheck.report import numbers
from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import UNIT, Scale
from ftcheck.report.charts.svg import WIDTH, Canvas, Figure, Table, figure, joined
from ftcheck.results import CaseResult

MOST = 20
"""Parts that are drawn, worst first; the table has all."""

_LEFT, _RIGHT, _ROW = 200, 500, 24


def draw_parts(result: CaseResult, id: str) -> Figure | None:
    """The parts that gates judge (`slices`), each metric on its own scale; None without any."""
    found = () if result.breakdown is None else result.breakdown.parts
    names = joined(dict.fromkeys(score.metric for score in found))
    return _figure(found, id, f"{names} by part of the judged rows", result, sort=True)


def draw_lengths(result: CaseResult, id: str) -> Figure | None:
    """By classes of length, shortest first; None where all inputs are of one."""
    found = () if result.breakdown is None else result.breakdown.lengths
    names = joined(dict.fromkeys(score.metric for score in found))
    return _figure(found, id, f"{names} by length of the input", result, sort=False)


def _figure(found: Sequence[PartScore], id: str, title: str, result: CaseResult, *, sort: bool) -> Figure | None:
    if not found:
        return None
    better = {metric.name: metric.greater_is_better for metric in result.metrics}

    def badness(score: PartScore) -> float:
        return score.value if better.get(score.metric, True) else -score.value

    shown = sorted(found, key=badness)[:MOST] if sort else list(found)
    worst = min(found, key=badness)
    description = f"Worst is {worst.part}: {worst.metric} {_short(worst)} on {worst.examples:,} examples"
    if worst.reference is not None:
        description += f", {worst.reference:.3g} before"
    if len(shown) < len(found):
        description += f". The worst {len(shown)} of {len(found)} are drawn"
    return figure(
        id,
        title,
        f"{description}.",
        _drawn(shown),
        Table(head=("metric", "part", "examples", "value", "interval", "before"), rows=tuple(map(_cells, found))),
    )


def _digits(score: PartScore) -> int:
    known = score.low is not None and score.high is not None
    return numbers.decimals((score.high - score.low) / 2 if known else None)  # type: ignore[operator]


def _short(score: PartScore) -> str:
    return numbers.plain(score.value, _digits(score))


def _interval(score: PartScore) -> str:
    if score.low is None or score.high is None:
        return ""
    return f"[{numbers.plain(score.low, _digits(score))}, {numbers.plain(score.high, _digits(score))}]"


def _cells(score: PartScore) -> tuple[str, ...]:
    before = "" if score.reference is None else numbers.plain(score.reference, _digits(score))
    return (score.metric, score.part, f"{score.examples:,}", _short(score), _interval(score), before)


def _drawn(shown: Sequence[PartScore]) -> Canvas:
    canvas, y = Canvas(), 8.0
    metrics: dict[str, list[PartScore]] = {}
    for score in shown:
        metrics.setdefault(score.metric, []).append(score)
    for metric, scores in metrics.items():
        if len(metrics) > 1:
            canvas.text(_LEFT, y + 6, metric, "s b")
            y += 14
        y = _metric(canvas, scores, y)
    entries = [(drawing.symbol(drawing.Look(line="w h", mark="diamond", style="w fw")), "value and interval")]
    if any(score.reference is not None for score in shown):
        entries.append((drawing.symbol(drawing.Look(mark="square", style="t fp")), "compared with"))
    y = drawing.legend(canvas, y + 8, entries)
    return canvas.closed(y + 10)


def _metric(canvas: Canvas, scores: Sequence[PartScore], y: float) -> float:
    """Rows of one metric on one scale; returns where the next one begins."""
    scale = Scale.around(_values(scores), _LEFT, _RIGHT, bounds=UNIT)
    assert scale is not None, "parts have values"
    bottom = y + _ROW * len(scores) + 2
    drawing.grid(canvas, scale, scale.ticks(5), y, bottom)
    for index, score in enumerate(scores):
        _row(canvas, scale, y + _ROW * (index + 0.5), score)
    drawing.rows_axis(canvas, scale, bottom, 5)
    return bottom + 24


def _values(scores: Iterable[PartScore]) -> list[float]:
    known = [value for score in scores for value in (score.value, score.low, score.high, score.reference)]
    return [value for value in known if value is not None]


def _row(canvas: Canvas, scale: Scale, y: float, score: PartScore) -> None:
    canvas.text(_LEFT - 12, y + 4, score.part, "e s", units=_LEFT - 16)
    if score.low is not None and score.high is not None:
        drawing.interval(canvas, y, scale(score.low), scale(score.high))
    if score.reference is not None:
        canvas.square(scale(score.reference), y, 4, "t fp")
    canvas.diamond(scale(score.value), y, 5, "w fw")
    canvas.text(_RIGHT + 14, y + 4, _short(score), "s b")
    canvas.text(WIDTH, y + 4, f"n {score.examples:,}", "e s q")
