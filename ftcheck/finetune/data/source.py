"""Data as splits of rows, whatever it is made of. Splits are read when they are asked for, whole or bit by bit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import readers
from ftcheck.finetune.data.files import CHUNK, File, ReadFile

if TYPE_CHECKING:
    import pyarrow as pa

Wanted = Collection[str] | None
"""The columns to read; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The rows of one split, file after file."""

    parts: tuple[ReadFile, ...]
    table: pa.Table

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that the split has, read or not."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.names))

    def place(self, row: int) -> str:
        """Where a row came from, for a message."""
        ends = list(accumulate(part.table.num_rows for part in self.parts))
        part = bisect_right(ends, row)
        return self.parts[part].place(row - (ends[part - 1] if part else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What `data` points at: a way to read each split."""

    shown: str
    splits: Mapping[str, Callable[[Wanted], Split]]
    streams: Mapping[str, Callable[[Wanted], Iterator[ReadFile]]]
    """The same rows in the same order, some at a time."""


def from_files(reader: str, by_split: Mapping[str, Sequence[str]], options: Mapping[str, Any]) -> Source:
    """Local files for a reader. Raises DataError for options that the reader doesn't have."""
    readers.options(reader, options)
    files = {split: [File.local(path) for path in paths] for split, paths in by_split.items()}
    return from_readers("data.files", reader, files, options)


def from_readers(place: str, reader: str, by_split: Mapping[str, Sequence[File]], options: Mapping[str, Any]) -> Source:
    """Files for a reader with checked options, by split."""
    return Source(
        shown=place,
        splits={split: partial(read_files, reader, found, options) for split, found in by_split.items()},
        streams={split: partial(stream_files, reader, found, options) for split, found in by_split.items()},
    )


def read_files(reader: str, files: Sequence[File], options: Mapping[str, Any], wanted: Wanted) -> Split:
    """One split out of its files, in order."""
    return join([readers.read(reader, file, options, wanted) for file in files])


def stream_files(reader: str, files: Sequence[File], options: Mapping[str, Any], wanted: Wanted) -> Iterator[ReadFile]:
    """The same split some rows at a time."""
    for file in files:
        for part in readers.stream(reader, file, options, wanted):
            yield replace(part, table=_plain(part.table))


def join(parts: Sequence[ReadFile]) -> Split:
    """Files of one split as one table; a column that a file lacks is null there. Raises DataError for unlike ones."""
    import pyarrow as pa

    tables = [_plain(part.table) for part in parts]
    for part in parts:
        refuse_unlike_classes(parts[0], part)
    try:
        table = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        names = ", ".join(part.shown for part in parts)
        raise DataError(f"{names}: the files' columns don't fit together: {shown(error)}") from None
    return Split(parts=tuple(parts), table=table.combine_chunks())


def refuse_unlike_classes(first: ReadFile, part: ReadFile) -> None:
    """An id must mean the same class in all files of a split. Raises DataError where class names differ."""
    table = part.table
    differing = [name for name in table.column_names if _class_names(table, name) != _class_names(first.table, name)]
    if differing and differing[0] in first.table.column_names:
        raise DataError(f"column {shown(differing[0])} has other class names in {part.shown} than in {first.shown}")


def _plain(table: pa.Table) -> pa.Table:
    """Dictionary-encoded columns (what pandas makes of categories) as their values; `datasets` doesn't know them."""
    import pyarrow as pa

    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(field.type.value_type))
    return table


def _class_names(table: pa.Table, column: str) -> list[str] | None:
    from datasets import Features

    if column not in table.column_names:
        return None
    feature = Features.from_arrow_schema(table.schema)[column]
    return getattr(getattr(feature, "feature", feature), "names", None)


def from_dataset(dataset: Any, place: str, wanted: Wanted) -> Split:
    """A `datasets.Dataset` that is there already."""
    return join([_rows_of(dataset, place, wanted, slice(None))])


def stream_dataset(dataset: Any, place: str, wanted: Wanted) -> Iterator[ReadFile]:
    """The same some rows at a time."""
    for start in range(0, len(dataset), CHUNK):
        yield replace(_rows_of(dataset, place, wanted, slice(start, start + CHUNK)), start=start)


def _rows_of(dataset: Any, place: str, wanted: Wanted, which: slice) -> ReadFile:
    kept = [name for name in dataset.column_names if wanted is None or name in wanted]
    table = dataset.select_columns(kept).with_format("arrow")[which]
    table = table.replace_schema_metadata(dataset.features.arrow_schema.metadata)
    return ReadFile(table=table, names=tuple(dataset.column_names), shown=place)


def from_mapping(by_split: Mapping[str, Any], place: str) -> Source:
    """Datasets by split."""
    named = {str(split): (dataset, f"{place} split {shown(split)}") for split, dataset in by_split.items()}
    return Source(
        shown=place,
        splits={split: partial(from_dataset, *found) for split, found in named.items()},
        streams={split: partial(stream_dataset, *found) for split, found in named.items()},
    )
