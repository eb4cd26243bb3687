"""A worker of pytest-xdist that dies costs the case that it worked on, and nothing else."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET

import jsonschema
import pytest

from ftcheck.report import jsonfile
from tests.plugin.conftest import Project

pytest.importorskip("xdist")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

NAMES = tuple("abcdef")
SUITE = "".join(
    f"  {name}:\n    training: {{learning_rate: 0.9{place}}}\n    gates: {{accuracy: {{min: 0.8}}}}\n"
    for place, name in enumerate(NAMES)
)
ALSO = "  again:\n    training: {learning_rate: 0.92}\n"
"""What trains as `c` does."""
KILLED = "it was killed, out of memory, or a library crashed"


@pytest.fixture
def project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose case `c` kills the process that trains it."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("FAKE_FAILURE", "kill c")
    project.suite(SUITE)
    return project


def document(project: Project) -> jsonfile.Document:
    """The results file, which is valid under its schema."""
    jsonschema.validate(json.loads((project.path / "out.json").read_text()), jsonfile.schema())
    return jsonfile.load(project.path / "out.json")


def test_its_case_is_an_error_in_every_report_and_all_others_are_judged(project: Project) -> None:
    project.suite(SUITE + ALSO)
    reports = ("--ft-json=out.json", "--ft-html=out.html", "--junitxml=out.xml")
    result = project.run("-n2", "--ft-update", *reports)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=6, errors=1)
    found = document(project)
    assert (found.complete, found.missing) == (True, ())
    verdicts = {one.case_id: one.verdict for one in found.results}
    assert verdicts == {**dict.fromkeys((*NAMES, "again"), "pass"), "c": "error"}, "`again` finds the lock free"
    (killed,) = [one for one in found.results if one.case_id == "c"]
    assert f"died while it worked on this case: {KILLED}" in killed.error
    assert killed.update == "not written: it was not measured"
    written = {path.stem for path in (project.path / "__baselines__").rglob("*.json")}
    assert written == {*NAMES, "again"} - {"c"}
    result.stdout.fnmatch_lines(["c: the process gw? died while*", "c: error: the process gw? died*"])
    assert KILLED in (project.path / "out.html").read_text()
    junit = {case.get("name"): case for case in ET.parse(project.path / "out.xml").getroot().iter("testcase")}
    assert {name for name, case in junit.items() if case.find("error") is not None} == {"c"}


def test_a_session_that_replaces_no_worker_says_what_was_not_run(project: Project) -> None:
    result = project.run("-n1", "--max-worker-restart=0", "--ft-update", "--ft-json=out.json")
    assert result.ret != pytest.ExitCode.OK
    found = document(project)
    assert not found.complete
    assert found.missing == tuple(f"suite.ft.yaml::{name}" for name in "def")
    assert {one.case_id: one.verdict for one in found.results} == {"a": "pass", "b": "pass", "c": "error"}
    assert {path.stem for path in (project.path / "__baselines__").rglob("*.json")} == {"a", "b"}


def test_several_deaths_cost_a_case_each(project: Project) -> None:
    bodies = "".join(
        f"@ftcheck.case(**CASE, training={{'learning_rate': 0.9{place}}})\n"
        f"def test_{name}(finetuned):\n    {'os._exit(1)' if place % 2 else 'pass'}\n"
        for place, name in enumerate(NAMES)
    )
    (project.path / "test_it.py").write_text(
        "import os, ftcheck\n"
        "CASE = dict(checkpoint='./checkpoint', task='text-classification', precision='fp32',\n"
        "    data={'path': 'csv', 'files': {'train': 'train.csv', 'test': 'test.csv'}})\n" + bodies
    )
    result = project.run("-n2", "--ft-json=out.json", "--ft-update", "test_it.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    verdicts = {one.case_id: one.verdict for one in document(project).results}
    assert verdicts == {f"test_{name}": ("error" if place % 2 else "pass") for place, name in enumerate(NAMES)}
    written = {path.stem for path in (project.path / "__baselines__").rglob("*.json")}
    assert written == {name for name, verdict in verdicts.items() if verdict == "pass"}


def test_where_all_are_measured_first_only_the_case_to_blame_is_an_error(project: Project) -> None:
    """Whichever case's turn it was when its process died of another, and each process meets the deadly one."""
    result = project.run("-n2", "--ft-correction=holm", "--ft-json=out.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    verdicts = {one.case_id: one.verdict for one in document(project).results}
    assert verdicts == {**dict.fromkeys(NAMES, "pass"), "c": "error"}
    assert project.stages().count("train c 42") == 1
