"""The run store: results of the stages by key, never computed twice, never read damaged."""

from __future__ import annotations

import os
from pathlib import Path

from ftcheck.store.cases import CaseHistory, CaseRun
from ftcheck.store.entry import STAGES, Entry, Stage, StoreCorruptionError
from ftcheck.store.mirrored import MirroredStore
from ftcheck.store.pruning import Listed, Pruned, listed, prune, remove_model
from ftcheck.store.remote import Remote, RemoteError
from ftcheck.store.runs import Publication, Store

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


def default_cache_dir() -> Path:
    """FTCHECK_CACHE_DIR, else the platform's user cache directory."""
    chosen = os.environ.get("FTCHECK_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("ftcheck", appauthor=False)
