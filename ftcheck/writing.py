"""Files that others read or commit: written whole, or not at all, whatever ends the process."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

STALE: Final = 3600.0
"""Seconds after which a scratch file is nobody's any more: its process was killed."""


def replace_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Put `content`, or its pieces as they are made, at `path` in one step, in folders made where there are none.
    Raises OSError, and what was there is left as it was then. What a process that was killed left of its own attempt is
    deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            if time.time() - other.lstat().st_mtime > STALE:
                other.unlink()


def appear(path: Path, text: str) -> None:
    """Let `text` stand at `path` in one step, so that no other process ever reads a part of it. For files that last as
    long as a session: nothing is flushed to the disk. Raises OSError."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def following(place: Path) -> Path:
    """Where a file's next content lies until another file, which names its digest, says that it counts."""
    return place.with_name(f".{place.name}.next")


def follow(place: Path) -> None:
    """Put it there. Where that can't be, whoever reads the file next finds it, and tries again."""
    with suppress(OSError):
        os.replace(following(place), place)
