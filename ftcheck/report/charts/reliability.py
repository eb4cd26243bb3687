"""Reliability diagram: how often predictions were right, by how sure the model was of them."""

from __future__ import annotations

from collections.abc import Sequence

from ftcheck.breakdown import ReliabilityBin
from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import Scale
from ftcheck.report.charts.svg import Canvas, Figure, Table, figure
from ftcheck.results import CaseResult

_LEFT, _RIGHT = 70, 470


def draw(result: CaseResult, id: str) -> Figure | None:
    """Accuracy against confidence, and how many predictions each bin holds; None without probabilities."""
    found = () if result.breakdown is None else result.breakdown.reliability
    if not found:
        return None
    total = sum(one.count for one in found)
    error = sum(one.count * abs(one.confidence - one.accuracy) for one in found) / total
    sure = sum(one.count * one.confidence for one in found) / total
    right = sum(one.count * one.accuracy for one in found) / total
    title = "Reliability"
    word = "more" if sure >= right else "less"
    description = (
        f"Mean confidence {sure:.3f}, accuracy {right:.3f}: {word} sure than right by {abs(sure - right):.3f}. "
        f"Expected calibration error {error:.3f} ({len(found)} of 15 equal bins hold {total:,} predictions)."
    )
    return figure(
        id,
        title,
        description,
        _drawn(found),
        Table(
            head=("confidence", "mean confidence", "accuracy", "predictions"),
            rows=tuple(
                (f"{b.low:.3f} to {b.high:.3f}", f"{b.confidence:.3f}", f"{b.accuracy:.3f}", f"{b.count:,}")
                for b in found
            ),
        ),
    )


def _drawn(found: Sequence[ReliabilityBin]) -> Canvas:
    canvas = Canvas()
    x = Scale(low=0, high=1, start=_LEFT, end=_RIGHT)
    y = Scale(low=0, high=1, start=258, end=22)
    most = max(one.count for one in found)
    bars = Scale(low=0, high=most, start=330, end=286)
    drawing.frame(canvas, x, y, y_title="accuracy")
    canvas.line(x(0), y(0), x(1), y(1), "p")
    for one in found:
        canvas.line(x(one.confidence), y(one.confidence), x(one.confidence), y(one.accuracy), "t")
    drawing.series(canvas, [(x(one.confidence), y(one.accuracy)) for one in found], drawing.NOW)
    for one in found:
        top = bars(one.count)
        canvas.rect(x(one.low) + 1, top, x(one.high) - x(one.low) - 2, max(330 - top, 0.6), "n fw")
    canvas.text(_LEFT, 280, f"predictions (at most {most:,})", "s b")
    drawing.frame(canvas, x, Scale(low=0, high=1, start=330, end=286), x_title="confidence", ticks=0)
    entries = [
        (drawing.symbol(drawing.NOW), "accuracy"),
        (drawing.symbol(drawing.Look(line="p")), "as sure as right"),
        (drawing.symbol(drawing.Look(line="t")), "gap"),
    ]
    end = drawing.legend(canvas, 384, entries)
    return canvas.closed(end + 10)
