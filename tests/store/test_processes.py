"""Several processes and one store: a key is computed once, and a process that dies leaves nothing in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from filelock import Timeout

from ftcheck.store import Store
from tests.store.entries import key, left_over, publish

ROOT = Path(__file__).resolve().parents[2]

COMPUTE_ONCE = """
import sys, time
from pathlib import Path
from ftcheck.store import Store
from tests.store.entries import key, publish

root, counter = map(Path, sys.argv[1:])
store, digest = Store(root), key().digest
print("ready", flush=True)
sys.stdin.readline()
if store.get("runs", digest) is None:
    with store.lock("runs", digest, on_wait=lambda message: print(message, flush=True)):
        if store.get("runs", digest) is None:
            with counter.open("a") as file:
                file.write("trained\\n")
            time.sleep(0.3)
            publish(store, key())
print(store.get("runs", digest).content["costs"]["train_seconds"], store.warnings, flush=True)
"""

HOLD = """
import sys
from pathlib import Path
from ftcheck.store import Store
from tests.store.entries import key

store = Store(Path(sys.argv[1]))
with store.lock("runs", key().digest):
    print("held", flush=True)
    sys.stdin.readline()
"""

PUBLISH_SLOWLY = """
import os, sys
from pathlib import Path
from ftcheck.store import Store
from ftcheck.store import runs
from tests.store.entries import key

store = Store(Path(sys.argv[1]))

def wait(*_):
    print("there", flush=True)
    sys.stdin.readline()

if sys.argv[2] == "before the rename":
    Store._renamed = staticmethod(wait)
elif sys.argv[2] == "before the manifest":
    runs.seal = wait
with store.lock("runs", key().digest), store.publish("runs", key()) as publication:
    (publication.path / "model").mkdir()
    (publication.path / "model" / "half").write_bytes(b"half")
    if sys.argv[2] == "among the files":
        wait()
"""


@contextmanager
def running(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that is killed at the end, if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def test_processes_that_want_one_key_compute_it_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        processes = [
            stack.enter_context(running(COMPUTE_ONCE, tmp_path / "store", tmp_path / "counter")) for _ in range(4)
        ]
        assert [line(process) for process in processes] == ["ready"] * 4
        go_on(processes)
        outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [output[-1] for output in outputs] == ["41.0 []"] * 4
    assert (tmp_path / "counter").read_text() == "trained\n"
    waited = [output[:-1] for output in outputs if len(output) > 1]
    assert waited
    assert all(
        said == [f"waiting for another process that is training the same (key {key().digest[:12]})"] for said in waited
    )


def test_a_lock_ends_with_its_process_however_it_ends(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with running(HOLD, store.root) as holder:
        assert line(holder) == "held"
        with pytest.raises(Timeout), store.lock("runs", key().digest, wait=False):
            pytest.fail("two processes hold one key")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with store.lock("runs", key().digest, wait=False):
        pass


def test_a_key_that_is_held_can_be_entered_again_and_is_free_afterwards(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), Store(tmp_path / "store")
    with store.lock("runs", key().digest):
        with store.lock("runs", key().digest):
            pass
        with pytest.raises(Timeout), other.lock("runs", key().digest, wait=False):
            pytest.fail("the inner block let go of the lock")
    with other.lock("runs", key().digest, wait=False):
        pass


def test_other_keys_and_stages_are_free_meanwhile(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), Store(tmp_path / "store")
    entered = []
    with store.lock("runs", key().digest):
        with other.lock("runs", key(seed=43).digest, wait=False):
            entered.append("another key")
        with other.lock("predictions", key().digest, wait=False):
            entered.append("another stage")
    assert entered == ["another key", "another stage"]


@pytest.mark.parametrize("where", ["among the files", "before the manifest", "before the rename"])
def test_a_process_killed_while_it_publishes_leaves_nothing_half_done(tmp_path: Path, where: str) -> None:
    store = Store(tmp_path / "store")
    with running(PUBLISH_SLOWLY, store.root, where) as process:
        assert line(process) == "there"
        assert store.get("runs", key().digest) is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert store.get("runs", key().digest) is None
    assert left_over(store.root) != []
    # The next session neither waits nor stumbles, and clears away what is left.
    following = Store(store.root)
    with following.lock("runs", key().digest, wait=False):
        entry = publish(following, key())
    assert "model/half" not in entry.manifest["files"]
    assert left_over(store.root) == []
    assert following.warnings == []


def test_what_a_living_process_writes_is_not_cleared_away(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with running(PUBLISH_SLOWLY, store.root, "among the files") as process:
        assert line(process) == "there"
        store.check_writable()
        go_on([process])
        assert process.wait() == 0
    entry = store.get("runs", key().digest)
    assert entry is not None
    assert entry.read("model/half") == b"half"
