"""What several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ftcheck.errors import UsageError

if TYPE_CHECKING:
    from ftcheck.store import Store

PROBLEM: Final = 1
USAGE: Final = 4

CacheDir = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Where the run store is (default: FTCHECK_CACHE_DIR, else the user's cache)."),
]


AllowRemoteCode = Annotated[
    bool, typer.Option("--allow-remote-code", help="Run code that the suite pins, as --ft-allow-remote-code does.")
]


def open_store(cache_dir: Path | None) -> Store:
    """The run store."""
    from ftcheck.store import Store, default_cache_dir

    return Store(cache_dir.absolute() if cache_dir else default_cache_dir())


def existing(paths: list[Path] | None) -> list[Path]:
    """Absolute paths; none: the current folder. Raises UsageError for one that isn't there."""
    places = [path.absolute() for path in paths or [Path.cwd()]]
    for place in places:
        if not place.exists():
            raise UsageError(f"{place} does not exist")
    return places
