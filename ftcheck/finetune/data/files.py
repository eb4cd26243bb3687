"""A local file as the readers see it: how it is named in errors, its text, and the table made of its rows."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from ftcheck.errors import DataError, shown

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS: Mapping[str, Callable[[BinaryIO], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""Suffix -> a decompressing stream over a stream."""

CHUNK = 1_000
"""Rows that a streamed file is read by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file. `shown` is its name in errors: as the user knows it, not where a cache keeps it."""

    path: str
    shown: str
    opener: Callable[[], BinaryIO] | None = field(default=None, compare=False)
    """Opens what isn't on this machine, seekable; raises DataError, then and while it is read."""

    @classmethod
    def local(cls, path: str) -> File:
        """A file of the user's, named relative to the working directory where it lies under it."""
        relative = os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
        return cls(path=path, shown=shown(relative, 400))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """The rows of one file, or some of them."""

    table: pa.Table
    """The wanted columns."""
    names: tuple[str, ...]
    """All columns that the file has."""
    shown: str
    lines: Sequence[int] = field(default=())
    """The line that each row starts at, from 1; empty where the format has no lines."""
    start: int = 0
    """How many rows of the file stand before these."""

    def place(self, row: int) -> str:
        """Where a row came from: `train.csv:17`, or `train.parquet row 17` (from 1)."""
        return f"{self.shown}:{self.lines[row]}" if self.lines else f"{self.shown} row {self.start + row + 1}"


@contextmanager
def opened(file: File) -> Iterator[BinaryIO]:
    """The file's bytes as a stream, decompressed. Raises DataError where it can't be read, also from within the block:
    what reads the stream finds out that it is damaged."""
    decompress = COMPRESSIONS.get(Path(file.path).suffix.lower())
    try:
        with file.opener() if file.opener is not None else open(file.path, "rb") as raw:
            if decompress is None:
                yield raw
                return
            with decompress(raw) as stream:
                try:
                    yield stream
                except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
                    raise DataError(f"{file.shown}: the compressed file is damaged: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{file.shown}: no such file") from None
    except OSError as error:
        raise DataError(f"{file.shown}: can't be read: {error.strerror or error}") from None


def content(file: File) -> bytes:
    """The file's bytes, decompressed. Raises DataError where it can't be read."""
    with opened(file) as stream:
        return stream.read()


def text(file: File, encoding: str = "utf-8") -> str:
    """The file's text without a byte order mark. Raises DataError that names line and offset of a wrong byte."""
    raw = content(file)
    try:
        decoded = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _undecodable(f"{file.shown}:{line}", error, encoding, f" at offset {error.start}") from None
    except LookupError:
        raise _unknown(encoding) from None
    return decoded.removeprefix("\ufeff")


def lines(file: File, encoding: str = "utf-8", *, newline: str = "\n") -> Iterator[str]:
    """The same text line by line, line ends as they are; `newline` as `open` takes it. Raises as `text` does, but of a
    wrong byte only the file is told: it is met before the lines in front of it are given out."""
    with opened(file) as raw:
        try:
            with io.TextIOWrapper(raw, encoding, newline=newline) as stream:
                if first := next(stream, "").removeprefix("\ufeff"):
                    yield first
                yield from stream
        except UnicodeDecodeError as error:
            raise _undecodable(file.shown, error, encoding) from None
        except LookupError:
            raise _unknown(encoding) from None


def _undecodable(place: str, error: UnicodeDecodeError, encoding: str, where: str = "") -> DataError:
    return DataError(
        f"{place}: byte 0x{error.object[error.start]:02x}{where} isn't {encoding}; "
        "save the file as UTF-8 or set data.options.encoding"
    )


def _unknown(encoding: str) -> DataError:
    return DataError(f"data.options.encoding: Python knows no encoding {shown(repr(encoding))}")


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
