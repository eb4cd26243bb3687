"""`ftcheck cache push`, `pull` and `prune`: what is moved, what stays, what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.store import Store
from tests.cli.faked import Command
from tests.plugin.conftest import Project

CASES = """
  good:
    training: {learning_rate: 0.9}
    gates: {accuracy: {max_regression: 0.05}}
  other:
    training: {learning_rate: 0.7}
"""


@pytest.fixture
def url(faked: Project, ftcheck: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty remote, of a project whose two cases are in the store."""
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(faked.path / "store"))
    faked.suite(CASES)
    assert ftcheck.run().ret == pytest.ExitCode.OK
    return f"file://{faked.path}/remote"


def counts(folder: Path) -> dict[str, int]:
    return {stage: len(list(folder.glob(f"{stage}/*/*/manifest.json"))) for stage in ("runs", "predictions", "scores")}


def models(folder: Path) -> int:
    return len(list(folder.glob("runs/*/*/model")))


def test_push_and_pull_move_all_there_is(faked: Project, ftcheck: Command, url: str) -> None:
    done = ftcheck("cache", "push", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"6 entries pushed to {url}, ")
    assert ftcheck("cache", "push", url).stdout == f"0 entries pushed to {url}, 0 B; 6 were there\n"
    done = ftcheck("cache", "pull", url, "--cache-dir", "two")
    assert (done.returncode, done.stderr) == (0, "")
    assert counts(faked.path / "two") == counts(faked.path / "store") == {"runs": 2, "predictions": 2, "scores": 2}
    assert models(faked.path / "two") == 2
    assert ftcheck("cache", "verify", "--cache-dir", "two").returncode == 0


def test_only_the_named_cases_move_and_models_only_where_wanted(faked: Project, ftcheck: Command, url: str) -> None:
    ftcheck("cache", "push", url, "suite.ft.yaml::good")
    assert counts(faked.path / "remote") == {"runs": 1, "predictions": 1, "scores": 1}
    ftcheck("cache", "push", url)
    assert ftcheck("cache", "pull", url, "suite.ft.yaml::other", "--no-models", "--cache-dir", "two").returncode == 0
    assert counts(faked.path / "two") == {"runs": 1, "predictions": 1, "scores": 0}
    assert models(faked.path / "two") == 0
    faked.stages()
    result = ftcheck.run("-k", "other", "--ft-cache=only", "--ft-cache-dir=two")
    assert (result.ret, faked.stages()) == (pytest.ExitCode.OK, [])


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_remote_that_cannot_be_used_is_one_sentence(faked: Project, ftcheck: Command, url: str, command: str) -> None:
    done = ftcheck("cache", command, "nonsense://ada:hunter2@host/a")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nonsense://host/a can't be used" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_damaged_entry_is_told_and_the_others_come(faked: Project, ftcheck: Command, url: str) -> None:
    ftcheck("cache", "push", url)
    [first, _] = sorted((faked.path / "remote" / "predictions").glob("*/*/manifest.json"))
    first.write_text("{")
    done = ftcheck("cache", "pull", url, "--cache-dir", "two")
    assert done.returncode == 1
    assert "is damaged (manifest.json is no JSON) and is not used" in done.stderr
    assert counts(faked.path / "two") == {"runs": 2, "predictions": 1, "scores": 2}


@pytest.mark.parametrize("what", [["--max-size", "0B"], ["--models"]], ids=["entries", "models"])
def test_prune_spares_what_a_baseline_names(faked: Project, ftcheck: Command, url: str, what: list[str]) -> None:
    assert ftcheck.run("-k", "good", "--ft-update", "--ft-reason=x").ret == pytest.ExitCode.OK
    said = ftcheck("cache", "prune", *what, "--dry-run")
    assert "would be taken out" in said.stdout
    assert (counts(faked.path / "store"), models(faked.path / "store")) == (
        {"runs": 2, "predictions": 2, "scores": 2},
        2,
    )
    done = ftcheck("cache", "prune", *what)
    assert done.stdout == said.stdout.replace("would be ", "")
    assert "were left: baselines name them" in done.stdout
    assert models(faked.path / "store") == 1
    if "--models" not in what:
        assert counts(faked.path / "store") == {"runs": 1, "predictions": 1, "scores": 1}
    assert ftcheck.run("-k", "good", "--ft-cache=only").ret == pytest.ExitCode.OK


def test_prune_elsewhere_knows_no_baseline(faked: Project, ftcheck: Command, url: str) -> None:
    ftcheck.run("--ft-update", "--ft-reason=x")
    (faked.path / "empty").mkdir()
    assert "baselines name" not in ftcheck("cache", "prune", "--max-size", "0B", "--suites", "empty").stdout
    assert [list(Store(faked.path / "store").keys(stage)) for stage in ("runs", "predictions")] == [[], []]


def test_prune_takes_nothing_where_a_baseline_cannot_be_read(faked: Project, ftcheck: Command, url: str) -> None:
    ftcheck.run("--ft-update", "--ft-reason=x")
    for path in (faked.path / "__baselines__").rglob("*.json"):
        path.write_text("{")
    done = ftcheck("cache", "prune", "--max-size", "0B")
    assert done.returncode == 1
    assert "is no baseline that ftcheck wrote" in done.stderr
    assert counts(faked.path / "store")["runs"] == 2
