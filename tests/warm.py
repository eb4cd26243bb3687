"""pytest in a process of its own that has imported the libraries already, which takes three times as long as the rest.

Most tests that run pytest end to end ask what it does, not how it comes by torch. Their sessions are forked from a
process that has imported what trainings need in the same environment, and has done nothing else. All of ftcheck and
pytest is imported by the session itself, as is what a project brings.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = (
    "accelerate",
    "datasets",
    "peft",
    "sklearn.metrics",
    "tokenizers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.trainer",
)
OF_A_TEST = ("CI", "COLUMNS", "FAKE_", "FTCHECK_", "PYTEST_", "SLOW", "TMPDIR")
"""How names of variables begin that no library reads while it is imported."""
MOST = 2
"""Such processes at once: each has some hundred megabytes."""
_LARGEST = 1 << 20
"""Bytes of an order."""


class Session:
    """A running pytest, with as much of `subprocess.Popen` as tests need; both its streams are in one pipe."""

    def __init__(self, pid: int, output: int, told: io.FileIO) -> None:
        self.pid = pid
        self.stdout = os.fdopen(output, encoding="utf-8", errors="backslashreplace")
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("pytest", timeout or 0.0)
        return code

    def communicate(self) -> tuple[str, None]:
        with self.stdout:
            text = self.stdout.read()
        self.wait()
        return text, None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            with self._told:
                self.returncode = int(self._told.readline())
        return self.returncode


def start(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Session | subprocess.Popen[str]:
    """`python -m pytest` with these arguments, there, in this environment."""
    read = {name: value for name, value in environment.items() if not name.startswith(OF_A_TEST)}
    loads = not {"--ft-plan", "--ft-cache=only"} & {*arguments}
    if not hasattr(os, "pidfd_open") or not (loads or any(server.environment == read for server in _servers)):
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=cwd,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
    order = {"arguments": [*arguments], "cwd": str(cwd), "environment": dict(environment)}
    return _in(read).session(order)


def run(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The same to its end."""
    session = start(arguments, cwd, environment)
    text, _ = session.communicate()
    assert session.returncode is not None
    return subprocess.CompletedProcess(["pytest", *arguments], session.returncode, text)


def end() -> None:
    """End what waits for orders."""
    while _servers:
        _servers.pop().close()


def _in(environment: dict[str, str]) -> _Server:
    """The process with this environment."""
    for server in _servers:
        if server.environment == environment:
            return server
    while len(_servers) >= MOST:
        _servers.pop(0).close()
    _servers.append(_Server(environment))
    return _servers[-1]


class _Server:
    """The process that has imported the libraries, seen from a test's."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._orders, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  until `close`
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                cwd=ROOT,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=self._log,
            )

    def session(self, order: Mapping[str, Any]) -> Session:
        output, writes = os.pipe()
        told, tells = os.pipe()
        try:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [writes, tells])
        finally:
            os.close(writes)
            os.close(tells)
        lines = io.FileIO(told)
        pid = lines.readline()
        if not pid:
            self._log.seek(0)
            raise RuntimeError(self._log.read().decode(errors="backslashreplace"))
        return Session(int(pid), output, lines)

    def close(self) -> None:
        self._orders.close()
        self._process.wait()
        self._log.close()


_servers: list[_Server] = []


# What the process does


@dataclass(eq=False, slots=True)
class _Waiting:
    """For orders, and for sessions to end."""

    orders: socket.socket
    sessions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Descriptor of a session's process -> (its id, where its end is told)."""

    def order(self) -> Mapping[str, Any]:
        """Returns in each session that is forked, with what it is to do; ends with the test's process."""
        while True:
            for found in select.select([self.orders.fileno(), *self.sessions], [], [])[0]:
                if found in self.sessions:
                    self._ended(found)
                    continue
                text, descriptors, _, _ = socket.recv_fds(self.orders, _LARGEST, 2)
                if not text:
                    raise SystemExit
                pid = os.fork()
                if pid == 0:
                    self._leave(*descriptors)
                    found_order: Mapping[str, Any] = json.loads(text)
                    return found_order
                os.close(descriptors[0])
                os.write(descriptors[1], f"{pid}\n".encode())
                self.sessions[os.pidfd_open(pid)] = (pid, descriptors[1])

    def _ended(self, descriptor: int) -> None:
        pid, told = self.sessions.pop(descriptor)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(BrokenPipeError):  # nobody waits for it
            os.write(told, f"{code}\n".encode())
        os.close(told)
        os.close(descriptor)

    def _leave(self, output: int, told: int) -> None:
        """What is this process's, in a session that was forked from it."""
        os.dup2(output, 1)
        os.dup2(output, 2)
        for descriptor in (output, told, *self.sessions, *(told for _, told in self.sessions.values())):
            os.close(descriptor)
        self.orders.close()


def main(orders: int) -> NoReturn:
    for name in IMPORTED:
        importlib.import_module(name)
    sys.modules["anyio"].__doc__ = "PYTEST_DONT_REWRITE"  # a plugin of pytest's; that it is there already is no news
    gc.collect()
    gc.freeze()
    threads = [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")]
    assert [name for name in threads if name != "jemalloc_bg_thd"] == threads[:1], threads
    order = _Waiting(socket.socket(fileno=orders)).order()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = None
    sys.path[0] = order["cwd"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    sys.argv = ["pytest", *order["arguments"]]
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    raise SystemExit


if __name__ == "__main__":
    main(int(sys.argv[1]))
