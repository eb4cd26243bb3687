"""A session's results into the history, and the past of its cases out of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import ftcheck
from ftcheck import baselines, git
from ftcheck.errors import BaselineError
from ftcheck.history.log import History, Judged, Session
from ftcheck.results import CaseResult

NAME: Final = "history.sqlite"
"""Of the file in the cache directory."""

NONE: Final = "none"
"""`--ft-history=none`."""

SHOWN: Final = 30
"""Points of a case's past that its result carries into reports."""

_JUDGED: Final = ("pass", "fail", "inconclusive", "new", "incomparable")


@dataclass(frozen=True, slots=True)
class Recorder:
    """Adds results to a history; names suites as it knows them."""

    history: History
    root: Path | None = None
    """Of the project, which suites are named from; None: by their absolute path."""

    def name(self, suite: str) -> str:
        """What the history calls a suite file. Lone surrogates of an undecodable path are escaped."""
        path = suite if self.root is None else Path(os.path.relpath(suite, self.root)).as_posix()
        return path.encode("utf-8", "backslashreplace").decode()

    def record(self, results: Mapping[str, CaseResult], folder: Path) -> dict[str, CaseResult]:
        """Add the judged ones of `results` (by node id); `folder` is where git is asked for the commit.

        Returns those, with the past that reports draw. Raises HistoryError, and then nothing was added.
        """
        judged = {
            nodeid: Judged(suite=self.name(result.suite), result=result, baseline=_accepted(result))
            for nodeid, result in results.items()
            if result.verdict in _JUDGED and result.metrics
        }
        if not judged:
            return {}
        state = git.state(folder, besides=(f"**/{baselines.FOLDER}/**", f"**/{self.history.path.name}"))
        session = Session(
            time=datetime.now(UTC),
            ftcheck=ftcheck.__version__,
            commit=state.commit,
            branch=state.branch,
            dirty=state.dirty,
        )
        points = self.history.append(session, list(judged.values()), SHOWN)
        return {
            nodeid: replace(one.result, history=found)
            for (nodeid, one), found in zip(judged.items(), points, strict=True)
        }


def recorder(chosen: str | None, cache_dir: Path, rootdir: Path) -> Recorder | None:
    """What records a session's results: into `chosen` (see `Settings.history`), or the file of `cache_dir`.

    A file that was chosen belongs to a project and may be on any disk: suites are known by their path from the
    repository's top, or from `rootdir` outside of one.
    """
    if chosen == NONE:
        return None
    if chosen is None:
        return Recorder(History(cache_dir / NAME, wal=True))
    top = git.ask(rootdir, "rev-parse", "--show-toplevel")
    return Recorder(History(Path(chosen)), root=Path(top) if top else rootdir)


def _accepted(result: CaseResult) -> baselines.Entry | None:
    """The baseline of a case on its kind of device; None where there is none, or none that can be read: judging said
    so where it mattered."""
    try:
        entries = baselines.read(baselines.place(Path(result.suite), result.case_id)).entries
    except BaselineError:
        return None
    return entries.get(result.device.partition(":")[0])
