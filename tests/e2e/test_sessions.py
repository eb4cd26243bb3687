"""Sessions that meet: two that want one key, one that is interrupted, and what the next one finds."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests import tiny
from tests.e2e.project import INTERNAL, Done, Project, interrupt

SLOW = """
import os, time, warnings
from pathlib import Path

if "SLOW" in os.environ:
    with warnings.catch_warnings(action="ignore"):  # of what transformers imports
        from transformers import Trainer

    step = Trainer.training_step

    def slow(self, *args, **kwargs):
        Path("training").touch()
        time.sleep(float(os.environ["SLOW"]))
        return step(self, *args, **kwargs)

    Trainer.training_step = slow
"""
"""A conftest that makes each training step take longer without changing any key, and tells when the first begins."""


@pytest.fixture
def slow(project: Project) -> Project:
    project.write(**{"conftest.py": SLOW})
    project.suite("  good: {}\n")
    return project


def begins(project: Project) -> None:
    """Wait until a training has begun."""
    while not (project.path / "training").exists():
        time.sleep(0.05)


def test_of_two_sessions_one_trains_and_the_other_waits_and_says_so(slow: Project) -> None:
    first = slow.start("--ft-json=first.json", SLOW="3")
    begins(slow)
    second = slow.run()
    text, _ = first.communicate()
    assert (first.returncode, second.code) == (0, 0), text + second.text
    assert "good: waiting for another process that is training the same" in second.text
    assert "waiting" not in text
    trained, waited = slow.results("first.json")["good"], second.results["good"]
    assert [r["runs"][0]["train"]["source"] for r in (trained, waited)] == ["computed", "store"]
    assert trained["metrics"] == waited["metrics"]
    assert len(slow.kept()) == 1


def test_ctrl_c_in_a_training_keeps_nothing_and_the_next_session_works(slow: Project, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = slow.start("--ft-json=out.json", SLOW="60", TMPDIR=str(temporary))
    begins(slow)
    interrupt(process)
    text, _ = process.communicate()
    assert process.returncode == pytest.ExitCode.INTERRUPTED, text
    assert "Traceback" not in text
    assert json.loads((slow.path / "out.json").read_text())["complete"] is False
    assert [slow.kept(stage) for stage in ("runs", "predictions", "scores")] == [[], [], []]
    assert slow.scratch() == []
    assert list(temporary.glob("*ftcheck*")) == []
    again = slow.run(TMPDIR=str(temporary))
    assert again.code == pytest.ExitCode.OK, again.text
    assert again.results["good"]["runs"][0]["train"]["source"] == "computed"
    assert slow.scratch() == []
    assert list(temporary.glob("*ftcheck*")) == []


def test_a_killed_session_leaves_nothing_that_the_next_one_keeps(slow: Project, tmp_path: Path) -> None:
    process = slow.start(SLOW="60")
    begins(slow)
    process.kill()
    process.communicate()
    again = slow.run()
    assert again.code == pytest.ExitCode.OK, again.text
    assert "waiting" not in again.text
    assert slow.scratch() == []
    assert len(slow.kept()) == 1


def refused(done: Done, why: str) -> None:
    """The one error of a store that can't be written."""
    message = done.errors("good")
    assert message.startswith("the run store ")
    assert f"can't be written: {why}; " in message
    assert message.endswith("or choose another place with --ft-cache-dir")
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert not INTERNAL.search(done.text), done.text


@pytest.mark.parametrize(
    ("options", "why", "trains"),
    [
        pytest.param("size=32k", "No space left on device", False, id="full-before"),
        pytest.param("size=1m", "No space left on device", True, id="full-after-training"),
        pytest.param("ro", "Read-only file system", False, id="read-only"),
    ],
)
def test_a_store_that_cannot_be_written_is_one_error(
    slow: Project, tmp_path: Path, options: str, why: str, trains: bool
) -> None:
    # Weights of more than 1 MB: there is room for all but them.
    slow.link(tiny.bert(tmp_path / "large", hidden_size=128, intermediate_size=512), "large")
    slow.suite("  good: {checkpoint: ./large}\n")
    slow.store.mkdir()
    refused(slow.run(disk=f"mount -t tmpfs -o {options} none {slow.store}", SLOW="0"), why)
    assert (slow.path / "training").exists() == trains


def test_a_read_only_store_answers_what_it_has(project: Project) -> None:
    project.suite("  good: {}\n")
    assert project.run().code == pytest.ExitCode.OK
    project.suite("  good: {}\n  new: {seeds: [7]}\n")
    disk = f"mount --bind {project.store} {project.store} && mount -o remount,ro,bind {project.store}"
    done = project.run(disk=disk)
    assert done.results["good"]["verdict"] == "pass"
    assert done.results["good"]["runs"][0]["train"]["source"] == "store"
    assert "can't be written: Read-only file system" in done.errors("new")


def test_trainings_in_processes_of_their_own_give_the_metrics_of_one_process(project: Project, tmp_path: Path) -> None:
    """Seeds, folds, and a case that starts from another's model, with one thread everywhere."""
    project.suite(
        "  base: {seeds: 2}\n  chained: {init_from: case:base, training: {num_train_epochs: 2}}\n  folded: {folds: 2}\n"
    )
    alone = project.run(store=tmp_path / "one", OMP_NUM_THREADS="1")
    many = project.run("--ft-jobs=2", store=tmp_path / "other", OMP_NUM_THREADS="1")
    assert (alone.code, many.code) == (0, 0), alone.text + many.text
    scores = [
        {
            case: {m["name"]: m["per_seed"] for m in metrics if "seconds" not in m["name"]}
            for case, metrics in done.metrics.items()
        }
        for done in (alone, many)
    ]
    assert scores[0] == scores[1]
    keys = [
        {case: [run["train"]["key"] for run in result["runs"]] for case, result in done.results.items()}
        for done in (alone, many)
    ]
    assert keys[0] == keys[1]
