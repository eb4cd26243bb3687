"""The part of a text that a report shows with its marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ftcheck.results import Mark, Marked

MOST = 600
"""Characters of a text that is kept whole; of a longer one about as many are."""
AROUND = 100
"""Characters on either side of a mark."""
GAP = " … "


def excerpt(text: str, marks: Sequence[Mark]) -> Marked:
    """`text` with `marks`; of a long one its beginning, or what stands around the marks. A mark that there is no room
    for is left out."""
    if len(text) <= MOST:
        return Marked(text=text, marks=tuple(marks))
    made, kept, room = "", [], MOST
    end = 0
    for start, wanted in _windows(text, marks):
        end = min(wanted, start + room)
        made += GAP if made or start else ""
        shift = len(made) - start
        made += text[start:end]
        kept += [
            replace(mark, start=mark.start + shift, end=min(mark.end, end) + shift)
            for mark in marks
            if start <= mark.start < end
        ]
        room -= end - start
        if not room:
            break
    more = GAP.rstrip() if end < len(text) else ""
    return Marked(text=made + more, marks=tuple(sorted(kept, key=lambda mark: (mark.role, mark.start))))


def _windows(text: str, marks: Sequence[Mark]) -> list[tuple[int, int]]:
    """Stretches around marks, merged where they touch; the beginning where there are none."""
    found: list[tuple[int, int]] = []
    for mark in sorted(marks, key=lambda mark: mark.start):
        start, end = max(0, mark.start - AROUND), min(len(text), mark.end + AROUND)
        if found and start <= found[-1][1]:
            start, end = found[-1][0], max(end, found.pop()[1])
        found.append((start, end))
    return found or [(0, MOST)]
