"""`ftcheck calibrate` and `ftcheck bisect`: commands that measure one case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftcheck.cli.common import AllowRemoteCode, CacheDir

if TYPE_CHECKING:
    from ftcheck.session import FtSession
    from ftcheck.spec import Case


CaseNode = Annotated[str, typer.Argument(help="The case's node id: suites/intents.ft.yaml::banking77.", metavar="CASE")]
Device = Annotated[str | None, typer.Option("--device", help="Where to train, as --ft-device says it.")]


def calibrate(
    case: CaseNode,
    seeds: Annotated[int, typer.Option("--seeds", min=2, help="How many runs to make, of new seeds.")] = 5,
    device: Device = None,
    cache_dir: CacheDir = None,
    *,
    allow_remote_code: AllowRemoteCode = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report only: write no baseline.")] = False,
) -> None:
    """Learn how much seeds alone move a case's metrics, propose margins, and keep the estimate in its baseline."""
    from ftcheck import calibrating
    from ftcheck.report.aside import Aside
    from ftcheck.validate import with_case

    def work(session: FtSession, found: Case) -> calibrating.Calibration:
        with Aside(found.id).showing() as aside:
            return calibrating.calibrate(
                session.pipeline, found, seeds, dry_run=dry_run, on_progress=aside.progress, on_wait=aside.waiting
            )

    options = passed_on(device, cache_dir, allow_remote_code=allow_remote_code)
    for line in calibrating.report(with_case(case, options, work), case):
        print(line)


def bisect(
    case: CaseNode,
    metric: Annotated[str | None, typer.Option("--metric", help="Default: the first with a margin.")] = None,
    device: Device = None,
    cache_dir: CacheDir = None,
    allow_remote_code: AllowRemoteCode = False,
) -> None:
    """Say which of the changes since a case's baseline moved it, by putting them back one at a time."""
    from ftcheck import bisecting
    from ftcheck.report.aside import Aside
    from ftcheck.validate import with_case

    def work(session: FtSession, found: Case) -> bisecting.Bisection:
        with Aside(found.id).showing() as aside:
            return bisecting.bisect(
                session.pipeline,
                found,
                metric=metric,
                on_variant=aside.of,
                on_progress=aside.progress,
                on_wait=aside.waiting,
            )

    options = passed_on(device, cache_dir, allow_remote_code=allow_remote_code)
    for line in bisecting.report(with_case(case, options, work), case):
        print(line)


def passed_on(device: str | None, cache_dir: Path | None, *, allow_remote_code: bool = False) -> list[str]:
    """The options of pytest that a command's own stand for."""
    found = [] if device is None else [f"--ft-device={device}"]
    found += [] if cache_dir is None else [f"--ft-cache-dir={cache_dir}"]
    return [*found, "--ft-allow-remote-code"] if allow_remote_code else found
