"""What is shown while cases are measured: a transient row on a terminal, a plain line now and then elsewhere, and one
line for each finished case. pytest-xdist's workers send their rows to the process that has the terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from ftcheck.finetune import Progress
from ftcheck.report import cells, pace, terminal, tty

if TYPE_CHECKING:
    from ftcheck.results import CaseResult

RELAYED = 1.0
"""Seconds between two updates of a worker's."""


class Live:
    """Writes progress through pytest's own terminal reporter; silent where there is none or with -q."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._terminal: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
        self._quiet = self._terminal is None or config.get_verbosity() < 0
        self._transient = tty.is_transient(config)
        self._case = ""
        self._pace, self._speed = self._paced(), pace.Speed()
        self._rows: dict[str, str] = {}
        """Which process -> its row; "" is this one."""
        self._drawn = 0

    def _paced(self) -> pace.Pace:
        return pace.Pace(pace.ON_TERMINAL if self._transient else None)

    @contextmanager
    def showing(self, case_id: str, item: pytest.Item) -> Generator[Live]:
        """Progress belongs to `case_id` until the block ends; then the transient row is gone."""
        self._case, self._pace, self._speed = case_id, self._paced(), pace.Speed()
        try:
            yield self
        finally:
            self._rows.clear()
            self.erase()

    def progress(self, seed: int, progress: Progress) -> None:
        """Show where a stage stands, if the last word was long enough ago."""
        speed = self._speed.told(seed, progress)
        if not self._quiet and self._pace.due():
            self._say("", partial(pace.row, self._case, seed, progress, speed))

    def waiting(self, message: str) -> None:
        """Another process is making what this one needs."""
        if not self._quiet:
            self._say("", lambda _: f"{self._case}: {message}")

    def of_worker(self, report: pytest.TestReport) -> None:
        """What one of xdist's workers sent by a Relay, in a report that is no more than its carrier."""
        if self._terminal is not None:
            kept = self._terminal.stats.get("", [])
            if kept and kept[-1] is report:
                kept.pop()
        said = report.ft_progress
        if self._quiet:
            return
        worker = report.node.gateway.id
        case_id = f"[{worker}] {said['case']}"
        if "message" in said:
            self._say(worker, lambda _: f"{case_id}: {said['message']}")
        else:
            self._say(worker, partial(pace.row, case_id, said["seed"], Progress(**said["progress"]), said["speed"]))

    def make_room(self, report: pytest.TestReport) -> None:
        """pytest is about to write what became of a test: rows are gone until there is something new to say."""
        if hasattr(report, "node"):
            self._rows.pop(report.node.gateway.id, None)
        self.erase()

    def fetching(self, message: str) -> None:
        """How far a transfer is, if the last word was long enough ago."""
        if not self._quiet and self._pace.due():
            said = f"{self._case}: {message}" if self._case else message
            self._say("", lambda _: said)

    def line(self, result: CaseResult) -> None:
        """One line for a finished case."""
        if self._quiet or self._terminal is None:
            return
        self._fresh_line()
        text = f"  {terminal.summary(result)}"
        self._terminal.write(text, **terminal.MARKUP.get(result.verdict, {}))
        alone = type(self._terminal) is pytest.TerminalReporter and not self._config.pluginmanager.hasplugin("dsession")
        if alone and cells.width(text) + len(" [100%] ") < self._terminal._tw.fullwidth:
            # pytest ends the line when it names the next file, as it ends its own.
            self._terminal.currentfspath = -2
        else:
            self._terminal.line("")

    def _say(self, process: str, text: Callable[[int | None], str]) -> None:
        """`text`: the columns there are, None for any number -> what to say."""
        assert self._terminal is not None
        capture = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():  # only so is the terminal's width known
            if self._transient:
                columns = self._terminal._tw.fullwidth - 1
                self._rows[process] = cells.cropped(text(columns), columns)
                self._draw(self._terminal._tw)
            else:
                self._fresh_line()
                self._terminal.write_line(text(None))

    def _draw(self, writer: Any) -> None:
        # Past the writer, so that it doesn't count these columns as its line's.
        up = "\n" if not self._drawn else "\r" + "\x1b[A" * (self._drawn - 1)
        rows = [f"\r\x1b[2K{text}" for text in self._rows.values()]
        writer._file.write(up + "\n".join(rows))
        writer._file.flush()
        self._drawn = max(self._drawn, len(rows))

    def _fresh_line(self) -> None:
        """Begin a line, also where pytest has written a letter behind a line of ours, and let it name the file
        again."""
        assert self._terminal is not None
        self._terminal.ensure_newline()
        if self._terminal._tw.width_of_current_line:
            self._terminal._tw.line()

    def erase(self) -> None:
        """Leave the terminal as pytest left it."""
        if self._drawn and self._terminal is not None:
            capture = self._config.pluginmanager.getplugin("capturemanager")
            with capture.global_and_fixture_disabled():
                # Up again to the row that pytest had begun, and behind what it has written there.
                writer = self._terminal._tw
                column = writer.width_of_current_line
                writer._file.write("\r\x1b[2K\x1b[A" * self._drawn + (f"\x1b[{column}C" if column else ""))
                writer._file.flush()
            self._drawn = 0


class Relay:
    """Stands for Live in one of xdist's workers: sends rows to the process that has the terminal, each in a report like
    that of a setup that passed, which says nothing to anybody else."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._often = RELAYED if config.workerinput["ft_transient"] else None  # type: ignore[attr-defined]
        self._case = ""
        self._item: pytest.Item | None = None
        self._pace, self._speed = pace.Pace(self._often), pace.Speed()

    @contextmanager
    def showing(self, case_id: str, item: pytest.Item) -> Generator[Relay]:
        """Progress belongs to `case_id` until the block ends."""
        self._case, self._item = case_id, item
        self._pace, self._speed = pace.Pace(self._often), pace.Speed()
        yield self

    def progress(self, seed: int, progress: Progress) -> None:
        """Send where a stage stands, if the last word was long enough ago."""
        speed = self._speed.told(seed, progress)
        if self._pace.due():
            self._send(case=self._case, seed=seed, progress=asdict(progress), speed=speed)

    def waiting(self, message: str) -> None:
        """Another process is making what this one needs."""
        self._send(case=self._case, message=message)

    def _send(self, **said: Any) -> None:
        assert self._item is not None
        report = pytest.TestReport(
            nodeid=self._item.nodeid,
            location=self._item.location,
            keywords={},
            outcome="passed",
            longrepr=None,
            when="setup",
            ft_progress=said,
        )
        self._config.hook.pytest_runtest_logreport(report=report)
