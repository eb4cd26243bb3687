"""Within a session: notes what it does to its project's files, and sends a signal to itself at a chosen moment.

Events are what Python's audit hooks tell of files (PEP 578), by the part of the session that they belong to, and the
steps of training and predicting. CHAOS_TRACE names a file to note them in; CHAOS_PLAN is `PHASE:N:SIGNAL:MICROSECONDS`:
the signal is sent so long after the Nth event of the phase, counted from 0.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

PLACES = {
    "store/locks": "locking",
    "store/tmp": "publishing",
    "store/runs": "publishing",
    "store/predictions": "publishing",
    "store/scores": "publishing",
    "store/unfinished": "checkpoint",
    "store/cases": "notes",
    "store/memo": "notes",
    "store/history": "history",
    "__baselines__": "baseline",
    "temporary": "proposal",
    "out.": "report",
    ".out.": "report",
}
"""Beginning of a path in the project -> what is done there."""
FILES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "sqlite3.connect")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Events:
    """Counts events by phase."""

    def __init__(self, root: Path) -> None:
        self.root = f"{root}/"
        self.counts: dict[str, int] = {}
        self.trace = os.environ.get("CHAOS_TRACE")
        phase, number, sent, delay = os.environ.get("CHAOS_PLAN", ":-1:0:0").split(":")
        self.phase, self.number = phase, int(number)
        self.signal, self.delay = signal.Signals(int(sent)) if int(sent) else None, int(delay) / 1e6
        self._busy = threading.local()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook."""
        if getattr(self._busy, "now", False):
            return
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & WRITES:
                return
        elif event in FILES:
            path = arguments[0]
        else:
            return
        if isinstance(path, str | bytes | os.PathLike):
            place = os.path.abspath(os.fsdecode(path))
            if place.startswith(self.root):
                inside = place.removeprefix(self.root)
                self.of(next((phase for start, phase in PLACES.items() if inside.startswith(start)), "other"))

    def of(self, phase: str) -> None:
        """Count an event; be killed, if it is the one."""
        number = self.counts.get(phase, 0)
        self.counts[phase] = number + 1
        if self.trace:
            self._busy.now = True
            with open(self.trace, "a", encoding="ascii") as file:
                file.write(f"{phase}\n")
            self._busy.now = False
        if (phase, number) == (self.phase, self.number) and self.signal is not None:
            if self.delay:
                threading.Thread(target=self._later, daemon=True).start()
            else:
                os.kill(os.getpid(), self.signal)

    def _later(self) -> None:
        assert self.signal is not None
        time.sleep(self.delay)
        os.kill(os.getpid(), self.signal)


def watch(root: Path) -> Events:
    """Begin to count."""
    made = Events(root)
    sys.addaudithook(made.audit)
    return made


def take_part(events: Events) -> None:
    """Have the steps of trainings and predictions count, the fake's and real ones."""
    from ftcheck.executors import inline

    plain = inline.InlineExecutor.produce

    def produce(self: Any, work: Any, store: Any, on_progress: Any, on_wait: Any) -> Any:
        def told(progress: Any) -> None:
            events.of("predicting" if progress.stage in ("predict", "evaluate") else "training")
            on_progress(progress)

        return plain(self, work, store, told, on_wait)

    inline.InlineExecutor.produce = produce  # type: ignore[method-assign]


RUNNING: Events | None = None
"""Those of this process, where it is a session."""
