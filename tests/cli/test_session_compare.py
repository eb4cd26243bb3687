"""`--ft-compare`: a whole session against a commit, other baselines, a results file or runs of the store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.faked import Command
from tests.plugin.conftest import Project
from tests.plugin.test_baselines import CASE, git, with_rate

STORE = "--ft-cache-dir=store"


def compared(ftcheck: Command, *arguments: str, case: str = "c") -> dict[str, Any]:
    """What the case's margin says."""
    ftcheck.run(STORE, "--ft-json=out.json", *arguments)
    found: Any = ftcheck.project.results()[case]
    return {"verdict": found["verdict"], **(found["gates"][-1]["comparison"] or {})}


def test_a_session_is_compared_with_a_run_of_the_store(faked: Project, ftcheck: Command) -> None:
    """By its case, with the seeds that it had when the session began, or by its key; the baseline says otherwise."""
    faked.suite(with_rate(0.8))
    ftcheck.run(STORE, "--ft-update")
    faked.suite(CASE)
    ftcheck.run(STORE)
    faked.suite(with_rate(0.8).replace("seeds: 3", "seeds: [7, 8]"))
    assert compared(ftcheck)["verdict"] == "pass"
    by_name = compared(ftcheck, "--ft-compare=run:c")
    assert (by_name["verdict"], by_name["against"]) == ("pass", "the run run:c"), "the session before made that one"
    faked.suite(CASE)
    ftcheck.run(STORE)
    faked.suite(with_rate(0.8).replace("seeds: 3", "seeds: [7, 8]").replace("  c:", "  other:"))
    by_name = compared(ftcheck, "--ft-compare=c", case="other")
    assert (by_name["verdict"], by_name["reference"], by_name["reference_runs"]) == ("fail", 0.9, 3)
    known = json.loads((faked.path / "out.json").read_text())["results"][0]["runs"][0]["predict"]["key"]
    by_key = compared(ftcheck, f"--ft-compare={known[:12]}", case="other")
    assert (by_key["against"], by_key["reference_runs"]) == (f"the run {known[:12]}", 1)


def test_other_baselines_and_results_are_found_as_ftcheck_compare_finds_them(faked: Project, ftcheck: Command) -> None:
    faked.suite(CASE)
    ftcheck.run(STORE, "--ft-update")
    ftcheck.run(STORE, "--ft-json=before.json")
    shutil.copytree(faked.path / "__baselines__", faked.path / "old" / "suites" / "__baselines__")
    faked.suite(with_rate(0.6))
    for named in ("old", "old/suites/__baselines__", "old/suites/__baselines__/suite.ft/c.json", "before.json"):
        found = compared(ftcheck, f"--ft-compare={named}")
        assert (found["verdict"], found["reference"]) == ("fail", 0.9), named
        assert Path(named).name in found["against"]


def test_a_case_that_the_other_side_lacks_is_new(faked: Project, ftcheck: Command) -> None:
    faked.suite(CASE)
    ftcheck.run(STORE, "--ft-update")
    ftcheck.run(STORE, "--ft-json=before.json")
    shutil.move(faked.path / "__baselines__", faked.path / "old" / "__baselines__")
    faked.suite(CASE.replace("  c:", "  d:"))
    for named in ("old", "before.json"):
        assert compared(ftcheck, f"--ft-compare={named}", case="d")["verdict"] == "new"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        pytest.param("nowhere", "nowhere is none of: a results file", id="nothing"),
        pytest.param("git:nowhere", "'nowhere' is no commit, branch or tag", id="no-commit"),
        pytest.param("run:nobody", "has no case or predict key nobody", id="no-run"),
        pytest.param("c", "c is a git ref and a run of the store: write git:c or run:c", id="two-things"),
        pytest.param("empty", "there are no baselines in empty", id="empty-folder"),
        pytest.param("suite.ft.yaml", "can't be read as JSON", id="another-file"),
    ],
)
def test_what_names_nothing_or_two_things_is_said_before_anything_is_trained(
    faked: Project, ftcheck: Command, named: str, message: str
) -> None:
    (faked.path / "empty").mkdir()
    faked.suite(CASE)
    if named == "c":
        git(faked.path, "init", "-q", "-b", "c")
        git(faked.path, "commit", "-qm", "none", "--allow-empty")
        ftcheck.run(STORE)
        faked.suite(with_rate(0.6))
    faked.stages()
    result = ftcheck.run(STORE, f"--ft-compare={named}")
    result.assert_outcomes(errors=1)
    assert message in " ".join(result.stdout.str().split())
    assert faked.stages() == []
