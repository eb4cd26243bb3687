"""The charts of all cases that a page has room for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from ftcheck.report import charts, numbers
from ftcheck.report.charts import Figure
from ftcheck.results import CaseResult

ROOM = 27_000
"""Bytes a case for its charts on average, and together at least those of LEAST cases: their page is below 2 MB."""
LEAST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureView:
    """A chart, and its numbers."""

    title: str
    svg: Markup
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresView:
    """A case's charts, and what is said of those there is no room for."""

    shown: tuple[FigureView, ...]
    left_out: str


def views(results: Sequence[CaseResult]) -> Iterator[FiguresView]:
    """For each case, in the order given, drawn when it is asked for: those that did not pass come first and have what
    room there is, and those that did share what is left evenly."""
    room = ROOM * max(LEAST, len(results))
    for place, result in enumerate(results):
        share = room / (len(results) - place) if result.verdict == "pass" else room
        figures = charts.figures(result)
        ends = list(accumulate(map(_size, figures)))
        count = bisect_right(ends, share)
        room -= ends[count - 1] if count else 0
        yield FiguresView(shown=tuple(map(_view, figures[:count])), left_out=_left_out(len(figures) - count))


def _size(figure: Figure) -> int:
    """Bytes, about."""
    rows = (figure.table.head, *figure.table.rows)
    return len(figure.svg) + sum(min(len(cell), 1000) + 9 for row in rows for cell in row) + 600


def _left_out(count: int) -> str:
    return f"{numbers.count(count, 'chart')} left out: the page would be too large" if count else ""


def _view(figure: Figure) -> FigureView:
    return FigureView(
        title=figure.title,
        svg=Markup(figure.svg),  # noqa: S704  drawn by us: its text is escaped
        head=figure.table.head,
        rows=figure.table.rows,
    )
