"""A case's history as text: a row per result with its interval drawn, the baseline's steps, and where it drifted."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from ftcheck.errors import shown
from ftcheck.report import numbers

if TYPE_CHECKING:
    from ftcheck.history import Known, Record
    from ftcheck.results import PastValue

NARROWEST: Final = 12
WIDEST: Final = 60
"""Columns of the drawing."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What the drawing is made of."""

    interval: str
    value: str
    baseline: str
    anchor: str
    drift: str
    arrow: str
    bars: str
    """A sparkline's heights, the lowest first."""


UNICODE: Final = Marks("─", "●", "│", "┊", "▼", "→", "▁▂▃▄▅▆▇█")
ASCII: Final = Marks("-", "o", "|", ":", "v", "->", "_.-=*#")


def marks(encoding: str | None) -> Marks:
    """Those that an output of this encoding can show."""
    try:
        "".join((UNICODE.interval, UNICODE.value, UNICODE.anchor, UNICODE.drift, UNICODE.bars)).encode(
            encoding or "ascii"
        )
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def sparkline(values: Sequence[float], with_: Marks) -> str:
    """A bar per value, from the lowest to the highest; nothing for NaN."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    low, high, top = min(known), max(known), len(with_.bars) - 1
    return "".join(
        with_.bars[round(top * _part(value, low, high))] if math.isfinite(value) else " " for value in values
    )


def _part(value: float, low: float, high: float) -> float:
    """Where between `low` and `high` a value is, from 0 to 1. In halves, since their difference may be no number."""
    span = high / 2 - low / 2
    return (value / 2 - low / 2) / span if span else 0.0


def lines(case: Known, metric: str, records: Sequence[Record], width: int, with_: Marks) -> Iterator[str]:
    """The history of one metric, the oldest first. `records` all have it."""
    points = [(record, record.point.values[metric]) for record in records]
    last = records[-1]
    better = "higher" if last.greater_is_better[metric] else "lower"
    yield f"{shown(str(case), 300)}, {shown(metric, 60)} ({better} is better), {shown(case.device, 20)}"
    rows = [_Row.of(record, value, metric) for record, value in points]
    widths = [max(len(row.cells[place]) for row in rows) for place in range(len(rows[0].cells))]
    room = width - sum(widths) - len(widths) - len("v ") - 2
    scale = _Scale.of([value for _, value in points], max(NARROWEST, min(WIDEST, room)))
    yield _head(scale, widths, rows[-1].digits)
    for index, (row, (record, value)) in enumerate(zip(rows, points, strict=True)):
        if index:
            yield from _steps(points[index - 1], (record, value), metric, row.digits, with_)
        when, number, interval, verdict, commit = (
            cell.ljust(size) for cell, size in zip(row.cells, widths, strict=True)
        )
        mark = with_.drift if value.drifted else " "
        drawn = scale.draw(value, with_)
        yield f"{when} {mark} {number} {interval} {drawn}  {verdict} {commit}".rstrip()
    yield from _legend(points, metric, width, rows[-1].digits, with_)


@dataclass(frozen=True, slots=True)
class _Row:
    """A point's cells: when, value, interval, verdict, commit."""

    cells: tuple[str, str, str, str, str]
    digits: int

    @classmethod
    def of(cls, record: Record, value: PastValue, metric: str) -> _Row:
        point = record.point
        half = None if value.low is None or value.high is None else (value.high - value.low) / 2
        digits = numbers.decimals(half)
        interval = "" if half is None else f"[{_plain(value.low, digits)}, {_plain(value.high, digits)}]"
        commit = shown(point.commit[:7]) + ("+" if point.dirty else "")
        times = f" x{point.sessions}" if point.sessions > 1 else ""
        verdict = shown(record.gates.get(metric, point.verdict), 20)
        when = point.time[:16].replace("T", " ")
        return cls((when, numbers.plain(value.value, digits), interval, verdict, commit + times), digits)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values to columns."""

    low: float
    high: float
    columns: int

    @classmethod
    def of(cls, values: Sequence[PastValue], columns: int) -> _Scale:
        seen = [
            number
            for value in values
            for number in (value.value, value.low, value.high, value.baseline, value.anchor)
            if number is not None and math.isfinite(number)
        ] or [0.0]
        low, high = min(seen), max(seen)
        return cls(low, high if high > low else min(low + (abs(low) or 1.0), sys.float_info.max), columns)

    def column(self, value: float) -> int:
        return round((self.columns - 1) * _part(value, self.low, self.high))

    def draw(self, value: PastValue, with_: Marks) -> str:
        """The interval with its value, over the baseline and what was accepted first."""
        row = [" "] * self.columns
        if value.anchor is not None:
            row[self.column(value.anchor)] = with_.anchor
        if value.low is not None and value.high is not None:
            for place in range(self.column(value.low), self.column(value.high) + 1):
                row[place] = with_.interval
        if value.baseline is not None:
            row[self.column(value.baseline)] = with_.baseline
        if math.isfinite(value.value):
            row[self.column(value.value)] = with_.value
        return "".join(row)


def _head(scale: _Scale, widths: Sequence[int], digits: int) -> str:
    """What the columns are, and the scale's ends over the drawing."""
    when, number, interval, _, _ = widths
    left = f"{'UTC'.ljust(when)}   {''.ljust(number)} {''.ljust(interval)} "
    low, high = _plain(scale.low, digits), _plain(scale.high, digits)
    return left + low + high.rjust(scale.columns - len(low))


def _steps(
    before: tuple[Record, PastValue],
    after: tuple[Record, PastValue],
    metric: str,
    digits: int,
    with_: Marks,
) -> Iterator[str]:
    """What changed between two points besides the value."""
    indent = " " * 17
    (earlier, then), (later, now) = before, after
    if then.baseline != now.baseline:
        sides = ("none" if side is None else _plain(side, digits) for side in (then.baseline, now.baseline))
        yield f"{indent}baseline {f' {with_.arrow} '.join(sides)}"
    if earlier.signatures[metric] != later.signatures[metric]:
        sides = (shown(side.signatures[metric], 60) for side in (earlier, later))
        yield f"{indent}defined otherwise: {f' {with_.arrow} '.join(sides)}"


def _legend(
    points: Sequence[tuple[Record, PastValue]], metric: str, width: int, digits: int, with_: Marks
) -> Iterator[str]:
    """What the marks mean that were drawn."""
    values = [value for _, value in points]
    said = []
    if any(value.baseline is not None for value in values):
        said.append(f"{with_.baseline} baseline")
    if any(value.anchor is not None for value in values):
        said.append(f"{with_.anchor} first accepted")
    if any(value.drifted for value in values):
        said.append(f"{with_.drift} worse than the first accepted beyond chance")
    if any(record.point.dirty for record, _ in points):
        said.append("+ with uncommitted changes")
    # A mark stays with its words: blanks within them are no place to break at.
    lines = textwrap.wrap("  ".join(text.replace(" ", "\0") for text in said), width, break_on_hyphens=False)
    yield from (line.replace("\0", " ") for line in lines)
    last, now = points[-1]
    if now.anchor is not None and math.isfinite(now.value):
        worse = now.anchor - now.value if last.greater_is_better[metric] else now.value - now.anchor
        how = "worse" if worse > 0 else "better"
        beyond = ", beyond chance" if now.drifted else ""
        first = _plain(now.anchor, digits)
        yield f"drift since the first accepted ({first}): {_plain(abs(worse), digits)} {how}{beyond}"


def _plain(number: float | None, digits: int) -> str:
    return "" if number is None else numbers.plain(number, digits)


COLUMNS: Final = (
    *("suite", "case", "device", "time", "until", "sessions", "verdict", "examples", "seeds", "metric", "value"),
    *("low", "high", "per_seed", "gate", "baseline", "anchor", "drifted", "accepted", "signature", "commit", "branch"),
    *("dirty", "ftcheck", "train_keys", "predict_keys"),
)
"""Of the table: a row per point and metric. Lists have blanks between their values."""


def rows(case: Known, records: Sequence[Record], metrics: Sequence[str]) -> Iterator[list[Any]]:
    """One per point and metric, as COLUMNS says; NaN where the value was none."""
    for found in documents(case, records, metrics):
        for metric, value in found["metrics"].items():
            row = {**found, **value, "metric": metric}
            cells = (row[name] for name in COLUMNS)
            yield [" ".join(map(str, cell)) if isinstance(cell, list | tuple) else cell for cell in cells]


def documents(case: Known, records: Sequence[Record], metrics: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One mapping per point, of builtins, with its environment and these metrics."""
    for record in records:
        point = asdict(record.point)
        values = point.pop("values")
        yield {
            "suite": case.suite,
            "case": case.case,
            "device": case.device,
            **point,
            **{name: getattr(record, name) for name in _OF_RECORD},
            "metrics": {
                name: {
                    **values[name],
                    "gate": record.gates.get(name),
                    "signature": record.signatures[name],
                    "greater_is_better": record.greater_is_better[name],
                }
                for name in metrics
                if name in values
            },
        }


_OF_RECORD: Final = ("ftcheck", "examples", "seeds", "train_keys", "predict_keys", "environment")
