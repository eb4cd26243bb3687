"""Files on their way through Ray's object store: plain bytes in pieces, compared with size and hash where they arrive.

Nothing that comes out is unpickled here: Ray hands bytes over as they are.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from blake3 import blake3

from ftcheck.errors import DataError, StoreError, shown
from ftcheck.keys.files import FileHashes
from ftcheck.spec import Case
from ftcheck.store import Entry, Stage, Store
from ftcheck.store.entry import MANIFEST, DamageError, checked_manifest

T = TypeVar("T")

PIECE: Final = 8 * 1024**2
"""Bytes. The object store of a small node holds several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A file."""

    size: int
    blake3: str
    pieces: tuple[Any, ...]
    """References to bytes in Ray's object store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryParcel:
    """An entry of the run store."""

    stage: Stage
    digest: str
    manifest: bytes
    files: Mapping[str, Parcel]


def packed(path: Path) -> Parcel:
    """A file, put into the object store. Raises OSError."""
    import ray

    hasher, size, pieces = blake3(), 0, []
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            hasher.update(piece)
            size += len(piece)
            pieces.append(ray.put(piece))
    return Parcel(size=size, blake3=str(hasher.hexdigest()), pieces=tuple(pieces))


def unpack(parcel: Parcel, target: Path) -> None:
    """Write the file, and never one byte more than its size. Raises DamageError where it isn't what was packed, and
    StoreError where the disk is too small."""
    import ray

    if parcel.size > shutil.disk_usage(target.parent).free:
        raise StoreError(f"{parcel.size:,} bytes don't fit on the disk of {shown(target.parent, 300)}")
    hasher, left = blake3(), parcel.size
    with target.open("xb") as file:
        for reference in parcel.pieces:
            piece = ray.get(reference)
            if not isinstance(piece, bytes) or len(piece) > left:
                raise DamageError(f"{shown(target.name)} is larger than was said")
            left -= len(piece)
            hasher.update(piece)
            file.write(piece)
    if left or hasher.hexdigest() != parcel.blake3:
        raise DamageError(f"{shown(target.name)} fails its checksum")


def packed_entry(entry: Entry) -> EntryParcel:
    """An entry, verified, with all of its files. Raises StoreError where it is damaged or gone."""
    folder = entry.verify()
    return EntryParcel(
        stage=entry.manifest["stage"],
        digest=entry.manifest["key"],
        manifest=(folder / MANIFEST).read_bytes(),
        files={name: packed(folder / name) for name in entry.manifest["files"]},
    )


def take(parcel: EntryParcel, store: Store) -> None:
    """Make it an entry of `store`. Raises DamageError, StoreError."""

    def fill(folder: Path) -> None:
        files = checked_manifest(parcel.manifest, parcel.stage, parcel.digest)["files"]
        for name, record in files.items():
            file = parcel.files.get(name)
            if file is None or (file.size, file.blake3) != (record["size"], record["blake3"]):
                raise DamageError(f"{shown(name)} isn't what the manifest says")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            unpack(file, folder / name)
        (folder / MANIFEST).write_bytes(parcel.manifest)

    store.take(parcel.stage, parcel.digest, fill)


def laid_out(files: Mapping[str, Parcel], cache: Path) -> Path:
    """The folder below which each of `files` (absolute path elsewhere -> file) lies at that path. A file that was
    brought before is linked. Raises DataError."""
    contents = cache / "files"
    named = blake3(repr(sorted((path, file.blake3) for path, file in files.items())).encode()).hexdigest()
    tree = cache / "trees" / str(named)
    hashes = FileHashes(cache / "memo")
    try:
        contents.mkdir(parents=True, exist_ok=True)
        for path, file in files.items():
            content = contents / file.blake3
            if not content.is_file() or hashes.digest(content) != file.blake3:
                scratch = contents / f"{secrets.token_hex(8)}.new"
                try:
                    unpack(file, scratch)
                    scratch.replace(content)
                finally:
                    scratch.unlink(missing_ok=True)
            target = tree / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            link = target.with_name(f"{secrets.token_hex(8)}.new")
            os.link(content, link)
            link.replace(target)  # nothing happens where both are the same file
            link.unlink(missing_ok=True)
    except (OSError, DamageError) as error:
        raise DataError(f"the files of the case could not be laid out in {shown(cache, 300)}: {error}") from None
    return tree


def moved(case: Case, places: Mapping[str, str]) -> Case:
    """The case with other paths: what it names by one of `places` it names by what that stands for."""
    return replace(
        case,
        checkpoint=replace(
            case.checkpoint,
            path=places.get(case.checkpoint.path, case.checkpoint.path),
            tokenizer=_moved(case.checkpoint.tokenizer, places),
        ),
        data=replace(
            case.data, path=places.get(case.data.path, case.data.path), files=_moved(dict(case.data.files), places)
        ),
        techniques=_moved(dict(case.techniques), places),
    )


def _moved(value: T, places: Mapping[str, str]) -> T:
    found: Any = value
    if isinstance(value, str):
        found = places.get(value, value)
    elif isinstance(value, Mapping):
        found = {name: _moved(each, places) for name, each in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(_moved(each, places) for each in value)
    return found  # type: ignore[no-any-return]
