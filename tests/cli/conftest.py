"""Commands on a project whose fine-tuning is faked."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module

import pytest

from ftcheck import cli
from ftcheck.executors import inline
from tests.plugin.conftest import Project, project

__all__ = ["Command", "ftcheck", "project"]


for name in ("numpy", "scipy.special", "pyarrow.parquet", "ftcheck.bisecting", "ftcheck.calibrating"):
    # pytester forgets what is first imported while its pytest runs, and these can't be loaded twice.
    import_module(name)


class Command:
    """The `ftcheck` command and pytest in a project's folder; both in this process, since starting one takes longer
    than all that the fake does."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                cli.main(arguments)
            except SystemExit as end:
                code = int(end.code or 0)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def accept(self) -> None:
        """Make what the suite gives now the baseline."""
        assert self.run("--ft-device=cpu", "--ft-update", "--ft-reason=because", "-q").ret == 0
        self.project.stages()

    def run(self, *arguments: str) -> pytest.RunResult:
        """pytest on the project."""
        return self.project.pytester.runpytest_inprocess(*arguments)


@pytest.fixture
def ftcheck(project: Project, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, in an empty project outside CI."""
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("FTCHECK_DEVICE", "cpu")
    # What the project's conftest.py replaces is put back after the test.
    monkeypatch.setattr(inline, "InlineExecutor", inline.InlineExecutor)
    return Command(project)
