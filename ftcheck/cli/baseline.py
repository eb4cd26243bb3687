"""`ftcheck baseline`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ftcheck.cli.common import PROBLEM, CacheDir, existing, open_store
from ftcheck.errors import UsageError

app = typer.Typer(help="Committed baselines: what changed, accept results, remove unused ones.", no_args_is_help=True)

Paths = Annotated[list[Path] | None, typer.Argument(help="Folders or files (default: the current folder).")]


@app.command()
def diff(
    paths: Paths = None,
    against: Annotated[str, typer.Option(metavar="REF", help="A commit, branch or tag.")] = "HEAD",
) -> None:
    """Show how the working tree's baselines differ from the committed ones: each metric's old and new value, who
    accepted it and why."""
    from ftcheck import accepting

    here = Path.cwd()
    found = accepting.changed(existing(paths), against, here)
    for change in found:
        print("\n".join(change.lines(here)))
    if not found:
        print(f"no baseline differs from {against}")


@app.command()
def accept(
    results: Annotated[Path, typer.Argument(help="A results file (--ft-json).")],
    reason: Annotated[str, typer.Option(help="Why a baseline may be loosened; kept in its file.")] = "",
    allow_ci: Annotated[bool, typer.Option("--allow-ci", help="Also where CI is set.")] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Make the results in a file the baselines of their cases, as --ft-update does, without running them again. Exit
    code 1 where one was not written."""
    from ftcheck import accepting, updating
    from ftcheck.report import jsonfile

    if updating.in_ci() and not allow_ci:
        raise UsageError(
            "baseline accept writes baselines, which somebody must review, and CI is set: accept them on a machine of "
            "yours and commit them, or give --allow-ci"
        )
    store = open_store(cache_dir)
    done = accepting.accept(jsonfile.read(results), store, reason=reason, here=Path.cwd())
    for result in done:
        print(f"{result.nodeid}: {result.update}")
    for warning in store.warnings:
        print(f"ftcheck: {warning}", file=sys.stderr)
    if any(result.update.startswith("not written") for result in done):
        raise typer.Exit(PROBLEM)


@app.command()
def prune(
    paths: Paths = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
) -> None:
    """Remove baselines that no case has: of cases that were renamed or deleted."""
    from ftcheck import accepting, baselines
    from ftcheck.report import numbers
    from ftcheck.validate import gather

    if any("::" in str(path) for path in paths or ()):
        raise UsageError("prune looks at whole suite files: leave the node id out")
    here, places = Path.cwd(), existing(paths)
    gathered = gather([str(path) for path in paths or ()])
    for error in gathered.errors:
        print(error, file=sys.stderr)
    if gathered.errors:
        raise UsageError("suites that can't be collected may have any baseline: mend them first")
    found = accepting.unused(gathered.collected, places, here)
    for path in found:
        print(os.path.relpath(path, here))
        if yes:
            baselines.remove(path)
    done = "removed" if yes else "unused; --yes removes them" if found else "unused"
    print(f"{numbers.count(len(found), 'baseline')} {done}")
