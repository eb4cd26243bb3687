"""What a case's data is, apart for training and for evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final

from ftcheck import plainfiles
from ftcheck.errors import DataError, shown
from ftcheck.keys.canonical import canonical
from ftcheck.keys.roles import expression, splits_read

if TYPE_CHECKING:
    from ftcheck.results import Json
    from ftcheck.spec import Data

Digest = Callable[[Path], str]
"""A local file's content hash."""

CARDS: Final = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""Files of a data folder that say how `datasets` reads the others."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Where rows come from, fingerprinted: what all splits share, and each split by itself where they are apart."""

    source: Mapping[str, Json]
    splits: Mapping[str, Json] | None = None
    """Split -> its identity; None where it can't be told which files a split is made of."""


def data_identity(data: Data, roles: Collection[str], rows: Rows) -> dict[str, Json]:
    """What the rows of `roles` depend on, as components. Says nothing of what other roles alone read.

    A part that is carved out of train (`holdout`) ties both sides together: every holdout is part of both.
    """
    roles = {*roles, "train"} if any(role in data.holdout for role in roles) else set(roles)
    found: dict[str, Json] = {
        **rows.source,
        "name": data.name,
        "options": dict(data.options),
        "columns": {name: column for name, column in data.columns.items() if name != column},
        "splits": {role: expression(data, role, rows.splits) for role in sorted(roles) if role not in data.holdout},
        "limit": {role: data.limit[role] for role in sorted(roles) if role in data.limit},
    }
    if "train" in roles:
        found["holdout"] = dict(data.holdout)
    if data.streaming and "train" in roles:
        found |= {"streaming": True, "shuffle_buffer": data.shuffle_buffer}
    if rows.splits is not None:
        found["rows"] = {name: rows.splits[name] for name in splits_read(data, roles, rows.splits)}
    return found


def local_rows(data: Data, digest: Digest) -> Rows:
    """The rows of `data` of kind `reader` or `local`. Raises DataError for a file that can't be read."""
    if data.kind == "reader":
        splits = {split: [_file(Path(path), digest) for path in paths] for split, paths in data.files.items()}
        return Rows({"reader": data.path}, splits)
    path = Path(data.path)
    if not path.is_dir():
        return _single_file(path, digest)
    names = _saved_splits(path)
    if names is None:
        return Rows({"reader": "folder", "files": _folder(path, digest)})
    return Rows({"reader": "saved"}, {split: _folder(path / below, digest) for split, below in names.items()})


def called_rows(data: Data) -> Rows:
    """The rows that a callable returns, split by split: they are its identity, whatever its code. Raises DataError."""
    from ftcheck.finetune.data.opening import open_source

    with ExitStack() as stack:
        source = open_source(data, revision=None, offline=True, stack=stack)
        return Rows(
            {"reader": "callable"}, {name: row_identity(read(None).table) for name, read in source.splits.items()}
        )


def row_identity(table: Any) -> dict[str, Json]:
    """How many rows an Arrow table has, the blake3 of its features (class names in order), and that of its rows."""
    from blake3 import blake3
    from datasets import Dataset
    from datasets.table import InMemoryTable

    from ftcheck.finetune.data import rows

    dataset = Dataset(InMemoryTable(table), fingerprint="unhashed")
    features = canonical(dataset.features.to_dict(), "features")
    hashes = rows.hashes(dataset, tuple(dataset.features))
    return {"count": len(hashes), "features": str(blake3(features).hexdigest()), "rows": rows.digest(hashes)}


def _single_file(path: Path, digest: Digest) -> Rows:
    """One file: all of it is `train`. What only `datasets` can read is read as its folder's card says."""
    from ftcheck.finetune.data.readers import for_suffix

    reader = for_suffix(path.name)
    cards = {} if reader else {name: digest(path.parent / name) for name in CARDS if (path.parent / name).is_file()}
    return Rows({"reader": reader or "datasets", "cards": cards}, {"train": [_file(path, digest)]})


def _file(path: Path, digest: Digest) -> dict[str, Json]:
    """A file by its content and its suffixes (a reader or a compression may follow from them), not by its place."""
    return {"blake3": _digest(path, digest), "suffix": "".join(PurePath(path).suffixes[-2:]).lower()}


def _folder(path: Path, digest: Digest) -> dict[str, Json]:
    """Every file below `path`: its name relative to it -> its hash."""
    if not path.is_dir():
        raise DataError(f"{shown(path)}: no such folder, though its dataset_dict.json names it")
    found = {}
    for place, folders, files in os.walk(path, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") or name in CARDS:
                file = Path(place, name)
                found[file.relative_to(path).as_posix()] = _digest(file, digest)
    return found


def _unreadable(error: OSError) -> None:
    raise DataError(f"{shown(error.filename)}: can't be read: {error.strerror}") from None


def _digest(path: Path, digest: Digest) -> str:
    try:
        return digest(path)
    except FileNotFoundError:
        raise DataError(f"{shown(path)}: no such file or folder") from None
    except IsADirectoryError:
        raise DataError(f"{shown(path)}: a folder, where a file was expected") from None
    except OSError as error:
        raise DataError(f"{shown(path)}: can't be read: {error.strerror or error}") from None


def _saved_splits(path: Path) -> dict[str, str] | None:
    """Split -> its folder below `path`, where `save_to_disk` wrote `path`; None where it did not."""
    index = path / "dataset_dict.json"
    if not index.is_file():
        return {"train": "."} if (path / "state.json").is_file() else None
    try:
        names = plainfiles.json_of(plainfiles.read(index))["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{shown(index)} is damaged ({type(error).__name__}): save the DatasetDict again") from None
    if not isinstance(names, list) or not all(isinstance(name, str) and PurePath(name).name == name for name in names):
        raise DataError(f"{shown(index)} is damaged: `splits` must list folder names; save the DatasetDict again")
    return {name: name for name in names}
