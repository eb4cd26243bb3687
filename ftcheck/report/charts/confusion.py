"""Confusion matrices: before, now, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck.breakdown import ConfusionMatrix
from ftcheck.report.charts.svg import WIDTH, Canvas, Figure, Table, figure, number
from ftcheck.results import CaseResult

MOST_ROWS = 12
"""Of the table: the commonest mistakes."""

_LEVELS = 10
_NOTED = 0.05
"""A change of the share of a row that gets its sign in small cells too."""

Counts = Sequence[Sequence[int]]
Shares = list[list[float]]


def draw(result: CaseResult, id: str) -> Figure | None:
    """Gold classes as rows, predicted ones as columns, each cell its share of the row; None without classes."""
    found = None if result.breakdown is None else result.breakdown.confusion
    if found is None:
        return None
    title = "Confusion matrix" if found.then is None else "Confusion matrix: before, now, change"
    description = _told(found)
    return figure(
        id,
        title,
        description,
        _drawn(found),
        _table(found),
    )


def _told(found: ConfusionMatrix) -> str:
    worst = next((at for at in _mistakes(found) if at[1] < len(found.classes)), None)
    share = f"Shares of the {found.of} of each gold class."
    left_out = f" The {len(found.classes)} most confused classes; {found.left_out} others are summed up as “other”."
    if worst is None:
        return f"{share} No mistakes."
    gold, predicted = worst
    times = found.now[gold][predicted]
    most = f" Most often {found.classes[gold]} is taken for {found.classes[predicted]}: {times:,} times"
    if found.then is not None:
        most += f", {found.then[gold][predicted]:,} times before"
    return f"{share}{left_out if found.left_out else ''}{most}."


def _mistakes(found: ConfusionMatrix) -> Iterator[tuple[int, int]]:
    """(gold, predicted) of each mistake that was made on either side, commonest first."""
    places = [
        (gold, predicted)
        for gold, row in enumerate(found.now)
        for predicted in range(len(row))
        if gold != predicted and max(side[gold][predicted] for side in (found.now, found.then or found.now))
    ]
    then = found.then or found.now
    yield from sorted(places, key=lambda at: (-found.now[at[0]][at[1]], -then[at[0]][at[1]], at))


def _table(found: ConfusionMatrix) -> Table:
    names = (*found.classes, f"{found.left_out} other classes")
    now, then = _shares(found.now), None if found.then is None else _shares(found.then)
    head = ("gold", "predicted", "times", "share of gold")
    rows = []
    for gold, predicted in list(_mistakes(found))[:MOST_ROWS]:
        row = [names[gold], names[predicted], f"{found.now[gold][predicted]:,}", f"{now[gold][predicted]:.1%}"]
        if found.then is not None and then is not None:
            change = 100 * (now[gold][predicted] - then[gold][predicted])
            row += [f"{found.then[gold][predicted]:,}", f"{then[gold][predicted]:.1%}", f"{change:+.1f} points"]
        rows.append(tuple(row))
    return Table(head=head if then is None else (*head, "before", "share before", "change"), rows=tuple(rows))


def _shares(counts: Counts) -> Shares:
    return [[count / (sum(row) or 1) for count in row] for row in counts]


def _drawn(found: ConfusionMatrix) -> Canvas:
    columns = len(found.classes) + bool(found.left_out)
    panels = 1 if found.then is None else 3
    left = 190.0 if panels == 1 else 130.0
    cell = min((WIDTH - left - 14 * panels) / panels / columns, 40.0)
    canvas, top = Canvas(), 40.0
    for index, name in enumerate(found.classes):
        y = top + cell * (index + 0.5) + 4
        canvas.text(left - 22, y, name, "e s", units=left - 24)
        canvas.text(left - 5, y, index + 1, "e s q")
    now = [row[:columns] for row in _shares(found.now)]
    shown = [("", now)]
    if found.then is not None:
        then = [row[:columns] for row in _shares(found.then)]
        change = [[a - b for a, b in zip(row, past, strict=True)] for row, past in zip(now, then, strict=True)]
        shown = [("before", then), ("now", now), ("change", change)]
    for place, (name, shares) in enumerate(shown):
        x = left + place * (columns * cell + 14)
        _Panel(canvas=canvas, shares=shares, title=name, x=x, y=top, cell=cell, other=bool(found.left_out)).draw()
    return canvas.closed(top + cell * len(found.classes) + 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """One matrix, its upper left corner at (x, y)."""

    canvas: Canvas
    shares: Shares
    title: str
    x: float
    y: float
    cell: float
    other: bool
    """Whether the last column is all other classes."""

    def draw(self) -> None:
        canvas, cell = self.canvas, self.cell
        rows, columns = len(self.shares), len(self.shares[0])
        canvas.text(self.x, self.y - 22, self.title, "s b")
        for column in range(columns):
            last = "other" if cell >= 30 else "…"
            name = last if self.other and column == columns - 1 else str(column + 1)
            canvas.text(self.x + cell * (column + 0.5), self.y - 5, name, "m s q" if cell >= 18 else "m u q")
        self._shade()
        canvas.rect(self.x, self.y, cell * columns, cell * rows, "x")
        for row, line in enumerate(self.shares):
            for column, share in enumerate(line):
                text = self._text(share)
                style = "m s fp" if self.title != "change" and share > 0.55 else "m s"
                if text:
                    canvas.text(self.x + cell * (column + 0.5), self.y + cell * (row + 0.5) + 4, text, style)

    def _shade(self) -> None:
        """Cells of one shade are one path. Small shares are lifted: mistakes are what is looked for."""
        size = number(self.cell)
        levels: dict[tuple[str, int], list[str]] = {}
        for row, line in enumerate(self.shares):
            for column, share in enumerate(line):
                level = round(min(1.0, abs(share)) ** 0.6 * _LEVELS)
                if level:
                    worse = (share > 0) != (row == column)
                    colour = "fw" if self.title != "change" else "ft" if worse else "fk"
                    corner = f"M{number(self.x + self.cell * column)} {number(self.y + self.cell * row)}"
                    levels.setdefault((colour, level), []).append(f"{corner}h{size}v{size}h-{size}z")
        for (colour, level), cells in sorted(levels.items()):
            self.canvas.path("".join(cells), f"n {colour}", opacity=level / _LEVELS)

    def _text(self, share: float) -> str:
        """Per cent where they fit; of changes in small cells the sign of those worth noting."""
        points = round(100 * share)
        if self.cell >= 24:
            text = f"{points:+d}" if self.title == "change" else str(points)
            return text.replace("-", "−") if points else ""
        if self.title == "change" and abs(share) >= _NOTED:
            return "+" if share > 0 else "−"
        return ""
