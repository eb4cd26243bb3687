"""One entry of the run store: a folder whose manifest vouches for every file in it."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal, NoReturn, get_args

from blake3 import blake3

from ftcheck import plainfiles
from ftcheck.errors import FtcheckError, IdentityError, StoreError, shown
from ftcheck.keys.canonical import Key, digest_of
from ftcheck.keys.files import file_digest
from ftcheck.results import Json

Stage = Literal["searches", "answers", "runs", "predictions", "scores"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
MANIFEST_LIMIT: Final = 64 * 1024**2
"""Bytes that a manifest may have: it is read before anything vouches for its size."""
LARGE: Final = "model/"
"""Files below this folder are hashed when they are asked for, all others whenever their entry is opened."""

DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NEVER: Final = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".pyc", ".so")
"""What no entry has: pickles and code. An entry from elsewhere that has some isn't taken."""


class StoreCorruptionError(StoreError):
    """An entry isn't what was published. It has been set aside already: do the stage again."""


class DamageError(FtcheckError):
    """What is wrong with an entry, before it is decided what to do about it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A published result. Its manifest and its small files were verified when it was opened.

    Content is had through `content`, `read`, `file` and `verify` only. Each verifies what it hands out once more, so a
    number can't come from a damaged file; where an entry isn't what was published it is set aside and they raise
    StoreCorruptionError. A file that the entry never had is a StoreError.
    """

    path: Path
    manifest: Mapping[str, Json]
    _damaged: Callable[[Entry, DamageError], NoReturn]

    @property
    def content(self) -> Mapping[str, Json]:
        """What the stage wrote besides files."""
        content: Mapping[str, Json] = self.manifest["content"]
        return content

    @property
    def components(self) -> Mapping[str, Json]:
        """The components of the entry's key."""
        components: Mapping[str, Json] = self.manifest["components"]
        return components

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record["size"] for record in self.manifest["files"].values())

    @property
    def model_size(self) -> int:
        """Bytes of the model; 0 where it was taken out, or never was."""
        return sum(record["size"] for name, record in self.manifest["files"].items() if name.startswith(LARGE))

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        self._record(name)
        try:
            with reading(self.path):
                return read_verified(self.path, name, self.manifest)
        except DamageError as damage:
            self._damaged(self, damage)

    def file(self, name: str) -> Path:
        """Where a file is."""
        self._record(name)
        self.verify(name)
        return self.path / name

    def verify(self, prefix: str = "") -> Path:
        """Hash the files whose names begin with `prefix` (`model/`; default: all). Returns the entry's folder."""
        try:
            with reading(self.path):
                check_files(self.path, self.manifest, hashed=lambda name: name.startswith(prefix))
        except DamageError as damage:
            self._damaged(self, damage)
        return self.path

    def _record(self, name: str) -> None:
        if name not in self.manifest["files"]:
            raise StoreError(f"the entry {self.path} has no {shown(name)} (it has {', '.join(self.manifest['files'])})")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of reading an entry: a missing part is damage (DamageError); what can't be read at all is a StoreError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamageError(f"{shown(Path(error.filename or path).name)} is missing") from None
    except OSError as error:
        raise StoreError(
            f"the run store can't be read: {error.filename or path}: {error.strerror or error}; "
            "mend its permissions or choose another place with --ft-cache-dir"
        ) from None


def seal(folder: Path, stage: Stage, key: Key, content: Mapping[str, object], created: str) -> None:
    """Flush what is in `folder` to disk and write its manifest, last. Raises OSError, StoreError."""
    names = sorted(tree(folder))
    manifest = {
        "format": FORMAT,
        "stage": stage,
        "key": key.digest,
        "components": dict(key.components),
        "created": created,
        "files": {name: _flushed(folder / name) for name in names},
        "content": dict(content),
    }
    write_manifest(folder, manifest, folder / f"{MANIFEST}.new")
    for below in {folder, *(folder / parent for name in names for parent in PurePosixPath(name).parents)}:
        flush_folder(below)


def write_manifest(folder: Path, manifest: Mapping[str, object], scratch: Path) -> None:
    """Write a manifest with its own checksum, by way of `scratch`; flushed, and replacing an older one in one step.

    Raises OSError, and StoreError for what JSON can't hold.
    """
    try:
        # Content may hold NaN (a loss that was logged): Python reads it back, and losing a training over it is worse.
        body = json.loads(json.dumps({name: value for name, value in manifest.items() if name != "checksum"}))
    except (TypeError, ValueError) as error:
        raise StoreError(f"what a stage left can't be written as JSON: {error}") from None
    text = json.dumps({**body, "checksum": _checksum(body)}, indent=1, sort_keys=True)
    with scratch.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(folder / MANIFEST)


def open_manifest(folder: Path, stage: Stage, digest: str) -> dict[str, Json]:
    """The manifest of the entry in `folder`, which must be the one of `digest`. Raises DamageError, OSError."""
    return checked_manifest(_content(folder / MANIFEST, MANIFEST_LIMIT), stage, digest)


def checked_manifest(text: bytes, stage: Stage, digest: str) -> dict[str, Json]:
    """What a manifest says, which must be the one of `digest`. Raises DamageError."""
    manifest = _parsed(text)
    if manifest["checksum"] != _checksum({name: value for name, value in manifest.items() if name != "checksum"}):
        raise DamageError(f"{MANIFEST} fails its checksum")
    try:
        components = digest_of(manifest["components"])
    except IdentityError as error:
        raise DamageError(f"{MANIFEST}: {error}") from None
    if not manifest["stage"] == stage or not manifest["key"] == components == digest:
        raise DamageError(
            f"{MANIFEST} belongs to another key ({shown(manifest['stage'])} {shown(manifest['key'], 12)})"
        )
    for name, record in manifest["files"].items():
        _check_record(name, record)
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Json], hashed: Callable[[str], bool]) -> None:
    """Compare a folder with its manifest: which files, how large; those that `hashed` picks, byte by byte.

    What is being pruned may still lie there. Raises DamageError, OSError.
    """
    files, pruned = manifest["files"], tuple(manifest.get("pruned", ()))
    found = {name for name in tree(folder) if name != MANIFEST and not name.startswith(pruned)}
    for name in sorted(found - set(files)):
        raise DamageError(f"{shown(name)} isn't one of its files")
    for name, record in sorted(files.items()):
        if name not in found:
            raise DamageError(f"{shown(name)} is missing")
        size = (folder / name).stat().st_size
        if size != record["size"]:
            raise DamageError(f"{shown(name)} has {size:,} bytes instead of {record['size']:,}")
        if hashed(name) and file_digest(folder / name) != record["blake3"]:
            raise DamageError(f"{shown(name)} fails its checksum")


def refuse_code(files: Iterable[str]) -> None:
    """Raise DamageError where an entry from elsewhere names a pickle or code."""
    for name in files:
        if name.lower().endswith(_NEVER):
            raise DamageError(f"{shown(name)} is a pickle or code, which no entry has")


def read_verified(folder: Path, name: str, manifest: Mapping[str, Json]) -> bytes:
    """The bytes of one file, which are exactly those that were published. Raises DamageError, OSError."""
    content = _content(folder / name)
    if blake3(content).hexdigest() != manifest["files"][name]["blake3"]:
        raise DamageError(f"{shown(name)} fails its checksum")
    return content


def tree(folder: Path, below: str = "") -> Iterator[str]:
    """Names of all files under `folder`, relative to it (POSIX). Raises DamageError for links, devices and the like."""
    with os.scandir(folder / below) as found:
        for item in found:
            name = f"{below}{item.name}"
            if item.is_dir(follow_symlinks=False):
                yield from tree(folder, f"{name}/")
            elif item.is_file(follow_symlinks=False):
                yield name
            else:
                raise DamageError(f"{shown(name)} is no plain file")


def flush_folder(folder: Path) -> None:
    """Make a folder's names durable, where the platform can."""
    if os.name == "nt":  # Windows can't open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flushed(path: Path) -> dict[str, Json]:
    with path.open("r+b" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())
    return {"size": path.stat().st_size, "blake3": file_digest(path)}


def _content(path: Path, limit: int | None = None) -> bytes:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise DamageError(f"{shown(path.name)} is no plain file")
    if limit is not None and found.st_size > limit:
        raise DamageError(f"{shown(path.name)} is too large")
    return plainfiles.read(path, limit=found.st_size, links=False)


def _parsed(text: bytes) -> dict[str, Json]:
    try:
        manifest = plainfiles.json_of(text)
    except ValueError:
        raise DamageError(f"{MANIFEST} is no JSON") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DamageError(f"{MANIFEST} is not of format {FORMAT}")
    types = {
        "stage": str,
        "key": str,
        "components": dict,
        "created": str,
        "files": dict,
        "content": dict,
        "checksum": str,
    }
    for name, type_ in types.items():
        if not isinstance(manifest.get(name), type_):
            raise DamageError(f"{MANIFEST}: {name} is missing or of the wrong type")
    pruned = manifest.get("pruned", [])
    if not isinstance(pruned, list) or not set(map(str, pruned)) <= {LARGE}:
        raise DamageError(f"{MANIFEST}: pruned is of the wrong type")
    return manifest


def _check_record(name: str, record: object) -> None:
    parts = name.split("/")
    if name == MANIFEST or set(name) & set("\\:\0") or any(part in ("", ".", "..") for part in parts):
        raise DamageError(f"{MANIFEST} names a file {shown(name)}, which can't be in it")
    size, digest = (record.get("size"), record.get("blake3")) if isinstance(record, dict) else (None, None)
    if type(size) is not int or size < 0 or not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise DamageError(f"{MANIFEST}: {shown(name)} has no size and checksum")


def _checksum(body: Mapping[str, object]) -> str:
    return str(blake3(json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest())
