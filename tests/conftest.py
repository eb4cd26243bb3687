"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester", "tests.cli.faked"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's run store, and none inherits the developer's settings."""
    path = tmp_path_factory.mktemp("ftcheck-cache")
    for name in ("DEVICE", "CACHE", "SEEDS", "LIMIT", "PLAN", "OFFLINE", "JSON", "DETAILS"):
        monkeypatch.delenv(f"FTCHECK_{name}", raising=False)
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(path))
    return path
