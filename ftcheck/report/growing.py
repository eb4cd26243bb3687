"""The results file of a session that goes on: whatever ends it, the file is whole and says what is missing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ftcheck.errors import UsageError
from ftcheck.report import jsonfile
from ftcheck.results import CaseResult

SHARE = 0.05
"""How much of the time may go into writing while the session goes on."""
RETRY = 20.0
"""Seconds until a file that couldn't be written is tried again."""


class GrowingFile:
    """Written anew, whole, as cases finish. Each result becomes text once, and what is waiting is written when that
    takes less than SHARE of the time since the last writing: after every case where they take seconds, and now and then
    where thousands come out of the store."""

    def __init__(self, path: str, missing: Callable[[], Sequence[str]]) -> None:
        self._path = Path(path)
        self._missing = missing
        self._lines: dict[str, str] = {}
        self._waiting = False
        self._cost = 0.0
        """Seconds that writing took, by results."""
        self._last = -math.inf

    def add(self, result: CaseResult) -> None:
        """A finished result; a rerun's replaces it."""
        self._lines[result.nodeid] = jsonfile.line(result)
        self._waiting = True
        self.tick()

    def tick(self, *, renew: bool = False) -> None:
        """Write what is waiting, if it's time; `renew`: what is missing is waiting too."""
        self._waiting |= renew
        if self._waiting and time.monotonic() >= self._last + self._cost * len(self._lines) / SHARE:
            try:
                self.write(complete=False)
            except UsageError:  # of no use now: the last writing says it, if it still can't be done
                self._last = time.monotonic() + RETRY

    def write(self, *, complete: bool) -> str:
        """Write now. Returns the moment that the file names. Raises UsageError where it can't be written."""
        start = time.monotonic()
        ordered = [self._lines[nodeid] for nodeid in sorted(self._lines)]
        created = jsonfile.written(self._path, ordered, complete=complete, missing=self._missing())
        self._last = time.monotonic()
        self._cost = (self._last - start) / max(len(self._lines), 1)
        self._waiting = False
        return created
