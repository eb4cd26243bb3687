"""--ft-profile: where a session's time went, in the terminal and in the results; without it nothing is told."""

from __future__ import annotations

from ftcheck.report import jsonfile
from tests.plugin.conftest import Project

CASE = """
  c:
    training: {learning_rate: 0.9}
    gates: {accuracy: {min: 0.5}}
"""


def test_a_session_tells_where_its_time_went(project: Project) -> None:
    project.suite(CASE)
    made = project.run("--ft-profile", "--ft-json=made.json")
    made.stdout.fnmatch_lines(["*where time and memory went*", "c: *", "*score*"])
    (result,) = jsonfile.read(project.path / "made.json")
    assert result.profile is not None
    phases = {phase.name for phase in result.profile.phases}
    assert {"keys", "store", "score", "judge"} <= phases
    assert result.profile.throughput == (), "the fake has no tokens to count"


def test_nothing_is_told_where_nobody_asks(project: Project) -> None:
    project.suite(CASE)
    made = project.run("--ft-json=made.json")
    made.stdout.no_fnmatch_line("*where time and memory went*")
    (result,) = jsonfile.read(project.path / "made.json")
    assert result.profile is None


def test_asking_changes_no_key(project: Project) -> None:
    project.suite(CASE)
    project.run()
    assert project.stages()
    project.run("--ft-profile")
    assert project.stages() == []
