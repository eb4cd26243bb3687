"""Text of whatever origin in Markdown and CSV: taken for nothing but text."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence

from ftcheck.errors import shown

LONGEST = 1000
"""Characters of a cell."""


def escaped(text: object, limit: int = LONGEST) -> str:
    """Text that Markdown and HTML take for nothing but text, on one line."""
    plain = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", shown(text, limit))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool], *, escape: bool = True
) -> list[str]:
    """The lines of a table; `right` says which columns are numbers. Cells are escaped unless they are markup."""
    rule = ["---:" if is_right else "---" for is_right in right]
    cells = [[escaped(cell) for cell in row] if escape else list(row) for row in [header, *rows]]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"| {' | '.join(rule)} |", *lines[1:]]


def csv_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file. Text that a spreadsheet would take for a formula gets an apostrophe; NaN and infinities are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    return out.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if value is None:
        return ""
    text = shown(value, LONGEST)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@")) else text
