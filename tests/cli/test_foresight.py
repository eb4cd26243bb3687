"""What a margin can't prove is told when its case is collected: by what it will be compared with, in whatever way the
session runs, and never where nothing is judged."""

from __future__ import annotations

import shutil

import pytest

from tests.cli.faked import Command
from tests.plugin.conftest import Project

STORE = "--ft-cache-dir=store"
NOTE = "note: good: accuracy: margin 0.001 can't be proven with"


def good(rate: float = 0.9, seeds: object = 3, gates: str = "max_regression: 0.001") -> str:
    """A case whose accuracy is about `rate`."""
    return (
        f"  good:\n    training: {{learning_rate: {rate}}}\n    seeds: {seeds}\n    gates: {{accuracy: {{{gates}}}}}\n"
    )


def notes(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("note: good: ")]


def provable(note: str) -> float:
    return float(note.partition("examples (")[2].partition(" can)")[0])


@pytest.fixture
def accepted(faked: Project, ftcheck: Command) -> Project:
    """A project with a baseline of three seeds."""
    faked.suite(good())
    ftcheck.run(STORE, "--ft-update")
    return faked


def test_it_is_told_once_before_anything_runs(accepted: Project, ftcheck: Command) -> None:
    (alone,) = notes(ftcheck.run(STORE, "--collect-only", "-q"))
    assert alone.startswith(f"{NOTE} 3 + 3 seeds and 100 examples (")
    pytest.importorskip("xdist")
    accepted.suite(good() + good().replace("good:", "other:"))
    several = accepted.run(STORE, "-n2")
    assert notes(several) == [alone], "by one of the workers"
    assert several.outlines.index(alone) < min(
        place for place, line in enumerate(several.outlines) if line.strip().startswith("good: ")
    )


def test_other_numbers_of_seeds_are_planned_for(accepted: Project, ftcheck: Command) -> None:
    """--ft-seeds, or another number in the suite, as if the baseline had been written for so many."""
    found = {}
    for seeds in (1, 2, 3, 20):
        (note,) = notes(ftcheck.run(STORE, "--collect-only", f"--ft-seeds={seeds}"))
        assert f"with 3 + {seeds} seeds" in note
        found[seeds] = provable(note)
    assert found[1] > found[2] > found[3] > found[20]
    accepted.suite(good(seeds=20))
    (note,) = notes(ftcheck.run(STORE, "--collect-only"))
    assert provable(note) == found[20]
    accepted.suite(good(seeds="{min: 2, max: 20}"))
    (note,) = notes(ftcheck.run(STORE, "--collect-only"))
    assert provable(note) == found[20], "so many where it is hard to decide"


def test_a_smoke_run_is_told_nothing(accepted: Project, ftcheck: Command) -> None:
    assert notes(ftcheck.run(STORE, "--ft-limit=5")) == []


def test_the_reference_is_what_the_session_compares_with(accepted: Project, ftcheck: Command) -> None:
    """A baseline elsewhere as it was planned; of a run of the store, or a results file, planned now."""
    shutil.copytree(accepted.path / "__baselines__", accepted.path / "old" / "__baselines__")
    (planned,) = notes(ftcheck.run(STORE, "--collect-only"))
    ftcheck.run(STORE, "--ft-json=before.json")
    shutil.rmtree(accepted.path / "__baselines__")
    assert notes(ftcheck.run(STORE, "--collect-only")) == []
    for named in ("old", "before.json", "run:good"):
        (note,) = notes(ftcheck.run(STORE, "--collect-only", f"--ft-compare={named}"))
        assert note == planned, named
    assert notes(ftcheck.run(STORE, "--collect-only", "--ft-compare=nowhere")) == [], "the case itself says it"


def test_parts_are_told_of_by_the_weakest(accepted: Project, ftcheck: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned when the baseline is written, without the names of the parts; and shown beside each part's gate."""
    sliced = "slices: {by: label, min_examples: 40, max_regression: %s}"
    accepted.suite(good(rate=0.92, gates=sliced % "0.001"))
    ftcheck.run(STORE, "--ft-update")
    (note,) = notes(ftcheck.run(STORE, "--collect-only"))
    assert note.startswith(f"{NOTE.replace('0.001', '0.001 on each of 2 parts by label')} 3 + 3 seeds")
    written = (accepted.path / "__baselines__/suite.ft/good.json").read_text()
    assert "lost" not in written.partition('"weakest"')[2].splitlines()[1]
    accepted.suite(good(rate=0.92, gates=sliced % provable(note)))
    assert notes(ftcheck.run(STORE, "--collect-only")) == []
    accepted.suite(good(rate=0.8, gates=sliced % "0.001"))
    monkeypatch.setenv("COLUMNS", "100")  # on 80 there is no room for what a part's gate detects
    shown = ftcheck.run(STORE).stdout.str()
    assert "≤ 0.001 worse (detects " in shown
    assert ", label=lost" in shown


def test_what_a_gate_detects_is_shown_beside_it(accepted: Project, ftcheck: Command) -> None:
    """Also where the result is the baseline itself, out of the store, and for parts that pass."""
    accepted.suite(good(gates="max_regression: 0.02, slices: {by: label, min_examples: 40, max_regression: 0.3}"))
    result = ftcheck.run(STORE)
    result.stdout.fnmatch_lines(["*≤ 0.02 worse (detects 0.*) *pass", "*2 parts (detects 0.* to 0.*) *pass"])


def test_a_damaged_baseline_does_not_end_the_collection(accepted: Project, ftcheck: Command) -> None:
    (accepted.path / "__baselines__" / "suite.ft" / "good.json").write_text("{")
    result = ftcheck.run(STORE, "--collect-only", "-q")
    assert result.ret == 0
    assert notes(result) == []
