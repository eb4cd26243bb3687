"""Commands on a project whose fine-tuning is faked."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module

import pytest

from ftcheck import cli
from tests.plugin.conftest import REPOSITORY, Project

PRELOADED = ("numpy", "scipy.special", "pyarrow.parquet", "fsspec", "ftcheck.bisecting", "ftcheck.calibrating")
"""pytester forgets what is first imported while its pytest runs, and these can't be loaded twice."""


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


@pytest.fixture(scope="session")
def preloaded() -> None:
    """What stays in this process."""
    for name in PRELOADED:
        import_module(name)


@pytest.fixture
def faked(preloaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project whose fine-tuning is faked, outside CI."""
    made = Project(pytester)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("FAKE_LOG", str(made.log))
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("FTCHECK_DEVICE", "cpu")
    return made


@pytest.fixture
def ftcheck(faked: Project) -> Command:
    """The command in that project."""
    return Command(faked)
