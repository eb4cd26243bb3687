"""Ends a session's own Ray cluster when its process is gone, also where it was killed and could end nothing itself.

Ray's nodes end with the process that started them. What runs beside them notices, and then tries for about a minute to
tell a cluster that isn't there any more. So another process waits for the end of a pipe that only the session holds,
and kills what carries its mark in the environment that it was started with. As a program this needs the standard
library alone, and Linux's /proc; elsewhere it is left to Ray.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

MARK: Final = "FTCHECK_RAY_CLUSTER"
PATIENCE: Final = 10.0
"""Seconds for which it is tried to kill them."""
_TITLES: Final = "SPT_NOENV"
"""Set, it keeps setproctitle, which Ray names its processes with, from writing over the environment that they show."""


@contextmanager
def guarded() -> Iterator[Callable[[], object]]:
    """What is started in the block ends when this process does, or calls what this gives; or when the block raises."""
    if sys.platform != "linux":
        yield lambda: None
        return
    mark = secrets.token_hex(16)
    guard = subprocess.Popen(  # noqa: S603  this Python, with this file
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it
    )
    known = os.environ.get(_TITLES)
    os.environ.update({MARK: mark, _TITLES: "1"})
    try:
        yield guard.communicate
    except BaseException:
        guard.communicate()
        raise
    finally:
        del os.environ[MARK]
        if known is None:
            del os.environ[_TITLES]
        else:
            os.environ[_TITLES] = known


def end(mark: str) -> None:
    """Kill all processes that carry the mark."""
    given_up = time.monotonic() + PATIENCE
    while (found := _marked(f"{MARK}={mark}".encode())) and time.monotonic() < given_up:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _marked(variable: bytes) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:  # of others, or gone
                if variable in file.read().split(b"\0"):
                    found.append(int(name))
    return found


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(sys.argv[1])
