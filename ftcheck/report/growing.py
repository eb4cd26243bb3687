"""The results file of a session that goes on: whatever ends it, the file is whole and says what is missing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from ftcheck.errors import UsageError
from ftcheck.report import jsonfile
from ftcheck.results import CaseResult

SHARE = 0.05
"""How much of the time may go into writing while the session goes on."""


class GrowingFile:
    """Written anew, whole, as cases finish. Each result becomes text once, and what is waiting is written when the last
    writing took less than SHARE of the time since: after every case where they take seconds, and now and then where
    thousands come out of the store."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._planned: dict[str, None] = {}
        self._skipped: set[str] = set()
        self._lines: dict[str, str] = {}
        self._waiting = True
        self._cost = 0.0
        self._last = 0.0

    def plan(self, nodeids: Iterable[str]) -> None:
        """Cases that are to be measured. Raises UsageError where the file can't be written."""
        before = len(self._planned)
        self._planned |= dict.fromkeys(nodeids)
        if self._waiting or len(self._planned) != before:
            self._write(complete=False)

    def skip(self, nodeid: str) -> None:
        """That case has no result, and none is missing."""
        self._skipped.add(nodeid)

    def add(self, result: CaseResult) -> None:
        """A finished result; a rerun's replaces it."""
        self._lines[result.nodeid] = jsonfile.line(result)
        self._waiting = True
        self.tick()

    def tick(self) -> None:
        """Write what is waiting, if it's time."""
        if self._waiting and time.monotonic() - self._last >= self._cost / SHARE:
            try:
                self._write(complete=False)
            except UsageError:
                # Of no use now: the last writing says it, if it still can't be done.
                self._cost = max(self._cost, 1.0)

    @property
    def missing(self) -> tuple[str, ...]:
        """Cases without a result."""
        return tuple(nodeid for nodeid in self._planned if nodeid not in self._lines and nodeid not in self._skipped)

    def close(self, *, complete: bool) -> None:
        """The last writing. Raises UsageError where the file can't be written."""
        self._write(complete=complete)

    def _write(self, *, complete: bool) -> None:
        start = time.monotonic()
        try:
            jsonfile.written(self._path, self._lines, complete=complete, missing=self.missing)
            self._waiting = False
        finally:
            self._last = time.monotonic()
            self._cost = self._last - start
