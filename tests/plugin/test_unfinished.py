"""A session that doesn't finish leaves a results file that is valid and says what is missing, whatever ended it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ftcheck import cli
from ftcheck.history import History
from ftcheck.report import jsonfile
from tests.plugin.conftest import Project

SUITE = "".join(
    f"  {name}:\n    training: {{learning_rate: {rate}}}\n    gates: {{accuracy: {{min: 0.8}}}}\n"
    for name, rate in (("first", 0.9), ("second", 0.91), ("third", 0.92))
)
WAITS = """
import time
from pathlib import Path
from tests import fake
fake.install()
train = fake.FakeExecutor._made_up_training
def waits(self, work, store, on_progress):
    if work.job.case.id == "second":
        Path("reached").touch()
        for _ in range(600):
            on_progress(fake.Progress(stage="train", done=1, total=2))
            time.sleep(0.05)
    train(self, work, store, on_progress)
fake.FakeExecutor._made_up_training = waits
"""


def nodeids(*names: str) -> tuple[str, ...]:
    return tuple(f"suite.ft.yaml::{name}" for name in names)


def load(path: Path) -> jsonfile.Document:
    """What is in a results file, which is valid under its schema."""
    jsonschema.validate(json.loads(path.read_text()), jsonfile.schema())
    return jsonfile.load(path)


@pytest.fixture
def waiting(project: Project) -> Project:
    """A project whose second case takes half a minute."""
    project.suite(SUITE)
    (project.path / "conftest.py").write_text(WAITS)
    return project


def killed(project: Project, number: signal.Signals, *arguments: str) -> jsonfile.Document:
    """What a session leaves that gets a signal while its second case trains."""
    command = [sys.executable, "-m", "pytest", "--ft-json=out.json", "-q", *arguments]
    with subprocess.Popen(command, cwd=project.path, stdout=subprocess.PIPE, text=True) as process:
        while not (project.path / "reached").exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        process.send_signal(number)
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:  # Ctrl-C in a library's callback is lost, and whoever presses it tries again
            process.send_signal(number)
            process.communicate()
    return load(project.path / "out.json")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_session_says_what_is_missing(waiting: Project, number: signal.Signals) -> None:
    (waiting.path / "out.json").write_text("of yesterday")
    found = killed(waiting, number)
    assert not found.complete
    assert found.missing == nodeids("second", "third")
    assert [result.case_id for result in found.results] == ["first"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_terminated_session_ends_as_an_interrupted_one(waiting: Project) -> None:
    """Cancelled CI jobs get SIGTERM: what was measured is in every report, and in the history."""
    arguments = ("--ft-html=out.html", "--junitxml=out.xml", f"--ft-history={waiting.path / 'history.sqlite'}")
    killed(waiting, signal.SIGTERM, *arguments)
    assert "suite.ft.yaml::second" in (waiting.path / "out.html").read_text()
    assert 'name="first"' in (waiting.path / "out.xml").read_text()
    [known] = History(waiting.path / "history.sqlite").known()
    assert known.case == "first"


def test_reports_of_such_a_file_say_it(
    waiting: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(waiting, signal.SIGKILL)
    monkeypatch.chdir(waiting.path)
    monkeypatch.setenv("COLUMNS", "200")
    for arguments in (["report", "out.json"], ["report", "out.json", "--markdown"]):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        told = capsys.readouterr().out
        named = "suite.ft.yaml::second, suite.ft.yaml::third"
        assert f"he session did not finish: no result of 2 cases: {named}" in told.replace("\\", "")


KINDS: dict[str, tuple[str, list[str], dict[str, str], Any]] = {
    "pass": (SUITE, [], {}, (True, {"pass"}, ())),
    "fail": (SUITE.replace("0.9}", "0.5}"), [], {}, (True, {"pass", "fail"}, ())),
    "first failure": (SUITE.replace("0.9}", "0.5}"), ["-x"], {}, (False, {"fail"}, ("second", "third"))),
    "error": (SUITE, [], {"FAKE_FAILURE": "nan"}, (True, {"error"}, ())),
    "interrupted": (SUITE, [], {"FAKE_FAILURE": "interrupt"}, (False, set(), ("first", "second", "third"))),
    "smoke": (SUITE, ["--ft-limit=1"], {}, (True, {"smoke"}, ())),
    "empty": (SUITE, ["-k", "nothing"], {}, (False, set(), ())),
    "chosen": (SUITE, ["-k", "first"], {}, (True, {"pass"}, ())),
    "skipped": (f"{SUITE}    marks: [{{skip: no}}]\n", [], {}, (True, {"pass"}, ())),
    "workers": (SUITE, ["-n2"], {}, (True, {"pass"}, ())),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_session_leaves_a_valid_file(project: Project, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    suite, arguments, environment, (complete, verdicts, missing) = KINDS[kind]
    project.suite(suite)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = project.start if kind == "interrupted" else project.run
    run("--ft-json=out.json", "-q", *arguments)
    found = load(project.path / "out.json")
    assert (found.complete, {result.verdict for result in found.results}) == (complete, verdicts)
    assert found.missing == nodeids(*missing)


def test_a_place_that_cannot_be_written_is_said_before_anything_is_trained(project: Project) -> None:
    project.suite(SUITE)
    (project.path / "file").write_text("")
    result = project.run("--ft-json=file/out.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ft-json: *out.json can't be written: *"])
    assert project.stages() == []


@pytest.mark.parametrize("arguments", [["--collect-only"], ["--ft-plan"]], ids=" ".join)
def test_what_measures_nothing_writes_nothing(project: Project, arguments: list[str]) -> None:
    project.suite(SUITE)
    (project.path / "out.json").write_text("of yesterday")
    project.run("--ft-json=out.json", *arguments)
    assert (project.path / "out.json").read_text() == "of yesterday"
    assert os.listdir(project.path).count("out.json") == 1
