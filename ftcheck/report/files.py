"""Reports as files: written whole, or not at all."""

from __future__ import annotations

from pathlib import Path

from ftcheck.errors import UsageError
from ftcheck.writing import replace_whole


def write_whole(path: Path, text: str, option: str) -> None:
    """Put `text` at `path`, in folders made where there are none. Raises UsageError, naming `option`, where that can't
    be; what was there is left as it was then."""
    try:
        replace_whole(path, text.encode())
    except OSError as error:
        raise UsageError(f"{option}: {path} can't be written: {error.strerror}") from None
