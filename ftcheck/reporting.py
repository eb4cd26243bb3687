"""What becomes of the results of one pytest process: the terminal, files, the history, trackers."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ftcheck import correcting, shared
from ftcheck.errors import HistoryError, UsageError, shown
from ftcheck.importing import plainly
from ftcheck.privacy import hidden
from ftcheck.results import WORST_FIRST, CaseResult, Json

if TYPE_CHECKING:
    from ftcheck.report.growing import GrowingFile
    from ftcheck.report.live import Live, Relay
    from ftcheck.settings import Settings


@dataclass(eq=False)  # pytest keeps plugins in sets
class Reporting(ABC):
    """The results of a session, and the hooks that show and keep them."""

    config: pytest.Config
    settings: Settings
    results: dict[str, CaseResult] = field(default_factory=dict)
    """Node id -> the finished result; a rerun replaces it."""
    tellers: dict[str, str] = field(default_factory=dict)
    """Node id -> which of xdist's workers told the result."""
    planned: dict[str, None] = field(default_factory=dict)
    """Node ids of the cases to be measured, in order."""
    skipped: set[str] = field(default_factory=set)
    """Node ids of skipped tests."""
    unused: set[str] = field(default_factory=set)
    """Baselines that no case has, as xdist's workers found them."""
    notes: dict[str, None] = field(default_factory=dict)
    """What xdist's workers had to say after their last case, each once."""

    @abstractmethod
    def warnings(self) -> tuple[str, ...]:
        """What the store has to tell the reader since it was asked last; nothing where there was no need of it."""

    @property
    def worker(self) -> bool:
        """Whether this process is one of xdist's workers: it measures, the controller reports."""
        return hasattr(self.config, "workerinput")

    @cached_property
    def live(self) -> Live:
        """Where progress and finished cases are shown."""
        from ftcheck.report.live import Live

        return Live(self.config)

    @cached_property
    def progress(self) -> Live | Relay:
        """What is told of a training's progress: the terminal, or in one of xdist's workers the process that has it."""
        if not self.worker:
            return self.live
        from ftcheck.report.live import Relay

        return Relay(self.config)

    @property
    def missing(self) -> list[str]:
        """Node ids of the cases that have no result, though they were to be measured and not skipped."""
        return [nodeid for nodeid in self.planned if nodeid not in self.results and nodeid not in self.skipped]

    @cached_property
    def file(self) -> GrowingFile | None:
        """The results file, where one is asked for and this process writes it."""
        if not self.settings.json or self.worker or self.settings.plan or self.config.option.collectonly:
            return None
        from ftcheck.report.growing import GrowingFile

        return GrowingFile(self.settings.json, lambda: self.missing)

    def begin_file(self) -> None:
        """Write what there is to do: a session that is killed must not leave an older one's results. Raises
        pytest.UsageError where the file can't be written, before anything is trained."""
        if self.file is not None:
            try:
                self.file.write(complete=False)
            except UsageError as error:
                raise pytest.UsageError(str(error)) from None

    def expect(self, nodeids: Iterable[str]) -> None:
        """Take note of what xdist's workers are going to measure: this process collects nothing."""
        before = len(self.planned)
        self.planned |= dict.fromkeys(nodeids)
        if self.file is not None:
            self.file.tick(renew=len(self.planned) > before)

    def take(self, report: pytest.TestReport) -> None:
        """Keep the result that `report` carries; a rerun's replaces it. Under `--dist each`, where every worker has a
        result of every case, the worst one is the case's."""
        result, teller = CaseResult.from_json(report.ft), _worker_of(report)
        report.ft = {"verdict": result.verdict}  # type: ignore[attr-defined]  # the rest is here: pytest keeps reports
        told = self.results.get(result.nodeid)
        if (
            told is not None
            and self.tellers[told.nodeid] != teller
            and self._by_each
            and _order(told) <= _order(result)
        ):
            return
        self.results[result.nodeid] = result
        self.tellers[result.nodeid] = teller
        if self.file is not None:
            self.file.add(result)

    @property
    def _by_each(self) -> bool:
        """Whether each of xdist's workers runs all there is to run."""
        return bool(self.config.getoption("dist", "no") == "each")

    def crashed(self, report: pytest.TestReport, cases: Mapping[str, Json], again: Callable[[str], None]) -> None:
        """Make xdist's report of a worker that died the one of the case that it worked on, which is an error; `cases`
        is what was left of all. One that died after it had told the result leaves that as it is. `again` runs a test
        again: one whose process died of another case's, where all are measured before the first is judged."""
        worker, turn = _worker_of(report), report.nodeid
        if self.tellers.get(turn) == worker:
            return
        what = "this case"
        other = correcting.begun_by(worker, shared.folder(self.config) / "outcomes")
        if other not in (None, turn):
            what = f"{other}, whose verdict it needed"
            with suppress(NotImplementedError):
                again(turn)
                report.outcome, report.longrepr = "passed", None
        report.when = "setup"
        if report.failed:
            error = f"the process {worker} died while it worked on {what}: {correcting.CAUSES}"
            result = replace(CaseResult.from_json(cases[turn]), error=error)
            report.longrepr = f"{result.case_id}: {error}"
            report.ft = result.to_json()  # type: ignore[attr-defined]

    def take_progress(self, report: pytest.TestReport) -> None:
        """Show what one of xdist's workers is doing."""
        self.live.of_worker(report)
        if self.file is not None:
            self.file.tick()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, "ft_progress"):
            self.live.make_room(report)
        if report.skipped:
            self.skipped.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if nodeid in self.results and not self.worker:
            self.live.line(self.results[nodeid])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.results and self.config.get_verbosity() > -2:
            from ftcheck.report.terminal import table, unfinished

            width = terminalreporter._tw.fullwidth
            terminalreporter.section("fine-tuned models")
            for line in table(self._in_order(), width=width, details=self.settings.details):
                terminalreporter.write_line(line.text, **line.markup)
            if self.settings.verify is not None:
                from ftcheck import verifying

                known = verifying.known_choice(shared.folder(self.config))
                terminalreporter.write_line(verifying.summary(list(self.results.values()), known))
            if self.missing:
                for line in unfinished(self.missing, width):
                    terminalreporter.write_line(line.text, **line.markup)
        if any(result.profile for result in self.results.values()):
            from ftcheck.report import spent

            terminalreporter.section("where time and memory went")
            for text in spent.lines(list(self.results.values()), terminalreporter._tw.fullwidth):
                terminalreporter.write_line(text)
        for warning in (*self.notes, *self.warnings()):
            terminalreporter.write_line(hidden(f"note: {warning}"), yellow=True)
        for path in sorted(self.unused):
            terminalreporter.write_line(
                f"note: no case has the baseline {path} (`ftcheck baseline prune` removes it)", yellow=True
            )

    def _in_order(self) -> list[CaseResult]:
        """The results as the cases were collected, in whichever order workers finished them."""
        places = {nodeid: place for place, nodeid in enumerate(self.planned)}
        return sorted(self.results.values(), key=lambda result: places.get(result.nodeid, len(places)))

    def report(self, *, complete: bool) -> None:
        """Keep what there is: in the history, in files, on the page of a CI job, in trackers. Raises UsageError for a
        file that can't be written."""
        self._record()
        self._write(complete=complete)
        if self.results:
            self._summarize(complete=complete)
            self._track()

    def _record(self) -> None:
        """Add the results to the history, and their cases' past to them. What keeps it from that is only told."""
        if not self.results or (self.settings.cache == "off" and self.settings.history is None):
            return
        with plainly():
            from ftcheck import history
            from ftcheck.store import default_cache_dir

        try:
            cache_dir = Path(self.settings.cache_dir) if self.settings.cache_dir else default_cache_dir()
            recorder = history.recorder(self.settings.history, cache_dir, self.config.rootpath)
            if recorder is None:
                return
            recorded = recorder.record(self.results, self.config.rootpath)
        except (HistoryError, UsageError) as error:
            self.say(f"note: {error}; this session's results are not recorded (--ft-history)", yellow=True)
            return
        self.results |= recorded
        if self.file is not None:
            for result in recorded.values():
                self.file.add(result)

    def _track(self) -> None:
        """Log the results where --ft-mlflow says, with the reports that were written before."""
        if self.settings.mlflow is None or not self.results:
            return
        from ftcheck.trackers import mlflow

        reports = [Path(name) for name in (self.settings.json, self.settings.html) if name is not None]
        said = mlflow.log(self.settings.mlflow, list(self.results.values()), [p for p in reports if p.is_file()])
        if said:
            self.say(f"note: {said}", yellow=True)

    def _write(self, *, complete: bool) -> None:
        """The reports that were asked for as files. The page equals one that is made of the results file later. Raises
        UsageError."""
        created = self.file.write(complete=complete) if self.file is not None else ""
        if self.settings.html is None or self.config.option.collectonly:
            return
        import ftcheck
        from ftcheck.report import html, jsonfile

        document = jsonfile.Document(
            results=list(map(jsonfile.as_read, self.results.values())),
            complete=complete,
            missing=tuple(self.missing),
            created=created or jsonfile.now(),
            version=ftcheck.__version__,
        )
        html.write(self.settings.html, document)

    def _summarize(self, *, complete: bool) -> None:
        """In a job of GitHub Actions, put the results on its page."""
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if not path:
            return
        from ftcheck.report.markdown import page

        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(page(list(self.results.values()), complete=complete, missing=self.missing))
        except OSError as error:
            self.say(f"note: the job's summary ({shown(path)}) can't be written: {error.strerror}", yellow=True)

    def say(self, text: str, **markup: bool) -> None:
        """Write a line to the terminal, where there is one."""
        terminal: pytest.TerminalReporter | None = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(hidden(text), **markup)

    def pytest_sessionstart(self) -> None:
        if self.config.pluginmanager.hasplugin("dsession"):  # xdist's workers say later what they collected
            self.begin_file()

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        if report.when == "call" and report.passed:
            return _STATUS.get(str(getattr(report, "ft", {}).get("verdict")))
        return None


def _worker_of(report: pytest.TestReport) -> str:
    """Which of xdist's workers a report is from; empty for this process."""
    return str(report.node.gateway.id) if hasattr(report, "node") else ""


def _order(result: CaseResult) -> tuple[int, bool]:
    """Of two results of one case that is told which comes first in this order: the worse one, else the one whose
    process made something for it."""
    made = any("computed" in (run.train.source, run.predict.source) for run in result.runs)
    return WORST_FIRST.index(result.verdict), not made


_STATUS = {
    "smoke": ("smoke", "s", "SMOKE"),
    "inconclusive": ("inconclusive", "I", "INCONCLUSIVE"),
    "new": ("new", "N", "NEW"),
}
"""Verdict of a test that didn't fail -> pytest's (category, letter, word)."""
