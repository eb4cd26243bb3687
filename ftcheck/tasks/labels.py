"""Class names: learned from training rows or a model's config, and the way from a data set's labels to class ids.

Labels may be ids, ClassLabels or names, in a column (text-classification) or in lists (token-classification).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftcheck.errors import CheckpointError, DataError, one_of, shown

if TYPE_CHECKING:
    from ftcheck.tasks import Meta, Rows, Where

Label = str | int


def learn(train: Rows | None, column: str, model_config: Any, wanted: Sequence[str] | None, where: Where) -> Meta:
    """`{"labels": names by id, "from": "suite" | "data" | "model"}`.

    Names come from `wanted` (the suite), else ClassLabel names, else what the training rows have, sorted (numbers as
    numbers). Raises DataError for fewer than two classes in the training rows.
    """
    if train is None:
        return {"labels": _of_model(model_config, wanted), "from": "suite" if wanted else "model"}
    names = declared_names(train, column)
    found = {_name(label, names, f"{where(row)}: column {column}") for row, label in _each(train, column)}
    if len(found) < 2:
        only = f'"{shown(next(iter(found)))}"' if found else "none"
        raise DataError(f"column {column} of the training rows has one class only ({only}): there is nothing to learn")
    labels = list(wanted or names or sorted(found, key=lambda name: (_number(name), name)))
    if len(set(labels)) < len(labels):
        raise DataError(f"column {column}: two classes have the same name: {shown(labels, 400)}")
    return {"labels": labels, "from": "suite" if wanted else "data"}


def declared_names(rows: Rows, column: str) -> list[str] | None:
    """The ClassLabel names of `column` (or of its lists' items), None where it isn't a ClassLabel."""
    feature = rows.features[column]
    while hasattr(feature, "feature"):
        feature = feature.feature
    return list(feature.names) if hasattr(feature, "int2str") else None


def ids(rows: Rows, column: str, meta: Meta, where: Where = "row {}".format) -> list[Any]:
    """Class ids of `column`, in the shape it has (one per row, or a list per row).

    Raises DataError naming row and label for a label that isn't among the classes.
    """
    names = declared_names(rows, column)
    values: list[Any] = rows[column][:]
    known: dict[Label, int] = {}
    for row, label in _each(rows, column):
        if label not in known:
            known[label] = _id(label, names, meta, f"{where(row)}: column {column}")
    if values and isinstance(values[0], list):
        return [[known[label] for label in row] for row in values]
    return [known[label] for label in values]


def config_kwargs(meta: Meta) -> dict[str, Any]:
    """What a model's config must know of the classes."""
    labels = meta["labels"]
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {name: index for index, name in enumerate(labels)},
    }


def _each(rows: Rows, column: str) -> Any:
    """(row, label) for every label, each kind once a row, so that errors can name the first row that has it."""
    for row, value in enumerate(rows[column][:]):
        if isinstance(value, list):
            for label in dict.fromkeys(value):
                yield row, label
        else:
            yield row, value


def _name(label: Any, names: Sequence[str] | None, place: str) -> str:
    if isinstance(label, str):
        return label
    if isinstance(label, int):
        if names is None:
            return str(label)
        if 0 <= label < len(names):
            return names[label]
        raise DataError(f"{place}: {label} is no class: the data names {len(names)} of them, from 0")
    hint = " (is this split published without labels?)" if label is None else ": labels are names or whole numbers"
    raise DataError(f"{place}: the label is {shown(label)}{hint}")


def _id(label: Any, names: Sequence[str] | None, meta: Meta, place: str) -> int:
    labels: list[str] = meta["labels"]
    name = _name(label, names, place)
    if name in labels:
        return labels.index(name)
    hint = shown(one_of(name, labels), 400)
    if meta["from"] == "suite":
        # A number is an id, unless some class is called by a number: then it may be the name of one that was forgotten.
        if isinstance(label, int) and names is None and 0 <= label < len(labels) and not any(map(_is_number, labels)):
            return label
        raise DataError(f'{place}: label "{shown(name)}" is not among the {len(labels)} of task.labels ({hint})')
    if meta["from"] == "data":
        raise DataError(
            f'{place}: label "{shown(name)}" is not among the {len(labels)} classes of the training rows '
            f"({hint}); if it is right, name all classes: task: {{labels: [...]}}"
        )
    folded = [known.casefold() for known in labels]
    if folded.count(name.casefold()) == 1:
        return folded.index(name.casefold())
    if _nameless(labels) and isinstance(label, int) and label < len(labels) and len(names or labels) == len(labels):
        return label
    raise DataError(
        f'{place}: the model knows no class "{shown(name)}" ({hint}); name its classes as the data does, by id: '
        "task: {labels: [...]}"
    )


def _of_model(config: Any, wanted: Sequence[str] | None) -> list[str]:
    known: Mapping[int, str] = getattr(config, "id2label", None) or {}
    labels = [str(known[index]) for index in sorted(known)]
    if not labels:
        raise CheckpointError("the checkpoint's config names no classes (id2label), so it can't be judged as it is")
    if wanted is not None and len(wanted) != len(labels):
        raise CheckpointError(
            f"task.labels names {len(wanted)} classes, but the checkpoint was trained for {len(labels)} "
            f"({shown(', '.join(labels), 400)}): name each of them, by id, or leave labels out"
        )
    return list(wanted or labels)


def _nameless(labels: Sequence[str]) -> bool:
    """Whether the config has only the names that transformers makes up."""
    return all(name == f"LABEL_{index}" for index, name in enumerate(labels))


def _number(name: str) -> int:
    return int(name) if _is_number(name) else 0


def _is_number(name: str) -> bool:
    try:
        int(name)
    except ValueError:
        return False
    return True
