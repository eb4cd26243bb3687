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
from ftcheck.report import live, pace
pace.ON_TERMINAL = live.RELAYED = 0.0
fake.install()
"""
GOOD = "  good: {training: {learning_rate: 0.9}}\n"
ROW = "good, seed 42: train 1/2, epoch 0.5, loss 0.700, lr 1.0e-04"


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


@pytest.fixture
def terminal(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with one case, outside CI, in 80 columns."""
    project.suite(GOOD)
    (project.path / "conftest.py").write_text(CONFTEST)
    for name, value in {"COLUMNS": "80", "TERM": "xterm-256color", "CI": ""}.items():
        monkeypatch.setenv(name, value)
    return project


needs_a_pseudo_terminal = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


@needs_a_pseudo_terminal
def test_the_row_is_drawn_and_erased(terminal: Project) -> None:
    text = on_a_terminal(sys.executable, "-m", "pytest", str(terminal.path))
    _, drawn, after = text.partition(f"\x1b[2K{ROW}")
    assert drawn, text
    assert after.startswith("\r\x1b[2K\x1b[A"), "the row was left standing"
    assert "\x1b[-" not in text
    assert ROW not in after


@needs_a_pseudo_terminal
def test_workers_send_their_rows_to_the_terminal(terminal: Project) -> None:
    terminal.suite(GOOD + GOOD.replace("good", "other").replace("0.9", "0.8"))
    text = on_a_terminal(sys.executable, "-m", "pytest", "-n2", str(terminal.path))
    *_, after = text.split("\x1b[2K[gw")
    assert ROW in text
    assert ROW.replace("good", "other") in text
    assert ROW not in after.partition("\x1b[A")[2], "the row was left standing"
    assert "2 passed" in text


@needs_a_pseudo_terminal
@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        pytest.param((), {"CI": "true"}, id="ci"),
        pytest.param((), {"TERM": "dumb"}, id="dumb"),
        pytest.param(("-s",), {}, id="no-capture"),
    ],
)
def test_nothing_is_drawn_where_somebody_reads_a_log(
    terminal: Project, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text = on_a_terminal(sys.executable, "-m", "pytest", *arguments, str(terminal.path))
    assert "\x1b[2K" not in text
    assert "seed 42" not in text, "a plain line comes after half a minute"
    assert "1 passed" in text


def test_a_quiet_session_draws_nothing(terminal: Project) -> None:
    assert "seed 42" not in terminal.run("-q").stdout.str()


@pytest.mark.parametrize(
    ("arguments", "variable", "coloured"),
    [
        pytest.param(["--color=yes"], "", True, id="colour-in-a-pipe"),
        pytest.param([], "", False, id="pipe"),
        pytest.param(["--color=auto"], "NO_COLOR", False, id="no-colour"),
    ],
)
def test_a_pipe_gets_colours_only_where_asked(
    terminal: Project, monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str, coloured: bool
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    text = terminal.run(*arguments).stdout.str()
    assert ("\x1b[32mgood: pass (" in text) is coloured
    assert ("\x1b" in text) is coloured
    assert "\x1b[2K" not in text


def test_the_line_of_a_case_ends_with_pytest_s_progress(terminal: Project) -> None:
    good = "  good: {training: {learning_rate: 0.9}, gates: {accuracy: {min: 0.8}}}\n"
    terminal.suite(good + good.replace("good", "other"))
    terminal.run().stdout.fnmatch_lines(
        [
            "suite.ft.yaml .",
            "  good: pass: accuracy 0.890 *(trained in 41 s) * 50%]",
            "suite.ft.yaml .",
            "  other: pass: accuracy 0.890 *(from the store) *100%]",
        ],
        consecutive=True,
    )


def test_very_quiet_leaves_the_table_out_and_says_what_failed(terminal: Project) -> None:
    terminal.suite("  bad: {training: {learning_rate: 0.6}, gates: {accuracy: {min: 0.8}}}\n")
    result = terminal.run("-qq")
    result.stdout.fnmatch_lines(["accuracy 0.590 is below the minimum 0.8 *"])
    result.stdout.no_fnmatch_line("*fine-tuned models*")


SUGAR = """
import pytest
from tests import fake
fake.install()

class Sugar(pytest.TerminalReporter):
    def pytest_runtest_logstart(self, nodeid, location):
        pass

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    manager = config.pluginmanager
    if hasattr(config, "workerinput"):
        return
    manager.unregister(manager.getplugin("terminalreporter"))
    manager.register(Sugar(config), "terminalreporter")
"""


def test_another_reporter_in_pytest_s_place_gets_whole_lines(terminal: Project) -> None:
    """As pytest-sugar and others put one there."""
    terminal.suite(GOOD + GOOD.replace("good", "other"))
    (terminal.path / "conftest.py").write_text(SUGAR)
    result = terminal.run()
    result.assert_outcomes(passed=2)
    lines = result.outlines
    assert [line.split(":")[0] for line in lines if "pass: accuracy" in line] == ["  good", "  other"]
    assert not [line for line in lines if line.endswith("%]") and "pass: accuracy" in line]
