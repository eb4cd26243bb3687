"""Which splits each role of a case's data reads: what keeps the train key apart from the evaluation's.

What the roles read is decided by `ftcheck.finetune.data.splits`; here is only asked which splits that touches.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ftcheck.spec import Data

TRAINING_ROLES: Final = ("train", "tune")
EVALUATION_ROLES: Final = ("eval",)
ROLES: Final = (*TRAINING_ROLES, *EVALUATION_ROLES)


def base_splits(expression: str) -> tuple[str, ...]:
    """The splits that an expression reads: `train[:10]+validation` reads `train` and `validation`.

    Raises DataError for what is no split expression.
    """
    from ftcheck.finetune.data.splits import parse

    return tuple(dict.fromkeys(piece.split for piece in parse(expression)))


def expression(data: Data, role: str, available: Collection[str] | None) -> str | None:
    """What `role` reads, defaults filled in; a role that is held out reads what `train` reads.

    None where it reads nothing (`tune` has no default), or where the default depends on which splits are there and
    `available` is None.
    """
    from ftcheck.finetune.data.splits import default_eval

    role = "train" if role in data.holdout else role
    if role in data.splits:
        return data.splits[role].strip()
    if role == "train":
        return "train"
    return default_eval(list(available)) if role == "eval" and available is not None else None


def splits_read(data: Data, roles: Collection[str], available: Collection[str]) -> tuple[str, ...]:
    """The splits out of `available` that `roles` read, sorted. The data room refuses what isn't there."""
    expressions = (expression(data, role, available) for role in roles)
    read = {split for expressed in expressions if expressed is not None for split in base_splits(expressed)}
    return tuple(sorted(read & set(available)))
