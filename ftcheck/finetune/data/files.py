"""A local file as the readers see it: how it is named in errors, its text, and the table made of its rows."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ftcheck.errors import DataError, shown

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file. `shown` is its name in errors: as the user knows it, not where a cache keeps it."""

    path: str
    shown: str

    @classmethod
    def local(cls, path: str) -> File:
        """A file of the user's, named relative to the working directory where it lies under it."""
        relative = os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
        return cls(path=path, shown=shown(relative, 400))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """The rows of one file."""

    table: pa.Table
    """The wanted columns."""
    names: tuple[str, ...]
    """All columns that the file has."""
    shown: str
    lines: Sequence[int] = field(default=())
    """The line that each row starts at, from 1; empty where the format has no lines."""

    def place(self, row: int) -> str:
        """Where a row came from: `train.csv:17`, or `train.parquet row 17` (from 1)."""
        return f"{self.shown}:{self.lines[row]}" if self.lines else f"{self.shown} row {row + 1}"


def content(file: File) -> bytes:
    """The file's bytes, decompressed. Raises DataError where it can't be read."""
    try:
        raw = Path(file.path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{file.shown}: no such file") from None
    except OSError as error:
        raise DataError(f"{file.shown}: can't be read: {error.strerror}") from None
    decompress = COMPRESSIONS.get(Path(file.path).suffix.lower())
    if decompress is None:
        return raw
    try:
        return decompress(raw)
    except (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{file.shown}: the compressed file is damaged: {error}") from None


def text(file: File, encoding: str = "utf-8") -> str:
    """The file's text without a byte order mark. Raises DataError that names line and offset of a wrong byte."""
    raw = content(file)
    try:
        decoded = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file.shown}:{line}: byte 0x{raw[error.start]:02x} at offset {error.start} isn't {encoding}; "
            "save the file as UTF-8 or set data.options.encoding"
        ) from None
    except LookupError:
        raise DataError(f"data.options.encoding: Python knows no encoding {shown(repr(encoding))}") from None
    return decoded.removeprefix("\ufeff")


def table(
    columns: Mapping[str, Sequence[Any]],
    wanted: Collection[str] | None,
    place: Callable[[int], str],
    schema: Mapping[str, pa.DataType] | None = None,
) -> pa.Table:
    """The wanted ones of `columns` as Arrow. Raises DataError that names the first row whose value doesn't fit."""
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        if wanted is not None and name not in wanted:
            continue
        try:
            arrays[name] = pa.array(values, type=(schema or {}).get(name))
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
            _refuse(name, values, place, error)
    return pa.table(arrays)


def _refuse(name: str, values: Sequence[Any], place: Callable[[int], str], error: Exception) -> NoReturn:
    """Find the row that Arrow stumbled over: a value it can't hold, or the first of another kind than those before."""
    import pyarrow as pa

    first: tuple[int, str] | None = None
    for row, value in enumerate(values):
        try:
            pa.array([value])
        except (pa.ArrowException, UnicodeEncodeError, OverflowError) as own:
            raise DataError(
                f"{place(row)}: column {shown(name)}: {shown(repr(value))} can't be held: {shown(own)}"
            ) from None
        if value is None:
            continue
        if first is None:
            first = row, _kind(value)
        elif _kind(value) != first[1]:
            raise DataError(
                f"{place(row)}: column {shown(name)} holds {_kind(value)} here, {first[1]} at {place(first[0])}; "
                "a column holds one kind of value"
            ) from None
    raise DataError(f"{place(0)}: column {shown(name)} isn't of one kind: {shown(error)}") from None


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
