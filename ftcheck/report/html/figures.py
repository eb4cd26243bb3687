"""The charts of all cases that a page has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def views(results: Sequence[CaseResult]) -> list[FiguresView]:
    """For each case, in the order given."""
    drawn = [charts.figures(result) for result in results]
    kept = _fitting(drawn, [result.verdict == "pass" for result in results])
    return [
        FiguresView(shown=tuple(map(_view, figures[:count])), left_out=_left_out(len(figures) - count))
        for figures, count in zip(drawn, kept, strict=True)
    ]


def _fitting(drawn: Sequence[Sequence[Figure]], passed: Sequence[bool]) -> list[int]:
    """How many of each case's charts there is room for: those of cases that did not pass come first, then the first
    chart of each that did, then the second."""
    room = ROOM * max(LEAST, len(drawn))
    kept = [0] * len(drawn)
    turns = [(passed[case] * place, case, figure) for case, of in enumerate(drawn) for place, figure in enumerate(of)]
    for _, case, figure in sorted(turns, key=lambda turn: (passed[turn[1]], turn[0])):
        room -= _size(figure)
        if room < 0:
            break
        kept[case] += 1
    return kept


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
