"""A project whose fine-tuning is faked in the executor's own processes, too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import REPOSITORY, Project, preloaded

__all__ = ["preloaded"]


@pytest.fixture
def project(
    preloaded: None,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Project:
    """An empty project; every Python that starts below it fakes the fine-tuning."""
    monkeypatch.delitem(sys.modules, "tests.fake", raising=False)  # a test's conftest.py may change it
    monkeypatch.delattr("tests.fake", raising=False)
    made = Project(pytester)
    customized = tmp_path_factory.mktemp("sitecustomize")
    (customized / "sitecustomize.py").write_text("from tests import fake\nfake.install()\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (customized, REPOSITORY))))
    monkeypatch.setenv("FAKE_LOG", str(made.log))
    monkeypatch.setenv("FTCHECK_DEVICE", "cpu")
    return made


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that are still there, and theirs."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == pid:
                found += [int(path.name), *children(int(path.name))]
    return found
