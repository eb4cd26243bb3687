"""Several results by who is best, and who is tied with the best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ftcheck import statistics
from ftcheck.comparing import CONFIDENCE, Both, check_metrics, costs
from ftcheck.evidence import Missing, Part
from ftcheck.report import numbers

if TYPE_CHECKING:
    from ftcheck.operands import Operand, Side

Place = Literal["best", "tied", "behind", "unknown", "incomparable", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One metric of one case over several operands."""

    case: str
    device: str
    metric: str
    greater_is_better: bool
    values: tuple[float, ...]
    digits: tuple[int, ...]
    """Decimal places that each value's interval supports."""
    places: tuple[Place, ...]
    """Of each operand: `tied` is not worse than the best beyond chance; `unknown` can't be told; empty: it has none."""


def rank(operands: Sequence[Operand], *, only: Sequence[str] = ()) -> tuple[Ranked, ...]:
    """For every case and metric the best of several operands, and which are tied with it: paired comparisons at 95 %,
    one-sided, uncorrected. Raises UsageError for a metric that none has."""
    check_metrics(operands, only)
    found = []
    for case, device, sides in _columns(operands):
        there = [side for side in sides if side is not None]
        for name in dict.fromkeys(name for side in there for name in side.values):
            if name not in costs() and (not only or name in only):
                found.append(_ranked(case, device, name, sides))
    return tuple(found)


def _columns(operands: Sequence[Operand]) -> Iterator[tuple[str, str, list[Side | None]]]:
    """(case, device, each operand's side)."""
    measured = [[side for side in operand.sides if not side.error] for operand in operands]
    if all(operand.one_case for operand in operands):
        yield " / ".join(dict.fromkeys(str(sides[0]) for sides in measured)), "", [sides[0] for sides in measured]
        return
    for name, device in dict.fromkeys((side.name, side.device) for sides in measured for side in sides):
        matching = [
            next((side for side in sides if (side.name, side.device) == (name, device)), None) for sides in measured
        ]
        yield "::".join(name), device, matching


def _ranked(case: str, device: str, name: str, sides: Sequence[Side | None]) -> Ranked:
    values = [side.values.get(name) if side is not None else None for side in sides]
    greater = next(value.greater_is_better for value in values if value is not None)
    known = np.array([math.nan if value is None else value.value for value in values])
    places: list[Place] = [""] * len(sides)
    if np.isfinite(known).any():
        first = int(np.nanargmax(known) if greater else np.nanargmin(known))
        best = sides[first]
        assert best is not None
        for index, (side, value) in enumerate(zip(sides, values, strict=True)):
            if index == first:
                places[index] = "best"
            elif side is not None and value is not None:
                places[index] = _place(best, side, name)
    return Ranked(
        case=case,
        device=device,
        metric=name,
        greater_is_better=greater,
        values=tuple(known.tolist()),
        digits=tuple(0 if value is None else numbers.places(value) for value in values),
        places=tuple(places),
    )


def _place(best: Side, side: Side, name: str) -> Place:
    both = Both(best, side)
    if best.values[name].signature != side.values[name].signature:
        return "incomparable"
    if both.evidence is None or name not in both.evidence.metrics:
        return "unknown"
    found = both.evidence.compared(name, "reference", Part(), confidence=CONFIDENCE, relative=None)
    if isinstance(found, Missing):
        return "incomparable"
    if found.noise is None or found.examples < statistics.FEW_EXAMPLES:
        return "tied" if found.same else "unknown"
    return "behind" if found.low > 0 else "tied"
