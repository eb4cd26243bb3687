"""What sessions leave in the history, and what they find there."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ftcheck.history import History, Record
from tests.cli.faked import Command
from tests.plugin.conftest import Project

CASE = """
  c:
    training: {learning_rate: 0.9}
    gates: {accuracy: {min: 0.5, max_regression: 0.3}}
"""


def records(path: Path, case: str = "c") -> list[Record]:
    """What a history has of a case; nothing where there is no file."""
    if not path.is_file():
        return []
    history = History(path)
    return [record for known in history.known() if known.case == case for record in history.records(known, 99)]


@pytest.fixture
def default(own_cache: Path) -> Path:
    return own_cache / "history.sqlite"


def rate(value: float) -> str:
    return CASE.replace("0.9", str(value))


def test_a_session_is_recorded_in_the_cache_directory_and_its_results_carry_the_past(
    faked: Project, ftcheck: Command, default: Path
) -> None:
    for value in (0.9, 0.8):
        faked.suite(rate(value))
        ftcheck.run("--ft-json=out.json")
    assert [record.point.values["accuracy"].value for record in records(default)] == [0.89, 0.79]
    result: Any = faked.results()["c"]
    assert [point["values"]["accuracy"]["value"] for point in result["history"]] == [0.89, 0.79]
    assert [set(point["values"]) for point in result["history"]] == [{"accuracy"}] * 2
    (known,) = History(default).known()
    assert known.suite == str(faked.path / "suite.ft.yaml")


def test_workers_record_a_session_once(project: Project, default: Path) -> None:
    pytest.importorskip("xdist")
    project.suite(CASE + CASE.replace("  c:", "  d:"))
    assert project.run("-n2").ret == 0
    connection = sqlite3.connect(default)
    assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM results").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--ft-limit=8"], id="smoke"),
        pytest.param(["--ft-plan"], id="plan"),
        pytest.param(["--ft-history=none"], id="off"),
        pytest.param(["--ft-cache=off"], id="nothing-kept"),
        pytest.param(["--ft-device=cuda:99"], id="refused"),
        pytest.param(["--collect-only"], id="collected-only"),
    ],
)
def test_what_judges_nothing_and_who_wants_none_leaves_no_history(
    faked: Project, ftcheck: Command, default: Path, arguments: list[str]
) -> None:
    faked.suite(CASE)
    ftcheck.run(*arguments)
    assert not default.exists()


def test_what_could_not_be_measured_is_not_recorded_and_the_rest_is(
    faked: Project, ftcheck: Command, default: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked.suite(CASE)
    ftcheck.run()
    monkeypatch.setenv("FAKE_FAILURE", "nan")
    faked.suite(rate(0.8))
    assert ftcheck.run("--ft-json=out.json").ret == 1
    assert len(records(default)) == 1
    assert faked.results()["c"]["history"] == []


def test_an_interrupted_session_keeps_what_was_judged(
    faked: Project, ftcheck: Command, default: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked.suite(CASE)
    ftcheck.run()
    monkeypatch.setenv("FAKE_FAILURE", "interrupt")
    faked.suite(rate(0.9) + rate(0.8).replace("  c:", "  d:"))
    assert faked.start().ret == pytest.ExitCode.INTERRUPTED
    (record,) = records(default)
    assert record.point.sessions == 2
    assert records(default, "d") == []


def test_a_broken_history_is_told_and_costs_no_verdict(faked: Project, ftcheck: Command, default: Path) -> None:
    default.parent.mkdir(exist_ok=True)
    default.write_text("this is no database")
    faked.suite(CASE)
    result = ftcheck.run("--ft-json=out.json")
    assert result.ret == 0
    told = " ".join(result.stdout.str().split())
    assert f"note: the history {default} can't be used: file is not a database" in told
    assert "this session's results are not recorded" in told
    assert faked.results()["c"]["verdict"] == "new"
    assert default.read_text() == "this is no database"


def git(faked: Project, *arguments: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=faked.path, check=True, capture_output=True)


def test_a_file_of_the_project_s_own_names_suites_from_its_top_and_remembers_the_commit(
    faked: Project, ftcheck: Command, default: Path
) -> None:
    (faked.path / "suites").mkdir()
    faked.pytester.makeini("[pytest]\nft_history = past/history.sqlite\naddopts = -p no:cacheprovider\n")
    faked.suite(CASE, "suites/one.ft.yaml")
    path = faked.path / "suites" / "one.ft.yaml"
    path.write_text(path.read_text().replace("./checkpoint", "../checkpoint"))
    for name in ("train.csv", "test.csv"):
        (faked.path / name).rename(faked.path / "suites" / name)
    git(faked, "init", "-qb", "trunk")
    git(faked, "add", "-A")
    git(faked, "commit", "-qm", "as it is")
    ftcheck.run("--ft-update")
    ftcheck.run()
    path.write_text(path.read_text().replace("0.9", "0.8"))
    ftcheck.run()
    file = faked.path / "past" / "history.sqlite"
    assert not default.exists()
    (known,) = History(file).known()
    assert known.suite == "suites/one.ft.yaml"
    points = [record.point for record in records(file)]
    assert [(point.branch, point.dirty, len(point.commit)) for point in points] == [
        ("trunk", False, 40),
        ("trunk", False, 40),
        ("trunk", True, 40),
    ]
    assert [point.verdict for point in points] == ["new", "pass", "pass"]
    assert [point.accepted for point in points] == [True, False, False]
    assert [point.values["accuracy"].baseline for point in points] == [0.89] * 3
