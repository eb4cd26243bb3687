"""`ftcheck cache push` and `pull`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftcheck.cli.calibrate import Device, passed_on
from ftcheck.cli.common import PROBLEM, CacheDir, open_store
from ftcheck.sizes import in_words

if TYPE_CHECKING:
    from ftcheck.sharing import Moved, Names
    from ftcheck.store import Store

PATIENCE = 300.0
"""Seconds that a remote may cost who asked for nothing else."""

Url = Annotated[str, typer.Argument(help="s3://BUCKET/FOLDER, gs://…, sftp://HOST/FOLDER, file:///FOLDER.")]
Cases = Annotated[
    list[str] | None, typer.Argument(help="Suite files, folders or node ids (default: all of the store).")
]


def push(url: Url, cases: Cases = None, device: Device = None, cache_dir: CacheDir = None) -> None:
    """Publish results in a store that other machines share (see --ft-remote). What is there already stays."""
    from ftcheck import sharing
    from ftcheck.store import Remote

    store, remote = open_store(cache_dir), Remote(url, patience=PATIENCE)
    names = _names(cases, device, cache_dir)
    with _showing("pushing") as on_moved:
        moved = sharing.push(store, remote, names, on_moved)
    _say(moved, f"pushed to {remote.shown}", store)


def pull(
    url: Url,
    cases: Cases = None,
    models: Annotated[bool, typer.Option("--models/--no-models", help="Without models, verdicts can be had.")] = True,
    device: Device = None,
    cache_dir: CacheDir = None,
) -> None:
    """Bring results from a store that other machines share, verified. Exit code 1 where one couldn't be had."""
    from ftcheck import sharing
    from ftcheck.store import MirroredStore, Remote

    names = _names(cases, device, cache_dir)
    store = MirroredStore(open_store(cache_dir).root, Remote(url, patience=PATIENCE), readonly=True)
    store.check_writable()
    with _showing("pulling") as on_moved:
        moved = sharing.pull(store, names, on_moved, models=models)
    _say(moved, f"pulled from {store.remote.shown}", store)


def _names(cases: list[str] | None, device: str | None, cache_dir: Path | None) -> Names | None:
    if not cases:
        return None
    from ftcheck import sharing
    from ftcheck.validate import with_cases

    return with_cases(
        cases, passed_on(device, cache_dir), lambda session, found: sharing.names_of(session.pipeline, found)
    )


def _say(moved: Moved, done: str, store: Store) -> None:
    print(f"{moved.entries:,} entries {done}, {in_words(moved.size)}; {moved.there:,} were there")
    for warning in store.warnings:
        print(f"ftcheck: {warning}", file=sys.stderr)
    if store.warnings:
        raise typer.Exit(PROBLEM)


@contextmanager
def _showing(doing: str) -> Iterator[Callable[[int], None]]:
    """How much was moved, in a transient row on stderr, where that is a terminal."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda moved: None
        return
    with console.status(doing) as status:
        yield lambda moved: status.update(f"{doing}: {in_words(moved)}")
