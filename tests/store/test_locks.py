"""Lock files: gone with their last holder, and never two holders at once for that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import Timeout

from ftcheck.store import Store, prune
from ftcheck.store.locking import Locks

RACE = """
import os, random, sys, time
from pathlib import Path
from ftcheck.store.locking import Locks

folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
locks = Locks(folder / "locks")
for _ in range(rounds):
    name = random.choice("ab")
    with locks.hold(name):
        inside = os.open(folder / f"inside-{name}", os.O_CREAT | os.O_EXCL)  # raises where another one is inside
        count = folder / f"count-{name}"
        read = int(count.read_text()) if count.exists() else 0
        if random.random() < 0.2:
            time.sleep(0.001)
        count.write_text(str(read + 1))
        os.close(inside)
        os.unlink(folder / f"inside-{name}")
"""
HOLDS = """
import sys, time
from pathlib import Path
from ftcheck.store.locking import Locks
with Locks(Path(sys.argv[1])).hold("a"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_never_hold_a_lock_whose_file_comes_and_goes(tmp_path: Path) -> None:
    """Each turn deletes the file while others have it open and wait."""
    processes, rounds = 4, 150
    command = [sys.executable, "-c", RACE, str(tmp_path), str(rounds)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(processes)]
    assert [(one.communicate()[1], one.returncode) for one in running] == [("", 0)] * processes
    assert sum(int(path.read_text()) for path in tmp_path.glob("count-*")) == processes * rounds
    assert list((tmp_path / "locks").iterdir()) == []


def test_an_inner_holder_leaves_the_file_to_the_outer_one(tmp_path: Path) -> None:
    locks, others = Locks(tmp_path), Locks(tmp_path)
    with locks.hold("a"):
        with locks.hold("a"):
            pass
        with pytest.raises(Timeout), others.hold("a", wait=False):
            pass
        assert (tmp_path / "a.lock").exists()
    assert not (tmp_path / "a.lock").exists()


def test_what_may_not_be_locked_is_left_where_it_is(tmp_path: Path) -> None:
    """In a store that several users share, say."""
    (tmp_path / "foreign.lock").mkdir()
    (tmp_path / "left.lock").touch()
    Locks(tmp_path).sweep()
    assert os.listdir(tmp_path) == ["foreign.lock"]


def test_a_lock_that_was_let_go_is_forgotten(tmp_path: Path) -> None:
    """A session of thousands of cases takes thousands of locks."""
    locks = Locks(tmp_path)
    for place in range(100):
        with locks.hold(f"{place}"):
            pass
    assert len(locks._held) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_what_a_killed_process_leaves_goes_with_the_next_pruning(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(store.locks.folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        prune(store, max_size=0)
        assert os.listdir(store.locks.folder) == ["a.lock"], "it is held"
        process.send_signal(signal.SIGKILL)
    prune(store, max_size=0)
    assert os.listdir(store.locks.folder) == []
