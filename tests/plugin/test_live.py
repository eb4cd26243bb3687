"""The live row on a terminal: drawn under pytest's own, gone afterwards, and never counted as pytest's column."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.plugin.conftest import Project

CONFTEST = """
from tests import fake
from ftcheck.report import pace
pace.ON_TERMINAL = 0.0
fake.install()
"""


def on_a_terminal(*command: str) -> str:
    """What a command writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, close_fds=True):
        os.close(theirs)
        seen = bytearray()
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says EIO where others say the end
                break
            if not data:
                break
            seen += data
    os.close(ours)
    return seen.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_row_is_drawn_and_erased(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.suite("  good: {training: {learning_rate: 0.9}}\n")
    (project.path / "conftest.py").write_text(CONFTEST)
    for name, value in {"COLUMNS": "80", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    text = on_a_terminal(sys.executable, "-m", "pytest", str(project.path))
    row = "good, seed 42: train 1/2, epoch 0.5, loss 0.700, lr 1.0e-04"
    _, drawn, after = text.partition(f"\x1b[2K{row}")
    assert drawn, text
    assert after.startswith("\r\x1b[2K\x1b[A"), "the row was left standing"
    assert "\x1b[-" not in text
    assert row not in after


def test_a_quiet_session_draws_nothing(project: Project) -> None:
    project.suite("  good: {training: {learning_rate: 0.9}}\n")
    assert "seed 42" not in project.run("-q").stdout.str()
