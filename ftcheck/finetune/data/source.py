"""Data as splits of rows, whatever it is made of. Splits are read when they are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import readers
from ftcheck.finetune.data.files import File, ReadFile
from ftcheck.spec import Data

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


def open_source(data: Data, *, revision: str | None, offline: bool, stack: ExitStack) -> Source:
    """The splits that `data` has. What `stack` holds (temporary folders) must outlive the reading. Raises DataError."""
    if data.kind == "reader":
        return from_files(data.path, data.files, data.options)
    if data.kind == "callable":
        return _from_callable(data)
    if data.kind == "hub":
        from ftcheck.finetune.data import hub

        return hub.from_hub(data, revision=revision, offline=offline, stack=stack)
    path = Path(data.path)
    if path.is_file():
        return _from_file(data, stack)
    if not path.is_dir():
        raise DataError(f"data.path: {File.local(data.path).shown}: no such file or folder")
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _saved(path)
    from ftcheck.finetune.data import hub

    return hub.from_folder(path, File.local(data.path).shown, data, stack)


def from_files(reader: str, by_split: Mapping[str, Sequence[str]], options: Mapping[str, Any]) -> Source:
    """Local files for a reader. Raises DataError for options that the reader doesn't have."""
    readers.options(reader, options)
    files = {split: [File.local(path) for path in paths] for split, paths in by_split.items()}
    return Source(shown="data.files", splits={s: partial(read_files, reader, f, options) for s, f in files.items()})


def read_files(reader: str, files: Sequence[File], options: Mapping[str, Any], wanted: Wanted) -> Split:
    """One split out of its files, in order."""
    return join([readers.read(reader, file, options, wanted) for file in files])


def join(parts: Sequence[ReadFile]) -> Split:
    """Files of one split as one table; a column that a file lacks is null there. Raises DataError for unlike ones."""
    import pyarrow as pa

    tables = [_plain(part.table) for part in parts]
    for part, table in zip(parts, tables, strict=True):
        differing = [name for name in table.column_names if _class_names(table, name) != _class_names(tables[0], name)]
        if differing and differing[0] in tables[0].column_names:
            raise DataError(
                f"column {shown(differing[0])} has other class names in {part.shown} than in {parts[0].shown}"
            )
    try:
        table = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        names = ", ".join(part.shown for part in parts)
        raise DataError(f"{names}: the files' columns don't fit together: {shown(error)}") from None
    return Split(parts=tuple(parts), table=table.combine_chunks())


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


def _from_file(data: Data, stack: ExitStack) -> Source:
    """One file without a split of its own: all of it is `train`."""
    file = File.local(data.path)
    reader = readers.for_suffix(data.path)
    if reader is not None:
        readers.options(reader, data.options)
        return Source(shown=file.shown, splits={"train": partial(read_files, reader, [file], data.options)})
    from ftcheck.finetune.data import hub

    return hub.from_folder(Path(data.path).parent, file.shown, data, stack, files=[Path(data.path).name])


def from_dataset(dataset: Any, place: str, wanted: Wanted) -> Split:
    """A `datasets.Dataset` that is there already."""
    kept = [name for name in dataset.column_names if wanted is None or name in wanted]
    table = dataset.select_columns(kept).with_format("arrow")[:]
    table = table.replace_schema_metadata(dataset.features.arrow_schema.metadata)
    return join([ReadFile(table=table, names=tuple(dataset.column_names), shown=place)])


def from_mapping(by_split: Mapping[str, Any], place: str) -> Source:
    """Datasets by split."""
    return Source(
        shown=place,
        splits={str(s): partial(from_dataset, d, f"{place} split {shown(s)}") for s, d in by_split.items()},
    )


def _saved(path: Path) -> Source:
    """What `save_to_disk` wrote: Arrow files and JSON, no pickles."""
    import datasets
    import pyarrow as pa

    place = File.local(str(path)).shown
    try:
        loaded = datasets.load_from_disk(str(path), keep_in_memory=True)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DataError(f"{place}: no readable saved dataset: {shown(error, 300)}") from None
    return from_mapping(loaded if isinstance(loaded, dict) else {"train": loaded}, place)


def _from_callable(data: Data) -> Source:
    """Rows that the suite's own function makes: a DatasetDict, a Dataset, or columns or rows as builtins."""
    import datasets

    assert data.factory is not None  # spec: kind `callable` has one
    try:
        made = data.factory()
    except Exception as error:
        raise DataError(f"data: {data.path} raised {type(error).__name__}: {shown(error, 300)}") from error
    by_split = made if isinstance(made, Mapping) and _holds_splits(made) else {"train": made}
    ready = {}
    for split, rows in by_split.items():
        if isinstance(rows, datasets.Dataset):
            ready[split] = rows
        elif isinstance(rows, Mapping) and all(isinstance(column, list | tuple) for column in rows.values()):
            ready[split] = _dataset(datasets.Dataset.from_dict, {k: list(v) for k, v in rows.items()}, data)
        elif isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
            ready[split] = _dataset(datasets.Dataset.from_list, [dict(row) for row in rows], data)
        else:
            raise DataError(
                f"data: {data.path} returned {type(rows).__name__} for {shown(split)}; "
                "a DatasetDict, a Dataset, a dict of lists or a list of dicts is needed"
            )
    return from_mapping(ready, data.path)


def _holds_splits(made: Mapping[Any, Any]) -> bool:
    """Whether a mapping is split -> rows rather than column -> values."""
    first = next(iter(made.values()), None)
    is_column = isinstance(first, list | tuple) and not (first and isinstance(first[0], Mapping))
    return bool(made) and not is_column


def _dataset(make: Callable[[Any], Any], rows: Any, data: Data) -> Any:
    import pyarrow as pa

    try:
        return make(rows)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"data: {data.path} returned rows that make no table: {shown(error, 300)}") from None
