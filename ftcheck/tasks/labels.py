"""Class names: learned from training rows or a model's config, and the way from a data set's labels to class ids.

Labels may be ids, ClassLabels or names, in a column (one class a text) or in lists (a tag for each word, or the set of
a text's classes). A set may also be a flag for each class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftcheck.errors import CheckpointError, DataError, one_of, shown
from ftcheck.results import Confusion, WorstExample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.tasks import Meta, Record, Rows, Where

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


def learn_sets(train: Rows | None, column: str, model_config: Any, wanted: Sequence[str] | None, where: Where) -> Meta:
    """As `learn`, for a column whose lists are sets of classes. Flags say how many classes there are, not what they are
    called: without `wanted` their names are their ids."""
    if train is None or not _holds_flags(train, column, where):
        return learn(train, column, model_config, wanted, where)
    width = len(train[0][column])
    if width < 2:
        raise DataError(f"{where(0)}: column {column} has {width} flags: at least two classes are needed")
    return {"labels": list(wanted or map(str, range(width))), "from": "suite" if wanted else "data"}


def flags(rows: Rows, column: str, meta: Meta, where: Where = "row {}".format) -> npt.NDArray[np.float32]:
    """(rows, classes): 1 where a row has the class.

    `column` holds lists of classes, in any form, or (lists of booleans or of floats, which name no class) a flag for
    each class. Raises DataError for a label that is no class, or flags that aren't 0 or 1 for each class.
    """
    import numpy as np

    classes = len(meta["labels"])
    found = np.zeros((len(rows), classes), dtype=np.float32)
    if not _holds_flags(rows, column, where):
        for row, present in enumerate(ids(rows, column, meta, where)):
            found[row, present] = 1
        return found
    for row, given in enumerate(rows[column][:]):
        if len(given) != classes or any(flag not in (0, 1) for flag in given):
            raise DataError(
                f"{where(row)}: column {column} must be {classes} flags, 0 or 1 for each class; got {shown(given)}"
            )
        found[row] = given
    return found


def _holds_flags(rows: Rows, column: str, where: Where) -> bool:
    """Whether its lists hold booleans or floats. Raises DataError for a column that doesn't hold lists."""
    inner = getattr(rows.features[column], "feature", None)
    if inner is None or hasattr(inner, "feature"):
        given = f", got {shown(repr(rows[0][column]))}" if len(rows) else ""
        raise DataError(
            f"{where(0)}: column {column} must be a list of classes for each row{given}: text is not split at commas"
        )
    return str(getattr(inner, "dtype", "")).startswith(("bool", "float"))


def confusions(pairs: Mapping[tuple[str, str], int]) -> list[Confusion]:
    """The ten commonest mistakes of (gold, predicted) -> how often; those of equal counts by name."""
    wrong = [(pair, count) for pair, count in pairs.items() if pair[0] != pair[1]]
    ranked = sorted(wrong, key=lambda item: (-item[1], item[0]))
    return [Confusion(gold=gold, predicted=predicted, count=count) for (gold, predicted), count in ranked[:10]]


def surest_mistakes(records: Sequence[Record], name: Callable[[Record, int], str]) -> list[WorstExample]:
    """The ten wrong records whose reference had the least probability, which is their `score`; `name` tells what a
    class of a record is called."""
    wrong = [r for r in records if r["prediction"] != r["reference"]]
    wrong.sort(key=lambda r: (r["scores"][r["reference"]], r["index"]))
    return [
        WorstExample(
            index=r["index"],
            input=r["input"],
            gold=name(r, r["reference"]),
            predicted=name(r, r["prediction"]),
            score=r["scores"][r["reference"]],
        )
        for r in wrong[:10]
    ]


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
