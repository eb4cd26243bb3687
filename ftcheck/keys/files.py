"""Content hashes of local files, remembered by what `stat` says of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from blake3 import blake3

from ftcheck import plainfiles
from ftcheck.errors import IdentityError, shown
from ftcheck.keys.canonical import canonical

RACY_NS: Final = 2_000_000_000
"""A file that changed less than this before it was hashed could change again within the same time stamp, unnoticed
(git's "racy" problem; FAT counts in steps of 2 s), so such a hash is never remembered."""

LARGE: Final = 16 * 1024**2
"""Bytes from which on a file is worth waiting for another process that reads it."""

_CHUNK: Final = 4 * 1024 * 1024
_THREADED: Final = 1024 * 1024


def file_digest(path: Path) -> str:
    """blake3 (hex) of a file's bytes. Raises OSError."""
    with plainfiles.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Starting threads takes longer than hashing a small file, as does making room for a large one.
        hasher = blake3(max_threads=blake3.AUTO if size > _THREADED else 1)
        while chunk := file.read(min(_CHUNK, size + 1)):
            hasher.update(chunk)
    return str(hasher.hexdigest())


class FileHashes:
    """blake3 of local files, each read once while it stays the same.

    A hash is remembered in memory and in `memo_dir` (one small file per hashed file, replaced atomically, so that
    concurrent sessions can't spoil each other's) with the file's size, mtime, ctime, device and inode. A memo that is
    damaged, or says anything else of the file than `stat` does, is ignored; one that can't be written is done without.
    """

    def __init__(self, memo_dir: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._dir = memo_dir
        self._clock = clock
        self._known: dict[str, tuple[list[int], str]] = {}

    def digest(self, path: Path) -> str:
        """blake3 (hex) of the file's content. Raises OSError, or IdentityError where it changes while it is read."""
        place, state = os.path.realpath(path), _state(path)
        known = self._known.get(place) or self._read(place)
        if known is None or known[0] != state:
            with self._alone(place, state[0]):
                known = self._read(place)
                if known is None or known[0] != state:
                    return self._hashed(path, place, state)
        self._known[place] = known
        return known[1]

    def _hashed(self, path: Path, place: str, state: list[int]) -> str:
        """Read the file, and remember its hash where that can be."""
        began, digest = self._clock(), file_digest(path)
        if _state(path) != state:
            raise IdentityError(f"{shown(path)} changed while it was read: wait until it is written, then run again")
        if max(state[1], state[2]) + RACY_NS < began:
            self._write(place, state, digest)
            self._known[place] = (state, digest)
        return digest

    @contextmanager
    def _alone(self, place: str, size: int) -> Iterator[None]:
        """Let one process at a time hash a large file: the others find its memo then. Where no lock can be made, each
        reads the file."""
        with ExitStack() as stack:
            if size >= LARGE:
                from filelock import FileLock

                with suppress(OSError, NotImplementedError):  # a file system without locks
                    self._dir.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(FileLock(self._memo(place).with_suffix(".lock")))
            yield

    def _memo(self, place: str) -> Path:
        return self._dir / f"{blake3(os.fsencode(place)).hexdigest()[:32]}.json"

    def _read(self, place: str) -> tuple[list[int], str] | None:
        try:
            memo = plainfiles.json_of(plainfiles.read(self._memo(place), links=False))
            body = memo["memo"]
            if memo["check"] != _check(body) or body["path"] != place:
                return None
            return list(body["state"]), str(body["blake3"])
        except (OSError, ValueError, KeyError, TypeError, IdentityError):
            # Whatever stands there is no memo: the file is hashed again, and the memo replaced.
            return None

    def _write(self, place: str, state: list[int], digest: str) -> None:
        body = {"path": place, "state": state, "blake3": digest}
        # A memo only saves time: where it can't be kept (read-only or full disk), the next session hashes again.
        with suppress(OSError):
            self._dir.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._dir, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(canonical({"memo": body, "check": _check(body)}))
                Path(temporary).replace(self._memo(place))
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise


def forget_gone(memo_dir: Path, *, dry_run: bool = False) -> int:
    """Delete the memos of files that are gone, and what is no memo. Returns the bytes freed, or with `dry_run` those
    that would be."""
    freed = 0
    for memo in memo_dir.glob("*.json"):
        with suppress(OSError):  # another process forgets too
            size = memo.stat().st_size
            try:
                kept = os.path.exists(plainfiles.json_of(plainfiles.read(memo, links=False))["memo"]["path"])
            except (ValueError, KeyError, TypeError, RecursionError):
                kept = False
            if not kept:
                freed += size
                if not dry_run:
                    memo.unlink()
    return freed


def _state(path: Path) -> list[int]:
    """What `stat` says. ctime is in it because no program can set it back, as `touch -r` and `cp -p` do with mtime."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino]


def _check(body: object) -> str:
    return str(blake3(canonical(body)).hexdigest())
