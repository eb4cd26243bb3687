"""CSV (RFC 4180) and TSV. Every value stays the string it is in the file.

No types are guessed: a guess looks at all values of a file, so that one row more could turn `007` or `NA` of every
other row into something else, in one split and not in the next. `types` says which columns are numbers.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import files

Character = Annotated[str, StringConstraints(min_length=1, max_length=1)]


class Options(BaseModel):
    """What `data.options` may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    delimiter: Character = ","
    quotechar: Character | None = '"'
    """None: quotes are ordinary characters."""
    encoding: str = "utf-8"
    column_names: list[str] | None = None
    """The columns of a file without a header line."""
    types: dict[str, Literal["int", "float"]] = {}
    """Columns that hold numbers."""


def read(file: files.File, options: Options, wanted: Collection[str] | None) -> files.ReadFile:
    """Rows with one string per column. Raises DataError for a row with more or fewer fields than there are columns."""
    # newline="" keeps the line breaks within quoted fields as they are
    records = _records(io.StringIO(files.text(file, options.encoding), newline=""), file, options)
    with _long_fields():
        return _table(_names(records, file, options), records, file, options, wanted)


def stream(file: files.File, options: Options, wanted: Collection[str] | None) -> Iterator[files.ReadFile]:
    """The same, a number of rows at a time."""
    records = _records(files.lines(file, options.encoding, newline=""), file, options)
    with _long_fields():
        names = _names(records, file, options)
    while True:
        with _long_fields():
            part = list(islice(records, files.CHUNK))
        if not part:
            return
        yield _table(names, part, file, options, wanted)


def _names(records: Iterator[tuple[int, list[str]]], file: files.File, options: Options) -> list[str]:
    """The columns, from the options or the first record."""
    names = options.column_names
    if names is None:
        header = next(records, None)
        if header is None:
            raise DataError(f"{file.shown}: the file is empty; its first line must name the columns")
        names = header[1]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{file.shown}:1: two columns are called {shown(repr(repeated[0]))}")
    return names


def _table(
    names: Sequence[str],
    records: Iterable[tuple[int, list[str]]],
    file: files.File,
    options: Options,
    wanted: Collection[str] | None,
) -> files.ReadFile:
    lines, rows = [], []
    for line, fields in records:
        if len(fields) != len(names):
            raise DataError(
                f"{file.shown}:{line}: {len(fields)} fields where there are {len(names)} columns "
                f"({shown(', '.join(names))}); is a quote or a delimiter missing? (data.options: delimiter, quotechar)"
            )
        lines.append(line)
        rows.append(fields)
    values = zip(*rows, strict=True) if rows else [()] * len(names)
    columns = {name: _typed(column, name, options, file, lines) for name, column in zip(names, values, strict=True)}
    return files.ReadFile(
        table=files.table(columns, wanted, lambda row: f"{file.shown}:{lines[row]}", _schema(names, options)),
        names=tuple(names),
        shown=file.shown,
        lines=lines,
    )


@contextmanager
def _long_fields() -> Iterator[None]:
    """The limit (131,072 characters) is the module's, meant against broken quoting, which strict=True finds as well."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _records(text: Iterable[str], file: files.File, options: Options) -> Iterator[tuple[int, list[str]]]:
    """(line the record starts at, its fields); blank lines are no records."""
    quoting: dict[str, Any] = (
        {"quoting": csv.QUOTE_NONE} if options.quotechar is None else {"quotechar": options.quotechar}
    )
    reader = csv.reader(text, delimiter=options.delimiter, strict=True, **quoting)
    start = 1
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{file.shown}:{start}: {error}; if quotes are ordinary characters here, set data.options.quotechar to null"
        ) from None


def _typed(column: Sequence[str], name: str, options: Options, file: files.File, lines: Sequence[int]) -> Sequence[Any]:
    if name not in options.types:
        return column
    convert = {"int": int, "float": float}[options.types[name]]
    values = []
    for line, value in zip(lines, column, strict=True):
        try:
            values.append(convert(value))
        except ValueError:
            raise DataError(
                f"{file.shown}:{line}: column {shown(name)}: {shown(repr(value))} is no {options.types[name]} "
                "(data.options.types)"
            ) from None
    return values


def _schema(names: Sequence[str], options: Options) -> dict[str, Any]:
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64()}
    return {name: types[options.types[name]] if name in options.types else pa.string() for name in names}
