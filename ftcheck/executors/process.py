"""The process behind a slot of the local executor, seen from the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from ftcheck.executors import ending, forkserver
from ftcheck.executors.forkserver import Forked, ForkServer
from ftcheck.executors.needs import THREADS
from ftcheck.executors.slot import Hello

if TYPE_CHECKING:
    from ftcheck.devices import Device

LOG_TAIL = 2000
"""Bytes of what a process that died printed last."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(eq=False, slots=True, kw_only=True)
class SlotProcess:
    """One worker process, pinned to its devices and its number of threads before it computes anything."""

    devices: tuple[Device, ...]
    threads: int
    pipe: Connection
    _process: subprocess.Popen[bytes] | Forked
    _log: BinaryIO

    @classmethod
    def start(cls, devices: Sequence[Device], threads: int, root: Path, server: ForkServer | None = None) -> Self:
        """`root`: of the run store. `server`: of which the process is made, where that is possible. Raises OSError
        where the system has no room for one."""
        given = _environment(devices, threads)
        with ExitStack() as stack:
            log = stack.enter_context(TemporaryFile())
            ours, theirs = Pipe()
            stack.enter_context(ours)
            with theirs:
                process = (server and server.fork(given, theirs, log)) or subprocess.Popen(  # noqa: S603  this Python, with our own words
                    forkserver.command(theirs.fileno()),
                    env={**os.environ, **given},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the parent, which ends its slots
                )
            stack.pop_all()  # pipe and log live as long as their slot
        slot = cls(devices=tuple(devices), threads=threads, pipe=ours, _process=process, _log=log)
        with suppress(OSError):  # told when it is sent work
            ours.send(Hello(root=root, path=tuple(sys.path), folder=os.getcwd()))
        return slot

    @property
    def device(self) -> str:
        """The first device by the name that it has where no other is visible."""
        return "cuda:0" if self.devices[0].kind == "cuda" else str(self.devices[0])

    def send(self, message: Any) -> None:
        """Raises OSError where nobody hears it."""
        self.pipe.send(message)

    def signal(self, number: signal.Signals) -> None:
        """Send it to the process, and to all that it started."""
        ending.signal_group(self._process, number)

    def ended(self) -> tuple[int, str]:
        """Let the process end and wait until it is gone: its exit status, negative for a signal, and the end of what it
        printed."""
        self.pipe.close()
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._log as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOG_TAIL))
            return code, log.read().decode(errors="replace").strip()


def end(slots: Sequence[SlotProcess]) -> None:
    """End them, and what they started, whatever comes."""
    ending.end([slot._process for slot in slots])


def _environment(devices: Sequence[Device], threads: int) -> Mapping[str, str]:
    """What pins it: read when torch is imported, or (`forkserver`) before the first use of device and threads."""
    made = {THREADS: str(threads)}
    if devices[0].kind == "cuda":
        given = os.environ.get(_VISIBLE)
        made[_VISIBLE] = ",".join(visible(device.index, given) for device in devices)
    return made


def visible(index: int, given: str | None) -> str:
    """CUDA_VISIBLE_DEVICES for a process that is to see one of the devices that this one, with `given`, sees."""
    names = [name.strip() for name in given.split(",")] if given else []
    return names[index] if index < len(names) else str(index)
