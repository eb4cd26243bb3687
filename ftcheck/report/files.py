"""Reports as files: written whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ftcheck.errors import UsageError


def write_whole(path: Path, text: str, option: str) -> None:
    """Put `text` at `path`, in folders made where there are none. Raises UsageError, naming `option`, where that can't
    be; what was there is left as it was then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"{option}: {path} can't be written: {error.strerror}") from None
