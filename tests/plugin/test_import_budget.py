"""What a session loads, by the names and the number of modules: seconds differ from machine to machine, these don't.

A larger number is no mistake in itself: whoever raises one has looked at what it brings (`python -X importtime`).
"""

from __future__ import annotations

import sys

import pytest

from tests.plugin.conftest import Project
from tests.test_imports import HEAVY

REPORT = """
import sys
from pathlib import Path

def pytest_unconfigure(config):
    Path("loaded.txt").write_text("\\n".join(sys.modules))
"""
SUITES = {"annotated_types", "blake3", "ftcheck", "pydantic", "pydantic_core", "typing_inspection", "yaml"}
"""Third-party packages that a suite file needs besides pytest's own."""
STATISTICS = SUITES | {"numpy"}


def loaded(project: Project, *arguments: str) -> set[str]:
    """The modules that a pytest with these arguments has at its end."""
    (project.path / "conftest.py").write_text(REPORT)
    project.start(*arguments)
    return set((project.path / "loaded.txt").read_text().split())


def third_party(modules: set[str]) -> set[str]:
    """The packages that the modules belong to, without the standard library and what compiled modules make up."""
    names = {name.partition(".")[0] for name in modules}
    return {name for name in names - sys.stdlib_module_names if not name.startswith("_") and name != "cython_runtime"}


@pytest.mark.parametrize(
    ("arguments", "packages", "most"),
    [
        pytest.param(None, {"ftcheck"}, 3, id="no suite"),
        pytest.param(["--collect-only"], SUITES, 75, id="collecting"),
        pytest.param(["--ft-plan"], SUITES, 110, id="planning"),
        pytest.param([], STATISTICS, 129, id="a run out of the store"),
    ],
)
def test_a_session_loads_no_more_than_it_needs(
    project: Project, arguments: list[str] | None, packages: set[str], most: int
) -> None:
    if arguments is not None:
        project.suite("  good:\n    training: {learning_rate: 0.9}\n    gates: {accuracy: {min: 0.5}}\n")
        project.run()
    before = loaded(project, "-p", "no:ftcheck")
    after = loaded(project, *(arguments or []))
    assert third_party(after - before) <= packages
    assert not {name.partition(".")[0] for name in after - before} & HEAVY
    ours = sorted(name for name in after if name.partition(".")[0] == "ftcheck")
    assert len(ours) <= most, ours


FROZEN = """
import gc
from pathlib import Path

def pytest_unconfigure(config):
    Path("frozen.txt").write_text(str(gc.get_freeze_count()))
"""


@pytest.mark.parametrize(("others", "some"), [(False, True), (True, False)], ids=["only cases", "other tests too"])
def test_the_collector_passes_over_what_was_imported_where_nobody_else_is_told_of_garbage(
    project: Project, others: bool, some: bool
) -> None:
    project.suite("  good:\n    training: {learning_rate: 0.9}\n    gates: {accuracy: {min: 0.5}}\n")
    project.run()
    (project.path / "conftest.py").write_text(FROZEN)
    if others:
        (project.path / "test_other.py").write_text("def test_nothing(): pass\n")
    project.start().assert_outcomes(passed=1 + others)
    frozen = int((project.path / "frozen.txt").read_text())
    assert (frozen > 10_000) is some
