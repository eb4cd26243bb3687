"""Text of the data's own: cut, made visible, compared word by word, and marked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

from ftcheck.errors import shown
from ftcheck.results import Mark, Marked, Role

MOST_LINES = 12
MOST_MARKED = 1000
"""Characters of a marked text."""
COLOURS = 6
"""Colours that types of entities are told apart by, besides their names."""

_COMBINING = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_PILED = re.compile(f"({_COMBINING}{{8}}){_COMBINING}+")

Kind = Literal["", "missing", "extra", "gold", "predicted", "both", "entity"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that is shown in one way."""

    text: str
    kind: Kind = ""
    label: str = ""
    colour: int = 0


Pieces = tuple[Piece, ...]


def visible(text: str) -> str:
    """`text` with escapes for control, bidirectional and other characters that can't be seen, but for line breaks and
    tabs; where many marks pile up on a letter, the first of them."""
    if text.isascii() and text.isprintable():
        return text
    text = _PILED.sub(r"\1…", text)
    return "".join(
        part if part in ("\n", "\t") else shown(part, limit=10 * len(part) + 10) for part in re.split(r"([\n\t])", text)
    )


def cut(text: str, limit: int) -> str:
    """At most `limit` characters and MOST_LINES lines of `text`, the end of lines as one character."""
    if len(text) <= limit and "\n" not in text:
        return text
    lines = text[: 2 * limit].replace("\r\n", "\n").split("\n")
    kept = "\n".join(lines[:MOST_LINES])
    if len(kept) <= limit and len(lines) <= MOST_LINES and len(text) <= 2 * limit:
        return kept
    return kept[: limit - 1].rstrip() + "…"


def differing(expected: str, got: str) -> tuple[Pieces, Pieces]:
    """Both texts, the words that the other lacks marked; unmarked where they share none, or there is but one."""
    from difflib import SequenceMatcher

    ours, theirs = (re.findall(r"\s*\S+|\s+$", text) for text in (expected, got))
    a, b = ([word.strip() for word in side] for side in (ours, theirs))
    if max(len(a), len(b)) < 2 or not set(a) & set(b):
        return plain(expected), plain(got)
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    same = [{block[side] + place for block in blocks for place in range(block.size)} for side in (0, 1)]
    return (
        tuple(_merged((word, "" if i in same[0] else "missing") for i, word in enumerate(ours))),
        tuple(_merged((word, "" if i in same[1] else "extra") for i, word in enumerate(theirs))),
    )


def plain(text: str) -> Pieces:
    """Text without marks."""
    return (Piece(text),) if text else ()


def _merged(words: Iterable[tuple[str, Kind]]) -> Iterator[Piece]:
    """Neighbours of one kind as one piece; the blank before a marked word is no part of it."""
    for kind, group in groupby(words, key=lambda word: word[1]):
        text = "".join(word for word, _ in group)
        blank = text[: len(text) - len(text.lstrip())] if kind else ""
        if blank:
            yield Piece(blank)
        yield Piece(text[len(blank) :], kind)


def bounded(marked: Marked) -> Marked:
    """Its beginning: what tasks make is shorter, but a results file may say anything."""
    text = marked.text[:MOST_MARKED]
    known = [mark for mark in marked.marks if 0 <= mark.start < mark.end <= len(text)]
    return Marked(text=text, marks=tuple(known[:100]))


def in_context(marked: Marked) -> Pieces:
    """A text with what was expected and what was predicted in it, which may overlap."""
    marks = [mark for mark in marked.marks if mark.role != "before"]
    bounds = sorted({0, len(marked.text), *(place for mark in marks for place in (mark.start, mark.end))})
    pieces = []
    for start, end in pairwise(bounds):
        roles = {mark.role for mark in marks if mark.start <= start and end <= mark.end}
        kind: Kind = "both" if len(roles) > 1 else "gold" if "gold" in roles else "predicted" if roles else ""
        pieces.append(Piece(marked.text[start:end], kind))
    return tuple(pieces)


def entities(marked: Marked, role: Role, types: Sequence[str]) -> Pieces:
    """A sentence with the entities of one side, each with its type; `types` gives them their colours."""
    pieces, place = [], 0
    for mark in marked.marks:
        if mark.role != role or mark.start < place:
            continue
        pieces += [Piece(marked.text[place : mark.start]), _entity(marked.text, mark, types)]
        place = mark.end
    return (*(piece for piece in pieces if piece.text), *plain(marked.text[place:]))


def _entity(text: str, mark: Mark, types: Sequence[str]) -> Piece:
    return Piece(text[mark.start : mark.end], "entity", cut(mark.label, 40), types.index(mark.label) % COLOURS)


def types_of(marked: Iterable[Marked | None]) -> tuple[str, ...]:
    """The types of entities in these texts, by name."""
    return tuple(sorted({mark.label for one in marked if one for mark in one.marks if mark.label}))
