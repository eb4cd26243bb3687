"""What a local checkpoint's own Python code is: the stand-in for the commit that a repository of the Hub has."""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3

from ftcheck.errors import CheckpointError, shown
from ftcheck.keys.canonical import canonical
from ftcheck.keys.files import file_digest


def revision(folder: Path) -> str:
    """40 hexadecimal digits that stand for all Python files below `folder`, hidden ones too. Raises CheckpointError."""
    try:
        files = {
            path.relative_to(folder).as_posix(): file_digest(path) for path in folder.rglob("*.py") if path.is_file()
        }
    except OSError as error:
        raise CheckpointError(f"{shown(error.filename or folder, 300)} can't be read: {error.strerror}") from None
    return str(blake3(canonical(files)).hexdigest(length=20))


def check(folder: Path, trusted: str) -> None:
    """Raise CheckpointError where the code in `folder` isn't what the suite trusts."""
    found = revision(folder)
    if found != trusted:
        raise CheckpointError(
            f"checkpoint {shown(folder, 300)}: trust_remote_code names revision {trusted}, but the Python files there "
            f"are {found}: read them, then write that"
        )
