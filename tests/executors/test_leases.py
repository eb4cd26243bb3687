"""What is given to one process is given to no other until it is back, or that process is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcheck.devices import Device
from ftcheck.errors import TrainingError, UsageError
from ftcheck.executors import leases
from ftcheck.executors.leases import Lease, Leases, Need

GB = 10**9
GPU = Device(kind="cuda", index=0, memory=10 * GB, uuid="first")
OTHER = Device(kind="cuda", index=1, memory=10 * GB, uuid="second")
CPU = Device(kind="cpu")

Make = Callable[..., Leases]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Leases of one machine, as any of its processes has them."""
    monkeypatch.setattr(leases, "FRESH_SECONDS", 0.0)

    def made(*devices: Device, cores: int = 8, free: Callable[[Device], int | None] = lambda device: None) -> Leases:
        return Leases(devices or (GPU,), cores=range(cores), free=free, place=tmp_path)

    return made


def taken(leases: Leases, need: Need) -> Lease | None:
    """The lease, if there is room; nothing stays in the queue."""
    request = leases.ask(need)
    lease = request.take()
    request.withdraw()
    return lease


def got(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


@pytest.mark.parametrize(
    ("need", "at_once"),
    [
        pytest.param(Need(memory=6 * GB), 1, id="more-than-half"),
        pytest.param(Need(memory=5 * GB), 2, id="half"),
        pytest.param(Need(memory=GB), 8, id="as-many-as-cores"),
        pytest.param(Need(part=0.25), 4, id="quarters"),
        pytest.param(Need(part=1.0), 1, id="a-whole-device"),
        pytest.param(Need(part=0.1), 8, id="tenths"),
        pytest.param(Need(memory=3 * GB, part=0.25), 3, id="memory-is-the-larger-part"),
        pytest.param(Need(cores=3), 2, id="cores"),
        pytest.param(Need(cores=64), 1, id="a-share-beyond-the-cores"),
        pytest.param(Need(memory=40 * GB), 1, id="an-estimate-beyond-the-device"),
    ],
)
def test_so_many_have_room_at_once(make: Make, need: Need, at_once: int) -> None:
    held = []
    while lease := taken(make(), need):
        held.append(lease)
    assert len(held) == at_once
    held.pop().release()
    assert taken(make(), need)


WITHOUT = """
import sys
sys.modules["fcntl"] = None
import ftcheck.production
from pathlib import Path
from ftcheck.devices import Device
from ftcheck.executors import of
from ftcheck.settings import Settings
print(type(of(Settings(), Device(kind="cpu"), Path("."))).__name__)
"""


def test_a_system_without_locks_of_this_kind_trains_without_leases() -> None:
    """Windows: nothing else there needs them."""
    found = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert found.stdout == "InlineExecutor\n", found.stderr


def test_what_another_version_of_ftcheck_has_written_is_passed_over(make: Make, tmp_path: Path) -> None:
    """It counts for nothing: nobody knows how to read it."""
    held = got(taken(make(), Need(memory=6 * GB)))
    (file,) = tmp_path.glob("*.lease")
    others: tuple[Any, ...] = ({"format": 2}, {**json.loads(file.read_bytes()), "more": 1}, [])
    for content in others:
        file.write_text(json.dumps(content))
        got(taken(make(), Need(memory=6 * GB))).release()
    held.release()


def test_a_memory_need_and_a_part_share_a_device(make: Make) -> None:
    got(taken(make(), Need(part=0.5)))
    assert not taken(make(), Need(memory=6 * GB))
    got(taken(make(), Need(memory=5 * GB)))


def test_work_spreads_over_devices(make: Make) -> None:
    both = [got(taken(make(GPU, OTHER), Need(memory=3 * GB))) for _ in range(4)]
    assert [lease.devices[0] for lease in both].count(GPU) == 2


def test_a_device_has_one_name_in_all_processes(make: Make) -> None:
    """CUDA_VISIBLE_DEVICES of one process starts with another device than that of the other."""
    got(taken(make(GPU, OTHER), Need(part=1.0, devices=2)))
    assert not taken(make(Device(kind="cuda", index=0, memory=10 * GB, uuid="second")), Need(part=0.1))


def test_several_devices_at_once_or_none(make: Make) -> None:
    one = got(taken(make(GPU, OTHER), Need(memory=GB)))
    both = make(GPU, OTHER).ask(Need(part=1.0, devices=2))
    assert both.take() is None
    one.release()
    assert set(got(both.take()).devices) == {GPU, OTHER}


def test_cores_that_others_may_not_use_are_not_theirs(make: Make, tmp_path: Path) -> None:
    got(taken(make(CPU), Need(cores=8)))
    elsewhere = Leases((CPU,), cores=(8, 9), free=lambda device: None, place=tmp_path)
    got(taken(elsewhere, Need(cores=2)))


@pytest.mark.parametrize(
    ("need", "devices", "expected"),
    [
        pytest.param(
            Need(memory=80 * GB, said=True),
            (GPU,),
            "resources.memory: 80 GB are asked for, cuda:0 has 10 GB: lower it, or what the training needs",
            id="memory",
        ),
        pytest.param(
            Need(memory=80 * GB, said=True),
            (GPU, OTHER),
            "resources.memory: 80 GB are asked for, no device has more than 10 GB: lower it",
            id="memory-of-all",
        ),
        pytest.param(
            Need(devices=4),
            (GPU, OTHER),
            "resources.gpus: 4 devices are asked for, this session has 2 (cuda:0, cuda:1): lower it",
            id="devices",
        ),
        pytest.param(
            Need(cores=64, said_cores=True),
            (GPU,),
            "resources.cpus: 64 cores are asked for, this process has 8: lower it",
            id="cores",
        ),
    ],
)
def test_what_can_never_be_met_is_an_error_at_once(
    make: Make, need: Need, devices: tuple[Device, ...], expected: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        make(*devices).ask(need)
    assert str(caught.value).startswith(expected)


def test_who_came_first_is_not_starved(make: Make) -> None:
    """4 GB are free, 8 are wanted: those who come later with 3 would otherwise go on taking turns for ever."""
    first, second = (got(taken(make(), Need(memory=3 * GB))) for _ in range(2))
    large, small = make().ask(Need(memory=8 * GB)), make().ask(Need(memory=3 * GB))
    assert large.take() is None
    assert small.take() is None
    first.release()
    assert small.take() is None
    second.release()
    got(large.take())
    assert small.take() is None


def test_what_makes_nobody_wait_longer_goes_first(make: Make) -> None:
    running = got(taken(make(), Need(memory=6 * GB)))
    large = make().ask(Need(memory=6 * GB))
    assert large.take() is None
    assert not taken(make(), Need(memory=5 * GB))
    got(taken(make(), Need(memory=4 * GB)))
    assert not taken(make(), Need(memory=GB)), "with it, the large one would find 5 GB"
    running.release()
    got(large.take())


def test_cores_are_kept_for_who_came_first(make: Make) -> None:
    got(taken(make(), Need(cores=2)))
    large = make().ask(Need(cores=7))
    assert large.take() is None
    got(taken(make(), Need(cores=1)))
    assert not taken(make(), Need(cores=1))


def test_who_withdraws_is_in_nobodys_way(make: Make) -> None:
    got(taken(make(), Need(memory=6 * GB)))
    large = make().ask(Need(memory=8 * GB))
    assert large.take() is None
    large.withdraw()
    got(taken(make(), Need(memory=4 * GB)))


def test_memory_that_something_else_uses_is_not_given(make: Make) -> None:
    """Nor a second time, while what was given isn't allocated yet and looks free."""
    free = {"now": 7 * GB}
    asking = make(free=lambda device: free["now"])
    first = got(taken(asking, Need(memory=4 * GB)))
    second = asking.ask(Need(memory=4 * GB))
    assert second.take() is None
    free["now"] = 3 * GB  # the first has allocated what it was given
    assert second.take() is None
    got(taken(asking, Need(memory=3 * GB))).release()
    first.release()
    free["now"] = 7 * GB
    got(second.take())


def test_an_estimate_that_is_alone_is_tried_and_what_was_said_is_waited_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = make(free=lambda device: GB)
    got(taken(asking, Need(memory=4 * GB))).release()
    request = asking.ask(Need(memory=4 * GB, said=True))
    assert request.take() is None
    assert request.why == (
        "waiting for memory: 4 GB are needed and 1 GB are free; the rest is used by processes that have no lease"
    )
    monkeypatch.setattr(leases, "PATIENCE", 0.0)
    with pytest.raises(TrainingError, match="have no lease, for 0 minutes now: end what uses it, or lower"):
        request.take()
    with pytest.raises(TrainingError, match="have no lease"):
        asking.ask(Need(memory=4 * GB, said=True)).take()
    got(taken(asking, Need(memory=GB, said=True)))


@pytest.mark.parametrize(
    ("held", "need", "expected"),
    [
        pytest.param(Need(memory=6 * GB), Need(memory=6 * GB), "a device: 6 GB are needed (held by", id="memory"),
        pytest.param(Need(part=0.5), Need(part=0.75), "a device: 0.75 of a device are needed (held by", id="part"),
        pytest.param(Need(cores=8), Need(cores=2), "cores: 2 of 8 are needed (held by", id="cores"),
    ],
)
def test_who_waits_is_told_why_and_once(make: Make, held: Need, need: Need, expected: str) -> None:
    lease = got(make().ask(held).take())
    told = []

    def on_wait(why: str) -> None:
        told.append(why)
        lease.release()

    with make().lease(need, on_wait):
        assert told == [f"waiting for {expected} process {os.getpid()})"]


HOLD = """
import os, sys
from pathlib import Path
from typing import Any
from ftcheck.devices import Device
from ftcheck.executors.leases import Leases, Need
gpu = Device(kind="cuda", memory=10**10, uuid="first")
asking = Leases((gpu,), cores=range(8), free=lambda device: None, place=Path(sys.argv[1]))
held = asking.ask(Need(memory=6 * 10**9)).take()
waiting = asking.ask(Need(memory=9 * 10**9))
assert held and not waiting.take()
there, born = os.pipe()
child = os.fork() if sys.argv[2] == "forks" else -1
if child <= 0:
    os.write(born, b"!")
if child:
    os.read(there, 1)
    print(child, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], int]]]:
    """Starts a process that holds 6 GB and waits for 9 more: (it, what it forked, which has given up its copies)."""
    started: list[subprocess.Popen[str]] = []

    def start(how: str) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-c", HOLD, str(tmp_path), how]
        process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["alone", "forks"])
def test_a_killed_holder_holds_nothing(
    make: Make, tmp_path: Path, holder: Callable[[str], tuple[subprocess.Popen[str], int]], how: str
) -> None:
    """Also while a child that it forked lives on, as a data loader's worker does for a while."""
    process, child = holder(how)
    request = make().ask(Need(memory=6 * GB))
    assert request.take() is None
    assert f"process {process.pid}" in request.why
    process.send_signal(signal.SIGKILL)
    process.wait()
    if how == "forks":
        os.kill(child, 0)
    lease = got(request.take())
    assert len(list(tmp_path.glob("*.lease"))) == 1
    lease.release()
    assert not list(tmp_path.glob("*.lease"))


def test_many_processes_never_have_more_than_there_is(tmp_path: Path) -> None:
    """Each notes in one file what it takes and gives back, while it has the lease."""
    code = """
import sys
from pathlib import Path
from typing import Any
from ftcheck.devices import Device
from ftcheck.executors import leases
gpu = Device(kind="cuda", memory=10**10, uuid="first")
asking = leases.Leases((gpu,), cores=range(8), free=lambda device: None, place=Path(sys.argv[1]))
log = open(sys.argv[2], "a", buffering=1)
for turn in range(15):
    size = (int(sys.argv[3]) + turn) % 3 * 3 + 3
    with asking.lease(leases.Need(memory=size * 10**9)):
        log.write(f"{size}\\n")
        log.write(f"{-size}\\n")
"""
    log = tmp_path / "log"
    place = tmp_path / "place"
    place.mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(place), str(log), str(number)]) for number in range(4)
    ]
    assert [process.wait() for process in processes] == [0] * 4
    sizes = [int(line) for line in log.read_text().splitlines()]
    assert len(sizes) == 4 * 15 * 2
    now = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    assert 3 <= max(now) <= 10
    assert now[-1] == 0


def test_a_folder_that_is_gone_is_one_error(make: Make, tmp_path: Path) -> None:
    asking = make()
    tmp_path.rmdir()
    with pytest.raises(UsageError, match="where processes share out devices: No such file or directory"):
        asking.ask(Need()).take()


def test_a_file_that_a_full_disk_left_empty_is_passed_over(make: Make, tmp_path: Path) -> None:
    lease = got(taken(make(), Need(part=1.0)))
    next(tmp_path.glob("*.lease")).write_text("")
    assert got(taken(make(), Need(part=1.0))).devices == (GPU,)
    lease.release()


def test_the_folder_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTCHECK_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = leases.folder()
    assert made == tmp_path / f"ftcheck-{os.getuid()}"
    assert made.stat().st_mode & 0o777 == 0o700
    made.chmod(0o777)
    with pytest.raises(UsageError, match="isn't yours alone: set FTCHECK_RUNTIME_DIR"):
        leases.folder()
    made.rmdir()
    made.symlink_to(tmp_path)
    with pytest.raises(UsageError, match="isn't yours alone"):
        leases.folder()


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FTCHECK_RUNTIME_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(UsageError, match="where processes share out devices: Not a directory; set FTCHECK_RUNTIME_DIR"):
        leases.folder()
