"""What charts are made of, in a session: only where a report wants it, and the same out of its results file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftcheck.report import charts, jsonfile
from ftcheck.settings import Settings
from tests.plugin.conftest import Project

CASE = """
  c:
    training: {learning_rate: RATE}
    seeds: 2
    gates: {accuracy: {max_regression: 0.01, slices: {by: label, min_examples: 5, min: 0.1}}}
"""


def test_a_results_file_has_what_charts_show(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    project.suite(CASE.replace("RATE", "0.9"))
    project.run("--ft-update", "--ft-json=first.json")
    first = breakdown(project, "first.json")
    assert first["confusion"]["then"] is None, "there was no baseline yet"
    assert [part["reference"] for part in first["parts"]] == [None, None]
    project.suite(CASE.replace("RATE", "0.7"))
    project.run("--ft-json=second.json")
    second = breakdown(project, "second.json")
    assert second["confusion"]["classes"] == ["lost", "stolen"]
    assert [sum(row) for row in second["confusion"]["now"]] == [100, 100]
    assert second["confusion"]["then"] == first["confusion"]["now"]
    assert [part["part"] for part in second["parts"]] == ["label=lost", "label=stolen"]
    assert all(part["value"] < part["reference"] for part in second["parts"])
    assert sum(one["count"] for one in second["reliability"]) == 200
    (result,) = jsonfile.read(project.path / "second.json")
    told = next(gate.comparison for gate in result.gates if gate.comparison is not None)
    assert result.breakdown is not None
    assert result.breakdown.power is not None
    assert result.breakdown.power.detectable[0][1] == pytest.approx(told.detectable, rel=1e-3)
    drawn = {figure.id.partition("-")[2] for figure in charts.figures(result)}
    assert {"forest", "differences", "confusion", "classes", "parts", "reliability", "power"} <= drawn


def breakdown(project: Project, name: str) -> Any:
    return json.loads((project.path / name).read_text())["results"][0]["breakdown"]


def test_without_a_report_nothing_is_broken_down() -> None:
    assert not Settings().charted
    assert Settings(json="out.json").charted
