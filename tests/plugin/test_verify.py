"""--ft-verify makes results of the store once more and compares: what isn't what the store has is an error, and the
store stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcheck import verifying
from ftcheck.store import Store, prune
from tests.plugin.conftest import Project

CASES = """
  a: {training: {learning_rate: 0.9}, seeds: 2}
  b: {training: {learning_rate: 0.8}, seeds: 2}
"""


@pytest.fixture
def filled(project: Project, own_cache: Path) -> Project:
    """A project whose four runs are in the store."""
    project.suite(CASES)
    project.run()
    project.stages()
    return project


def content(store: Path) -> dict[str, bytes]:
    """Every file of the entries."""
    folders = ("runs", "predictions", "scores")
    return {
        str(path.relative_to(store)): path.read_bytes()
        for name in folders
        for path in sorted((store / name).rglob("*"))
        if path.is_file()
    }


def outcomes(project: Project) -> dict[tuple[str, int], dict[str, Any] | None]:
    """(case, seed) -> what the results file says of its verification."""
    return {
        (name, run["seed"]): run["verified"] for name, result in project.results().items() for run in result["runs"]
    }


def test_all_runs_are_made_once_more_and_the_store_stays_as_it_is(filled: Project, own_cache: Path) -> None:
    before = content(own_cache)
    result = filled.run("--ft-verify=all", "--ft-json=out.json")
    assert result.ret == 0
    assert sorted(line for line in filled.stages() if "train" in line) == [
        "train a 42",
        "train a 43",
        "train b 42",
        "train b 43",
    ]
    result.stdout.fnmatch_lines(["verified: 4 of 4 stored runs made once more: 4 identical (--ft-verify=all)"])
    assert content(own_cache) == before
    found = outcomes(filled)["a", 42]
    assert found is not None
    assert (found["outcome"], found["rows"], found["exact"]) == ("identical", 0, True)
    assert found["metrics"]["accuracy"] == pytest.approx(0.89)


def test_a_seed_chooses_the_same_again_and_no_more_than_were_asked_for(filled: Project) -> None:
    chosen = []
    for _ in range(2):
        result = filled.run("--ft-verify=2:7")
        assert "verified: 2 of 4 stored runs made once more: 2 identical (--ft-verify=2:7)" in result.stdout.str()
        chosen.append([line for line in filled.stages() if "train" in line])
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 2


def test_without_a_seed_the_output_says_which_one_was_drawn(filled: Project) -> None:
    filled.run("--ft-verify=1").stdout.re_match_lines([r"verified: 1 of 4 .*\(--ft-verify=1:\d+\)"])


def test_a_run_that_is_other_than_the_store_has_it_is_an_error_of_its_case(
    filled: Project, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(own_cache)
    monkeypatch.setenv("FAKE_COLLAPSED", "43")
    result = filled.run("--ft-verify=all", "--ft-json=out.json", "suite.ft.yaml::a")
    result.assert_outcomes(errors=1)
    said = " ".join(result.stdout.str().split())
    assert "seed 43: made once more, on the machine, libraries and threads that it was made with" in said
    assert "accuracy 0.5, stored 0.9" in said
    assert "40 predictions of 100 differ" in said
    assert "--ft-cache=refresh" in said
    assert "made once more: 1 different, 1 identical" in said
    assert "Traceback" not in said
    found = filled.results()["a"]
    assert (found["verdict"], found["metrics"][0]["value"]) == ("error", pytest.approx(0.895))
    assert content(own_cache) == before
    monkeypatch.delenv("FAKE_COLLAPSED")
    assert filled.run().ret == 0


def test_where_the_environment_is_another_the_metrics_must_be_close(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_COLLAPSED", "43")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # what the fake records
    filled.run("--ft-verify=all", "suite.ft.yaml::a").assert_outcomes(errors=1)
    monkeypatch.setattr(verifying, "TOLERANCE", 0.45)
    result = filled.run("--ft-verify=all", "--ft-json=out.json", "suite.ft.yaml::a")
    assert "1 close, 1 identical" in result.stdout.str()
    found = outcomes(filled)["a", 43]
    assert found is not None
    assert (found["outcome"], found["rows"], found["exact"]) == ("close", 40, False)


def test_what_is_made_in_this_session_is_not_made_twice(project: Project) -> None:
    project.suite(CASES)
    result = project.run("--ft-verify=all")
    assert "verified: 0 of 0 stored runs made once more: none" in result.stdout.str()
    assert len(project.stages()) == 8


def test_checkpoints_as_they_are_and_folds_are_made_once_more_too(project: Project) -> None:
    project.suite("  plain: {training: false}\n  folded: {training: {learning_rate: 0.9}, folds: {n: 2}}\n")
    project.run()
    project.stages()
    result = project.run("--ft-verify=all")
    assert "verified: 2 of 2 stored runs made once more: 2 identical" in result.stdout.str()
    assert sorted(project.stages()) == [
        "predict folded 42",
        "predict folded 42",
        "predict plain 42",
        "train folded 42",
        "train folded 42",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--ft-verify=some"], "expected how many of the store's results", id="no number"),
        pytest.param(["--ft-verify=0"], "expected how many of the store's results", id="none"),
        pytest.param(["--ft-verify=2:x"], "expected how many of the store's results", id="no seed"),
        pytest.param(["--ft-verify=2", "--ft-cache=only"], "--ft-cache=only trains nothing", id="only"),
        pytest.param(["--ft-verify=2", "--ft-cache=off"], "takes nothing out of the store", id="off"),
        pytest.param(["--ft-verify=2", "--ft-cache=refresh"], "takes nothing out of the store", id="refresh"),
    ],
)
def test_what_can_t_be_followed_is_a_usage_error(project: Project, options: list[str], message: str) -> None:
    project.suite(CASES)
    result = project.run(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_all_processes_of_a_session_hear_of_one_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes first chooses; what another finds in the store by then doesn't matter."""
    drawn: list[str] = []

    def draw(*_: object) -> verifying.Choice:
        drawn.append("drawn")
        return verifying.Choice(predict=(f"{len(drawn)}",), found=3, option="1:5")

    monkeypatch.setattr(verifying, "_chosen", draw)
    choose: Callable[..., verifying.Choice] = verifying.choice
    first, second = (choose(None, [], "1", tmp_path) for _ in range(2))
    assert first == second == verifying.Choice(predict=("1",), found=3, option="1:5")
    assert drawn == ["drawn"]


def test_a_model_that_it_would_build_on_must_be_in_the_store(project: Project, own_cache: Path) -> None:
    project.suite(
        "  a: {training: {learning_rate: 0.9}}\n  child: {training: {learning_rate: 0.8}, init_from: 'case:a'}\n"
    )
    project.run()
    prune(Store(own_cache), models=True)
    result = project.run("--ft-verify=all", "suite.ft.yaml::child")
    said = " ".join(result.stdout.str().split())
    assert "--ft-verify can't make child once more: the model of a, which it needs, was taken out" in said
    assert "Traceback" not in said
