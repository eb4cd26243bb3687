"""One training in several processes: what comes back of it, and that nothing is left of what went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftcheck import machine
from ftcheck.devices import Cuda, Device
from ftcheck.errors import TrainingError
from ftcheck.executors import Work, launching
from ftcheck.executors.deadline import Timeout
from ftcheck.executors.launched import Part
from ftcheck.finetune import Job, Progress, Trained
from ftcheck.keys import Key
from ftcheck.spec import Case, Checkpoint, Data, Resources
from ftcheck.store import Store
from tests.executors.conftest import children
from tests.plugin.conftest import REPOSITORY

KEY = Key.of({"a": 1})
PAIR = Resources(gpus=2)
TWO = Part(processes=2)


def work(timeout: Timeout | None = None, *, device: str = "cpu", asked: Resources = PAIR) -> Work:
    case = Case(
        id="case",
        suite=Path("/suite.ft.yaml"),
        line=1,
        checkpoint=Checkpoint(path="/nowhere", local=True),
        task="text-classification",
        data=Data(kind="callable", path="rows"),
        resources=asked,
    )
    job = Job(case=case, seed=1, device=device, precision="fp32")
    return Work(job=job, train=KEY, predict=KEY, refuse_changed=lambda: None, timeout=timeout)


@pytest.fixture
def does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Say what the ranks do. Afterwards no process is left, nor a file of theirs."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("from tests.executors import ranks\nranks.install()\n")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path / "site"), str(REPOSITORY))))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    before = set(children(os.getpid()))
    yield lambda doing: monkeypatch.setenv("FAKE_RANKS", doing)
    assert set(children(os.getpid())) == before
    assert list((tmp_path / "tmp").iterdir()) == []


def trained(given: Work, tmp_path: Path) -> tuple[Trained, list[Progress], Store]:
    heard: list[Progress] = []
    store = Store(tmp_path / "store")
    return launching.train(given, tmp_path / "model", store, heard.append, lambda message: None), heard, store


def test_the_first_process_saves_and_is_heard(does: Callable[[str], None], tmp_path: Path) -> None:
    does("train")
    found, heard, store = trained(work(asked=Resources(gpus=2, cpus=3)), tmp_path)
    assert found.notes == ("0",)
    assert found.environment["WORLD_SIZE"] == "2"
    assert found.environment["OMP_NUM_THREADS"] == "3"
    assert found.environment["path"] == sys.path[0]
    assert [progress.loss for progress in heard] == [0.5]
    assert store.warnings == ["of a store"]
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("doing", "expected"),
    [
        pytest.param(
            "signal SIGKILL",
            r"^process 1 of the 2 \(0 to 1\) that trained together is gone: killed by SIGKILL \(out of memory\? .*\)"
            "; the last that it printed: a last word$",
            id="killed",
        ),
        pytest.param(
            "exit 7", "process 1 .* is gone: exit status 7; the last that it printed: a last word$", id="exit"
        ),
        pytest.param("refuse", "^the loss is nan at step 7", id="ours"),
        pytest.param(
            "bug",
            r"process 1 .* failed: ZeroDivisionError: division by zero; the last that it printed: a last word\n"
            r"Traceback(.|\n)*ranks.py(.|\n)*ZeroDivisionError: division by zero$",
            id="bug",
        ),
    ],
)
def test_what_ends_one_process_ends_all_with_one_error(
    does: Callable[[str], None], tmp_path: Path, doing: str, expected: str
) -> None:
    does(doing)
    with pytest.raises(TrainingError, match=expected):
        trained(work(), tmp_path)


def test_what_takes_too_long_is_stopped_in_all(does: Callable[[str], None], tmp_path: Path) -> None:
    timeout = Timeout(seconds=0.2, said="timeout: 0.2s")
    does("hang")
    with pytest.raises(TrainingError, match=r"^timeout: 0.2s is over: stopped at .*ranks.py:\d+ in _train"):
        trained(work(timeout), tmp_path)


def test_what_cannot_be_stopped_is_ended_from_outside(
    does: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "GRACE", 1.0)
    does("deaf")
    with pytest.raises(TrainingError, match="stopped from outside, since its 2 processes didn't stop by themselves"):
        trained(work(Timeout(seconds=0.2, said="timeout: 0.2s")), tmp_path)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_no_process_outlives_who_wants_the_training(
    does: Callable[[str], None], tmp_path: Path, end: signal.Signals
) -> None:
    does("deaf")
    code = "from pathlib import Path; from tests.executors.test_launching import *; trained(work(), Path.cwd())"
    wanting = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    _until((tmp_path / "deaf").exists)
    started = children(wanting.pid)
    assert len(started) == 3
    wanting.send_signal(end)
    assert wanting.wait(60) != 0
    _until(lambda: not any(_runs(pid) for pid in started))


def _runs(pid: int) -> bool:
    """Whether it is there, and more than an entry in the table that nobody has taken note of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "visible", "expected"),
    [
        pytest.param(None, (), "0,1", id="all"),
        pytest.param("5,3,7", (), "5,3", id="inside-what-is-visible"),
        pytest.param("5", ("7", "5"), "7,5", id="as-the-executor-says"),
    ],
)
def test_each_process_has_a_device_of_those_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, given: str | None, visible: tuple[str, ...], expected: str
) -> None:
    found = tuple(Device(kind="cuda", index=index) for index in range(3))
    monkeypatch.setattr("ftcheck.devices.cuda", lambda: Cuda(devices=found))
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert launching.environment(work(device="cuda:0").job, TWO, visible)["CUDA_VISIBLE_DEVICES"] == expected


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        pytest.param("cuda:1", r"asks for 2 devices, and this training may use 1 \(1\): ask for fewer", id="too-few"),
        pytest.param("mps", "asks for 2 devices, and mps is one", id="mps"),
    ],
)
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, device: str, expected: str) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(
        "ftcheck.devices.cuda", lambda: Cuda(devices=tuple(Device(kind="cuda", index=index) for index in range(2)))
    )
    with pytest.raises(TrainingError, match=expected):
        launching.environment(work(device=device).job, TWO)


@pytest.mark.parametrize(
    ("set_to", "asked", "expected"),
    [
        pytest.param(None, PAIR, "4", id="a-share-of-the-cores"),
        pytest.param("3", PAIR, "3", id="as-the-user-says"),
        pytest.param("8", PAIR, "4", id="no-more-than-there-are"),
        pytest.param("3", Resources(gpus=2, cpus=2), "2", id="as-the-case-says"),
        pytest.param(None, Resources(gpus=16), "1", id="at-least-one"),
    ],
)
def test_threads_of_each_process(
    monkeypatch: pytest.MonkeyPatch, set_to: str | None, asked: Resources, expected: str
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: tuple(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_to is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", set_to)
    part = Part(processes=asked.processes)
    assert launching.environment(work(asked=asked).job, part)["OMP_NUM_THREADS"] == expected
