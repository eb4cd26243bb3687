"""Rows under the task's column names: what is missing, what is null, and a hash of each."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ftcheck.errors import DataError, shown

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

ID = "id"
"""A column that is kept for reports where the data has one, whether or not the task knows it."""


def among(what: str, name: str, names: Sequence[str]) -> str:
    """What an error about an unknown name ends with: all names that there are, and the nearest."""
    near = get_close_matches(name, names, n=1)
    listed = f"({what}: {shown(', '.join(names), 400)})" if names else f"(it has no {what})"
    return f"{listed}; did you mean {shown(near[0])}?" if near else listed


def require(names: Sequence[str], columns: Mapping[str, bool], mapping: Mapping[str, str], where: str) -> None:
    """Raise DataError where a split with the columns `names` lacks one that the task needs, or that the suite names, or
    has none at all of the task's.

    `columns`: the task's column -> whether it is needed. `mapping`: the task's column -> the data's.
    """
    for column, needed in columns.items():
        source = mapping.get(column, column)
        if source not in names and (needed or column in mapping):
            raise DataError(
                f"{where} has no column {shown(repr(source))} {among('columns', source, names)}; "
                f"data.columns says which one is the task's {column}"
            )
    if not any(mapping.get(column, column) in names for column in columns):
        raise DataError(
            f"{where} has none of the task's columns ({', '.join(columns)}) {among('columns', '', names)}; "
            "data.columns says which one is which"
        )


def parents(source: str) -> list[str]:
    """The columns that a nested one may be in, nearest first: `a.b.c` -> `a.b`, `a`."""
    parts = source.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def unfold(table: pa.Table, mapping: Mapping[str, str], where: str) -> pa.Table:
    """`table` with a column of its own for each nested one that the suite names: `translation.en` is the key `en` of
    the column `translation`, unless a column is called that itself. Class names come along.

    Raises DataError for a key that isn't there.
    """
    for column, source in mapping.items():
        parent = next((name for name in parents(source) if name in table.column_names), None)
        if source in table.column_names or parent is None:
            continue
        values, feature = table.column(parent), _features(table).get(parent)
        for key in source.removeprefix(f"{parent}.").split("."):
            values = _child(values, key, parent, column, where)
            feature = feature.get(key) if isinstance(feature, dict) and "_type" not in feature else None
            parent = f"{parent}.{key}"
        features = {**_features(table), **({source: feature} if feature else {})}
        table = table.append_column(source, values).replace_schema_metadata(_as_metadata(features))
    return table


def _child(values: pa.ChunkedArray, key: str, parent: str, column: str, where: str) -> pa.ChunkedArray:
    """What stands under `key` in each row; null where the row has nothing there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_struct(values.type):
        raise DataError(
            f"{where}: column {shown(parent)} holds {shown(values.type, 100)}, which has no key {shown(repr(key))}; "
            f"data.columns says which one is the task's {column}"
        )
    keys = [field.name for field in values.type]
    if key not in keys:
        raise DataError(
            f"{where}: column {shown(parent)} has no key {shown(repr(key))} {among('keys', key, keys)}; "
            f"data.columns says which one is the task's {column}"
        )
    return pc.struct_field(values, keys.index(key))


def rename(table: pa.Table, columns: Mapping[str, bool], mapping: Mapping[str, str]) -> pa.Table:
    """`table` with the task's columns only, under the task's names, and `id` where it has one."""
    import pyarrow as pa

    picked: dict[str, Any] = {}
    for column in columns:
        source = mapping.get(column, column)
        if source in table.column_names:
            picked[column] = table.field(source).with_name(column), table.column(source)
    if ID not in picked and ID in table.column_names:
        picked[ID] = table.field(ID), table.column(ID)
    return pa.table(
        [values for _, values in picked.values()],
        schema=pa.schema([field for field, _ in picked.values()], metadata=_metadata(table, columns, mapping)),
    )


def _metadata(table: pa.Table, columns: Mapping[str, bool], mapping: Mapping[str, str]) -> dict[bytes, bytes]:
    """The features that `datasets` keeps in the schema (class names), under the task's column names."""
    features = _features(table)
    renamed = {column: features[source] for column in columns if (source := mapping.get(column, column)) in features}
    if ID in features:
        renamed.setdefault(ID, features[ID])
    return _as_metadata(renamed)


def _features(table: pa.Table) -> dict[str, Any]:
    kept = (table.schema.metadata or {}).get(b"huggingface")
    return ((json.loads(kept) if kept else {}).get("info") or {}).get("features") or {}


def _as_metadata(features: Mapping[str, Any]) -> dict[bytes, bytes]:
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()} if features else {}


def refuse_nulls(table: pa.Table, columns: Mapping[str, bool], place: Callable[[int], str]) -> pa.Table:
    """Raise DataError at the first null in a column of the task; drop one that isn't needed and holds nothing else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, needed in columns.items():
        if name not in table.column_names:
            continue
        values = table.column(name)
        if values.null_count == len(values) and not needed:
            table = table.drop_columns([name])
            continue
        nulls = pc.is_null(values)
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            holes = pc.list_parent_indices(values).filter(pc.is_null(pc.list_flatten(values)))
            nulls = pc.or_(nulls, pc.is_in(pa.array(range(len(values)), holes.type), value_set=holes))
        row = pc.index(nulls, True).as_py()
        if row >= 0:
            raise DataError(f"{place(row)}: column {shown(name)} is missing or null")
    return table


def refuse_unlabelled(dataset: datasets.Dataset, place: Callable[[int], str]) -> None:
    """Raise DataError where a class id is negative: how data sets mark labels that they keep back."""
    import pyarrow.compute as pc
    from datasets import ClassLabel

    for name, feature in dataset.features.items():
        if isinstance(feature, ClassLabel):
            row = pc.index(pc.less(dataset.data.column(name), 0), True).as_py()
            if row >= 0:
                raise DataError(
                    f"{place(row)}: column {shown(name)} is -1, so this split is published without labels; "
                    "name another one in data.splits"
                )


def nameable(kind: pa.DataType) -> bool:
    """Whether values of this type can name classes: text and whole numbers."""
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def hashes(dataset: datasets.Dataset, columns: Sequence[str]) -> list[str]:
    """The BLAKE3 of each row's canonical JSON (128 bits, hex), over `columns`, classes by their names.

    By name, because an id says nothing once the order of the names has changed.
    """
    from blake3 import blake3

    present = sorted(name for name in columns if name in dataset.features)
    values = [_named(dataset.data.column(name).to_pylist(), dataset.features[name]) for name in present]
    encode = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=_canonical).encode
    prefix = encode(present)
    return [blake3((prefix + encode(row)).encode()).hexdigest(16) for row in zip(*values, strict=True)]


def named_values(table: pa.Table, column: str) -> list[Any]:
    """A column's values as builtins, classes by name."""
    from datasets import Features

    return _named(table.column(column).to_pylist(), Features.from_arrow_schema(table.schema)[column])


def digest(row_hashes: Sequence[str]) -> str:
    """One BLAKE3 (hex) over the rows' own hashes, in order."""
    from blake3 import blake3

    return str(blake3("\n".join(row_hashes).encode()).hexdigest())


def _named(values: list[Any], feature: Any) -> list[Any]:
    """Class ids as names, also within lists."""
    names = getattr(feature, "names", None)
    if names is not None:
        return [names[value] if value is not None and 0 <= value < len(names) else value for value in values]
    inner = getattr(feature, "feature", None)
    if getattr(inner, "names", None) is not None:
        return [None if value is None else _named(value, inner) for value in values]
    return values


def _canonical(value: Any) -> Any:
    """What JSON lacks. Tagged, so that a date and its text differ."""
    match value:
        case bytes():
            return {"bytes": base64.b64encode(value).decode()}
        case datetime.datetime() | datetime.date() | datetime.time():
            return {type(value).__name__: value.isoformat()}
        case datetime.timedelta():
            return {"seconds": value.total_seconds()}
        case decimal.Decimal():
            return {"decimal": str(value)}
    raise DataError(f"a column holds a {type(value).__name__}, which can't be compared between runs")
