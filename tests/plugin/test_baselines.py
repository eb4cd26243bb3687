"""Baselines as a user works with them: first run, accept, tamper, worse, better, other data, other device, CI."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import Project

CASE = """
  c:
    training: {learning_rate: 0.9}
    seeds: 3
    gates: {accuracy: {min: 0.5, max_regression: 0.05}}
"""


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in CI, whatever these tests run in."""
    monkeypatch.delenv("CI", raising=False)


def baseline(project: Project, case: str = "c", suite: str = "suite.ft") -> Path:
    return project.path / "__baselines__" / suite / f"{case}.json"


def entry(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(baseline(project).read_text())["entries"]["cpu"]
    return found


def accepted(project: Project, cases: str = CASE) -> Project:
    """A project with the committed baseline of its cases."""
    project.suite(cases)
    project.run("--ft-update").assert_outcomes(passed=0)
    assert baseline(project).is_file()
    return project


def flat(result: pytest.RunResult) -> str:
    """What was printed, on one line: long lines are wrapped."""
    return " ".join(result.stdout.str().split())


def with_rate(rate: float) -> str:
    return CASE.replace("0.9", str(rate))


def test_a_first_run_is_new_and_fails_only_under_strict(project: Project) -> None:
    project.suite(CASE)
    first = project.run()
    assert first.ret == 0
    first.stdout.fnmatch_lines(["*1 new*"])
    first.stdout.fnmatch_lines(["*accuracy: the baseline has no entry for cpu yet: accept one with --ft-update*"])
    strict = project.run("--ft-strict")
    assert strict.ret == 1
    strict.stdout.fnmatch_lines(["*the baseline has no entry for cpu yet*"])


def test_accepting_writes_a_file_that_a_reviewer_reads(project: Project) -> None:
    accepted(project)
    text = baseline(project).read_text()
    (line,) = [line for line in text.splitlines() if line.strip().startswith('"accuracy": {"greater_is_better"')]
    assert '"per_seed": [0.89, 0.9, 0.91]' in line
    assert '"value": 0.9' in line
    assert "row 1" not in text, "no text of the data"
    statistics = (baseline(project).parent / "c.cpu.npz").read_bytes()
    assert b"row 1" not in statistics
    assert project.run().ret == 0
    assert baseline(project).read_text() == text, "only --ft-update writes"


def test_the_same_result_passes_and_is_not_written_again(project: Project) -> None:
    accepted(project)
    before = baseline(project).read_bytes()
    result = project.run("--ft-update")
    result.stdout.fnmatch_lines(["*baseline: unchanged*", "*1 passed*"])
    assert baseline(project).read_bytes() == before


def test_a_worse_model_fails_and_says_what_changed_and_which_examples(project: Project) -> None:
    accepted(project)
    project.suite(with_rate(0.6))
    result = project.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "accuracy 0.600, baseline 0.900: −30.0 pt *, margin 5.0; 3 seeds, n = 100",
            "changed since the baseline*",
            "*training.learning_rate 0.9 → 0.6*",
            "30 of 100 examples broken, 0 fixed:",
            "*expected *, before right, now *",
        ]
    )


def test_a_loosened_baseline_needs_a_reason_which_is_kept(project: Project) -> None:
    accepted(project)
    project.suite(with_rate(0.88))
    refused = project.run("--ft-update")
    assert "not written: it would be loosened (accuracy 0.9 → 0.88); give --ft-reason" in flat(refused)
    assert entry(project)["metrics"]["accuracy"]["value"] == 0.9
    project.run("--ft-update", "--ft-reason=less data").stdout.fnmatch_lines(["*baseline: written in place of*"])
    found = entry(project)
    assert found["metrics"]["accuracy"]["value"] == 0.88
    assert found["accepted"]["reason"] == "less data"
    assert [past["metrics"]["accuracy"] for past in found["history"]] == [0.9]


def test_a_better_model_passes_and_may_be_accepted_without_a_reason(project: Project) -> None:
    accepted(project)
    project.suite(with_rate(0.97))
    result = project.run("--ft-update")
    assert result.ret == 0
    assert "makes this the baseline, so that the gain can't be lost unseen" in flat(result)
    assert entry(project)["metrics"]["accuracy"]["value"] == 0.97


def test_a_jump_upwards_is_an_alarm(project: Project) -> None:
    gates = "gates: {accuracy: {max_gain: 0.02}}"
    accepted(project, CASE.replace("gates: {accuracy: {min: 0.5, max_regression: 0.05}}", gates))
    project.suite(with_rate(0.99).replace("gates: {accuracy: {min: 0.5, max_regression: 0.05}}", gates))
    result = project.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*so much better smells of a leak*"])


def test_examples_that_have_to_be_right(project: Project) -> None:
    """The fake is right on the first of its rows, whatever the seed, and wrong on the last."""
    demand = CASE.replace("max_regression: 0.05", 'must_pass: ["%032x"]')
    for row, code in ((3, 0), (99, 1)):
        project.suite(demand % row)
        result = project.run()
        assert result.ret == code
    result.stdout.fnmatch_lines([f"accuracy is not 1 in every run for {99:032x}, which must be right*"])


def test_an_example_that_broke_in_the_second_run_only_is_shown_from_there(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted(project, CASE.replace("seeds: 3", "seeds: 2"))
    monkeypatch.setenv("FAKE_COLLAPSED", "43")
    project.suite(with_rate(0.89).replace("seeds: 3", "seeds: 2"))
    project.run("--ft-json=out.json")
    flips: Any = project.results()["c"]["references"][0]["flips"]
    assert len(flips) == 10
    assert {(flip["gold"], flip["before"], flip["after"]) for flip in flips} == {
        ("lost", "right", "stolen"),
        ("stolen", "right", "lost"),
    }
    assert all(flip["input"] for flip in flips)


def test_small_steps_do_not_add_up_unseen(project: Project) -> None:
    """Each step is within max_regression; the third is too far from the first accepted result."""
    gates = "gates: {accuracy: {max_regression: 0.2, max_drift: 0.1}}"
    old = "gates: {accuracy: {min: 0.5, max_regression: 0.05}}"
    accepted(project, CASE.replace(old, gates))
    for rate in (0.85, 0.82):
        project.suite(with_rate(rate).replace(old, gates))
        assert project.run("--ft-update", "--ft-reason=a step").ret == 0
    project.suite(with_rate(0.7).replace(old, gates))
    result = project.run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["accuracy 0.700, first accepted 0.900: −20.0 pt *"])
    assert (baseline(project).parent / "c.cpu.first.npz").is_file()


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        pytest.param(lambda p: p.write_text("{"), "is no baseline that ftcheck wrote", id="broken-json"),
        pytest.param(
            lambda p: p.write_text(p.read_text().replace('"value": 0.9', '"value": 0.5')),
            "it was edited by hand",
            id="edited-value",
        ),
        pytest.param(lambda p: (p.parent / "c.cpu.npz").unlink(), "is missing", id="no-statistics"),
        pytest.param(
            lambda p: (p.parent / "c.cpu.npz").write_bytes(b"x"),
            "isn't the file that c.json was accepted with",
            id="other",
        ),
        pytest.param(
            lambda p: p.write_text(p.read_text().replace('"format": 1', '"format": 7')),
            "has format 7",
            id="newer-format",
        ),
    ],
)
def test_a_baseline_that_was_tampered_with_is_an_error_never_a_pass(
    project: Project, tamper: Any, message: str
) -> None:
    accepted(project)
    tamper(baseline(project))
    result = project.run()
    result.assert_outcomes(errors=1)
    assert message in flat(result)
    assert "Traceback" not in result.stdout.str()
    assert project.run("--ft-update", "--ft-reason=mended").ret == 0
    assert project.run("--ft-strict").ret == 0


def test_a_metric_with_another_definition_is_incomparable(project: Project) -> None:
    accepted(project)
    path = baseline(project)
    old = path.read_text().replace('"signature": "accuracy|1"', '"signature": "accuracy|0"')
    path.write_text(old.replace('"checksum"', '"unsealed"'))
    result = project.run("--ft-json=out.json")
    result.assert_outcomes(errors=1)
    assert "accuracy is defined otherwise now" in result.stdout.str()
    assert project.results()["c"]["verdict"] == "incomparable"


def test_another_kind_of_device_is_new_and_says_which_there_are(project: Project) -> None:
    accepted(project)
    path = baseline(project)
    path.write_text(path.read_text().replace('"cpu": {', '"cuda": {'))
    result = project.run()
    assert result.ret == 0
    assert "the baseline has no entry for cpu yet (it has cuda)" in flat(result)


def test_a_deleted_case_leaves_a_baseline_that_is_reported_and_kept(project: Project) -> None:
    accepted(project)
    project.suite(CASE.replace("  c:", "  renamed:"))
    result = project.run()
    result.stdout.fnmatch_lines(["*no case has the baseline __baselines__/suite.ft/c.json*"])
    assert baseline(project).is_file()


def test_a_part_of_a_session_reports_no_baseline_of_the_others_as_unused(project: Project) -> None:
    accepted(project, CASE + CASE.replace("  c:", "  d:"))
    for arguments in (("-k", "d"), ("suite.ft.yaml::d",)):
        assert "no case has the baseline" not in project.run(*arguments).stdout.str()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("--ft-update",), "*CI is set*--ft-allow-ci-update*", id="ci"),
        pytest.param(("--ft-update", "--ft-limit=3", "--ft-allow-ci-update"), "*smoke run*", id="smoke"),
        pytest.param(("--ft-reason=x",), "*goes with --ft-update*", id="reason-alone"),
    ],
)
def test_updates_that_cannot_be_meant_are_refused_before_anything_runs(
    project: Project, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("CI", "true")
    project.suite(CASE)
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert project.stages() == []


def test_ci_may_be_allowed_to_update(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    project.suite(CASE)
    assert project.run("--ft-update", "--ft-allow-ci-update").ret == 0
    assert baseline(project).is_file()


def test_update_new_leaves_what_is_there(project: Project) -> None:
    accepted(project)
    before = baseline(project).read_bytes()
    project.suite(with_rate(0.95) + CASE.replace("  c:", "  d:"))
    project.run("--ft-update-new")
    assert baseline(project).read_bytes() == before
    assert baseline(project, "d").is_file()


def test_a_case_that_fails_is_not_accepted(project: Project) -> None:
    project.suite(CASE.replace("min: 0.5", "min: 0.95"))
    result = project.run("--ft-update")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*baseline: not written: the case fails*"])
    assert not baseline(project).exists()


def test_a_body_that_fails_keeps_its_case_from_being_accepted(project: Project) -> None:
    (project.path / "test_body.py").write_text(
        "import ftcheck\n"
        "@ftcheck.case(checkpoint='./checkpoint', task='text-classification', precision='fp32',\n"
        "    data={'path': 'csv', 'files': {'train': 'train.csv', 'test': 'test.csv'}})\n"
        "def test_it(finetuned):\n    assert finetuned.metrics['accuracy'] > 2\n"
    )
    result = project.run("--ft-update")
    assert result.ret == 1
    assert not (project.path / "__baselines__").exists()


def test_under_xdist_the_controller_writes_what_workers_propose(project: Project) -> None:
    project.suite("".join(CASE.replace("  c:", f"  c{i}:") for i in range(4)))
    assert project.run("-n2", "--ft-update").ret == 0
    found = sorted(path.name for path in (project.path / "__baselines__/suite.ft").iterdir())
    assert found == sorted(f"c{i}{suffix}" for i in range(4) for suffix in (".cpu.npz", ".json"))
    project.suite("".join(CASE.replace("  c:", f"  c{i}:") for i in range(3)))
    again = project.run("-n2")
    assert again.ret == 0
    again.stdout.fnmatch_lines(["*no case has the baseline __baselines__/suite.ft/c3.json*"])


def test_seeds_are_added_until_the_gates_are_decided(project: Project) -> None:
    accepted(project)
    project.stages()
    growing = CASE.replace("seeds: 3", "seeds: {min: 2, max: 5}").replace("0.9}", "0.9, weight_decay: 0.1}")
    project.suite(growing.replace("0.05", "0.2"))
    decided = project.run("--ft-json=out.json")
    assert decided.ret == 0
    assert project.results()["c"]["seeds"] == [42, 43]
    project.suite(growing.replace("0.05", "0.001"))
    undecided = project.run("--ft-json=out.json")
    undecided.stdout.fnmatch_lines(["*1 inconclusive*"])
    assert project.results()["c"]["seeds"] == [42, 43, 44, 45, 46]
    project.run("--ft-json=out.json", "--ft-seeds=3")
    assert project.results()["c"]["seeds"] == [42, 43, 44], "as many as are asked for, whatever the suite says"


def test_a_case_may_be_compared_with_another(project: Project) -> None:
    other = with_rate(0.6).replace("  c:", "  other:")
    project.suite(other + CASE.replace("    seeds", "    vs: case:other\n    seeds"))
    assert project.run("-k", "c and not other").ret == 0
    swapped = CASE.replace("  c:", "  other:") + with_rate(0.6).replace("    seeds", "    vs: case:other\n    seeds")
    project.suite(swapped)
    result = project.run("suite.ft.yaml::c")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["accuracy 0.600, case other 0.900: −30.0 pt *"])
    project.suite(CASE.replace("    seeds", "    vs: case:nobody\n    seeds"))
    project.run().stdout.fnmatch_lines(["*vs: no case of suite.ft.yaml is called nobody*"])


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=a@b", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("how", ["vs", "option"])
def test_a_commit_has_baselines_too(project: Project, how: str) -> None:
    """Compared with the committed baseline, though the working tree has another."""
    accepted(project, with_rate(0.9))
    git(project.path, "init", "-q")
    git(project.path, "add", "-A")
    git(project.path, "commit", "-qm", "accepted")
    project.suite(with_rate(0.8))
    project.run("--ft-update", "--ft-reason=worse")
    if how == "vs":
        project.suite(with_rate(0.8).replace("    seeds", "    vs: git:HEAD\n    seeds"))
    result = project.run(*(["--ft-compare=HEAD"] if how == "option" else []))
    assert result.ret == 1
    result.stdout.fnmatch_lines(["accuracy 0.800, baseline at HEAD 0.900: −10.0 pt *"])
    unknown = project.run("--ft-compare=nowhere")
    unknown.assert_outcomes(errors=1)
    assert "nowhere is none of: a results file" in unknown.stdout.str()


def test_a_collapsed_seed_is_named_and_the_policy_decides(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 43 of the fake learns nothing where FAKE_COLLAPSED says so."""
    monkeypatch.setenv("FAKE_COLLAPSED", "43")
    for policy, code in (("count", 0), ("drop", 0), ("fail", 1)):
        project.suite(
            CASE.replace("    seeds", f"    collapsed: {policy}\n    seeds").replace(", max_regression: 0.05", "")
        )
        result = project.run("--ft-json=out.json")
        assert result.ret == code, policy
        assert "seed 43 learned nothing" in flat(result)
        assert project.results()["c"]["seeds"] == ([42, 44] if policy == "drop" else [42, 43, 44])


@pytest.mark.parametrize("policy", ["count", "drop", "fail"])
def test_a_recipe_that_learns_nothing_fails_where_collapses_do_not_count(project: Project, policy: str) -> None:
    """Half of two equally common classes right, whatever the seed."""
    project.suite(f"  c:\n    training: {{learning_rate: 0.48}}\n    seeds: 2\n    collapsed: {policy}\n")
    result = project.run()
    assert result.ret == int(policy != "count")
    assert ("no seed learned anything: accuracy is no better" in flat(result)) == (policy != "count")
