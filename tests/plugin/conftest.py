"""A project with a suite, and a fine-tuning that is faked."""

from __future__ import annotations

import json
import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import ftcheck

REPOSITORY = Path(__file__).resolve().parent.parent.parent

SUITE = """
defaults:
  checkpoint: ./checkpoint
  task: text-classification
  data: {path: csv, files: {train: train.csv, test: test.csv}}
  precision: fp32
cases:
"""


WITHOUT = ("-p", "no:hypothesispytest", "-p", "no:anyio")
"""Plugins that no project here uses, and whose libraries each process of a session would import."""


class Project:
    """A folder with a checkpoint, data, and suites that a test writes."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.log = self.path / "stages.log"
        (self.path / "checkpoint").mkdir()
        for name, content in (
            ("config.json", '{"model_type": "bert"}'),
            ("model.safetensors", "w"),
            ("tokenizer.json", "{}"),
        ):
            (self.path / "checkpoint" / name).write_text(content)
        for split in ("train", "test"):
            (self.path / f"{split}.csv").write_text("text,label\nwhere is it,lost\nthey took it,stolen\n")
        pytester.makeconftest("from tests import fake\nfake.install()\n")
        pytester.makeini("[pytest]\naddopts = -p no:cacheprovider --strict-markers\n")

    def suite(self, cases: str, name: str = "suite.ft.yaml") -> Path:
        """A suite file with these cases (indented by two) under shared defaults."""
        path = self.path / name
        path.write_text(SUITE + cases)
        return path

    def run(self, *arguments: str) -> pytest.RunResult:
        """pytest in this process, since starting another takes longer than all that the fake does; but with workers of
        pytest-xdist in one of its own: where xdist was imported, `sys.path` was another."""
        if any(argument.startswith("-n") for argument in arguments):
            return self.start(*WITHOUT, *arguments)
        return self.pytester.runpytest_inprocess(*arguments)

    def start(self, *arguments: str) -> pytest.RunResult:
        """pytest in a process of its own, as a user runs it: where another process or a fresh one matters."""
        return self.pytester.runpytest_subprocess(*arguments)

    def stages(self) -> list[str]:
        """What the fake did, in order, since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    def results(self, name: str = "out.json") -> dict[str, dict[str, Any]]:
        """Case id -> result, out of a results file."""
        document = json.loads((self.path / name).read_text())
        return {result["case_id"]: result for result in document["results"]}


@pytest.fixture(scope="session")
def preloaded() -> None:
    """All of ftcheck: what is first imported while something is faked would hold on to the fake."""
    for module in pkgutil.walk_packages(ftcheck.__path__, "ftcheck."):
        import_module(module.name)


@pytest.fixture
def project(preloaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project whose fine-tuning is faked."""
    monkeypatch.delitem(sys.modules, "tests.fake", raising=False)  # a test's conftest.py may change it
    monkeypatch.delattr("tests.fake", raising=False)
    made = Project(pytester)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("FAKE_LOG", str(made.log))
    return made
