"""Which rows of which split: expressions such as `train[:2000]`, what is carved out of train, what a limit keeps.

Every choice is a function of positions alone. It needs no random generator whose stream could change with a version of
a library: positions are ranked by SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
2014), a bijection on 64-bit integers. So a choice is the same in every process, on every platform and for every seed
of the run; a smaller limit keeps a part of what a larger one keeps, and a limit changes nothing about a holdout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.errors import DataError, shown
from ftcheck.spec import EVAL_SPLITS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]

_PIECE = re.compile(r"\s*(?P<split>[\w.-]+)\s*(?:\[\s*(?P<start>-?\d+%?)?\s*:\s*(?P<stop>-?\d+%?)?\s*\])?\s*")
_SALTS = {"holdout": 1, "train": 2, "tune": 3, "eval": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One term of a split expression: `split[start:stop]`, the bounds as written (`10%`, `-500`, `2000`) or empty."""

    split: str
    start: str = ""
    stop: str = ""


def parse(expression: str) -> tuple[Piece, ...]:
    """`train[:10%]+validation` as its pieces. Raises DataError for what is no split expression."""
    pieces = []
    for term in expression.split("+"):
        match = _PIECE.fullmatch(term)
        if match is None:
            raise DataError(
                f"{shown(repr(expression))} is no split expression; write train, train[:2000], train[10%:20%] or a+b"
            )
        pieces.append(Piece(split=match["split"], start=match["start"] or "", stop=match["stop"] or ""))
    return tuple(pieces)


def positions(piece: Piece, size: int) -> Positions:
    """The rows of a split of `size` rows that `piece` names, in order. Raises DataError for a bound outside the split.

    Percentages are rounded to the nearest row, as `datasets` does. `datasets` clips other bounds silently, so that a
    suite which asks for 2,000 rows may get 200: here that is an error.
    """
    import numpy as np

    start = _bound(piece, piece.start, size, 0)
    stop = _bound(piece, piece.stop, size, size)
    return np.arange(start, max(start, stop), dtype=np.int64)


def _bound(piece: Piece, text: str, size: int, default: int) -> int:
    if not text:
        return default
    number = int(text.removesuffix("%"))
    written = f"{piece.split}[{piece.start}:{piece.stop}]"
    if text.endswith("%"):
        if not -100 <= number <= 100:
            raise DataError(f"{written}: {text} is outside -100% to 100%")
        number = round(size * number / 100)
    elif not -size <= number <= size:
        raise DataError(f"{written}: {text} is past the end: {piece.split} has {size:,} rows")
    return number + size if number < 0 else number


def default_eval(names: Sequence[str]) -> str | None:
    """The split that is judged where the suite names none: `test`, else a validation split, else None."""
    return next((name for name in EVAL_SPLITS if name in names), None)


def sample(size: int, count: int, role: str) -> Positions:
    """`count` of `size` positions, blind to classes, in their order."""
    import numpy as np

    return np.sort(np.argsort(_ranks(size, _SALTS[role]))[:count])


def carve(size: int, parts: Mapping[str, float], labels: Positions | None) -> tuple[dict[str, Positions], int]:
    """Disjoint positions for each role in `parts`, and for `train` what is left; with the number of lone classes.

    `labels` (a class code per position) makes the parts stratified: each takes its part of every class, whole numbers
    by largest remainder, and every class keeps at least one row in train. A class of one row stays there: a lone one.
    """
    import numpy as np

    codes = np.zeros(size, dtype=np.int64) if labels is None else labels
    ranks = _ranks(size, _SALTS["holdout"])
    counts = np.bincount(codes)
    order = np.lexsort((ranks, codes))
    first = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64)
    taken = np.zeros_like(counts)
    carved = {}
    for role, part in parts.items():
        take = _allot(counts, part, np.maximum(counts - 1 - taken, 0))
        starts = first + taken
        chosen = [order[start : start + n] for start, n in zip(starts.tolist(), take.tolist(), strict=True)]
        carved[role] = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
        taken = taken + take
    used = np.concatenate(list(carved.values())) if carved else np.empty(0, dtype=np.int64)
    carved["train"] = np.setdiff1d(np.arange(size, dtype=np.int64), used)
    return carved, int((counts == 1).sum()) if labels is not None else 0


def _allot(counts: Positions, part: float, room: Positions) -> Positions:
    """How many of each class make up `part` of all: quotas rounded by largest remainder, within `room`."""
    import numpy as np

    quotas = counts * part
    take: Positions = np.minimum(np.floor(quotas).astype(np.int64), room)
    missing = round(float(counts.sum()) * part) - int(take.sum())
    by_remainder = np.argsort(-(quotas - np.floor(quotas)), kind="stable")
    for cls in by_remainder.tolist():
        if missing <= 0:
            break
        if take[cls] < room[cls]:
            take[cls] += 1
            missing -= 1
    return take


def shuffled(size: int, *told: object) -> Positions:
    """All positions in an order that `told` (a seed, say, and a count of shuffles) decides."""
    import numpy as np
    from blake3 import blake3

    start = int.from_bytes(blake3(repr(told).encode()).digest(8), "big")
    return np.argsort(_mixed(size, np.uint64(start)), kind="stable")


def _ranks(size: int, salt: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 of each position: distinct for distinct positions."""
    import numpy as np

    return _mixed(size, np.uint64(salt) << np.uint64(40))


def _mixed(size: int, start: np.uint64) -> npt.NDArray[np.uint64]:
    """SplitMix64's numbers from the state `start` on (modulo 2^64)."""
    import numpy as np

    z = np.arange(size, dtype=np.uint64) + start
    z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
