"""`ftcheck calibrate`: what seeds do to a case, kept in its baseline; and what a gate can prove, told at collection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftcheck import calibrating
from tests.cli.conftest import Command
from tests.plugin.conftest import Project

CASE = "suite.ft.yaml::good"


def good(rate: float = 0.9, seeds: int = 1, margin: str = "0.05", more: str = "") -> str:
    """A case whose accuracy is about `rate`."""
    return (
        f"  good:\n    training: {{learning_rate: {rate}{more}}}\n    seeds: {seeds}\n"
        f"    gates: {{accuracy: {{max_regression: {margin}}}}}\n"
    )


def entry(project: Project) -> dict[str, Any]:
    """The baseline's entry for the CPU."""
    path = project.path / "__baselines__" / "suite.ft" / "good.json"
    found: dict[str, Any] = json.loads(path.read_text())["entries"]["cpu"]
    return found


def verdict(project: Project) -> dict[str, Any]:
    """The case's result now."""
    project.run("--ft-json=out.json")
    return project.results()["good"]


def test_fresh_seeds_are_measured_and_the_estimate_is_kept_beside_the_rest(project: Project, ftcheck: Command) -> None:
    project.suite(good(seeds=2))
    ftcheck.accept()
    before = entry(project)
    done = ftcheck("calibrate", CASE, "--seeds", "4")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in project.stages() if "train" in line] == [f"train good {seed}" for seed in (44, 45, 46, 47)]
    after = entry(project)
    noise = after.pop("calibration")
    assert noise["accuracy"]["runs"] == 4
    # 44 to 47: 0.91, 0.89, 0.90, 0.91
    assert noise["accuracy"]["s2"] == pytest.approx(9.16667e-05, rel=1e-5)
    assert noise["accuracy"]["signature"] == before["metrics"]["accuracy"]["signature"]
    assert {name: value for name, value in after.items() if name != "power"} == {
        name: value for name, value in before.items() if name != "power"
    }
    assert after["power"]["accuracy"]["provable"] < before["power"]["accuracy"]["provable"]


def test_the_report_names_seeds_spread_prospects_and_a_margin(project: Project, ftcheck: Command) -> None:
    project.suite(good(margin="0.001"))
    ftcheck.accept()
    out = ftcheck("calibrate", CASE, "--seeds", "4").stdout
    for expected in (
        "suite.ft.yaml::good on cpu: 4 seeds (43 to 46), 100 examples",
        "none of them collapsed: a rate of 0 to 60 %",
        "(43: 0.9000, 44: 0.9100, 45: 0.8900, 46: 0.9000)",
        "mean 0.9000, 0.8900 to 0.9100",
        "1 + 1 (now)",
        "10 + 10",
        "proposed margin: max_regression: 0.0",
        "the gate's max_regression: 0.001 can't be proven",
        "stored in __baselines__/suite.ft/good.json",
    ):
        assert expected in out


def test_more_seeds_reuse_those_that_were_measured(project: Project, ftcheck: Command) -> None:
    project.suite(good())
    ftcheck.accept()
    ftcheck("calibrate", CASE, "--seeds", "2")
    project.stages()
    ftcheck("calibrate", CASE, "--seeds", "3")
    assert [line for line in project.stages() if "train" in line] == ["train good 45"]
    assert entry(project)["calibration"]["accuracy"]["runs"] == 3


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        pytest.param(good(more=", weight_decay: 0.1"), "pass", id="equal"),
        pytest.param(good(0.7), "fail", id="worse"),
    ],
)
def test_one_seed_decides_once_its_baseline_is_calibrated(
    project: Project, ftcheck: Command, now: str, expected: str
) -> None:
    project.suite(good(0.9))
    ftcheck.accept()
    assert ftcheck("calibrate", CASE, "--seeds", "5").returncode == 0
    project.suite(now)
    found = verdict(project)
    assert found["verdict"] == expected
    assert found["gates"][0]["comparison"]["seed_source"] == "calibration"


def test_one_seed_does_not_decide_without(project: Project, ftcheck: Command) -> None:
    project.suite(good(0.9))
    ftcheck.accept()
    project.suite(good(more=", weight_decay: 0.1"))
    found = verdict(project)
    assert found["verdict"] == "inconclusive"
    assert found["gates"][0]["comparison"]["seed_source"] == "prior"


@pytest.mark.parametrize(
    ("field", "told"),
    [
        pytest.param("examples", "accuracy on other examples", id="other-examples"),
        pytest.param("signature", "accuracy by another definition", id="other-definition"),
    ],
)
def test_a_calibration_of_something_else_is_not_used_and_that_is_said(
    project: Project, ftcheck: Command, field: str, told: str
) -> None:
    project.suite(good(0.9))
    ftcheck.accept()
    ftcheck("calibrate", CASE)
    path = project.path / "__baselines__" / "suite.ft" / "good.json"
    document = json.loads(path.read_text())
    document["entries"]["cpu"]["calibration"]["accuracy"][field] = "other"
    path.write_text(json.dumps(document))
    project.suite(good(0.9, more=", weight_decay: 0.1"))
    found = verdict(project)
    assert found["gates"][0]["comparison"]["seed_source"] == "prior"
    assert [note for note in found["notes"] if told in note]


def test_an_update_carries_the_calibration_on(project: Project, ftcheck: Command) -> None:
    project.suite(good(0.9))
    ftcheck.accept()
    ftcheck("calibrate", CASE)
    calibrated = entry(project)
    project.suite(good(0.91))
    ftcheck.accept()
    assert entry(project)["calibration"] == calibrated["calibration"]
    assert entry(project)["power"]["accuracy"] == pytest.approx(calibrated["power"]["accuracy"], rel=0.01)


def test_a_collapsed_run_is_named_and_left_out(
    project: Project, ftcheck: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_COLLAPSED", "44")
    project.suite(good())
    ftcheck.accept()
    done = ftcheck("calibrate", CASE, "--seeds", "4")
    assert "seed 44 learned nothing and is left out of the estimate: 1 of 4, a rate of 1 to 81 %" in done.stdout
    assert entry(project)["calibration"]["accuracy"]["runs"] == 3


@pytest.mark.parametrize("options", [pytest.param([], id="refused"), pytest.param(["--dry-run"], id="dry-run")])
def test_without_a_baseline_there_is_only_the_report(project: Project, ftcheck: Command, options: list[str]) -> None:
    project.suite(good())
    done = ftcheck("calibrate", CASE, "--seeds", "3", *options)
    if options:
        assert done.returncode == 0
        assert "1 + 1 (now)" in done.stdout
        assert "stored" not in done.stdout
        assert not (project.path / "__baselines__").exists()
    else:
        assert done.returncode == 1
        assert "has no baseline for cpu" in done.stderr
        assert "--ft-update" in done.stderr
        assert project.stages() == []


def test_a_dry_run_writes_nothing(project: Project, ftcheck: Command) -> None:
    project.suite(good())
    ftcheck.accept()
    before = entry(project)
    assert ftcheck("calibrate", CASE, "--dry-run").returncode == 0
    assert entry(project) == before


@pytest.mark.parametrize(
    ("case", "code", "said"),
    [
        pytest.param("nowhere.ft.yaml::good", 4, "file or directory not found", id="no-such-file"),
        pytest.param("suite.ft.yaml::bad", 4, "not found", id="no-such-case"),
        pytest.param("suite.ft.yaml", 4, "is 2 cases: name one of", id="several"),
        pytest.param("suite.ft.yaml::fixed", 4, "fixed weights have no seed noise", id="nothing-trained"),
        pytest.param("wrong.ft.yaml::x", 1, "wrong.ft.yaml:", id="mistake-in-the-suite"),
        pytest.param("test_plain.py::test_x", 4, "is no case", id="no-case"),
    ],
)
def test_what_cannot_be_calibrated_is_said(project: Project, ftcheck: Command, case: str, code: int, said: str) -> None:
    project.suite(good() + "  fixed: {training: false}\n")
    project.suite("  x: {sedes: 3}\n", "wrong.ft.yaml")
    Path(project.path / "test_plain.py").write_text("def test_x(): ...\n")
    done = ftcheck("calibrate", case)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_training_is_one_sentence(
    project: Project, ftcheck: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite(good())
    ftcheck.accept()
    monkeypatch.setenv("FAKE_FAILURE", "nan")
    done = ftcheck("calibrate", CASE)
    assert (done.returncode, done.stderr) == (1, "ftcheck: the loss became NaN at step 7\n")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(0.02101, 0.022, id="up"),
        pytest.param(0.021, 0.021, id="exact"),
        pytest.param(0.0995, 0.1, id="carries"),
        pytest.param(123.4, 130.0, id="large"),
        pytest.param(0.0, 0.0, id="zero"),
    ],
)
def test_a_proposed_margin_has_two_digits_and_is_enough(number: float, expected: float) -> None:
    assert calibrating.rounded_up(number) == expected


TOLD = "note: good: accuracy: margin 0.001 can't be proven with 3 + 3 seeds and 100 examples (0.025 can): an equal"


@pytest.mark.parametrize(
    ("now", "options", "expected"),
    [
        pytest.param(good(seeds=3, margin="0.001"), [], True, id="too-small"),
        pytest.param(good(seeds=3, margin="0.001"), ["--collect-only", "-q"], True, id="collected-only"),
        pytest.param(good(seeds=3, margin="0.04"), [], False, id="large-enough"),
        pytest.param(good(seeds=2, margin="0.001"), [], False, id="other-seeds"),
        pytest.param(good(seeds=3, margin="0.001") + "    vs: base-checkpoint\n", [], False, id="other-reference"),
        pytest.param(good(seeds=3, margin='"0.01%"'), [], False, id="a-percentage"),
    ],
)
def test_a_margin_that_cannot_be_proven_is_told_at_collection(
    project: Project, ftcheck: Command, now: str, options: list[str], expected: bool
) -> None:
    project.suite(good(seeds=3, margin="0.04"))
    ftcheck.accept()
    project.suite(now)
    out = project.run(*options).stdout.str()
    assert (TOLD in out) == expected


def test_a_percentage_is_taken_of_the_baseline(project: Project, ftcheck: Command) -> None:
    project.suite(good(seeds=3, margin='"0.1%"'))
    ftcheck.accept()
    assert "margin 0.1% can't be proven with 3 + 3 seeds" in project.run("--collect-only").stdout.str()


def test_a_damaged_baseline_does_not_end_the_collection(project: Project, ftcheck: Command) -> None:
    project.suite(good())
    ftcheck.accept()
    (project.path / "__baselines__" / "suite.ft" / "good.json").write_text("{")
    result = project.run("--collect-only", "-q")
    assert result.ret == 0
    assert "note: good" not in result.stdout.str()
