"""Which of the tasks that are ready gets the room that there is."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.devices import Device
from ftcheck.executors import Work, leases, local
from ftcheck.executors.leases import Lease, Leases, Need
from ftcheck.executors.local import LocalExecutor
from ftcheck.executors.process import SlotProcess
from ftcheck.keys import Key
from ftcheck.spec.case import Resources
from tests.executors.test_needs import work

GB = 10**9
GPU = Device(kind="cuda", memory=10 * GB)


class Assigning:
    """An executor whose slots are told to nobody: `given` has the names of what they got, in order."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
        monkeypatch.setattr(leases, "FRESH_SECONDS", 0.0)
        self.place = place
        self.given: list[str] = []
        self.held: list[Lease] = []
        self.executor = LocalExecutor(jobs=jobs, devices=(GPU,), root=place)
        self.executor.leases = self.leases()
        monkeypatch.setattr(self.executor, "_slot", lambda lease, threads: None)
        monkeypatch.setattr(self.executor, "_send", self._send)

    def leases(self) -> Leases:
        """As another process has them."""
        return Leases((GPU,), cores=range(8), free=lambda device: None, place=self.place)

    def _send(self, slot: Any, task: Any, lease: Lease) -> None:
        self.given.append(task.work.job.case.id)
        self.held.append(lease)
        del self.executor._tasks[task.work.predict.digest]

    def begin(self, name: str, memory: int, seconds: float) -> None:
        self.executor._task(named(name, memory), seconds)

    def assign(self) -> bool:
        """Whether something waits for room."""
        with self.executor._changed:
            return self.executor._assign()

    def ask(self, name: str) -> None:
        self.executor._tasks[named(name, 1).predict.digest].asked = True


def named(name: str, memory: int) -> Work:
    made = work(Path("/nowhere"), resources=Resources(memory=memory))
    key = Key.of({"name": name})
    return replace(made, job=replace(made.job, case=replace(made.job.case, id=name)), train=key, predict=key)


@pytest.fixture
def assigning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assigning:
    return Assigning(tmp_path, monkeypatch, jobs=4)


def taken(assigning: Assigning, memory: int) -> Lease:
    """By another process."""
    lease = assigning.leases().ask(Need(memory=memory)).take()
    assert lease is not None
    return lease


def test_the_longest_goes_first_and_the_one_that_is_asked_for_before_it(assigning: Assigning) -> None:
    for name, seconds in (("short", 1.0), ("long", 9.0), ("asked", 2.0)):
        assigning.begin(name, GB, seconds)
    assigning.ask("asked")
    assert not assigning.assign()
    assert assigning.given == ["asked", "long", "short"]


def test_what_is_smaller_fills_what_is_left(assigning: Assigning) -> None:
    for name, memory in (("a", 6), ("b", 6), ("c", 3), ("d", 3)):
        assigning.begin(name, memory * GB, 1.0)
    assert assigning.assign()
    assert assigning.given == ["a", "c"]
    assigning.held[0].release()
    assert assigning.assign()
    assert assigning.given == ["a", "c", "b"]


def test_who_is_asked_for_does_not_wait_behind_its_own_session(assigning: Assigning) -> None:
    """Both need the same; the one that was first when there was no room isn't any more."""
    other = taken(assigning, 6 * GB)
    assigning.begin("first", 6 * GB, 9.0)
    assigning.begin("later", 6 * GB, 1.0)
    assert assigning.assign()
    assigning.ask("later")
    other.release()
    assigning.assign()
    assert assigning.given == ["later"]


def test_no_place_in_the_queue_is_kept_without_a_slot_to_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigning = Assigning(tmp_path, monkeypatch, jobs=1)
    other = taken(assigning, 8 * GB)
    assigning.begin("large", 6 * GB, 9.0)
    assert assigning.assign()
    assert len(list(tmp_path.glob("*.lease"))) == 2
    monkeypatch.setattr(assigning.executor, "jobs", 0)
    assert not assigning.assign()
    assert len(list(tmp_path.glob("*.lease"))) == 1
    other.release()


def test_what_is_asked_for_is_told_what_it_waits_for(assigning: Assigning) -> None:
    other = taken(assigning, 8 * GB)
    assigning.begin("a", 6 * GB, 1.0)
    assigning.ask("a")
    for _ in range(2):
        assigning.assign()
    (task,) = assigning.executor._tasks.values()
    (message,) = task.told
    assert message.message.startswith("waiting for a device: 6 GB are needed (held by process ")
    other.release()


def test_the_queue_is_not_searched_for_ever(assigning: Assigning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LOOK_AHEAD", 2)
    other = taken(assigning, 6 * GB)
    for name, memory, seconds in (("a", 8, 9.0), ("b", 8, 8.0), ("c", 1, 1.0)):
        assigning.begin(name, memory * GB, seconds)
    assigning.assign()
    assert assigning.given == []
    other.release()


def test_a_process_that_cannot_be_started_gives_its_part_back(
    assigning: Assigning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs the case, and nobody waits for memory that nothing has."""

    def start(*given: object) -> None:
        raise OSError(errno.EAGAIN, "no room")

    monkeypatch.delattr(assigning.executor, "_slot")
    monkeypatch.setattr(SlotProcess, "start", start)
    assigning.begin("a", 6 * GB, 1.0)
    assert not assigning.assign()
    (task,) = assigning.executor._tasks.values()
    assert str(task.result) == f"no process can be started to train it: [Errno {errno.EAGAIN}] no room"
    taken(assigning, 10 * GB).release()
