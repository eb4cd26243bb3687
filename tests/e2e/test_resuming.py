"""A session that is killed while it trains, in a project whose paths are odd, and the next one, which goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project
from tests.e2e.test_sessions import SLOW

CASE = (
    "  good: {{checkpoint: './ein modell é', data: {{path: csv, files: {{train: 'zu lernen 学.csv', test: test.csv}}}},"
    " training: {{num_train_epochs: 4, per_device_train_batch_size: 4, learning_rate: 5.0e-3, save_strategy: steps,"
    " save_steps: 3, train_sampling_strategy: group_by_length}}}}\n"
)


@pytest.mark.parametrize(
    "jobs", [pytest.param([], id="here"), pytest.param(["--ft-jobs=1", "--ft-executor=local"], id="in a slot")]
)
def test_a_killed_training_goes_on_and_comes_to_the_same(tmp_path: Path, bert: Path, jobs: list[str]) -> None:
    project = Project(tmp_path / "ein Projekt é 二 100%", bert)
    project.link(bert, "ein modell é")
    project.write(**{"zu lernen 学.csv": (project.path / "train.csv").read_text(), "conftest.py": SLOW})
    project.suite(CASE.format())
    nowhere: dict[str, Any] = {"HOME": "/proc/nowhere", "HF_HOME": str(tmp_path / "hf home")}
    broken = project.start(*jobs, **nowhere)
    unfinished = project.store / "unfinished"
    while not list(unfinished.glob("*/checkpoints/checkpoint-6/ftcheck-manifest.json")):
        assert broken.poll() is None, broken.communicate()[0]
        time.sleep(0.01)
    broken.kill()
    broken.communicate()
    assert project.kept() == []
    again = project.run(*jobs, **nowhere)
    whole = project.run(store=tmp_path / "another store", **nowhere)
    assert (again.code, whole.code) == (0, 0), again.text + whole.text
    assert "training was broken off before and went on after step" in again.unbroken
    assert again.metrics == whole.metrics
    assert weights(project.store) == weights(tmp_path / "another store")
    assert list(unfinished.iterdir()) == []


def weights(store: Path) -> bytes:
    [found] = store.glob("runs/*/*/model/model.safetensors")
    return found.read_bytes()
