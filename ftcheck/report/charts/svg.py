"""Lean SVG: elements as strings, numbers with one decimal, all text escaped.

A report of 200 cases has more than a thousand charts, so a chart must take a millisecond and a few kilobytes.
matplotlib's SVG backend takes 13 to 77 ms and 6 to 79 KB for these very charts (docs/performance.md), which is why
they are written here. What is drawn takes its colours from CSS variables (`STYLE`), its text from the page's font.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from ftcheck.errors import shown

WIDTH = 640
"""Units of a chart's width; at 1 unit to a CSS pixel its text is 12 pixels high."""

_LETTER = 7.2
"""Units that a character takes on average, in the widest of the common sans-serif fonts (DejaVu Sans)."""
_SMALL = 10.5 / 12
"""Of the class `s`."""

STYLE = """\
:root{--ft-now:#0072b2;--ft-then:#d55e00;--ft-good:#007a5a;--ft-odd:#8f4a78;--ft-paper:#fff}
@media (prefers-color-scheme:dark){:root{--ft-now:#56b4e9;--ft-then:#f0a04b;--ft-good:#2fc79a;--ft-odd:#e09cc4;\
--ft-paper:#16181c}}
@media print{:root{--ft-now:#0072b2;--ft-then:#d55e00;--ft-good:#007a5a;--ft-odd:#8f4a78;--ft-paper:#fff}}
.ftc{display:block;width:100%;max-width:640px;min-width:480px;height:auto;font-family:inherit;print-color-adjust:exact}
.ftc text{fill:currentColor;stroke:none;font-size:12px}.ftc .e{text-anchor:end}.ftc .m{text-anchor:middle}\
.ftc text.s{font-size:10.5px}.ftc text.u{font-size:8px}
.ftc .b{font-weight:600}.ftc .q{opacity:.72}
.ftc line,.ftc path,.ftc circle,.ftc rect{stroke-width:1.5;fill:none;stroke:currentColor}
.ftc .g{stroke-width:1;opacity:.16}.ftc .x{stroke-width:1;opacity:.55}.ftc .n{stroke:none}
.ftc .t{stroke:var(--ft-then)}.ftc .w{stroke:var(--ft-now)}.ftc .o{stroke:var(--ft-odd)}.ftc .k{stroke:var(--ft-good)}
.ftc .d{stroke-dasharray:5 3}.ftc .p{stroke-dasharray:1.5 2.5}.ftc .l{stroke-dasharray:8 3 2 3}
.ftc .fw{fill:var(--ft-now)}.ftc .ft{fill:var(--ft-then)}\
.ftc .fk{fill:var(--ft-good)}.ftc .fp{fill:var(--ft-paper)}.ftc .fc{fill:currentColor}
.ftc .z{opacity:.16}.ftc .h{stroke-width:3}
"""
"""What the page that holds charts needs once in a `style` element. A page with a switch of its own for dark sets the
same variables there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a chart shows, as text: for those who can't see it, or want the numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One chart of one case. Texts are plain, without control or bidirectional characters; a page must escape them."""

    id: str
    """Unique in a report: of the chart, after a hash of the case."""
    title: str
    description: str
    """What the chart says, for those who can't see it."""
    svg: str
    """An `svg` element. It draws as meant where the page has `STYLE`."""
    table: Table


def number(value: float) -> str:
    """A coordinate: at most one decimal."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def width_of(text: str) -> float:
    """Units that `text` takes at most: wide characters (Chinese, emoji) count double."""
    return _LETTER * sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def plain(text: object, limit: int) -> str:
    """`text` as it may be shown anywhere, at most `limit` characters of it; of a megabyte the rest isn't looked at."""
    return shown(str(text)[: limit + 1], limit)


def fitted(text: str, units: float) -> str:
    """`text` cut to what fits into `units`."""
    if width_of(text) <= units:
        return text
    room, kept = units - _LETTER, ""
    for char in text:
        room -= width_of(char)
        if room < 0:
            break
        kept += char
    return f"{kept}…"


@dataclass(slots=True)
class Canvas:
    """The elements of one chart, in the order they are drawn."""

    parts: list[str] = field(default_factory=list)
    height: float = 0.0

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self.path(f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", style)

    def path(self, data: str, style: str, *, opacity: float = 1.0) -> None:
        """A path of these commands; `opacity` is that of its area."""
        filled = f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
        self.parts.append(f'<path class="{style}"{filled} d="{data}"/>')

    def rect(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """A rectangle; nothing where it has no area."""
        if width > 0 and height > 0:
            size = f'width="{number(width)}" height="{number(height)}"'
            self.parts.append(f'<rect class="{style}" x="{number(x)}" y="{number(y)}" {size}/>')

    def circle(self, x: float, y: float, radius: float, style: str) -> None:
        """A circle."""
        self.parts.append(f'<circle class="{style}" cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"/>')

    def diamond(self, x: float, y: float, radius: float, style: str) -> None:
        """A square on its corner."""
        r = number(radius)
        self.path(f"M{number(x - radius)} {number(y)}l{r} -{r}l{r} {r}l-{r} {r}z", style)

    def square(self, x: float, y: float, radius: float, style: str) -> None:
        """A square around a point."""
        self.rect(x - radius, y - radius, 2 * radius, 2 * radius, style)

    def text(self, x: float, y: float, text: object, style: str = "", *, units: float = WIDTH) -> None:
        """Text on the line `y`, cut to what fits into `units`; the whole of it shows under the pointer."""
        wanted = plain(text, 200)
        cut = fitted(wanted, units / _SMALL if " s" in f" {style}" else units)
        whole = f"<title>{escape(wanted)}</title>" if cut != wanted else ""
        styled = f' class="{style}"' if style else ""
        self.parts.append(f'<text{styled} x="{number(x)}" y="{number(y)}">{whole}{escape(cut)}</text>')

    def polyline(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through `points`."""
        if points:
            self.path("M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), style)

    def closed(self, height: float) -> Canvas:
        """This canvas, finished at this height."""
        self.height = height
        return self

    def svg(self, id: str, title: str, description: str) -> str:
        """The `svg` element."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ftc" viewBox="0 0 {WIDTH} {number(self.height)}" '
            f'role="img" aria-labelledby="{id}-t {id}-d">'
        )
        told = f'<title id="{id}-t">{escape(title)}</title><desc id="{id}-d">{escape(description)}</desc>'
        return f"{head}{told}{''.join(self.parts)}</svg>"


def figure(id: str, title: str, description: str, canvas: Canvas, table: Table) -> Figure:
    """A finished chart: its texts without characters that a page must not hold."""
    title, description = plain(title, 300), plain(description, 1000)
    rows = tuple(tuple(plain(cell, 200) for cell in row) for row in table.rows)
    return Figure(
        id=id,
        title=title,
        description=description,
        svg=canvas.svg(id, title, description),
        table=Table(head=tuple(plain(cell, 200) for cell in table.head), rows=rows),
    )


def joined(texts: Iterable[str]) -> str:
    """`a, b and c`."""
    *first, last = list(texts) or [""]
    return f"{', '.join(first)} and {last}" if first else last
