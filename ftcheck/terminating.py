"""SIGTERM ends a session as Ctrl-C does: what is under way is broken off, and what was measured is reported.

A CI job that is cancelled, a preempted machine and `kill` send it some seconds before SIGKILL. pytest itself just ends.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from types import FrameType
from typing import Final

import pytest

AGAIN: Final = 1.0
"""Seconds after which a session is told again that doesn't end: an exception that is raised within a library's callback
may be lost."""


class Termination:
    """The handler of one session, until pytest has ended it. Registered as a plugin."""

    def __init__(self) -> None:
        self._ends = False

    @classmethod
    def install(cls, config: pytest.Config) -> None:
        """Handle SIGTERM, unless somebody else does, or this is one of xdist's workers: its controller ends it."""
        if (
            hasattr(config, "workerinput")
            or threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        ):
            return
        made = cls()
        config.pluginmanager.register(made, "ftcheck-termination")
        signal.signal(signal.SIGTERM, made._terminate)
        config.add_cleanup(made._restore)

    @staticmethod
    def _restore() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _terminate(self, _signal: int, _frame: FrameType | None) -> None:
        if self._ends:
            return  # reports are being written, which is what there is to do
        timer = threading.Timer(AGAIN, self._again)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt("SIGTERM")

    def _again(self) -> None:
        if not self._ends:
            os.kill(os.getpid(), signal.SIGTERM)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:  # from here on pytest catches nothing any more, and does what was to be done anyway
            self._ends = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self._ends = True
