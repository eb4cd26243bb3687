"""Records of judged rows: what tells them apart besides what the task says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcheck.finetune.data import Loaded
    from ftcheck.tasks import Rows, Task


def identified(records: list[dict[str, Any]], rows: Loaded, task: Task) -> list[dict[str, Any]]:
    """The records with what tells the judged examples apart whatever their order: each row's hash, its length in
    characters, its id where the data has one, and the columns that judging needs."""
    judged = rows.roles["eval"]
    told: dict[str, Any] = {"hash": judged.hashes, "length": _lengths(judged.dataset, task)}
    if "id" in judged.dataset.column_names:
        told["id"] = [str(value) for value in judged.dataset["id"][:]]
    if judged.beside:
        names = tuple(judged.beside)
        told["beside"] = [dict(zip(names, values, strict=True)) for values in zip(*judged.beside.values(), strict=True)]
    return [
        {**record, **dict(zip(told, values, strict=True))}
        for record, values in zip(records, zip(*told.values(), strict=True), strict=True)
    ]


def _lengths(dataset: Rows, task: Task) -> list[int]:
    """Characters of each row's input: the first column that the task must have, or else the first that is there."""
    needed = [name for name, must in task.columns.items() if must] + list(task.columns)
    column = next(name for name in needed if name in dataset.column_names)
    return [_characters(value) for value in dataset[column][:]]


def _characters(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else len(str(value))
