"""JUnit files: flat properties of every case that was judged, parsed back; nothing in them that XML can't hold."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from tests.plugin.conftest import Project

SUITE = """
  good:
    training: {learning_rate: 0.9}
    seeds: 2
    gates: {accuracy: {min: 0.8, max_regression: 0.05}}
  bad: {training: {learning_rate: 0.6}, gates: {accuracy: {min: 0.8}}}
  broken: {training: {learning_rate: 0.7}, checkpoint: ./gone}
"""
HOSTILE = """
from tests import fake
fake.LABELS = ('lo\\x1b[31mst\\x00\\ud800', 'sto<len>&"]]>\\u202e')
fake.install()
"""
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@pytest.mark.parametrize("arguments", [pytest.param([], id="one-process"), pytest.param(["-n2"], id="workers")])
def test_properties_are_parsed_back(project: Project, arguments: list[str]) -> None:
    project.suite(SUITE)
    (project.path / "gone").mkdir()
    (project.path / "conftest.py").write_text(HOSTILE)
    project.run(*arguments, "--junitxml=junit.xml", "-o", "junit_logging=all")
    text = (project.path / "junit.xml").read_text("utf-8")
    assert not NOT_XML.search(text)
    (suite,) = ET.fromstring(text).iter("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
    }
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    found = {
        name: {str(p.get("name")): str(p.get("value")) for p in case.iterfind("properties/property")}
        for name, case in cases.items()
    }
    assert [case.find(kind) is not None for case in cases.values() for kind in ("failure", "error")].count(True) == 2
    assert {name: properties["ft_verdict"] for name, properties in found.items()} == {
        "good": "new",
        "bad": "fail",
        "broken": "error",
    }
    numbers = {name: float(value) for name, value in found["good"].items() if name.startswith("ft_accuracy")}
    assert numbers["ft_accuracy_low"] < numbers["ft_accuracy"] < numbers["ft_accuracy_high"]
    assert numbers["ft_accuracy"] == pytest.approx(0.895)
    assert (found["good"]["ft_seeds"], found["good"]["ft_examples"]) == ("2", "100")
    for case in cases.values():
        assert len(case.findall("properties")) == 1
        names = [str(p.get("name")) for p in case.iter("property")]
        assert len(names) == len(set(names)), "a property was written twice"


def test_a_comparison_s_numbers_are_properties(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "")
    suite = "  c: {training: {learning_rate: 0.9}, seeds: 2, gates: {accuracy: {max_regression: 0.05}}}\n"
    project.suite(suite)
    project.run("--ft-update", "-q")
    project.suite(suite.replace("0.9", "0.6"))
    project.run("--junitxml=junit.xml", "-q")
    root = ET.parse(project.path / "junit.xml").getroot()
    found = {str(p.get("name")): str(p.get("value")) for p in root.iter("property")}
    low, worse, high = (float(found[f"ft_accuracy_worse{end}"]) for end in ("_low", "", "_high"))
    assert low < worse < high
    assert worse == pytest.approx(0.3)
