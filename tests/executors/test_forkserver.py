"""Workers that are forked: pinned as if they had been started afresh, heard of to their end, and none where a copy
would not do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from ftcheck.executors import ending, forkserver
from ftcheck.executors.forkserver import Forked, ForkServer
from tests.executors.conftest import children
from tests.plugin.conftest import Project

pytestmark = pytest.mark.skipif(not forkserver.SUPPORTED, reason="no workers are forked on this system")

COMPUTED = """
def computed():
    import hashlib
    import torch
    torch.manual_seed(0)
    layers = [torch.nn.Linear(257, 1031), torch.nn.LayerNorm(1031), torch.nn.Linear(1031, 3)]
    model = torch.nn.Sequential(*layers)
    for step in range(3):
        model(torch.randn(1009, 257)).square().mean().backward()
    found = b"".join(one.grad.numpy().tobytes() for one in model.parameters())
    return torch.get_num_threads(), hashlib.sha256(found).hexdigest()
"""
"""What depends on how many threads add it up."""


def python(code: str, threads: int) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    made = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=True
    )
    return made.stdout.splitlines()[-1]


def test_a_copy_with_two_threads_computes_what_a_process_of_two_threads_computes() -> None:
    forked = f"""{COMPUTED}
import os, torch
from ftcheck.executors.forkserver import _safe, _use_threads
assert _safe()
if pid := os.fork():
    assert os.waitpid(pid, 0)[1] == 0
else:
    _use_threads(2)
    print(*computed(), flush=True)
    os._exit(0)
"""
    said = python(forked, 1)
    assert said.split()[0] == "2"
    assert said == python(f"{COMPUTED}\nprint(*computed())", 2)


@pytest.mark.parametrize(
    ("before", "safe"),
    [
        pytest.param("", True, id="nothing"),
        pytest.param("threading.Thread(target=threading.Event().wait, daemon=True).start()", False, id="a thread"),
        pytest.param("kept = mmap.mmap(os.open(place, os.O_RDONLY), 4, prot=1)", False, id="CUDA's driver"),
    ],
)
def test_a_process_is_copied_only_while_a_copy_is_as_good(before: str, safe: bool, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_bytes(b"none")
    code = f"""
import mmap, os, threading
from ftcheck.executors.forkserver import _safe
place = {str(tmp_path / "libcuda.so.1")!r}
{before}
print(_safe())
"""
    assert python(code, 1) == str(safe)


@pytest.fixture
def server(project: Project) -> Iterator[ForkServer]:
    """One that has imported nothing, since trainings are faked."""
    made = ForkServer.start()
    yield made
    made.close()


def forked(server: ForkServer) -> tuple[Forked, Connection]:
    ours, theirs = Pipe()
    with theirs, TemporaryFile() as log:
        worker = server.fork({"OMP_NUM_THREADS": "1"}, theirs, log)
    assert worker is not None
    return worker, ours


def test_a_worker_ends_when_nobody_wants_it(server: ForkServer) -> None:
    worker, pipe = forked(server)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.01)
    pipe.close()
    assert worker.wait() == 1
    assert worker.poll() == 1
    assert worker.pid is not None


def test_a_worker_that_is_ended_is_gone_with_its_status(server: ForkServer) -> None:
    (one, _pipe), (other, _other_pipe) = forked(server), forked(server)
    assert one.poll() is None
    while one.pid is None or other.pid is None:
        pass
    assert sorted(children(server._process.pid)) == sorted([one.pid, other.pid])
    ending.signal_group(one, signal.SIGTERM)
    assert one.wait() == -signal.SIGTERM
    ending.end([other])
    assert other.returncode in (-signal.SIGTERM, -signal.SIGKILL)
    assert children(server._process.pid) == []


def test_one_that_is_not_there_yet_need_not_be_waited_for(server: ForkServer) -> None:
    server._process.send_signal(signal.SIGSTOP)
    worker, _ = forked(server)
    ending.end([worker])
    assert worker.returncode == -signal.SIGKILL
    server._process.send_signal(signal.SIGCONT)


def test_with_the_server_its_workers_are_gone(server: ForkServer) -> None:
    worker, _pipe = forked(server)
    while worker.pid is None:
        pass
    server.close()
    assert worker.wait() == -signal.SIGKILL


@pytest.mark.parametrize("change", ["path", "folder", "environment"])
def test_what_imports_depend_on_has_to_be_as_it_was(
    change: str, server: ForkServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    match change:
        case "path":
            monkeypatch.syspath_prepend(tmp_path)
        case "folder":
            monkeypatch.chdir(tmp_path)
        case _:
            monkeypatch.setenv("HF_HOME", str(tmp_path))
    ours, theirs = Pipe()
    with ours, theirs, TemporaryFile() as log:
        assert server.fork({"OMP_NUM_THREADS": "1"}, theirs, log) is None
