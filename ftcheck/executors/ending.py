"""Processes that are to end, and do, also where Ctrl-C is pressed once more while they don't."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftcheck.executors.forkserver import Forked

CLOSING = 10.0
"""Seconds that processes have to end by themselves."""


def end(processes: Sequence[subprocess.Popen[bytes] | Forked]) -> None:
    """Ask processes to end, and end those that don't within CLOSING; at once where a KeyboardInterrupt comes.

    Each leads a process group of its own, so that what it started goes too. Afterwards all are gone.
    """
    patience = time.monotonic() + CLOSING
    there = [process for process in processes if process.poll() is None]
    try:
        for process in there:
            signal_group(process, signal.SIGTERM)
        for process in there:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, patience - time.monotonic()))
            signal_group(process, signal.SIGKILL)  # also what it has left behind
    finally:
        for process in there:
            if process.returncode is None:
                signal_group(process, signal.SIGKILL)
                process.wait()


def signal_group(process: subprocess.Popen[bytes] | Forked, number: signal.Signals) -> None:
    """Send it to a process, and to all that it started."""
    if process.pid is None:  # it is still to be forked, and will find nobody to work for
        process.returncode = -number
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
