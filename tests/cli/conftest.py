"""Commands on a project whose fine-tuning is faked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.plugin.conftest import Project, project

__all__ = ["Command", "ftcheck", "project"]


class Command:
    """The `ftcheck` command in a process of its own, in the project's folder."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from ftcheck.cli import main; main()", *arguments],
            cwd=self.project.path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def accept(self) -> None:
        """Make what the suite gives now the baseline."""
        assert self.project.run("--ft-device=cpu", "--ft-update", "--ft-reason=because", "-q").ret == 0
        self.project.stages()


@pytest.fixture
def ftcheck(project: Project, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, in an empty project outside CI."""
    monkeypatch.setenv("CI", "")
    monkeypatch.setenv("FTCHECK_DEVICE", "cpu")
    return Command(project)
