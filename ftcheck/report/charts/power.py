"""What a gate could see: the smallest regression that it detects, by how much is judged."""

from __future__ import annotations

from ftcheck.breakdown import PowerCurve
from ftcheck.report.charts import drawing
from ftcheck.report.charts.scale import Scale
from ftcheck.report.charts.svg import Canvas, Figure, Table, figure
from ftcheck.results import CaseResult

_LEFT, _RIGHT = 70, 620


def draw(result: CaseResult, id: str) -> Figure | None:
    """A line for each number of seeds over the number of examples; None where no gate was judged by its power."""
    found = None if result.breakdown is None else result.breakdown.power
    if found is None:
        return None
    title = f"What the gate on {found.metric} could see"
    n, seeds = found.now
    now = found.detectable[found.seeds.index(seeds)][found.examples.index(n)]
    description = (
        f"With {n:,} examples and {_seeds(seeds)} it fails a regression of {now:.2g} in 80 of 100 runs; "
        f"its margin is {found.margin:.2g}."
    )
    return figure(
        id,
        title,
        description,
        _drawn(found, now),
        Table(
            head=("seeds a side", *(f"{size:,} examples" for size in found.examples)),
            rows=tuple(
                (str(count) if count else "fixed weights", *(f"{value:.3g}" for value in row))
                for count, row in zip(found.seeds, found.detectable, strict=True)
            ),
        ),
    )


def _seeds(count: int) -> str:
    return f"{count} {'seed' if count == 1 else 'seeds'} a side" if count else "fixed weights"


def _drawn(found: PowerCurve, now: float) -> Canvas:
    canvas = Canvas()
    values = [value for row in found.detectable for value in row]
    x = Scale.around(found.examples, _LEFT, _RIGHT, log=True)
    y = Scale.around([0.0, found.margin, *values], 200, 24, bounds=(0.0, float("inf")))
    assert x is not None, "a curve has examples"
    assert y is not None, "a curve has a margin"
    drawing.frame(canvas, x, y, x_title="judged examples", y_title="smallest regression that is detected")
    canvas.line(_LEFT, y(found.margin), _RIGHT, y(found.margin), "l")
    for row, look in zip(found.detectable, drawing.SERIES, strict=False):
        points = [(x(size), y(value)) for size, value in zip(found.examples, row, strict=True)]
        drawing.series(canvas, points, look)
    canvas.circle(x(found.now[0]), y(now), 8, "h")
    entries = [(drawing.symbol(look), _seeds(count)) for count, look in zip(found.seeds, drawing.SERIES, strict=False)]
    entries.append((drawing.symbol(drawing.Look(line="l")), "margin"))
    entries.append((lambda on, at, high: on.circle(at, high, 6, "h"), "this result"))
    end = drawing.legend(canvas, 256, entries)
    return canvas.closed(end + 12)
