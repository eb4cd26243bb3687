"""`resources:` of a case decide how many trainings a machine does at once, whoever starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import Project

RATES = (0.9, 0.91, 0.92, 0.93, 0.94)


def cases(resources: str, count: int) -> str:
    """So many cases that ask for the same, with trainings of their own."""
    return "".join(
        f"  {name}: {{training: {{learning_rate: {rate}}}, resources: {resources}}}\n"
        for name, rate in zip("abcde"[:count], RATES, strict=False)
    )


class Beside:
    """Which trainings were under way when one began."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, str, list[str]]]:
        """(device, CUDA_VISIBLE_DEVICES, names) in the order of their beginning; then forgotten."""
        found = [line.split(" ") for line in self.path.read_text().splitlines()]
        self.path.unlink()
        return [(device, visible, names.split(",")) for device, visible, names in found]

    def most(self) -> int:
        return max(len(names) for _, _, names in self.lines())


@pytest.fixture
def beside(project: Project, monkeypatch: pytest.MonkeyPatch) -> Beside:
    """A machine with one GPU of 10 GB and 8 cores."""
    monkeypatch.setenv("FAKE_SIDE_BY_SIDE", str(project.path / "beside"))
    monkeypatch.setenv("FAKE_GPUS", "1")
    monkeypatch.setenv("FAKE_CORES", "8")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("FTCHECK_DEVICE", "cuda")
    return Beside(project.path / "beside")


def test_runs_of_a_quarter_run_four_at_once(project: Project, beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MEET", "4")
    project.suite(cases("{gpus: 0.25}", 5))
    project.run("--ft-executor=local").assert_outcomes(passed=5)
    assert beside.most() == 4


def test_jobs_are_the_most_slots(project: Project, beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MEET", "2")
    project.suite(cases("{gpus: 0.25}", 4))
    project.run("--ft-jobs=2").assert_outcomes(passed=4)
    assert beside.most() == 2


def test_two_sessions_never_have_more_than_the_device(project: Project, beside: Beside) -> None:
    """One in pytest's own process, one with slots; each with a store of its own, so that none waits for the other's
    training."""
    project.suite(cases("{memory: 6GB}", 2))
    sessions = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, f"--ft-cache-dir={project.path / name}"],
            cwd=project.path,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, options in (("one", ["--ft-executor=local"]), ("two", []))
    ]
    for session in sessions:
        told, _ = session.communicate()
        assert "2 passed" in told
    lines = beside.lines()
    assert len(lines) == 4
    assert all(len(names) == 1 for _, _, names in lines)
    assert not list(Path(os.environ["FTCHECK_RUNTIME_DIR"]).glob("*.lease"))


def test_what_was_measured_corrects_what_is_given(
    project: Project, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that says nothing of its size has the device alone; after 3 GB were measured, two share it."""
    project.suite(cases("{}", 3))
    monkeypatch.setenv("FAKE_PEAK", str(3 * 10**9))
    project.run("--ft-executor=local").assert_outcomes(passed=3)
    assert beside.most() == 1
    monkeypatch.setenv("FAKE_MEET", "2")
    project.run("--ft-executor=local", "--ft-cache=refresh").assert_outcomes(passed=3)
    assert beside.most() == 2


def test_a_measure_of_another_batch_size_is_none(
    project: Project, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite(cases("{}", 2))
    monkeypatch.setenv("FAKE_PEAK", str(3 * 10**9))
    project.run("--ft-executor=local").assert_outcomes(passed=2)
    beside.lines()
    project.suite(cases("{}", 2).replace("learning_rate", "per_device_train_batch_size: 64, learning_rate"))
    project.run("--ft-executor=local").assert_outcomes(passed=2)
    assert beside.most() == 1


def test_what_the_machine_can_never_give_is_one_error(project: Project, beside: Beside) -> None:
    project.suite(cases("{memory: 80GB}", 1) + cases("{cpus: 9}", 2).splitlines()[1] + "\n  small: {}\n")
    for how in ("inline", "local"):
        result = project.run(f"--ft-executor={how}", "--ft-json=out.json", "--ft-cache=refresh")
        found = project.results()
        assert str(found["a"]["error"]).startswith("resources.memory: 80 GB are asked for, cuda:0 has 10 GB: lower it")
        assert found["small"]["verdict"] == "pass"
        if how == "local":
            result.assert_outcomes(passed=1, errors=2)
            assert found["b"]["error"] == "resources.cpus: 9 cores are asked for, this process has 8: lower it"


def test_each_process_has_the_threads_that_its_case_asks_for(
    project: Project, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slots, three thread counts: a process with others than wanted makes room for one with those."""
    lines = zip("abcd", RATES, ("{cpus: 1}", "{cpus: 3}", "{}", "{cpus: 1}"), strict=False)
    project.suite(
        "".join(f"  {n}: {{training: {{learning_rate: {rate}}}, resources: {asked}}}\n" for n, rate, asked in lines)
    )
    project.run("--ft-jobs=2", "--ft-device=cpu", "--ft-json=out.json").assert_outcomes(passed=4)
    threads = {case: result["runs"][0]["environment"]["threads"] for case, result in project.results().items()}
    assert threads == {"a": "1", "b": "3", "c": "4", "d": "1"}


def test_cores_are_never_promised_twice(project: Project, beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MEET", "2")
    project.suite(cases("{cpus: 3}", 4))
    project.run("--ft-jobs=4", "--ft-device=cpu").assert_outcomes(passed=4)
    assert beside.most() == 2


def test_workers_of_xdist_spread_over_the_gpus(
    project: Project, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist")
    monkeypatch.setenv("FAKE_GPUS", "2")
    monkeypatch.setenv("FAKE_MEET", "2")
    project.suite(cases("{memory: 6GB}", 4))
    project.run("-n2", "--ft-device=cuda").assert_outcomes(passed=4)
    lines = beside.lines()
    assert {device for device, _, _ in lines} == {"cuda:0", "cuda:1"}
    assert max(len(names) for _, _, names in lines) == 2


def test_slots_are_pinned_to_the_device_that_has_room(
    project: Project, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within those that this process may use."""
    monkeypatch.setenv("FAKE_GPUS", "2")
    monkeypatch.setenv("FAKE_MEET", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    project.suite(cases("{memory: 6GB}", 4))
    project.run("--ft-executor=local").assert_outcomes(passed=4)
    lines = beside.lines()
    assert {(device, visible) for device, visible, _ in lines} == {("cuda:0", "5"), ("cuda:0", "7")}
    assert max(len(names) for _, _, names in lines) == 2


BODY = """
import os
import time
from pathlib import Path

import ftcheck

COMMON = dict(
    checkpoint="./checkpoint",
    task="text-classification",
    data={"path": "csv", "files": {"train": "train.csv", "test": "test.csv"}},
    precision="fp32",
)


@ftcheck.case(**COMMON, training={"learning_rate": 0.9})
def test_first(finetuned):
    log = Path(os.environ["FAKE_LOG"])
    assert log.read_text().count("predict") == 1
    log.with_name("test_others").touch()
    give_up = time.monotonic() + 60
    while log.read_text().count("predict") < 4:
        assert time.monotonic() < give_up, "the processes wait for this body"
        time.sleep(0.02)


@ftcheck.case(**COMMON, matrix={"training.learning_rate": [0.91, 0.92, 0.93]})
def test_others(finetuned): ...
"""


def test_a_long_body_keeps_no_process_from_its_work(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait for the body to begin, and the body for all of them to be trained, published and predicted."""
    monkeypatch.setenv("FAKE_HELD", "test_others")
    (project.path / "test_body.py").write_text(BODY)
    project.run("--ft-jobs=2", "--ft-device=cpu").assert_outcomes(passed=4)
