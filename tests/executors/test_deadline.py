"""What hangs or takes too long is stopped and told; all else goes on."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress

import pytest

from ftcheck import durations
from ftcheck.errors import TrainingError
from ftcheck.executors import local
from ftcheck.executors.deadline import Timeout, deadline
from tests.plugin.conftest import Project

SHORT = Timeout(seconds=0.05, said="timeout: 0.05s")
SUITE = "  a: {timeout: 0.5s}\n  b: {training: {learning_rate: 0.95}}\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(90, 90.0, id="number"),
        pytest.param("90", 90.0, id="text"),
        pytest.param("90s", 90.0, id="seconds"),
        pytest.param("1.5 min", 90.0, id="minutes"),
        pytest.param("2h", 7200.0, id="hours"),
        pytest.param("1d", 86400.0, id="days"),
    ],
)
def test_durations(said: str | float, expected: float) -> None:
    assert durations.seconds(said) == expected


@pytest.mark.parametrize("said", ["", "0", "-1", "2 weeks", "1h30", "inf", True, float("nan")])
def test_what_is_no_duration_is_refused(said: str | float) -> None:
    with pytest.raises(ValueError, match="expected a duration, such as 90s, 30min or 2h, got"):
        durations.seconds(said)


def test_what_catches_every_exception_is_stopped() -> None:
    def stubborn() -> None:
        while True:
            with suppress(Exception):
                time.sleep(0.01)

    expected = r"timeout: 0.05s is over: stopped at .*test_deadline.py:\d+ in stubborn"
    with pytest.raises(TrainingError, match=expected), deadline(SHORT):
        stubborn()


def test_what_waits_for_another_thread_is_stopped() -> None:
    with pytest.raises(TrainingError, match="is over"), deadline(SHORT):
        threading.Event().wait()


def test_what_ends_in_time_is_left_alone() -> None:
    with deadline(Timeout(seconds=1000, said="")):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_alarm_of_another_is_put_back() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 1000)
        with pytest.raises(TrainingError), deadline(SHORT):
            time.sleep(60)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 1000
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with deadline(Timeout(seconds=1000, said="")):
            time.sleep(0.05)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("jobs", [pytest.param((), id="inline"), pytest.param(("--ft-jobs=2",), id="local")])
def test_a_training_that_hangs_costs_its_case_only(
    project: Project, monkeypatch: pytest.MonkeyPatch, jobs: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FAKE_FAILURE", "hang a")
    project.suite(SUITE)
    result = project.run(*jobs, "--ft-json=out.json")
    result.assert_outcomes(passed=1, errors=1)
    assert str(project.results()["a"]["error"]).startswith("timeout: 0.5s is over: stopped at ")
    assert [line for line in project.stages() if line.startswith("predict")] == ["predict b 42"]


def test_a_process_that_cannot_be_interrupted_is_killed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILURE", "deaf a")
    monkeypatch.setattr(local, "GRACE", 1.0)
    project.suite(SUITE)
    project.run("--ft-jobs=2", "--ft-json=out.json").assert_outcomes(passed=1, errors=1)
    assert str(project.results()["a"]["error"]).startswith("timeout: 0.5s is over: stopped from outside")


def test_a_session_without_time_judges_what_is_there(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.suite(SUITE)
    project.run("-k", "b").assert_outcomes(passed=1, deselected=1)
    project.suite("  c: {training: {learning_rate: 0.7}}\n" + SUITE + "  d: {training: {learning_rate: 0.8}}\n")
    monkeypatch.setenv("FAKE_FAILURE", "hang c")
    result = project.run("--ft-timeout=5s", "--ft-json=out.json")
    result.assert_outcomes(passed=1, errors=3)
    found = project.results()
    assert str(found["c"]["error"]).startswith("--ft-timeout=5s is over: stopped at ")
    assert found["a"]["error"] == found["d"]["error"] == "--ft-timeout=5s is over: this was not begun any more"
    assert found["b"]["verdict"] == "pass"


def test_a_duration_that_is_none_is_a_usage_error(project: Project) -> None:
    project.suite("  a: {timeout: soon}\n")
    result = project.run("--ft-timeout=soon")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ft-timeout: expected a duration, such as 90s, 30min or 2h, got 'soon'"])
    result = project.run()
    result.stdout.fnmatch_lines(["*suite.ft.yaml:8 cases.a.timeout: expected a duration, such as 90s, 30min or 2h*"])
