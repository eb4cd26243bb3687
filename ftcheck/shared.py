"""What the processes of one pytest session have in common: a folder, and notes that one of xdist's workers leaves in it
for the process that has the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

_FOLDER = pytest.StashKey[Path]()
_TELLING = pytest.StashKey[bool]()
_WIRE, _TELLS, _NOTES = "ft_shared", "ft_tells", "notes"


def folder(config: pytest.Config) -> Path:
    """The folder, made when first asked for, and gone with the session."""
    if hasattr(config, "workerinput"):
        return Path(config.workerinput[_WIRE])
    if _FOLDER not in config.stash:
        temporary = TemporaryDirectory(prefix="ftcheck-")
        config.add_cleanup(temporary.cleanup)
        config.stash[_FOLDER] = Path(temporary.name)
    return config.stash[_FOLDER]


def share(config: pytest.Config, workerinput: dict[str, Any]) -> None:
    """Tell a worker where the folder is, and the first of them that it leaves the notes."""
    workerinput[_TELLS] = not config.stash.get(_TELLING, False)
    config.stash[_TELLING] = True
    workerinput[_WIRE] = str(folder(config))


def leave_notes(config: pytest.Config, notes: Callable[[], list[str]]) -> None:
    """In a worker: leave what is to be told of the collected items, which all workers have alike."""
    if config.workerinput[_TELLS]:  # type: ignore[attr-defined]
        (folder(config) / _NOTES).write_text("\n".join(notes()), encoding="utf-8")


def notes_of(config: pytest.Config, workerinput: dict[str, Any]) -> list[str]:
    """What a worker left that has collected; empty but for the one that tells."""
    path = folder(config) / _NOTES
    return path.read_text(encoding="utf-8").splitlines() if workerinput[_TELLS] and path.is_file() else []
