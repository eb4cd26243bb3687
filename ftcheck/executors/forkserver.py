"""A process that has imported what trainings need, and becomes the workers: they start in milliseconds, not seconds.

The first half is its parent's side, the second what the process does. multiprocessing has a server of this kind, one
for the whole process, which the tests beside a suite may use themselves and must not find changed.

Forking is safe while nothing has happened that a copy doesn't survive. No thread has begun (OpenMP's and BLAS's begin
with work, and the server is told to have one); jemalloc's, which pyarrow brings, is stopped by itself meanwhile. And
CUDA's driver isn't loaded: it reads CUDA_VISIBLE_DEVICES when it is first asked for something, so that a worker that
sets it after the fork is pinned as if it had been there before torch was imported. The server looks, each time; where
it isn't so, it starts workers afresh.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from time import monotonic
from typing import Any, BinaryIO, Final, NoReturn, Self

from ftcheck import privacy
from ftcheck.executors import slot
from ftcheck.executors.needs import THREADS

PRELOADED: tuple[str, ...] = (
    "datasets",
    "transformers.trainer",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "ftcheck.executors.inline",
    "ftcheck.finetune.session",
    "ftcheck.finetune.trainer",
)
"""Modules that the server imports: as soon as it starts, beside what its parent does."""
SUPPORTED: Final = sys.platform == "linux" and hasattr(os, "pidfd_open")
"""Elsewhere libraries of the system have threads from the start."""

_MAIN = "from ftcheck.executors.forkserver import main; main({})"
_HARMLESS = {"jemalloc_bg_thd"}
"""Threads of libraries that stop them before a fork."""
_DRIVER = "libcuda.so"
_OWN = {
    THREADS: "1",  # a pool of threads would not survive the fork
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # whether there is CUDA is told without its driver
}
_CHANGES = "PYTEST_CURRENT_TEST"
_MESSAGE = 1 << 20
"""Bytes of an order at most: an environment."""


def command(descriptor: int) -> list[str]:
    """How a worker is started afresh, whose pipe is open as `descriptor`."""
    return [sys.executable, "-c", f"from ftcheck.executors.slot import main; main({descriptor})"]


def _surroundings() -> tuple[object, ...]:
    """What imports may depend on."""
    return tuple(sys.path), os.getcwd(), {name: said for name, said in os.environ.items() if name != _CHANGES}


@dataclass(eq=False, slots=True)
class Forked:
    """A process that the server started: what `subprocess.Popen` is for one's own."""

    _said: Connection
    """From the server: the process's id when it is there, and its exit status when it is gone."""
    _pid: int | None = None
    returncode: int | None = None

    @property
    def pid(self) -> int | None:
        """None while there is none."""
        if self._pid is None and self.returncode is None and self._said.poll():
            self._hear()
        return self._pid

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal. Raises subprocess.TimeoutExpired."""
        until = None if timeout is None else monotonic() + timeout
        while self.returncode is None:
            if not self._said.poll(None if until is None else max(0.0, until - monotonic())):
                assert timeout is not None
                raise subprocess.TimeoutExpired("a worker", timeout)
            self._hear()
        return self.returncode

    def kill(self) -> None:
        if self.pid is not None and self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _hear(self) -> None:
        try:
            if self._pid is None:
                self._pid = self._said.recv()
            else:
                self.returncode = self._said.recv()
        except (EOFError, OSError):  # the server is gone: nobody else can tell, so this is the end of it
            if self._pid is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)
            self.returncode = -signal.SIGKILL
        if self.returncode is not None:
            self._said.close()


@dataclass(eq=False, slots=True, kw_only=True)
class ForkServer:
    """The server, seen from its parent."""

    _process: subprocess.Popen[bytes]
    _pipe: socket.socket
    _surroundings: tuple[object, ...]

    @classmethod
    def start(cls) -> Self:
        """It begins to import; whoever asks it for a worker meanwhile needn't wait."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(  # noqa: S603  this Python, with our own words
                [sys.executable, "-c", _MAIN.format(theirs.fileno())],
                env={**os.environ, **_OWN},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        server = cls(_process=process, _pipe=ours, _surroundings=_surroundings())
        server._send(list(sys.path), [])
        return server

    def fork(self, given: Mapping[str, str], pipe: Connection, log: BinaryIO) -> Forked | None:
        """A worker with `given` in its environment, at the other end of `pipe`. None where the server is gone, or what
        imports depend on has changed since it started."""
        if _surroundings() != self._surroundings:
            return None
        ours, theirs = Pipe(duplex=False)
        with theirs:
            environment = {**os.environ, **given}
            if not self._send(environment, [pipe.fileno(), log.fileno(), theirs.fileno()]):
                ours.close()
                return None
        return Forked(ours)

    def _send(self, message: Any, descriptors: Sequence[int]) -> bool:
        try:
            socket.send_fds(self._pipe, [json.dumps(message).encode()], descriptors)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End the server, whose workers have ended."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()


def main(descriptor: int) -> None:
    """Be the server, until the parent is gone."""
    privacy.begin()
    _Server(socket.socket(fileno=descriptor)).serve()


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker, seen from the server."""

    process: subprocess.Popen[bytes] | int
    """An id where it was forked."""
    tell: Connection
    """To the parent."""

    @property
    def pid(self) -> int:
        return self.process if isinstance(self.process, int) else self.process.pid

    def ended(self) -> None:
        """Tell how it ended, which it has."""
        if isinstance(self.process, int):
            code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        else:
            code = self.process.wait()
        with suppress(OSError):
            self.tell.send(code)
        self.tell.close()


@dataclass(eq=False, slots=True)
class _Server:
    pipe: socket.socket
    workers: dict[int, _Worker] = field(default_factory=dict)
    """By a descriptor that can be read from when the worker has ended."""
    ready: bool = False
    """Whether all was imported."""

    def serve(self) -> None:
        path, _ = self._receive()
        sys.path[:] = path or sys.path
        self.ready = _import()
        while True:
            orders = self.pipe.fileno()
            for found in select.select([orders, *self.workers], [], [])[0]:
                if found == orders:
                    order, descriptors = self._receive()
                    if order is None:
                        return
                    self._start(order, *descriptors)
                else:
                    self.workers.pop(found).ended()
                    os.close(found)

    def _receive(self) -> tuple[Any, list[int]]:
        """What the parent says, and the descriptors with it; None where it is gone."""
        text, descriptors, _, _ = socket.recv_fds(self.pipe, _MESSAGE, 3)
        return (json.loads(text) if text else None), descriptors

    def _start(self, environment: Mapping[str, str], pipe: int, log: int, told: int) -> None:
        tell = Connection(told, readable=False)
        worker = _Worker(self._process(environment, pipe, log, tell), tell)
        with suppress(OSError):
            tell.send(worker.pid)
        self.workers[os.pidfd_open(worker.pid)] = worker
        os.close(pipe)
        os.close(log)

    def _process(
        self, environment: Mapping[str, str], pipe: int, log: int, tell: Connection
    ) -> subprocess.Popen[bytes] | int:
        """A worker's, forked (its id) or started afresh."""
        if not (self.ready and _safe()):
            return subprocess.Popen(  # noqa: S603  this Python, with our own words
                command(pipe),
                env=dict(environment),
                pass_fds=[pipe],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pid = os.fork()
        if pid == 0:
            self._become(environment, pipe, log, tell)
        with suppress(OSError):  # as the worker does itself: whoever comes first
            os.setpgid(pid, pid)
        return pid

    def _become(self, environment: Mapping[str, str], pipe: int, log: int, tell: Connection) -> NoReturn:
        """The forked process: leave behind what is the server's, and work."""
        code = 1
        try:
            os.setpgid(0, 0)  # so that what it starts is ended with it; Ctrl-C doesn't reach the server's session
            for stream in (1, 2):
                os.dup2(log, stream)
            for connection in (tell, *(worker.tell for worker in self.workers.values())):
                connection.close()
            for descriptor in (*self.workers, log):
                os.close(descriptor)
            self.pipe.close()
            os.environ.clear()
            os.environ.update(environment)
            _use_threads(int(environment[THREADS]))
            slot.main(pipe)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:  # noqa: BLE001  as the interpreter would
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _import() -> bool:
    """Whether it could be done. What is wrong is told by a worker that imports it by itself."""
    try:
        for name in PRELOADED:
            importlib.import_module(name)
    except Exception:  # noqa: BLE001  whatever a library raises
        return False
    gc.collect()
    gc.freeze()  # workers needn't look at a million objects that stay, nor copy their pages
    return True


def _safe() -> bool:
    """Whether a copy of this process is as good as one that starts anew."""
    tasks = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    for task in tasks:
        with open(f"/proc/self/task/{task}/comm", encoding="ascii", errors="replace") as file:
            if file.read().strip() not in _HARMLESS:
                return False
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return not any(_DRIVER in line for line in file)


def _use_threads(count: int) -> None:
    """As OMP_NUM_THREADS would have had it, which libraries read as they are loaded."""
    if "torch" not in sys.modules:
        return
    import numpy as np
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(count)
    torch.set_num_threads(count)
    np.random.seed()  # all copies would share this stream
