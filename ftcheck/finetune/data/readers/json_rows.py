"""JSON: one object a line, a list of objects, or an object of columns."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import files


class Options(BaseModel):
    """What `data.options` may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lines: bool = False
    """One object a line; otherwise tried when the file isn't one JSON value."""
    field: str | None = None
    """The key of the file's object that holds the rows."""


def read(file: files.File, options: Options, wanted: Collection[str] | None) -> files.ReadFile:
    """Rows with a column per key; a key that an object lacks is None there. Raises DataError."""
    content = files.text(file)
    rows, lines = _by_line(content, file) if options.lines else _whole(content, file, options)
    return _table(rows, lines, file, wanted)


def stream(file: files.File, options: Options, wanted: Collection[str] | None) -> Iterator[files.ReadFile]:
    """The same, a number of rows at a time where the file has an object a line."""
    if not options.lines and (options.field is not None or not _has_two_objects(file)):
        yield read(file, options, wanted)
        return
    objects = _objects(files.lines(file), file)
    while part := list(islice(objects, files.CHUNK)):
        yield _table([row for _, row in part], [number for number, _ in part], file, wanted)


def _has_two_objects(file: files.File) -> bool:
    """Whether the first line that isn't blank is an object, and not the only one: what `_whole` takes for lines."""
    told = (line for line in files.lines(file) if line.strip())
    try:
        first = json.loads(next(told, ""))
    except (json.JSONDecodeError, RecursionError):
        return False
    return isinstance(first, dict) and next(told, None) is not None


def _table(
    rows: Sequence[dict[str, Any]], lines: Sequence[int], file: files.File, wanted: Collection[str] | None
) -> files.ReadFile:
    columns: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        for name in row:
            if name not in columns:
                columns[name] = [None] * number
        for name, column in columns.items():
            column.append(row.get(name))

    def place(row: int) -> str:
        return f"{file.shown}:{lines[row]}" if lines else f"{file.shown} row {row + 1}"

    return files.ReadFile(
        table=files.table(columns, wanted, place), names=tuple(columns), shown=file.shown, lines=lines
    )


def _by_line(content: str, file: files.File) -> tuple[list[dict[str, Any]], list[int]]:
    found = list(_objects(content.split("\n"), file))
    return [row for _, row in found], [number for number, _ in found]


def _objects(lines: Iterable[str], file: files.File) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, the object on it); blank lines are none."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{file.shown}:{number}: no JSON: {error}; every line must be one object") from None
        if not isinstance(row, dict):
            raise DataError(f"{file.shown}:{number}: {shown(line, 40)} is no JSON object; every line must be one")
        yield number, row


def _whole(content: str, file: files.File, options: Options) -> tuple[list[dict[str, Any]], list[int]]:
    try:
        value = json.loads(content)
    except RecursionError:
        raise DataError(f"{file.shown}: nested too deeply to be rows") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and options.field is None:
            return _by_line(content, file)
        raise DataError(f"{file.shown}:{error.lineno}: no JSON: {error}") from None
    if options.field is not None:
        if not isinstance(value, dict) or options.field not in value:
            raise DataError(
                f"{file.shown}: the file's object has no key {shown(repr(options.field))} (data.options.field)"
            )
        value = value[options.field]
    if isinstance(value, dict) and _is_named_lines(file):
        return _by_line(content, file)
    if isinstance(value, dict):
        return _columns(value, file), []
    if not isinstance(value, list):
        raise DataError(f"{file.shown}: neither a list of objects nor one object a line")
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{file.shown} row {number}: {shown(repr(row), 40)} is no object")
    return value, []


def _is_named_lines(file: files.File) -> bool:
    """Whether the name says one object a line: a file of one row with lists in it is else taken for columns."""
    return not {".jsonl", ".ndjson"}.isdisjoint(suffix.lower() for suffix in PurePath(file.shown).suffixes[-2:])


def _columns(value: dict[str, Any], file: files.File) -> list[dict[str, Any]]:
    """An object of equally long lists is a table by columns; a single flat object is one row."""
    if value and all(isinstance(column, list) for column in value.values()):
        data = value.get("data")
        if "paragraphs" in value or (data and isinstance(data[0], dict) and "paragraphs" in data[0]):
            raise DataError(f"{file.shown} has the structure of SQuAD: use data.path: squad")
        if len({len(column) for column in value.values()}) > 1:
            sizes = ", ".join(f"{shown(name, 30)} {len(column)}" for name, column in value.items())
            raise DataError(f"{file.shown}: columns of different lengths: {sizes}")
        return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    data = value.get("data")
    if isinstance(data, list) and data and isinstance(data[0], dict):
        if "paragraphs" in data[0]:
            raise DataError(f"{file.shown} has the structure of SQuAD: use data.path: squad")
        raise DataError(f"{file.shown}: rows seem to be under the key 'data': set data.options.field to it")
    return [value]
