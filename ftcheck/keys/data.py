"""What a case's data is, apart for training and for evaluation."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from blake3 import blake3

from ftcheck.errors import DataError, FtcheckError, IdentityError, shown
from ftcheck.keys.canonical import canonical
from ftcheck.keys.roles import expression, splits_read
from ftcheck.results import Json
from ftcheck.spec import Data

Digest = Callable[[Path], str]
"""A local file's content hash."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Where rows come from, fingerprinted: what all splits share, and each split by itself where splits are apart."""

    source: Mapping[str, Json]
    splits: Mapping[str, Json] | None = None


def data_identity(data: Data, roles: Collection[str], rows: Rows) -> dict[str, Json]:
    """What the rows of `roles` depend on, as components. Says nothing of what other roles alone read.

    A part that is carved out of train (`holdout`) ties the two sides together, so every holdout is in both.
    """
    held = {role: part for role, part in data.holdout.items() if part}
    roles = {*roles, "train"} if any(role in held for role in roles) else set(roles)
    available = rows.splits
    found: dict[str, Json] = {
        **rows.source,
        "options": dict(data.options),
        "columns": {name: column for name, column in data.columns.items() if name != column},
        "splits": {role: expression(data, role, available) for role in sorted(roles) if role not in held},
        "limit": {role: data.limit[role] for role in sorted(roles) if role in data.limit},
    }
    if "train" in roles:
        found["holdout"] = held
    if available is not None:
        found["rows"] = {name: available[name] for name in splits_read(data, roles, available)}
    return found


def local_rows(data: Data, digest: Digest) -> Rows:
    """The rows of `data` of kind `reader` or `local`. Raises DataError for a file that can't be read."""
    if data.kind == "reader":
        splits = {split: [_file(Path(path), digest) for path in paths] for split, paths in data.files.items()}
        return Rows({"reader": data.path}, splits)
    path = Path(data.path)
    if not path.is_dir():
        return Rows({"reader": "by suffix", "file": _file(path, digest)})
    names = _saved_splits(path)
    if names is not None:
        return Rows({"reader": "saved DatasetDict"}, {name: _folder(path / name, digest) for name in names})
    return Rows({"reader": "folder", "files": _folder(path, digest)})


def called_rows(data: Data) -> Rows:
    """The rows that a callable returns, split by split. Raises DataError where it fails or returns something else."""
    if data.factory is None:
        raise IdentityError(f"the data {shown(data.path)} has no function to call: it was lost between processes")
    try:
        returned = data.factory()
    except FtcheckError:
        raise
    except Exception as error:
        raise DataError(
            f"the data function {shown(data.path)} failed: {type(error).__name__}: {shown(error)}"
        ) from error
    if not isinstance(returned, Mapping) or not all(isinstance(name, str) for name in returned):
        raise DataError(
            f"the data function {shown(data.path)} returned a {type(returned).__qualname__}; "
            "expected a DatasetDict (split name -> Dataset)"
        )
    return Rows({"reader": "callable"}, {name: row_identity(rows, name) for name, rows in returned.items()})


def row_identity(dataset: Any, split: str) -> dict[str, Json]:
    """How many rows a Dataset has, and the blake3 of its features and rows in order. Raises IdentityError, DataError."""
    features = getattr(dataset, "features", None)
    hasher = blake3(canonical(features.to_dict() if features is not None else None, f"{split}'s features"))
    count = 0
    try:
        for row in dataset:
            # A length before each row keeps rows apart whatever they hold.
            line = canonical(row, f"{split}[{count}]")
            hasher.update(len(line).to_bytes(8, "big") + line)
            count += 1
    except TypeError as error:
        raise DataError(f"the split {shown(split)} is no Dataset: {shown(error)}") from None
    return {"rows": count, "blake3": hasher.hexdigest()}


def _file(path: Path, digest: Digest) -> dict[str, Json]:
    """One file by its content, and by the suffixes from which a reader or a compression may follow; not by its place."""
    return {"blake3": _digest(path, digest), "suffix": "".join(PurePath(path).suffixes[-2:]).lower()}


def _folder(path: Path, digest: Digest) -> dict[str, Json]:
    """Every file below `path`: its name relative to it -> its hash."""
    if not path.is_dir():
        raise DataError(f"{shown(path)}: no such folder, though its dataset_dict.json names it")
    found = {}
    for place, folders, files in os.walk(path, onerror=_unreadable):
        # Dot files and readers' lock files are no data; a folder that is only looked into must keep its identity.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and not name.endswith(".lock"):
                file = Path(place, name)
                found[file.relative_to(path).as_posix()] = _digest(file, digest)
    return found


def _unreadable(error: OSError) -> None:
    raise DataError(f"{shown(error.filename)}: can't be read: {error.strerror}") from None


def _digest(path: Path, digest: Digest) -> str:
    try:
        return digest(path)
    except FileNotFoundError:
        raise DataError(f"{shown(path)}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{shown(path)}: a folder, where a file was expected") from None
    except OSError as error:
        raise DataError(f"{shown(path)}: can't be read: {error.strerror or error}") from None


def _saved_splits(path: Path) -> list[str] | None:
    """The splits of a folder that `DatasetDict.save_to_disk` wrote; None where it is no such folder."""
    index = path / "dataset_dict.json"
    if not index.is_file():
        return None
    try:
        names = json.loads(index.read_bytes())["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{shown(index)} is damaged ({type(error).__name__}): save the DatasetDict again") from None
    if not isinstance(names, list) or not all(isinstance(name, str) and PurePath(name).name == name for name in names):
        raise DataError(
            f"{shown(index)} is damaged: `splits` must be a list of folder names; save the DatasetDict again"
        )
    return names
