"""What the store can't do after a case was judged is a warning, never a crash of the session."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project

CASE = "  good:\n    training: {learning_rate: 0.9}\n    keep_model: none\n"

STUCK = """
from ftcheck import store
from ftcheck.errors import StoreError
from tests import fake

fake.install()

def stuck(*_):
    raise StoreError("the disk is full")

store.remove_model = stuck
"""


def test_a_model_that_cannot_be_dropped_stays_with_a_warning(project: Project) -> None:
    project.suite(CASE)
    (project.path / "conftest.py").write_text(STUCK)
    result = project.run()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["note: good: a model that is not wanted stays: the disk is full"])


@pytest.mark.parametrize("arguments", [pytest.param([], id="run"), pytest.param(["--ft-plan"], id="plan")])
def test_a_damaged_entry_is_told_by_whoever_meets_it(project: Project, arguments: list[str], own_cache: object) -> None:
    project.suite("  good:\n    training: {learning_rate: 0.9}\n")
    project.run()
    [manifest] = project.path.joinpath(str(own_cache), "predictions").glob("*/*/manifest.json")
    manifest.write_text("{")
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*note: the stored prediction * was damaged (manifest.json is no*"])
