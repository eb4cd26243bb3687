"""Which splits each role of a case's data reads: what keeps the train key apart from the evaluation's."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from ftcheck.spec import Data

TRAINING_ROLES: Final = ("train", "tune")
EVALUATION_ROLES: Final = ("eval",)

_PART: Final = re.compile(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*")


def base_splits(expression: str) -> tuple[str, ...] | None:
    """The splits that an expression reads: `train[:10]+validation` reads `train` and `validation`.

    None where it can't be told (not an expression known here): then it may read any.
    """
    matches = [_PART.fullmatch(part) for part in expression.split("+")]
    if any(match is None for match in matches):
        return None
    return tuple(dict.fromkeys(match[1] for match in matches if match))


def expression(data: Data, role: str, available: Collection[str] | None) -> str | None:
    """What `role` reads, defaults filled in; None where it reads nothing, or `available` would have to be known.

    A role that is held out reads what `train` reads.
    """
    if role in data.holdout:
        return expression(data, "train", available)
    if role in data.splits:
        return data.splits[role].strip()
    if role == "train":
        return "train"
    if role == "eval" and available is not None:
        return "test" if "test" in available else "validation"
    return None


def splits_read(data: Data, roles: Collection[str], available: Collection[str]) -> tuple[str, ...]:
    """The splits out of `available` that `roles` read: all of them where that can't be told. Sorted."""
    read: set[str] = set()
    for role in roles:
        expressed = expression(data, role, available)
        if expressed is None and role == "tune":
            continue
        bases = base_splits(expressed) if expressed is not None else None
        if bases is None or not set(bases) <= set(available):
            return tuple(sorted(available))
        read.update(bases)
    return tuple(sorted(read))
