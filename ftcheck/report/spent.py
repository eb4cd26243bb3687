"""Where a case's time and memory went, as text: `--ft-profile`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ftcheck import sizes
from ftcheck.errors import shown
from ftcheck.profile import Profile
from ftcheck.report import cells, numbers
from ftcheck.results import CaseResult

LEAST = 0.005
"""The part of a case's time below which a phase is told together with others of its kind."""


def rows(profile: Profile) -> list[tuple[str, str, str, str]]:
    """(phase, time, part of the whole, the most memory) of each phase that took some of the time, then of the rest."""
    whole = profile.seconds or 1.0
    told = [phase for phase in profile.phases if phase.seconds >= LEAST * whole]
    found = [
        (
            phase.name,
            _time(phase.seconds),
            f"{phase.seconds / whole:.0%}",
            "" if phase.peak_bytes is None else sizes.in_words(phase.peak_bytes),
        )
        for phase in told
    ]
    rest = [phase for phase in profile.phases if phase not in told]
    if rest:
        spent = sum(phase.seconds for phase in rest)
        found.append((", ".join(phase.name for phase in rest), _time(spent), f"{spent / whole:.0%}", ""))
    return found


def _time(seconds: float) -> str:
    return numbers.seconds(seconds) if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def speeds(profile: Profile) -> Iterator[str]:
    """How fast each stage was, and what of the device's limit that is."""
    for found in profile.throughput:
        text = f"{found.stage}: {sizes.scaled(found.tokens_per_second)}tokens/s, {found.padding:.0%} padding"
        if found.operations_per_second is not None:
            text += f", {sizes.scaled(found.operations_per_second)}FLOP/s"
        if found.share is not None and found.limit is not None:
            text += f" ({found.share:.0%} of the {sizes.scaled(found.limit)}FLOP/s that matrices reach here)"
        yield text


def lines(results: Sequence[CaseResult], width: int) -> list[str]:
    """The terminal's section: a table for each case that has a profile."""
    made = []
    for result in results:
        if result.profile is None:
            continue
        made.append(cells.cropped(shown(f"{result.case_id}: {_time(result.profile.seconds)}", width), width))
        table = rows(result.profile)
        columns = [max(cells.width(row[index]) for row in table) for index in range(4)]
        columns[0] = min(columns[0], max(width - 2 - sum(columns[1:]) - 6, 10))
        for name, *others in table:
            right = (cells.right(text, columns[index]) for index, text in enumerate(others, 1))
            made.append(f"  {cells.left(cells.cropped(name, columns[0]), columns[0])}  {'  '.join(right)}".rstrip())
        for text in speeds(result.profile):
            made += cells.wrapped(text, max(width, 40), "  ", "    ")
    return made
