"""What tests of keys share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.keys import files


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that is really read, in order."""
    read: list[Path] = []
    original = files.file_digest

    def counted(path: Path) -> str:
        read.append(path)
        return original(path)

    monkeypatch.setattr(files, "file_digest", counted)
    return read
