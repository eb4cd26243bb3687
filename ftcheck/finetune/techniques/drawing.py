"""Training rows by class or by a column, and which of them a run draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftcheck.errors import shown

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.tasks import Meta


def groups(rows: RoleRows, column: str, meta: Meta) -> dict[str, list[int]]:
    """Value of `column`, the task's classes or one beside them -> the rows that have it, in the rows' order. A class
    that no row has is there too."""
    from ftcheck.tasks import labels

    names: list[str] = []
    values: list[Any]
    if column in rows.beside:
        values = [str(value) for value in rows.beside[column]]
    else:
        names = meta["labels"]
        values = [names[place] for place in labels.ids(rows.dataset, column, meta, rows.place)]
    found: dict[str, list[int]] = {name: [] for name in names}
    for row, value in enumerate(values):
        found.setdefault(value, []).append(row)
    return found


def draw(rows: list[int], count: int, *told: object) -> list[int]:
    """`count` of `rows`, chosen by `told` (a seed, say): all of them as often as that goes, then some once more."""
    from ftcheck.finetune.data.splits import shuffled

    times, more = divmod(count, len(rows))
    return [*rows * times, *(rows[place] for place in shuffled(len(rows), *told)[:more].tolist())]


def counted(found: dict[str, list[int]]) -> str:
    """The groups with their sizes, for a note; at most 12 of them."""
    some = [f"{shown(name, 40)} {len(rows):,}" for name, rows in list(found.items())[:12]]
    return ", ".join([*some, f"and {len(found) - 12} more"] if len(found) > 12 else some)
