"""Folders and Hub repositories whose splits `datasets` finds (file names, the card's `configs` and class names).

`datasets` says which files make up which split; the rows of CSV, JSON, Parquet and text come through our own readers,
so that a value is the same wherever its file lies and an error names its line. Other formats are prepared by `datasets`
in a temporary cache: its usual one may serve rows of a file that has changed since.

A Hub repository is always read at one commit, from its local snapshot: offline, `load_dataset(id, revision=X)` ignores
X. Of a split that is streamed nothing is kept: what isn't in the snapshot is fetched in blocks as it is read.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

from ftcheck.errors import DataError, one_of, shown
from ftcheck.finetune.data import fetching, readers
from ftcheck.finetune.data.files import CHUNK, File, ReadFile
from ftcheck.finetune.data.source import Source, Split, Wanted, from_dataset, join, read_files, stream_files
from ftcheck.keys.hub import remember
from ftcheck.keys.roles import splits_read
from ftcheck.spec import Data

CARD = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""Files that say what the others are."""
_OWN: Mapping[str, Mapping[str, str]] = {
    "csv": {"sep": "delimiter"},
    "json": {"field": "field"},
    "parquet": {},
    "text": {},
}
"""Builder of `datasets` that a reader of ours stands for -> the builder's setting: the reader's option."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=[.-])")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What `datasets` made of a folder: split -> files relative to `folder`."""

    builder: Any
    folder: Path
    files: Mapping[str, Sequence[str]]
    shown: str
    repo: str | None = None
    """Of which Hub repository `folder` is a snapshot, perhaps without the files that are streamed."""

    def file(self, path: str) -> File:
        """One of `files`."""
        local = self.folder / path
        opener = None
        if self.repo is not None and not local.is_file():
            opener = partial(fetching.opened, self.repo, self.folder.name, path)
        return File(path=str(local), shown=shown(f"{self.shown}/{path}", 400), opener=opener)


def from_hub(data: Data, *, revision: str | None, offline: bool, stack: ExitStack) -> Source:
    """The data set of a Hub repository at one commit. Raises DataError for what can't be had."""
    fetch = partial(fetching.snapshot, data.path, revision or data.revision, offline)
    folder = Path(fetch(CARD))
    name = f"{data.path}@{folder.name[:8]}"
    listed = fetching.listing(data.path, folder)
    outline = _temporary(stack)
    _outline(outline, folder, listed)
    builder = _builder(outline, data, name, stack)
    files = {
        split: [os.path.relpath(f, outline.resolve()) for f in found] for split, found in _data_files(builder).items()
    }
    named = sorted({file for found in files.values() for file in found})
    _refuse_missing_shards(named, name)
    read = splits_read(data, ("tune", "eval"), files) if data.streaming else files
    needed = sorted({file for split in read for file in files[split]})
    missing = [file for file in (named if offline else needed) if not (folder / file).is_file()]
    if missing:
        if offline:
            how = "online, or once without data.streaming" if data.streaming else "once online to fetch it"
            raise DataError(f"{name}: {shown(missing[0])} isn't in the local cache; run {how}")
        folder = Path(fetch([re.sub(r"([\[*?])", r"[\1]", file) for file in needed]))
    remember(data.path, "dataset", data.revision, folder.name)
    return _source(Found(builder=builder, folder=folder, files=files, shown=name, repo=data.path), data, stack)


def from_folder(folder: Path, name: str, data: Data, stack: ExitStack, files: Sequence[str] | None = None) -> Source:
    """The data set of a local folder, or of some files in it. Raises DataError where there is none."""
    builder = _builder(folder, data, name, stack, files)
    root = folder.resolve()
    found = {split: [os.path.relpath(f, root) for f in paths] for split, paths in _data_files(builder).items()}
    return _source(Found(builder=builder, folder=folder, files=found, shown=name), data, stack)


def _source(found: Found, data: Data, stack: ExitStack) -> Source:
    builder, name = found.builder, found.shown
    kind = _kind(builder)
    settings = _settings(builder)
    features = builder.config.features if hasattr(builder.config, "features") else None
    features = features or builder.info.features
    splits: dict[str, Callable[[Wanted], Split]] = {}
    streams: dict[str, Callable[[Wanted], Iterator[ReadFile]]] = {}
    prepare = cache(partial(_prepare, found, data, stack))
    for split, paths in found.files.items():
        if kind in _OWN and set(settings) <= set(_OWN[kind]):
            options = {**{_OWN[kind][key]: value for key, value in settings.items()}, **data.options}
            readers.options(kind, options)
            named = [found.file(path) for path in paths]
            read: Callable[[Wanted], Split] = partial(read_files, kind, named, options)
            stream: Callable[[Wanted], Iterator[ReadFile]] = partial(stream_files, kind, named, options)
        else:
            if data.options:
                raise DataError(f"data.options: {name} is read by `datasets` ({kind}), which takes none here")
            if not all((found.folder / path).is_file() for path in paths):
                raise DataError(
                    f"{name} is read by `datasets` ({kind}), which streams only what is on this machine: fetch it "
                    f"first (hf download --repo-type dataset {shown(data.path)})"
                )
            stream = partial(_through_datasets, found, data, str(split))
            # To prepare one split is to prepare all of them, which is what a stream is there to avoid.
            read = partial(_all_of, stream, name) if data.streaming else _from_prepared(prepare, str(split), name)
        declared = (builder.info.splits or {}).get(split)
        rows = (declared.num_examples if declared is not None else None) or None
        splits[str(split)] = partial(_checked, read, features, rows, f"{name} split {split}")
        streams[str(split)] = partial(_checked_stream, stream, features, rows, f"{name} split {split}")
    return Source(shown=name, splits=splits, streams=streams)


def _checked(read: Callable[[Wanted], Split], features: Any, rows: int | None, place: str, wanted: Wanted) -> Split:
    """A split with the features and of the size that the data set's card declares."""
    split = read(wanted)
    _refuse_other_size(split.table.num_rows, rows, place)
    return dataclasses.replace(split, table=_as_declared(split.table, features, place))


def _checked_stream(
    stream: Callable[[Wanted], Iterator[ReadFile]], features: Any, rows: int | None, place: str, wanted: Wanted
) -> Iterator[ReadFile]:
    """The same for a stream, whose size is known at its end."""
    count = 0
    for part in stream(wanted):
        count += part.table.num_rows
        yield dataclasses.replace(part, table=_as_declared(part.table, features, place))
    _refuse_other_size(count, rows, place)


def _refuse_other_size(rows: int, declared: int | None, place: str) -> None:
    if declared is not None and rows != declared:
        raise DataError(f"{place} has {rows:,} rows, but the data set's card declares {declared:,}")


def _as_declared(table: Any, features: Any, place: str) -> Any:
    """`table` with the features that the card declares."""
    import datasets
    import pyarrow as pa
    from datasets.table import table_cast

    declared = {name: features[name] for name in table.column_names if features and name in features}
    if not declared:
        return table
    own = datasets.Features.from_arrow_schema(table.schema)
    try:
        return table_cast(table.replace_schema_metadata(None), datasets.Features({**own, **declared}).arrow_schema)
    except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{place}: the rows aren't what the data set's card declares: {shown(error, 300)}") from None


def _from_prepared(prepare: Callable[[], Mapping[str, Any]], split: str, name: str) -> Callable[[Wanted], Split]:
    return lambda wanted: from_dataset(prepare()[split], f"{name} split {shown(split)}", wanted)


def _prepare(found: Found, data: Data, stack: ExitStack) -> Mapping[str, Any]:
    """All splits through `datasets`, in memory, nothing of them left behind."""
    import datasets
    import pyarrow as pa

    try:
        builder = _prepared_builder(found, data, _temporary(stack))
        builder.download_and_prepare()
        return dict(builder.as_dataset(in_memory=True))
    except (datasets.exceptions.DatasetGenerationError, pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise _unreadable(found, error) from None


def _prepared_builder(found: Found, data: Data, temporary: Path) -> Any:
    """The builder of `datasets` that reads what is there."""
    import datasets

    single = Path(data.path).name if Path(data.path).is_file() else None
    builder = datasets.load_dataset_builder(str(found.folder), data.name, data_files=single, cache_dir=str(temporary))
    if _kind(builder) == "csv":
        # pandas would make None of "NA" and "null"
        builder.config.keep_default_na = False
    return builder


def _through_datasets(found: Found, data: Data, split: str, wanted: Wanted) -> Iterator[ReadFile]:
    """Rows of a format that only `datasets` reads, as it streams them."""
    import datasets
    import pyarrow as pa

    place, start = f"{found.shown} split {shown(split)}", 0
    with ExitStack() as stack:
        try:
            builder = _prepared_builder(found, data, _temporary(stack))
            for table in builder.as_streaming_dataset(split).with_format("arrow").iter(CHUNK):
                names = table.column_names
                kept = table.select([name for name in names if wanted is None or name in wanted])
                yield ReadFile(table=kept, names=tuple(names), shown=place, start=start)
                start += len(table)
        except (datasets.exceptions.DatasetGenerationError, pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise _unreadable(found, error) from None


def _all_of(stream: Callable[[Wanted], Iterator[ReadFile]], name: str, wanted: Wanted) -> Split:
    """A split that is small enough, out of its stream."""
    parts = list(stream(wanted))
    if not parts:
        raise DataError(f"{name}: a split that is read has no rows")
    return join(parts)


def _unreadable(found: Found, error: Exception) -> DataError:
    return DataError(f"{found.shown} can't be read: {_said(error.__cause__ or error, found.folder, found.shown)}")


def _builder(folder: Path, data: Data, name: str, stack: ExitStack, files: Sequence[str] | None = None) -> Any:
    """What `datasets` makes of a folder. Nothing is read yet but names and the card."""
    import zipfile

    import datasets
    import yaml

    try:
        return datasets.load_dataset_builder(
            str(folder), data.name, data_files=list(files) if files else None, cache_dir=str(_temporary(stack))
        )
    except ValueError as error:
        listed = re.search(r"vailable[^\[]*\[(.*?)\]", str(error), re.DOTALL)
        configurations = re.findall(r"'([^']+)'", listed[1]) if listed else []
        if configurations and data.name is not None:
            hint = one_of(data.name, configurations)
            raise DataError(f"data.name: {name} has no configuration {shown(repr(data.name))}; {hint}") from None
        if configurations:
            known = shown(", ".join(configurations), 300)
            raise DataError(f"{name} has several configurations: name one in data.name (known: {known})") from None
        raise DataError(f"{name} can't be read: {_said(error, folder, name)}") from None
    except (FileNotFoundError, datasets.exceptions.DatasetNotFoundError) as error:
        scripts = sorted(path.name for path in folder.glob("*.py"))
        if scripts:
            raise DataError(
                f"{name} is made by a Python script ({shown(scripts[0])}), which is never run: take its rows as "
                "Parquet (the Hub has many so, as revision refs/convert/parquet), or save them once and name the files"
            ) from None
        said = _said(error, folder, name)
        raise DataError(f"{name} holds no data files that `datasets` can read: {said}") from None
    except (zipfile.BadZipFile, yaml.YAMLError, AttributeError, TypeError) as error:  # a card that is no card
        raise DataError(f"{name} can't be read: {_said(error, folder, name)}") from None


def _said(error: BaseException, folder: Path, name: str) -> str:
    """A library's message, with the data's name for a folder that the user may never have heard of."""
    return f"{type(error).__name__}: {shown(str(error).replace(str(folder), name), 300)}"


def _temporary(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ftcheck-data-")))


def _data_files(builder: Any) -> dict[str, list[str]]:
    return {str(split): [str(file) for file in files] for split, files in (builder.config.data_files or {}).items()}


def _kind(builder: Any) -> str:
    """The packaged module that a builder is made of: csv, json, parquet, ..."""
    modules = [cls.__module__ for cls in type(builder).__mro__]
    return next((m.split(".")[2] for m in modules if m.startswith("datasets.packaged_modules.")), "")


def _settings(builder: Any) -> dict[str, Any]:
    """What the data set's card sets beyond names and files (a separator, say)."""
    told = {"name", "version", "data_dir", "data_files", "description", "features"}
    given = {}
    for field in dataclasses.fields(builder.config):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = getattr(builder.config, field.name)
        if field.name not in told and value != default:
            given["sep" if field.name == "delimiter" else field.name] = value
    return given


def _outline(outline: Path, folder: Path, listed: Sequence[str]) -> None:
    """The repository's shape before it is fetched: the card, and an empty file for every other one.

    `datasets` finds splits and configurations by names, so that only the files of one configuration need be fetched;
    and offline, a file that should be there and isn't is noticed instead of left out.
    """
    for file in listed:
        path = outline / file
        if not path.resolve().is_relative_to(outline.resolve()):
            raise DataError(f"the Hub lists a file outside its repository: {shown(file)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if file in CARD and (folder / file).is_file():
            path.write_bytes((folder / file).read_bytes())
        else:
            path.touch()


def _refuse_missing_shards(files: Sequence[str], name: str) -> None:
    """Raise DataError where `x-00000-of-00003` came without all three: a download that was cut off."""
    shards: dict[tuple[str, int], set[int]] = {}
    for file in files:
        if match := _SHARD.search(file):
            shards.setdefault((_SHARD.sub("", file), int(match[2])), set()).add(int(match[1]))
    for (file, count), present in shards.items():
        if len(present) < count:
            raise DataError(
                f"{name}: only {len(present)} of {count} parts of {shown(file)} are in the local cache; run once online"
            )
