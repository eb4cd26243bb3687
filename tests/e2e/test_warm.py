"""A session that is forked from a process with the libraries is what one that starts afresh is, but for these."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests import warm

TOLD = """
import os, signal, sys

print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "tests", "ftcheck"}))

def test_told(tmp_path):
    print(os.getcwd(), os.environ["FAKE_WORD"], "COLUMNS" in os.environ, sys.path[0], sys.stdin.isatty())
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, sorted(os.listdir("/proc/self/fd"))[:3])
    assert os.environ["FAKE_WORD"] != "wrong"

def test_ends():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_told.py").write_text(TOLD)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each starts afresh")
@pytest.mark.parametrize(("word", "code"), [("right", 0), ("wrong", 1)])
def test_it_has_its_folder_variables_and_exit_status(folder: Path, word: str, code: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FAKE_WORD": word}
    environment.pop("COLUMNS", None)
    done = warm.run(
        ["-s", "-k", "told and not ends", "-p", "no:ftcheck", "-p", "no:cacheprovider"], folder, environment
    )
    assert done.returncode == code, done.stdout
    assert "['torch']" in done.stdout
    assert f"{folder} {word} False {folder} False" in done.stdout
    assert "True ['0', '1', '2']" in done.stdout
    assert "1 deselected" in done.stdout
    assert "warning" not in done.stdout


def test_what_ends_it_is_told(folder: Path) -> None:
    session = warm.start(["-k", "ends"], folder, {**os.environ, "OMP_NUM_THREADS": "1"})
    assert session.wait() == -signal.SIGKILL
    assert session.poll() == -signal.SIGKILL
    session.send_signal(signal.SIGINT)  # nobody's, by now
    assert "test_told.py" in session.communicate()[0]
