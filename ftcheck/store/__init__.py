"""The run store: results of the stages by key, never computed twice, never read damaged."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import UsageError
from ftcheck.store.cases import CaseHistory, CaseRun
from ftcheck.store.entry import STAGES, Entry, Stage, StoreCorruptionError
from ftcheck.store.runs import Publication, Store

if TYPE_CHECKING:
    from ftcheck.store.mirrored import MirroredStore
    from ftcheck.store.pruning import Listed, Pruned, listed, prune, remove_model
    from ftcheck.store.remote import Remote, RemoteError

__all__ = [
    "STAGES",
    "CaseHistory",
    "CaseRun",
    "Entry",
    "Listed",
    "MirroredStore",
    "Pruned",
    "Publication",
    "Remote",
    "RemoteError",
    "Stage",
    "Store",
    "StoreCorruptionError",
    "default_cache_dir",
    "listed",
    "prune",
    "remove_model",
]

_SELDOM = {
    "mirrored": ("MirroredStore",),
    "pruning": ("Listed", "Pruned", "listed", "prune", "remove_model"),
    "remote": ("Remote", "RemoteError"),
}
"""What is imported when it is asked for: most sessions only look things up."""


def __getattr__(name: str) -> Any:
    for module, names in _SELDOM.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def default_cache_dir() -> Path:
    """FTCHECK_CACHE_DIR, else the platform's user cache directory. Raises UsageError where that is below the home of a
    user that has none."""
    chosen = os.environ.get("FTCHECK_CACHE_DIR")
    try:
        found = Path(chosen).expanduser() if chosen else _of_platform()
    except RuntimeError:
        found = Path("~")
    if str(found).startswith("~"):  # what older versions of platformdirs give
        raise UsageError(
            "there is no place for the run store: this user's home folder isn't known (HOME isn't set, and the system "
            "has none); give --ft-cache-dir, or set FTCHECK_CACHE_DIR or HOME"
        )
    return found.absolute()


def _of_platform() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("ftcheck", appauthor=False)
