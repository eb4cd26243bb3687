"""`ftcheck advise`: what a case needs, before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftcheck.cli.calibrate import CaseNode, Device, passed_on
from ftcheck.cli.common import AllowRemoteCode, CacheDir

if TYPE_CHECKING:
    from ftcheck.advising import Advice
    from ftcheck.session import FtSession
    from ftcheck.spec import Case


def advise(
    case: CaseNode, device: Device = None, cache_dir: CacheDir = None, allow_remote_code: AllowRemoteCode = False
) -> None:
    """Say whether fine-tuning is worth it for a case, and what to set, out of its rows and its checkpoint."""
    from functools import partial

    from ftcheck import advising
    from ftcheck.report.aside import Aside
    from ftcheck.validate import with_case

    def work(session: FtSession, found: Case) -> Advice:
        run = session.pipeline.runs(found)[0]
        with Aside(found.id).showing() as aside:
            return advising.advise(found, run.job, on_progress=partial(aside.progress, run.job.seed))

    options = passed_on(device, cache_dir, allow_remote_code=allow_remote_code)
    for line in advising.report(with_case(case, options, work), case):
        print(line)
