"""Every way in which pytest-xdist hands out tests: all that is told and kept is what one process tells and keeps."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.plugin.conftest import Project

pytest.importorskip("xdist")

CONFTEST = """
import os, random
from tests import fake
fake.install()
def pytest_collection_modifyitems(items):
    if "SHUFFLED" in os.environ:
        random.Random(7).shuffle(items)
"""


@pytest.fixture(autouse=True)
def as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every process: a baseline says how many there were."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def case(name: str, rate: float, more: str) -> str:
    return f"  {name}:\n    training: {{learning_rate: {rate}}}\n    {more}\n"


FIRST = "".join(
    case(f"c{i}", 0.9 + i / 100, f"gates: {{accuracy: {{min: 0.8}}}}\n    marks: [{{xdist_group: g{i % 2}}}]")
    for i in range(4)
)
SECOND = (
    case("new", 0.95, "gates: {accuracy: {max_regression: 0.02}}")
    + case("bad", 0.6, "gates: {accuracy: {min: 0.8}}")
    + case("broken", 0.9, "vs: case:nobody\n    gates: {accuracy: {max_regression: 0.02}}")
    + case("off", 0.9, "marks: [{skip: no}]")
)


@pytest.fixture
def two_files(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Cases that pass, are new, fail, can't be measured and are skipped."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    project.pytester.makeini("[pytest]\naddopts = --strict-markers\n")
    project.suite(FIRST, "first.ft.yaml")
    project.suite(SECOND, "second.ft.yaml")
    project.pytester.makeconftest(CONFTEST)
    return project


def told(project: Project, name: str, *arguments: str) -> dict[str, Any]:
    """All that a session with a store of its own tells and keeps, but for times and the order in which cases end."""
    reports = [f"--ft-json={name}.json", f"--ft-html={name}.html", f"--junitxml={name}.xml"]
    workers = any(argument.startswith(("-n", "--tx")) and argument != "-n0" for argument in arguments)
    run = project.start if workers else project.pytester.runpytest_inprocess
    result = run("-q", f"--ft-cache-dir={name}", "--ft-update", *reports, *arguments)
    document = json.loads((project.path / f"{name}.json").read_text())
    for found in document["results"]:
        for point in found["history"]:
            del point["time"], point["until"]
    junit = ET.parse(project.path / f"{name}.xml").getroot()
    page = (project.path / f"{name}.html").read_text()
    return {
        "exit code": result.ret,
        "table": _table(result),
        "results": document["results"],
        "rest of the file": (document["complete"], document["missing"]),
        "page": all(found["case_id"] in page for found in document["results"]),
        "junit": {found.get("name"): sorted(_properties(found)) for found in junit.iter("testcase")},
        "outcomes": {name: count for name, count in result.parseoutcomes().items() if name != "deselected"},
        "baselines": _taken_away(project.path / "__baselines__"),
        "stages": sorted(project.stages()),
    }


def _table(result: pytest.RunResult) -> list[str]:
    """The lines of the table of models, in order."""
    begin = next(place for place, line in enumerate(result.outlines) if "= fine-tuned models =" in line)
    end = next(place for place, line in enumerate(result.outlines) if "= short test summary" in line)
    return result.outlines[begin:end]


def _properties(found: ET.Element) -> list[tuple[str, str]]:
    values = [(str(each.get("name")), str(each.get("value"))) for each in found.iter("property")]
    return values + [(each.tag, "") for each in found if each.tag in ("failure", "error", "skipped")]


def _taken_away(folder: Path) -> dict[str, object]:
    """The baselines that were written, which the next session finds gone."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*.json")):
        document = json.loads(path.read_text())
        for entry in document["entries"].values():
            del entry["accepted"], entry["checksum"]  # of which the time is a part
        found[path.name] = document
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return found


@pytest.mark.parametrize(
    ("workers", "arguments"),
    [
        pytest.param(["-n2"], [], id="load"),
        pytest.param(["-n2", "--dist=loadscope"], ["-k", "c0 or new or bad"], id="loadscope-some"),
        pytest.param(["-n2", "--dist=loadfile"], ["--ft-details"], id="loadfile-shuffled"),
        pytest.param(["-n2", "--dist=loadgroup"], ["--ft-correction=holm"], id="loadgroup-holm"),
        pytest.param(["-n2", "--dist=worksteal"], ["--ft-compare=before.json"], id="worksteal-compared"),
        pytest.param(["-nauto", "--maxprocesses=2"], ["--lf"], id="auto-last-failed"),
        pytest.param(["--dist=load", "--tx=2*popen"], ["--maxfail=5"], id="tx"),
        pytest.param(["-n0"], [], id="n0"),
        pytest.param(["--dist=no"], [], id="no"),
        pytest.param(["-p", "no:xdist"], [], id="without-xdist"),
    ],
)
def test_workers_tell_and_keep_what_one_process_does(
    two_files: Project, monkeypatch: pytest.MonkeyPatch, workers: list[str], arguments: list[str]
) -> None:
    if "--ft-details" in arguments:
        monkeypatch.setenv("SHUFFLED", "1")
    if {"--lf", "--ft-compare=before.json"} & {*arguments}:
        two_files.run("--ft-json=before.json", "--ft-cache-dir=before")
        two_files.stages()
    alone = told(two_files, "alone", *arguments)
    assert told(two_files, "several", *workers, *arguments) == alone


def test_each_worker_runs_each_case_and_the_worst_result_is_the_case_s(two_files: Project) -> None:
    """A test that one of them fails is a failed case, without a baseline; all of it is told once."""
    alone = told(two_files, "alone")
    (two_files.path / "test_it.py").write_text(
        "import os, ftcheck\n"
        "@ftcheck.case(checkpoint='./checkpoint', task='text-classification', training={'learning_rate': 0.9},\n"
        "    data={'path': 'csv', 'files': {'train': 'train.csv', 'test': 'test.csv'}}, precision='fp32')\n"
        "def test_here(finetuned):\n    assert os.environ['PYTEST_XDIST_WORKER'] == 'gw1'\n"
    )
    each = told(two_files, "each", "--dist=each", "--tx=2*popen")
    (here,) = [found for found in each["results"] if found["case_id"] == "test_here"]
    assert (here["verdict"], here["update"]) == ("fail", "not written: the test failed")
    assert [found for found in each["results"] if found is not here] == alone["results"]
    assert each["baselines"] == alone["baselines"]
    assert each["stages"] == alone["stages"], "one trains, the other waits"
    counts = {name: 2 * count for name, count in alone["outcomes"].items()}
    assert each["outcomes"] == {**counts, "passed": counts["passed"] + 1, "failed": counts["failed"] + 1}
