"""`--ft-jobs`: trainings in processes of their own give the results, errors and exit codes of one process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from ftcheck import devices, machine
from ftcheck.devices import Cuda, Device
from ftcheck.executors import of
from ftcheck.executors.inline import InlineExecutor
from ftcheck.executors.leased import LeasedExecutor
from ftcheck.executors.local import LocalExecutor
from ftcheck.executors.process import SlotProcess, visible
from ftcheck.settings import Settings
from tests.executors.conftest import children
from tests.plugin.conftest import Project

PAIR = "  a: {training: {learning_rate: 0.9}, gates: {accuracy: {min: 0.8}}}\n  b: {training: {learning_rate: 0.95}}\n"
CASES = ("a", "b", "child")


def compared(project: Project, name: str) -> dict[str, Any]:
    """Of every case what must not depend on where it was trained."""
    return {
        case: (result["verdict"], result["metrics"], result["gates"], [run["train"] for run in result["runs"]])
        for case, result in project.results(name).items()
    }


def test_two_trainings_at_once_give_what_one_after_the_other_gives(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite(PAIR)
    project.run("--ft-json=inline.json").assert_outcomes(passed=2)
    project.stages()
    monkeypatch.setenv("FAKE_MEET", "2")
    project.run("--ft-jobs=2", "--ft-json=local.json", "--ft-cache=refresh").assert_outcomes(passed=2)
    assert compared(project, "local.json") == compared(project, "inline.json")
    assert sorted(project.stages()) == ["predict a 42", "predict b 42", "train a 42", "train b 42"]


def test_seeds_of_one_case_are_trained_at_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.suite("  a: {seeds: 4}\n")
    project.run("--ft-jobs=2").assert_outcomes(passed=1)
    assert sorted(project.stages()) == sorted(
        f"{stage} a {seed}" for stage in ("train", "predict") for seed in range(42, 46)
    )


def test_what_is_in_the_store_starts_no_process(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.suite(PAIR)
    project.run("--ft-jobs=2").assert_outcomes(passed=2)
    project.stages()

    def start(*arguments: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(SlotProcess, "start", start)
    project.run("--ft-jobs=2", "--ft-json=out.json").assert_outcomes(passed=2)
    assert project.stages() == []
    assert {run["train"]["source"] for result in project.results().values() for run in result["runs"]} == {"store"}


FUNCTIONS = """
import os
import ftcheck

def rows():
    import datasets

    split = datasets.Dataset.from_dict({"text": ["where", "they"], "label": ["lost", "stolen"]})
    return datasets.DatasetDict({"train": split, "test": split})

def suite(learning_rate, data):
    training = {"learning_rate": learning_rate}
    return ftcheck.case(
        checkpoint="../checkpoint", task="text-classification", data=data, training=training, precision="fp32"
    )
"""


@pytest.mark.parametrize(
    ("cases", "outcomes", "said"),
    [
        pytest.param("@suite(0.9, rows)\ndef test_a(): ...\n", {"passed": 1}, "*trained in*", id="found"),
        pytest.param(
            "@suite(0.9, lambda: rows())\ndef test_a(): ...\n@suite(0.91, rows)\ndef test_b(): ...\n",
            {"passed": 1, "errors": 1},
            "*test_a: it can't be handed to another process (Can't pickle*): define its data function with*",
            id="no-name",
        ),
        pytest.param(
            'assert os.environ.setdefault("FIRST", str(os.getpid())) == str(os.getpid()), "not twice"\n'
            "@suite(0.9, rows)\ndef test_a(): ...\n",
            {"errors": 1},
            "*AssertionError: not twice*",
            id="not-importable-there",
        ),
    ],
)
def test_a_data_function_of_a_test_file_is_called_in_the_other_process(
    project: Project, monkeypatch: pytest.MonkeyPatch, cases: str, outcomes: dict[str, int], said: str
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("FIRST", raising=False)
    below = project.path / "below"  # which nothing but pytest puts where Python looks for modules
    below.mkdir()
    (below / f"test_{len(cases)}.py").write_text(FUNCTIONS + cases)
    result = project.start("--ft-jobs=2")
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines([said])


def test_a_training_that_several_want_is_done_once(project: Project) -> None:
    project.suite("".join(f"  {name}: {{training: {{learning_rate: 0.9}}}}\n" for name in "abc"))
    project.run("--ft-jobs=3").assert_outcomes(passed=3)
    assert [line.split()[0] for line in project.stages()] == ["train", "predict"]


def test_a_model_that_others_start_from_comes_first_and_once(project: Project) -> None:
    chained = "  {}: {{init_from: case:parent, training: {{learning_rate: {}}}, seeds: 2}}\n"
    project.suite(
        chained.format("one", 0.9) + chained.format("two", 0.91) + "  parent: {training: {learning_rate: 0.85}}\n"
    )
    project.run("--ft-jobs=3").assert_outcomes(passed=3)
    stages = project.stages()
    assert stages.count("train parent 42") == 1
    assert stages.index("train parent 42") < min(stages.index(f"train {name} 42") for name in ("one", "two"))


def test_what_processes_made_is_uploaded_and_what_others_uploaded_they_do_not_make(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries(folder: str) -> set[str]:
        return {path.parent.name for path in (project.path / folder).glob("*/*/*/manifest.json")}

    project.suite(PAIR + "  child: {init_from: case:a}\n")
    run = ["--ft-jobs=2", f"--ft-remote=file://{project.path}/remote", "suite.ft.yaml::b", "suite.ft.yaml::child"]
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(project.path / "one"))
    project.run(*run).assert_outcomes(passed=2)
    assert sorted(project.stages()) == sorted(f"{do} {case} 42" for do in ("train", "predict") for case in CASES)
    assert len(entries("remote")) == 8  # of the parent, which nobody asks for, no scores
    assert entries("remote") == entries("one")
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(project.path / "two"))
    (project.path / "test.csv").write_text("text,label\nsome other row,lost\n")
    project.run(*run).assert_outcomes(passed=2)
    assert sorted(project.stages()) == ["predict b 42", "predict child 42"]


def test_a_model_that_cannot_be_trained_is_told_to_those_that_need_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAILURE", "nan")
    project.suite("  child: {init_from: case:parent}\n  parent: {training: {learning_rate: 0.85}}\n")
    alone = project.run("--ft-json=inline.json")
    many = project.run("--ft-jobs=2", "--ft-json=local.json")
    assert many.ret == alone.ret == pytest.ExitCode.TESTS_FAILED
    errors = [
        {case: result["error"] for case, result in project.results(name).items()}
        for name in ("inline.json", "local.json")
    ]
    assert errors[0] == errors[1]
    assert "the loss became NaN at step 7" in str(errors[1]["child"])


def test_an_input_that_is_edited_meanwhile_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILURE", "edit")
    project.suite("  a: {}\n")
    project.run("--ft-jobs=2", "--ft-json=out.json").assert_outcomes(errors=1)
    assert "an input changed while it was being used" in str(project.results()["a"]["error"])


def test_a_process_that_dies_costs_its_case_only(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.suite(PAIR + "  c: {}\n  d: {}\n")
    monkeypatch.setenv("FAKE_FAILURE", "kill b")
    result = project.run("--ft-jobs=2", "--ft-json=out.json")
    result.assert_outcomes(passed=3, errors=1)
    error = str(project.results()["b"]["error"])
    assert error.startswith("the process that trained it is gone: killed by SIGKILL (")
    assert "out of memory?" in error or "not by the kernel for memory" in error
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("way", "error"),
    [
        pytest.param("end", r"the process that trained it is gone: exit status 0", id="os-exit"),
        pytest.param("terminate", r"the process that trained it is gone: killed by SIGTERM", id="sigterm"),
        pytest.param("leave", r"code of the case's own ends the process at \S+fake\.py:\d+: sys\.exit\(0\)", id="exit"),
        pytest.param(
            "interrupt", r"code of the case's own raises KeyboardInterrupt at \S+fake\.py:\d+", id="interrupt"
        ),
        pytest.param("panic", r"a library fails at \S+fake\.py:\d+: index out of bounds", id="panic"),
    ],
)
def test_code_that_ends_its_process_costs_its_case_only(
    way: str, error: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite(PAIR)
    monkeypatch.setenv("FAKE_FAILURE", f"{way} a")
    result = project.run("--ft-executor=local", "--ft-jobs=1", "--ft-json=out.json")
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert re.fullmatch(error, str(project.results()["a"]["error"]))


def test_what_a_process_printed_last_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILURE", "exit")
    project.suite("  a: {}\n")
    project.run("--ft-jobs=2", "--ft-json=out.json").assert_outcomes(errors=1)
    error = str(project.results()["a"]["error"])
    assert error.endswith("exit status 7; the last that it printed: a last word")


def test_an_error_that_is_not_ours_brings_its_traceback(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILURE", "bug")
    project.suite("  a: {}\n")
    result = project.run("--ft-jobs=2", "--ft-json=out.json")
    result.assert_outcomes(errors=1)
    assert project.results()["a"]["error"] == "SlotError: ZeroDivisionError: division by zero"
    result.stdout.fnmatch_lines(["*fake.py*in _made_up_training*"])


@pytest.mark.parametrize(
    "end", [pytest.param(signal.SIGKILL, id="killed"), pytest.param(signal.SIGINT, id="interrupted")]
)
def test_no_process_outlives_the_session(
    project: Project, monkeypatch: pytest.MonkeyPatch, end: signal.Signals
) -> None:
    """Both trainings wait for a third that never comes."""
    monkeypatch.setenv("FAKE_MEET", "3")
    project.suite(PAIR)
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--ft-jobs=2"], stdout=subprocess.DEVNULL, cwd=project.path
    )
    meeting = project.path / "meeting"
    _until(lambda: meeting.is_dir() and len(list(meeting.iterdir())) == 2)
    started = children(session.pid)
    assert len(started) == 3  # and the server that both were forked from
    session.send_signal(end)
    assert session.wait(60) != 0
    _until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in started))


STUBBORN = """
from pathlib import Path
from ftcheck.executors import ending

def asked(process, number, really=ending.signal_group):
    really(process, number)
    Path("closing").touch()

ending.CLOSING, ending.signal_group = 3600.0, asked
"""
"""A clean-up that waits for as long as a process doesn't end, and says that it does."""


def test_a_second_ctrl_c_ends_a_session_whose_clean_up_hangs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILURE", "deaf a")
    (project.path / "conftest.py").write_text(STUBBORN)
    project.suite(PAIR)
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--ft-jobs=2", "--ft-json=out.json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=project.path,
    )
    _until(lambda: project.log.exists() and "train a 42" in project.log.read_text())
    started = children(session.pid)
    session.send_signal(signal.SIGINT)
    _until((project.path / "closing").exists)
    assert session.poll() is None
    session.send_signal(signal.SIGINT)
    assert session.wait(60) != 0
    _until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in started))
    assert json.loads((project.path / "out.json").read_text())["complete"] is False
    assert [path.name for path in project.path.rglob("*") if path.suffix in (".tmp", ".new", ".part")] == []


def _until(true: Any) -> None:
    give_up = time.monotonic() + 60
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_the_first_failure_ends_the_session_and_what_is_under_way(project: Project) -> None:
    project.suite("  bad: {training: {learning_rate: 0.5}, gates: {accuracy: {min: 0.8}}}\n" + PAIR)
    result = project.run("--ft-jobs=2", "-x")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_cases_that_are_skipped_are_not_trained_ahead(project: Project) -> None:
    project.suite(PAIR + "  never: {marks: [{skip: later}]}\n")
    project.run("--ft-jobs=2", "-k", "not b").assert_outcomes(passed=1, skipped=1, deselected=1)
    assert sorted(project.stages()) == ["predict a 42", "train a 42"]


BOTH = (
    "pytest-xdist's workers (-n, --tx) and --ft-jobs or --ft-executor both train several at once: leave one of them out"
)


@pytest.mark.parametrize("workers", [["-n2"], ["--dist=load", "--tx=popen"]], ids=["n", "tx"])
@pytest.mark.parametrize("more", [pytest.param("--ft-jobs=2", id="jobs"), pytest.param("--ft-executor=ray", id="ray")])
def test_workers_of_both_kinds_are_refused(project: Project, workers: list[str], more: str) -> None:
    pytest.importorskip("xdist")
    project.suite(PAIR)
    result = project.run(more, *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {BOTH}"])


def test_workers_of_both_kinds_are_refused_where_a_suite_is_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only a variable says is no business of tests that belong to no suite."""
    pytest.importorskip("xdist")
    monkeypatch.setenv("FTCHECK_JOBS", "2")
    project.pytester.makepyfile("def test_plain(): pass")
    project.suite(PAIR)
    result = project.start("-n1")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([BOTH])
    assert project.stages() == []


def test_each_process_has_its_share_of_the_cores(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    project.suite("  a: {}\n")
    project.run("--ft-jobs=1", "--ft-executor=local", "--ft-json=one.json").assert_outcomes(passed=1)
    monkeypatch.setenv("FTCHECK_CACHE", "refresh")
    project.run("--ft-jobs=64", "--ft-json=many.json").assert_outcomes(passed=1)
    threads = [
        json.loads((project.path / name).read_text())["results"][0]["runs"][0]["environment"]["threads"]
        for name in ("one.json", "many.json")
    ]
    assert threads == [str(len(os.sched_getaffinity(0))), "1"]


GPUS = tuple(Device(kind="cuda", index=index, name="GPU") for index in range(3))


@pytest.mark.parametrize(
    ("named", "jobs", "expected"),
    [
        pytest.param("cuda", None, (24, [0, 1, 2]), id="as-many-as-have-memory"),
        pytest.param("cuda", 2, (2, [0, 1, 2]), id="so-many-jobs"),
        pytest.param("cuda:1", None, (8, [1]), id="the-one-named"),
        pytest.param("cpu", None, (1, [0]), id="cpu"),
        pytest.param("cpu", 3, (3, [0]), id="several-on-a-cpu"),
        pytest.param("cuda:1", 4, (4, [1]), id="several-on-one"),
    ],
)
def test_jobs_are_spread_over_the_gpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, named: str, jobs: int | None, expected: tuple[int, list[int]]
) -> None:
    monkeypatch.setattr(devices, "cuda", lambda: Cuda(devices=GPUS))
    monkeypatch.setattr(machine, "cores", lambda: tuple(range(64)))
    device = Device(kind="cpu") if named == "cpu" else GPUS[1] if named.endswith("1") else GPUS[0]
    made = of(Settings(device=named, executor="local", jobs=jobs), device, tmp_path)
    assert isinstance(made, LocalExecutor)
    assert (made.jobs, [device.index for device in made.devices]) == expected


def test_the_default_trains_in_this_process(tmp_path: Any) -> None:
    made = of(Settings(), Device(kind="cpu"), tmp_path)
    assert isinstance(made, LeasedExecutor)
    assert isinstance(made.executor, InlineExecutor)


@pytest.mark.parametrize(
    ("index", "given", "expected"),
    [
        pytest.param(1, None, "1", id="all"),
        pytest.param(1, "4,6,7", "6", id="some"),
        pytest.param(0, "GPU-8f2a, MIG-1b", "GPU-8f2a", id="by-uuid"),
    ],
)
def test_a_process_sees_one_of_the_devices_that_its_parent_sees(index: int, given: str | None, expected: str) -> None:
    assert visible(index, given) == expected
