"""`ftcheck calibrate`: what seeds do to a case, kept in its baseline; and which margins that can't prove."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck import power
from ftcheck.baselines import Accepted, Entry, MetricRecord, Noise, Power, examples_digest
from ftcheck.evidence import Arm, Pair
from ftcheck.spec import Case, Checkpoint, Data, Gate, Margin
from tests.cli.faked import Command
from tests.plugin.conftest import Project

CASE = "suite.ft.yaml::good"


def good(rate: float = 0.9, seeds: int = 1, margin: str = "0.05", more: str = "") -> str:
    """A case whose accuracy is about `rate`."""
    return (
        f"  good:\n    training: {{learning_rate: {rate}{more}}}\n    seeds: {seeds}\n"
        f"    gates: {{accuracy: {{max_regression: {margin}}}}}\n"
    )


def entry(faked: Project) -> dict[str, Any]:
    """The baseline's entry for the CPU."""
    path = faked.path / "__baselines__" / "suite.ft" / "good.json"
    found: dict[str, Any] = json.loads(path.read_text())["entries"]["cpu"]
    return found


def verdict(faked: Project, ftcheck: Command) -> tuple[str, str]:
    """The case's verdict now, and where the seeds' noise was taken from."""
    ftcheck.run("--ft-json=out.json")
    found: Any = faked.results()["good"]
    return found["verdict"], found["gates"][0]["comparison"]["seed_source"]


def test_fresh_seeds_are_measured_reported_and_kept_beside_the_rest(faked: Project, ftcheck: Command) -> None:
    faked.suite(good(seeds=2, margin="0.001"))
    ftcheck.accept()
    before = entry(faked)
    done = ftcheck("calibrate", CASE, "--seeds", "4")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in faked.stages() if "train" in line] == [f"train good {seed}" for seed in (44, 45, 46, 47)]
    after = {**entry(faked), "checksum": before["checksum"]}
    noise = after.pop("calibration")
    assert noise["accuracy"]["runs"] == 4
    assert noise["accuracy"]["s2"] == pytest.approx(np.var([0.91, 0.89, 0.90, 0.91], ddof=1), rel=1e-5)
    assert noise["accuracy"]["signature"] == before["metrics"]["accuracy"]["signature"]
    assert {**after, "power": None} == {**before, "power": None}
    assert after["power"]["accuracy"]["provable"] < before["power"]["accuracy"]["provable"]
    for expected in (
        "suite.ft.yaml::good on cpu: 4 seeds (44 to 47), 100 examples",
        "none of them collapsed: a rate of 0 to 60 %",
        "mean 0.9025, 0.8900 to 0.9100 (44: 0.9100, 45: 0.8900, 46: 0.9000, 47: 0.9100)",
        "2 + 2 (now)",
        "10 + 10",
        "proposed margin: max_regression: 0.0",
        "the gate's max_regression: 0.001 can't be proven",
        "stored in __baselines__/suite.ft/good.json",
    ):
        assert expected in done.stdout


def test_of_folds_a_seed_is_all_of_them(faked: Project, ftcheck: Command) -> None:
    """Its noise is that of partitions, too, over all examples."""
    faked.suite(good(seeds=2, margin="0.001") + "    folds: 4\n")
    ftcheck.accept()
    done = ftcheck("calibrate", CASE, "--seeds", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in faked.stages() if "train" in line] == [
        f"train good {seed}" for seed in (44, 45, 46) for _ in range(4)
    ]
    assert "3 seeds (44 to 46), 100 examples" in done.stdout
    assert entry(faked)["calibration"]["accuracy"]["runs"] == 3


def test_a_dry_run_writes_nothing_and_what_it_measured_is_found_again(faked: Project, ftcheck: Command) -> None:
    faked.suite(good())
    ftcheck.accept()
    before = entry(faked)
    assert ftcheck("calibrate", CASE, "--seeds", "2", "--dry-run").returncode == 0
    assert entry(faked) == before
    faked.stages()
    ftcheck("calibrate", CASE, "--seeds", "3")
    assert [line for line in faked.stages() if "train" in line] == ["train good 45"]
    assert entry(faked)["calibration"]["accuracy"]["runs"] == 3


def test_one_seed_decides_once_its_baseline_is_calibrated(faked: Project, ftcheck: Command) -> None:
    faked.suite(good())
    ftcheck.accept()
    equal, worse = good(more=", weight_decay: 0.1"), good(0.7)
    faked.suite(equal)
    assert verdict(faked, ftcheck) == ("inconclusive", "prior")
    ftcheck("calibrate", CASE)
    calibrated = entry(faked)
    assert verdict(faked, ftcheck) == ("pass", "calibration")
    faked.suite(worse)
    assert verdict(faked, ftcheck) == ("fail", "calibration")
    # An update carries it on, also into what the new baseline says can be proven.
    faked.suite(good(0.91))
    ftcheck.accept()
    assert entry(faked)["calibration"] == calibrated["calibration"]
    planned, before = (found["power"]["accuracy"] for found in (entry(faked), calibrated))
    assert {**planned, "value": 0} == pytest.approx({**before, "value": 0}, rel=0.01)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"examples": "other"}, "accuracy on other examples", id="other-examples"),
        pytest.param({"signature": "other"}, "accuracy by another definition", id="other-definition"),
        pytest.param({}, "", id="the-same"),
    ],
)
def test_a_calibration_of_something_else_is_not_used_and_that_is_said(change: dict[str, str], told: str) -> None:
    ids = np.arange(64, dtype=np.uint8).reshape(4, 16)
    noise = Noise(runs=5, s2=0.01, d=0.001, examples=examples_digest(ids[::-1]), signature="accuracy|1")
    arm = Arm(ids=ids, metrics={}, signatures={"accuracy": "accuracy|1"}, fixed=False, keys=())
    reference = replace(arm, calibration={"accuracy": replace(noise, **change)})  # type: ignore[arg-type]
    pair = Pair(against="the baseline", reference=reference, candidate=arm)
    assert (pair.calibration("accuracy") is None) == bool(told)
    assert told in pair.unfit_note
    assert bool(pair.unfit_note) == bool(told)


def test_a_calibration_speaks_of_all_its_examples_not_of_some() -> None:
    ids = np.arange(64, dtype=np.uint8).reshape(4, 16)
    noise = Noise(runs=5, s2=0.01, d=0.001, examples=examples_digest(ids), signature="accuracy|1")
    arm = Arm(ids=ids, metrics={}, signatures={"accuracy": "accuracy|1"}, fixed=False, keys=())
    pair = Pair(
        against="the baseline",
        reference=replace(arm, calibration={"accuracy": noise}),
        candidate=replace(arm, ids=ids[:3]),
    )
    assert pair.calibration("accuracy") is None


def test_a_collapsed_run_is_named_and_left_out(
    faked: Project, ftcheck: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_COLLAPSED", "44")
    faked.suite(good())
    ftcheck.accept()
    done = ftcheck("calibrate", CASE, "--seeds", "4")
    assert "seed 44 learned nothing and is left out of the estimate: 1 of 4, a rate of 1 to 81 %" in done.stdout
    assert entry(faked)["calibration"]["accuracy"]["runs"] == 3


def test_without_a_baseline_there_is_only_the_report(faked: Project, ftcheck: Command) -> None:
    faked.suite(good())
    refused = ftcheck("calibrate", CASE, "--seeds", "3")
    assert refused.returncode == 1
    assert "has no baseline for cpu" in refused.stderr
    assert "--ft-update" in refused.stderr
    assert faked.stages() == []
    done = ftcheck("calibrate", CASE, "--seeds", "3", "--dry-run")
    assert done.returncode == 0
    assert "1 + 1 (now)" in done.stdout
    assert "stored" not in done.stdout
    assert not (faked.path / "__baselines__").exists()


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
def test_what_cannot_be_calibrated_is_said(faked: Project, ftcheck: Command, case: str, code: int, said: str) -> None:
    faked.suite(good() + "  fixed: {training: false}\n")
    faked.suite("  x: {sedes: 3}\n", "wrong.ft.yaml")
    Path(faked.path / "test_plain.py").write_text("def test_x(): ...\n")
    done = ftcheck("calibrate", case)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_training_is_one_sentence(faked: Project, ftcheck: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    faked.suite(good())
    ftcheck.accept()
    monkeypatch.setenv("FAKE_FAILURE", "nan")
    done = ftcheck("calibrate", CASE)
    assert (done.returncode, done.stderr) == (1, "ftcheck: the loss became NaN at step 7\n")


TOLD = "good: accuracy: margin 0.001 can't be proven with 3 + 3 seeds and 100 examples (0.025 can): an equal retrain"


def case_with(margin: Margin, **changes: Any) -> Case:
    """A case with three seeds and one margin."""
    bare = Case(
        id="good", suite=Path("/suite.ft.yaml"), line=1, checkpoint=Checkpoint(path="/c", local=True), task="t",
        data=Data(kind="reader", path="csv"), seeds=(1, 2, 3), gates=(Gate(metric="accuracy", max_regression=margin),),
    )  # fmt: skip
    return replace(bare, **changes)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(case_with(Margin(value=0.001)), TOLD, id="too-small"),
        pytest.param(case_with(Margin(value=0.025)), "", id="just-enough"),
        pytest.param(case_with(Margin(value=0.001), seeds=(1, 2)), "", id="other-seeds-than-planned"),
        pytest.param(case_with(Margin(value=0.001), max_seeds=8), "", id="more-seeds-than-planned"),
        pytest.param(case_with(Margin(value=0.001, relative=True)), "margin 0.1% can't", id="a-part-of-the-baseline"),
        pytest.param(case_with(Margin(value=0.05, relative=True)), "", id="a-part-that-is-enough"),
        pytest.param(case_with(Margin(value=0.001), gates=()), "", id="no-margin"),
    ],
)
def test_only_a_margin_that_is_known_to_be_too_small_is_told(case: Case, expected: str) -> None:
    record = MetricRecord(value=0.9, per_seed=(0.9,) * 3, signature="accuracy|1", greater_is_better=True)
    entry = Entry(
        device="cpu", accepted=Accepted(date="2026-11-02"), metrics={"accuracy": record}, seeds=(1, 2, 3),
        examples=100, fixed=False, components={}, keys={}, statistics="", digest="",
        power={"accuracy": Power(runs=3, provable=0.025, value=0.9)},
    )  # fmt: skip
    told = power.unprovable(case, power.Known.of_entry(entry))
    assert expected in told
    assert bool(told) == bool(expected)
