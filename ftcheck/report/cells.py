"""Text in the columns of a terminal, where a character takes none, one (most) or two (Japanese, emoji)."""

from __future__ import annotations

from collections.abc import Iterator

_NARROW = dict.fromkeys(map(ord, "≤≥−±→←·…∞–×"))
"""Deletes characters of ftcheck's own that take one column, as those of ASCII do."""


def _is_narrow(text: str) -> bool:
    """Whether every character is known to take one column."""
    plain = text.translate(_NARROW)
    return plain.isascii() and plain.isprintable()


def width(text: str) -> int:
    """Columns that `text` takes."""
    if _is_narrow(text):
        return len(text)
    from rich.cells import cell_len  # here, since its table takes milliseconds to load

    return cell_len(text)


def cropped(text: str, columns: int) -> str:
    """`text`, or as much of it as fits and an ellipsis."""
    if width(text) <= columns:
        return text
    from rich.cells import set_cell_size

    return set_cell_size(text, max(columns - 1, 0)).rstrip() + "…"


def left(text: str, columns: int) -> str:
    """`text` and spaces up to `columns`."""
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    """Spaces up to `columns`, and `text`."""
    return " " * (columns - width(text)) + text


def wrapped(text: str, columns: int, indent: str = "", hanging: str = "") -> Iterator[str]:
    """Lines of at most `columns`, broken between words; a word is broken where it takes more than a line by itself, as
    a Japanese sentence may, but not one without wide characters: a path or a key is copied in one piece."""
    line, start = indent, indent
    measure = len if _is_narrow(indent + hanging + text) else width
    for word in text.split():
        space = " " if line != start else ""
        if measure(line + space + word) <= columns:
            line += space + word
            continue
        if line != start:
            yield line
            line = start = hanging
        pieces = _chopped(word, max(columns - measure(line), 2)) if measure(word) > len(word) else [word]
        yield from (line + piece for piece in pieces[:-1])
        start = hanging if len(pieces) > 1 else start
        line = start + pieces[-1]
    if line != start:
        yield line


def _chopped(word: str, columns: int) -> list[str]:
    from rich.cells import chop_cells

    return chop_cells(word, columns)
