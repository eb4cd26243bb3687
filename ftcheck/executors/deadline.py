"""What takes too long is stopped, where Python can be stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from ftcheck.errors import TrainingError

AGAIN = 30.0
"""Seconds after which whoever doesn't stop is told again."""

_LOADER = os.path.join("torch", "utils", "data", "dataloader.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    """How long a stage of a run may take."""

    seconds: float
    said: str
    """`timeout: 30min`, or what was left of --ft-timeout."""

    def error(self, where: str) -> TrainingError:
        """What the reader is told."""
        return TrainingError(f"{self.said} is over: stopped {where}; no result of it is kept")


class _Over(BaseException):
    """No library that catches every Exception may take it for one of its own."""

    def __init__(self, where: str) -> None:
        self.where = where


@contextmanager
def deadline(timeout: Timeout | None) -> Iterator[None]:
    """Raise TrainingError in the block once the time is over, wherever it is.

    By SIGALRM, which reaches Python code of the main thread, also where it waits for a lock or a queue, but no library
    that computes on in C: then as soon as it returns. In other threads, and on Windows, there is no deadline. Another
    user's alarm (a test's timeout) is put back with what is left of it, and comes first if it is due first.
    """
    alarms = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if timeout is None or not alarms:
        yield
        return

    active = True

    def over(_signal: int, frame: FrameType | None) -> None:
        if not active:
            return
        raise _Over(_place(frame))

    begun = time.monotonic()
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    if 0 < left <= timeout.seconds:
        yield
        return
    before = signal.signal(signal.SIGALRM, over)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, timeout.seconds, AGAIN)
            yield
        finally:
            active = False
    except _Over as stop:
        raise timeout.error(stop.where) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - begun)), interval)


def _place(frame: FrameType | None) -> str:
    """Where the time was over, and what was waited for if it is known."""
    if frame is None:
        return "somewhere"
    place = f"at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
    outer: FrameType | None = frame
    while outer is not None:
        if outer.f_code.co_filename.endswith(_LOADER) and outer.f_code.co_name == "_get_data":
            return f"{place}, where it waited for a worker of the data loader"
        outer = outer.f_back
    return place
