"""A project whose cases were run by the fake executor: results files, a store, and baselines that are committed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ftcheck.cli import main
from tests.plugin.conftest import REPOSITORY, SUITE

Command = Callable[..., tuple[int, str, str]]

CASES = """
  intents:
    training: {learning_rate: 0.9}
    seeds: 3
    gates: {accuracy: {max_regression: 0.05}}
"""
FROZEN = "  frozen:\n    training: false\n"
FRESH = "  fresh:\n    training: {learning_rate: 0.5}\n"


def shell(folder: Path, *command: str) -> None:
    """Run a command that has to end well."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CI", "FTCHECK_", "GIT_"))},
        "PYTHONPATH": str(REPOSITORY),
        "FTCHECK_CACHE_DIR": str(folder / "store"),
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr


def session(folder: Path, *arguments: str) -> None:
    """A pytest session whose trainings are faked."""
    shell(folder, sys.executable, "-m", "pytest", "--ft-device=cpu", *arguments)


def commit(folder: Path) -> None:
    """Commit everything but the store."""
    shell(folder, "git", "add", "-A")
    shell(folder, "git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-qm", "as it is")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that tests copy:

    - before.json, and the baselines at HEAD: `intents` right on 90 of 100, `frozen`
    - worse.json: `intents` right on 70, `fresh`, and no `frozen` any more, as the suite is now
    - near.json: `intents` right on 89, and `frozen`
    """
    folder = tmp_path_factory.mktemp("finished") / "project"
    (folder / "checkpoint").mkdir(parents=True)
    for name, content in (
        ("checkpoint/config.json", '{"model_type": "bert"}'),
        ("checkpoint/model.safetensors", "w"),
        ("checkpoint/tokenizer.json", "{}"),
        ("train.csv", "text,label\nwhere is it,lost\nthey took it,stolen\n"),
        ("test.csv", "text,label\nwhere is it,lost\nthey took it,stolen\n"),
        ("conftest.py", "from tests import fake\nfake.install()\n"),
        ("pytest.ini", "[pytest]\naddopts = -q -p no:cacheprovider\n"),
        (".gitignore", "store/\n__pycache__/\n*.json\n!__baselines__/**\n"),
        ("suite.ft.yaml", SUITE + CASES + FROZEN),
    ):
        (folder / name).write_text(content, "utf-8")
    shell(folder, "git", "init", "-q")
    session(folder, "--ft-json=before.json", "--ft-update")
    commit(folder)
    (folder / "suite.ft.yaml").write_text(SUITE + CASES.replace("0.9", "0.89") + FROZEN)
    session(folder, "--ft-json=near.json")
    (folder / "suite.ft.yaml").write_text(SUITE + CASES.replace("0.9", "0.7") + FRESH)
    session(folder, "--ft-json=worse.json")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own of the finished project, which the command runs in; not in CI."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(folder / "store"))
    monkeypatch.delenv("CI", raising=False)
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `ftcheck ARGUMENTS`: exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
