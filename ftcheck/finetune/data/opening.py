"""The way from a case's `data` to a `Source`: which of readers, `datasets`, the Hub or the user's function it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import hub, readers
from ftcheck.finetune.data.files import File
from ftcheck.finetune.data.source import Source, from_files, from_mapping, from_readers
from ftcheck.spec import Data


def open_source(data: Data, *, revision: str | None, offline: bool, stack: ExitStack) -> Source:
    """The splits that `data` has. What `stack` holds (temporary folders) must outlive the reading. Raises DataError."""
    if data.kind == "reader":
        return from_files(data.path, data.files, data.options)
    if data.kind == "callable":
        return _from_callable(data)
    if data.kind == "hub":
        return hub.from_hub(data, revision=revision, offline=offline, stack=stack)
    path = Path(data.path)
    if path.is_file():
        return _from_file(data, stack)
    if not path.is_dir():
        raise DataError(f"data.path: {File.local(data.path).shown}: no such file or folder")
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _saved(path, in_memory=not data.streaming)
    return hub.from_folder(path, File.local(data.path).shown, data, stack)


def _from_file(data: Data, stack: ExitStack) -> Source:
    """One file without a split of its own: all of it is `train`."""
    file = File.local(data.path)
    reader = readers.for_suffix(data.path)
    if reader is not None:
        readers.options(reader, data.options)
        return from_readers(file.shown, reader, {"train": [file]}, data.options)
    return hub.from_folder(Path(data.path).parent, file.shown, data, stack, files=[Path(data.path).name])


def _saved(path: Path, *, in_memory: bool) -> Source:
    """What `save_to_disk` wrote: Arrow files and JSON, no pickles."""
    import datasets
    import pyarrow as pa

    place = File.local(str(path)).shown
    try:
        loaded = datasets.load_from_disk(str(path), keep_in_memory=in_memory)
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
