"""--ft-tensorboard: a run out of the store shows its curves too, and keys know nothing of it. --ft-mlflow: what it is
given, and that no verdict depends on it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.faked import Command
from tests.plugin.conftest import Project
from tests.trackers.events import scalars

pytest.importorskip("tensorboard")

CASE = """
  c:
    training: {learning_rate: 0.9}
    seeds: 2
    gates: {accuracy: {min: 0.5}}
"""


@pytest.fixture(scope="module")
def mlflow() -> None:
    """Imported before pytest runs: it brings importlib_metadata, which puts itself in the place of Python's own finder
    of plugins."""
    pytest.importorskip("mlflow")


def events(faked: Project) -> list[Path]:
    return sorted((faked.path / "tb").rglob("events.out.tfevents.*"))


def test_a_hit_writes_the_stored_curves_once(faked: Project, ftcheck: Command) -> None:
    faked.suite(CASE)
    ftcheck.run("--ft-json=out.json")
    before: Any = faked.results()["c"]
    faked.stages()
    for _ in range(2):
        assert ftcheck.run("--ft-tensorboard=tb", "--ft-json=out.json").ret == 0
    assert faked.stages() == []
    now: Any = faked.results()["c"]
    keys = [[run["train"]["key"] for run in result["runs"]] for result in (before, now)]
    assert keys[0] == keys[1]
    assert [path.parent.relative_to(faked.path).as_posix() for path in events(faked)] == [
        f"tb/suite.ft/c/seed{seed}-{key[:8]}" for seed, key in zip((42, 43), keys[0], strict=True)
    ]
    ((step, value),) = scalars(events(faked)[0].parent)["train/loss"]
    assert (step, round(value, 6)) == (1, 0.7)


def test_a_run_without_events_of_its_own_is_written_when_it_is_done(faked: Project, ftcheck: Command) -> None:
    faked.suite(CASE)
    assert ftcheck.run("--ft-tensorboard=tb").ret == 0
    assert len(events(faked)) == 2


def test_a_folder_that_cannot_be_written_is_told_and_costs_nothing(faked: Project, ftcheck: Command) -> None:
    faked.suite(CASE)
    (faked.path / "tb").write_text("a file")
    result = ftcheck.run("--ft-tensorboard=tb")
    assert result.ret == 0
    told = " ".join(result.stdout.str().split())
    assert told.count(f"note: --ft-tensorboard: {faked.path / 'tb'} can't be written to: Not a directory") == 1


def test_results_are_logged_to_mlflow_with_the_file_that_was_written(
    mlflow: None, faked: Project, ftcheck: Command
) -> None:
    faked.suite(CASE)
    assert ftcheck.run("--ft-mlflow=sqlite:///runs.db", "--ft-json=out.json").ret == 0
    with closing(sqlite3.connect(faked.path / "runs.db")) as connection:
        assert connection.execute("SELECT name, status FROM runs").fetchall() == [("c", "FINISHED")]
    assert [path.read_text() for path in (faked.path / "mlruns").rglob("out.json")] == [
        (faked.path / "out.json").read_text()
    ]


def test_a_tracker_that_is_dead_is_told_and_costs_no_verdict(mlflow: None, faked: Project, ftcheck: Command) -> None:
    faked.suite(CASE)
    result = ftcheck.run("--ft-mlflow=http://127.0.0.1:9")
    assert result.ret == 0
    assert "note: --ft-mlflow: http://127.0.0.1:9 can't be written to: MlflowException" in result.stdout.str()


@pytest.mark.parametrize(
    ("flag", "library"),
    [
        pytest.param("--ft-tensorboard=tb", "tensorboard", id="tensorboard"),
        pytest.param("--ft-mlflow=sqlite:///m.db", "mlflow", id="mlflow"),
    ],
)
def test_a_tracker_that_is_not_installed_is_refused_at_once(
    faked: Project, ftcheck: Command, monkeypatch: pytest.MonkeyPatch, flag: str, library: str
) -> None:
    from ftcheck import trackers

    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    faked.suite(CASE)
    result = ftcheck.run(flag)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"pip install 'ftcheck[{library}]'" in result.stderr.str()
    assert faked.stages() == []
