"""Reports as files: written whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ftcheck.errors import UsageError
from ftcheck.writing import replace_whole


def write_whole(path: Path, pieces: Iterable[str], option: str) -> None:
    """Put `pieces` at `path`, each as it is made, in folders made where there are none. Raises UsageError, naming
    `option`, where that can't be; what was there is left as it was then."""
    try:
        replace_whole(path, (piece.encode() for piece in pieces))
    except OSError as error:
        raise UsageError(f"{option}: {path} can't be written: {error.strerror}") from None
