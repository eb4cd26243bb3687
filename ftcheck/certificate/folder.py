"""A model's folder: which files it has, and their SHA-256. Links are never followed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ftcheck.errors import UsageError, shown

_CHUNK = 4 * 1024 * 1024
_SHOWN = 10
"""Files that are named where there are more."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies below a folder, by name relative to it (POSIX)."""

    files: Mapping[str, os.stat_result]
    others: tuple[str, ...]
    """Links, devices and the like."""


def listed(folder: Path) -> Found:
    """Every file below `folder`. Raises UsageError where it is no folder that can be read."""
    files: dict[str, os.stat_result] = {}
    others: list[str] = []

    def walk(below: str) -> None:
        with os.scandir(folder / below) as found:
            for item in found:
                name = f"{below}{item.name}"
                if item.is_dir(follow_symlinks=False):
                    walk(f"{name}/")
                elif item.is_file(follow_symlinks=False):
                    files[name] = item.stat(follow_symlinks=False)
                else:
                    others.append(name)

    try:
        walk("")
    except OSError as error:
        raise UsageError(f"{shown(error.filename or folder)} can't be read: {error.strerror or error}") from None
    return Found(files=files, others=tuple(sorted(others)))


def sha256(path: Path, *, also: Callable[[bytes], object] = lambda chunk: None, links: bool = False) -> str:
    """SHA-256 (hex) of a plain file; `also` is handed its bytes as they are read. Raises OSError; also for a link,
    unless those may be followed (`links`)."""
    hasher = hashlib.sha256()
    follow = 0 if links else getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, os.O_RDONLY | follow | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "no plain file", str(path))
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            also(chunk)
    return hasher.hexdigest()


def differences(
    folder: Path, expected: Mapping[str, str], *, allow: tuple[str, ...] = (), beside: Path | None = None
) -> Iterator[str]:
    """What differs between `folder` and `expected` (name -> SHA-256), a line each; nothing where they are the same.

    `allow` are patterns of names that may be there besides, `beside` a file that may (the certificate itself). Only
    what a listing of the folder found is opened, never a name out of `expected`.
    """
    found = listed(folder)
    own = _identity(beside)
    extra = [
        name
        for name, state in found.files.items()
        if name not in expected
        and (state.st_dev, state.st_ino) != own
        and not any(fnmatchcase(name, pattern) for pattern in allow)
    ]
    yield from _named("is missing", [name for name in expected if name not in found.files and name not in found.others])
    yield from _named("is a link or no plain file", found.others)
    yield from _named(
        "differs", [name for name in expected if name in found.files and not _same(folder, name, expected)]
    )
    yield from _named("is not one of the certified files", extra)


def _same(folder: Path, name: str, expected: Mapping[str, str]) -> bool:
    try:
        return sha256(folder / name) == expected[name]
    except OSError as error:
        raise UsageError(f"{shown(folder / name)} can't be read: {error.strerror or error}") from None


def _named(what: str, names: list[str] | tuple[str, ...]) -> Iterator[str]:
    yield from (f"{shown(name)} {what}" for name in sorted(names)[:_SHOWN])
    if len(names) > _SHOWN:
        yield f"{len(names) - _SHOWN:,} more: {what}"


def _identity(path: Path | None) -> tuple[int, int] | None:
    """(device, inode) of a file that isn't reached through a link."""
    if path is None:
        return None
    state = path.lstat()
    return state.st_dev, state.st_ino
