"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.executors import inline

pytest_plugins = ["pytester", "tests.cli.faked"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's run store, and none inherits the developer's settings."""
    path = tmp_path_factory.mktemp("ftcheck-cache")
    for name in (
        "DEVICE",
        "CACHE",
        "SEEDS",
        "LIMIT",
        "PLAN",
        "OFFLINE",
        "JSON",
        "DETAILS",
        "HISTORY",
        "TENSORBOARD",
        "MLFLOW",
        "REMOTE",
        "VENDOR",
    ):
        monkeypatch.delenv(f"FTCHECK_{name}", raising=False)
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(path))
    return path


@pytest.fixture(autouse=True)
def no_fake_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a project's conftest.py, loaded into this process by a command, put in the place of what trains is taken
    away again: real cases run in this process too."""
    monkeypatch.setattr(inline, "InlineExecutor", inline.InlineExecutor)
