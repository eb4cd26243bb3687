"""`ftcheck vendor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ftcheck.cli.calibrate import Device, passed_on
from ftcheck.cli.common import CacheDir, existing
from ftcheck.sizes import in_words


def vendor(
    suites: Annotated[list[Path], typer.Argument(help="Suite files and folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.")],
    wheels: Annotated[bool, typer.Option("--wheels", help="Also the installed libraries, by `pip download`.")] = False,
    device: Device = None,
    cache_dir: CacheDir = None,
) -> None:
    """Put everything that suites need into a folder, for a machine without a network: suites, local files, what comes
    from the Hub at its commit, a lock file with hashes. There: pytest DIR/tree/SUITES --ft-vendor=DIR."""
    from ftcheck import vendoring
    from ftcheck.validate import with_cases

    places, target = [place.resolve() for place in existing(suites)], out.resolve()
    done = with_cases(
        [str(place) for place in places],
        passed_on(device, cache_dir),
        lambda session, cases: vendoring.vendor(session, cases, places, target, wheels=wheels),
    )
    print(f"{done.cases:,} cases, {done.files:,} files, {in_words(done.size)} in {target}; all keys are the same there")
    for note in done.notes:
        print(f"ftcheck: {note}", file=sys.stderr)
