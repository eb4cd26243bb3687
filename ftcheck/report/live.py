"""What is shown while cases are measured: a transient row on a terminal, a plain line now and then elsewhere, and one
line for each finished case."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ftcheck.report import numbers, terminal

if TYPE_CHECKING:
    from ftcheck.finetune import Progress
    from ftcheck.results import CaseResult

ON_TERMINAL, ELSEWHERE = 0.2, 30.0
"""Seconds between two updates."""


class Live:
    """Writes progress through pytest's own terminal reporter; silent where there is none (xdist's workers) or with
    -q."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._terminal: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
        self._quiet = self._terminal is None or hasattr(config, "workerinput") or config.get_verbosity() < 0
        self._transient = self._terminal is not None and self._terminal.isatty and os.environ.get("TERM") != "dumb"
        self._case = ""
        self._next = 0.0
        self._drawn = False

    @contextmanager
    def showing(self, case_id: str) -> Generator[Live]:
        """Progress belongs to `case_id` until the block ends; then the transient row is gone."""
        self._case = case_id
        self._next = time.monotonic() + (ON_TERMINAL if self._transient else ELSEWHERE)
        try:
            yield self
        finally:
            self._erase()

    def progress(self, seed: int, progress: Progress) -> None:
        """Show where a stage stands, if the last word was long enough ago."""
        now = time.monotonic()
        if self._quiet or now < self._next:
            return
        self._next = now + (ON_TERMINAL if self._transient else ELSEWHERE)
        self._say(row(self._case, seed, progress))

    def waiting(self, message: str) -> None:
        """Another process is making what this one needs."""
        if not self._quiet:
            self._say(f"{self._case}: {message}")

    def fetching(self, message: str) -> None:
        """How far a transfer is, if the last word was long enough ago."""
        now = time.monotonic()
        if not self._quiet and now >= self._next:
            self._next = now + (ON_TERMINAL if self._transient else ELSEWHERE)
            self._say(f"{self._case}: {message}" if self._case else message)

    def line(self, result: CaseResult) -> None:
        """One line for a finished case."""
        if self._quiet or self._terminal is None:
            return
        self._fresh_line()
        self._terminal.write_line(f"  {terminal.summary(result)}", **terminal.MARKUP.get(result.verdict, {}))

    def _say(self, text: str) -> None:
        assert self._terminal is not None
        capture = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            if self._transient:
                # Past the writer, so that it doesn't count these columns as its line's.
                writer = self._terminal._tw
                start = "" if self._drawn else "\n"
                writer._file.write(f"{start}\r\x1b[2K{text[: writer.fullwidth - 1]}")
                writer._file.flush()
                self._drawn = True
            else:
                self._fresh_line()
                self._terminal.write_line(text)

    def _fresh_line(self) -> None:
        """Begin a line, also where pytest has written a letter behind a line of ours, and let it name the file
        again."""
        assert self._terminal is not None
        self._terminal.ensure_newline()
        if self._terminal._tw.width_of_current_line:
            self._terminal._tw.line()

    def _erase(self) -> None:
        if self._drawn and self._terminal is not None:
            capture = self._config.pluginmanager.getplugin("capturemanager")
            with capture.global_and_fixture_disabled():
                # Up again to the row that pytest had begun, and behind what it has written there.
                writer = self._terminal._tw
                column = writer.width_of_current_line
                writer._file.write("\r\x1b[2K\x1b[A" + (f"\x1b[{column}C" if column else ""))
                writer._file.flush()
            self._drawn = False


def row(case_id: str, seed: int, progress: Progress) -> str:
    """`intents, seed 42: train 120/300, epoch 1.2, loss 0.341`."""
    parts = [progress.stage + (f" {progress.done}/{progress.total}" if progress.total else "")]
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch:.1f}")
    if progress.loss is not None:
        parts.append(f"loss {numbers.plain(progress.loss, 3)}")
    if progress.learning_rate is not None:
        parts.append(f"lr {progress.learning_rate:.1e}")
    return f"{case_id}, seed {seed}: {', '.join(parts)}"
