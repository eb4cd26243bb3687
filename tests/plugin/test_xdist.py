"""Several workers and other ways to run pytest: results, table and exit code are those of one plain process."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.hub_server import serve
from tests.plugin.conftest import Project

pytest.importorskip("xdist")

NAMES = tuple("abcdef")
GOOD = "".join(
    f"  {name}:\n    training: {{learning_rate: 0.9{place}}}\n    gates: {{accuracy: {{min: 0.8}}}}\n"
    for place, name in enumerate(NAMES)
)
BAD = "  bad:\n    training: {learning_rate: 0.6}\n    gates: {accuracy: {min: 0.8}}\n"


def table(result: pytest.RunResult) -> list[str]:
    """The lines of the table of models, sorted, since workers finish in any order."""
    begin = next(place for place, line in enumerate(result.outlines) if "= fine-tuned models =" in line)
    end = next(place for place, line in enumerate(result.outlines) if "= short test summary" in line)
    return sorted(result.outlines[begin:end])


def test_two_workers_report_as_one_process_does(project: Project) -> None:
    project.suite(GOOD + BAD)
    alone = project.run("--ft-json=alone.json")
    project.stages()
    workers = project.run("-n2", "--ft-json=workers.json", "--ft-cache=refresh")
    assert workers.ret == alone.ret == pytest.ExitCode.TESTS_FAILED
    workers.assert_outcomes(passed=6, failed=1)
    stages = project.stages()
    assert sorted(stages) == sorted(f"{stage} {name} 42" for stage in ("train", "predict") for name in (*NAMES, "bad"))
    one, two = (json.loads((project.path / f"{name}.json").read_text()) for name in ("alone", "workers"))
    assert two["complete"] is True
    by_case = [
        {r["case_id"]: (r["nodeid"], r["verdict"], r["metrics"], r["gates"]) for r in document["results"]}
        for document in (one, two)
    ]
    assert by_case[0] == by_case[1]
    assert table(alone) == table(workers)


def test_workers_that_want_one_training_share_it(project: Project) -> None:
    project.suite(BAD + BAD.replace("bad", "same") + BAD.replace("bad", "too"))
    project.run("-n3").assert_outcomes(failed=3)
    assert [line.split()[0] for line in project.stages()] == ["train", "predict"]


@pytest.mark.parametrize(
    ("given", "expected"), [pytest.param(None, "share", id="shared"), pytest.param("3", "3", id="what-the-user-said")]
)
def test_workers_share_the_cores(
    project: Project, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = str(max(1, cores // 2)) if expected == "share" else expected
    (project.path / "test_threads.py").write_text(
        f"import os\ndef test_threads():\n    assert os.environ['OMP_NUM_THREADS'] == '{share}'\n"
    )
    project.run("-n2", "test_threads.py").assert_outcomes(passed=1)


def test_junit_of_workers_has_the_numbers(project: Project) -> None:
    project.suite(GOOD)
    project.run("-n2", "--junitxml=junit.xml")
    cases = {case.get("name"): case for case in ET.parse(project.path / "junit.xml").getroot().iter("testcase")}
    assert set(cases) == set(NAMES)
    for case in cases.values():
        assert "ft_accuracy" in {found.get("name") for found in case.iter("property")}


def test_the_first_failure_stops_workers(project: Project) -> None:
    project.suite(BAD + GOOD)
    result = project.run("-n2", "-x", "--ft-json=out.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert json.loads((project.path / "out.json").read_text())["complete"] is False
    assert project.results()["bad"]["verdict"] == "fail"


def test_what_cannot_be_followed_is_said_once_by_the_controller(project: Project) -> None:
    project.suite(GOOD)
    result = project.run("-n2", "--ft-device=cuda:99")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = [line for line in result.errlines + result.outlines if "cuda" in line]
    assert len(said) == 1


def test_a_broken_suite_is_said_once_and_fails_the_session(project: Project) -> None:
    """How much of the rest xdist still runs depends on which of its workers is first."""
    project.suite(GOOD)
    project.suite("  bad: {seed: 3}\n", "broken.ft.yaml")
    result = project.run("-n2")
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    assert result.parseoutcomes()["errors"] == 1
    # pytest's own summary says it once more, whole where CI is set and cut to the width elsewhere
    said = [line for line in result.outlines if "cases.bad.seed: no such key" in line and not line.startswith("ERROR ")]
    assert len(said) == 1


def test_a_plan_with_workers_is_printed_once(project: Project) -> None:
    project.suite(GOOD)
    result = project.run("-n2", "--ft-plan")
    assert result.ret == pytest.ExitCode.OK
    assert [line for line in result.outlines if line.startswith("a: ")] == ["a: train 1 seed, evaluate 1"]
    assert project.stages() == []


def test_a_smoke_run_of_workers_judges_nothing(project: Project) -> None:
    project.suite(BAD)
    result = project.run("-n2", "--ft-limit=1")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*--ft-limit=1: a smoke run*", "*1 smoke*"])


def test_a_store_of_a_session_s_own_serves_workers(project: Project) -> None:
    project.suite(GOOD)
    project.run("-n2", "--ft-cache=off").assert_outcomes(passed=6)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-q"], id="quiet"),
        pytest.param(["-qq"], id="very-quiet"),
        pytest.param(["-v"], id="verbose"),
        pytest.param(["-vv"], id="very-verbose"),
        pytest.param(["-s"], id="no-capture"),
        pytest.param(["-rA"], id="summary-of-all"),
        pytest.param(["--tb=short"], id="short"),
        pytest.param(["--tb=line"], id="line"),
        pytest.param(["--tb=native"], id="native"),
        pytest.param(["--tb=no"], id="no-traceback"),
        pytest.param(["--full-trace"], id="full-trace"),
        pytest.param(["-p", "no:terminal"], id="no-terminal"),
        pytest.param(["-p", "no:terminal", "-n2"], id="no-terminal-workers"),
        pytest.param(["-p", "no:capture"], id="no-capture-plugin"),
        pytest.param(["-p", "no:junitxml"], id="no-junit"),
        pytest.param(["--color=yes"], id="colour"),
        pytest.param(["--no-header", "--no-summary"], id="no-summary"),
        pytest.param(["--no-showlocals"], id="locals"),
    ],
)
def test_whatever_is_shown_the_results_are_the_same(project: Project, arguments: list[str]) -> None:
    project.suite(GOOD + BAD)
    result = project.run(*arguments, "--ft-json=out.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {name: found["verdict"] for name, found in project.results().items()} == {
        **dict.fromkeys(NAMES, "pass"),
        "bad": "fail",
    }
    text = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text


def test_a_plan_without_a_terminal_is_a_usage_error(project: Project) -> None:
    project.suite(GOOD)
    result = project.run("-p", "no:terminal", "--ft-plan")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ft-plan is shown by pytest's terminal plugin: leave `-p no:terminal` out"])
    assert project.stages() == []


def test_a_plan_trains_nothing_where_another_suite_is_broken(project: Project) -> None:
    project.suite(GOOD)
    project.suite("  bad: {seed: 3}\n", "broken.ft.yaml")
    result = project.run("--ft-plan", "--continue-on-collection-errors")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["a: train 1 seed, evaluate 1"])
    assert project.stages() == []


def test_a_debugger_stops_at_a_failed_gate_and_goes_on(project: Project) -> None:
    project.suite(BAD + GOOD)
    result = project.pytester.run(sys.executable, "-m", "pytest", "--pdb", stdin=b"c\nc\n")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*accuracy 0.590 is below the minimum 0.8*", "*entering PDB*"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_workers_mean_one_commit_though_others_are_pushed_meanwhile(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.suite("".join(f"  {name}:\n    checkpoint: org/model\n    seeds: [{n}]\n" for n, name in enumerate("ab")))
    with serve() as hub:
        for name, value in hub.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        hub.put("models", "org/model", {"config.json": b"{}"})
        told = hub.answer

        def moving(path: str) -> tuple[int, dict[str, str], bytes]:
            answer = told(path)
            hub.put("models", "org/model", {"config.json": path.encode()})
            return answer

        monkeypatch.setattr(hub, "answer", moving)
        project.start("--dist=each", "--tx=2*popen").assert_outcomes(passed=4)
        assert len(hub.requests) == 1
    assert sorted(project.stages()) == ["predict a 0", "predict b 1", "train a 0", "train b 1"]
