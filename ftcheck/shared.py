"""What the processes of one pytest session have in common: a folder, and what xdist's workers leave in it for the
process that has the terminal, which collects nothing itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ftcheck.writing import appear

_FOLDER = pytest.StashKey[Path]()
_TELLING = pytest.StashKey[bool]()
_WIRE, _TELLS, _NOTES, _CASES = "ft_shared", "ft_tells", "notes", "cases.json"


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


def leave_cases(config: pytest.Config, cases: Callable[[], Mapping[str, Any]]) -> None:
    """In a worker: leave which cases it will measure, by node id in order; all workers have them alike, and any of them
    may die, so whichever is first leaves them."""
    path = folder(config) / _CASES
    if not path.exists():
        appear(path, json.dumps(cases()))


def cases_of(config: pytest.Config) -> dict[str, Any]:
    """The cases that the workers left, by node id; empty where none has collected any yet."""
    path = folder(config) / _CASES
    cases: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return cases
