"""A session as a user sees it: verdicts, exit codes, the table, what is computed and what is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftcheck.store import Store
from tests.plugin.conftest import Project

GOOD = "  good:\n    training: {learning_rate: 0.9}\n    gates: {accuracy: {min: 0.8}}\n"
BAD = "  bad:\n    training: {learning_rate: 0.6}\n    gates: {accuracy: {min: 0.8, max: 0.99}}\n"


def test_a_gate_that_holds_passes_and_one_that_does_not_fails(project: Project) -> None:
    project.suite(GOOD + BAD)
    result = project.run("--ft-device=cpu")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*good: pass: accuracy 0.890 [[]*[]] (trained in 41 s)*",
            "*bad: fail: accuracy 0.59*",
            "accuracy 0.590 is below the minimum 0.8 (95 % interval *, 1 seed, n = 100)",
            "most often confused:",
            "*× lost taken for stolen",
            "worst examples (seed 42):",
            "reproduce: pytest suite.ft.yaml::bad --ft-device=cpu",
            "*= fine-tuned models =*",
            "  metric*value*95 % interval*gate*",
            "suite.ft.yaml",
            "good: pass (1 seed, n = 100, cpu fp32, trained in 41 s)",
            "  accuracy * ≥ 0.8 *pass",
            "*note: 2 of 100 rows were cut at 8 tokens",
            "bad: fail *",
            "  accuracy * ≥ 0.8 *fail",
            "* ≤ 0.99 *pass",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_a_second_run_finds_everything_and_computes_nothing(project: Project) -> None:
    project.suite(GOOD + BAD)
    project.run()
    assert sorted(project.stages()) == ["predict bad 42", "predict good 42", "train bad 42", "train good 42"]
    result = project.run()
    assert project.stages() == []
    result.stdout.fnmatch_lines(["good: pass (* from the store)"])


def test_another_gate_another_name_and_another_metric_never_touch_the_model(project: Project) -> None:
    project.suite(GOOD)
    project.run()
    project.stages()
    project.suite(GOOD.replace("good", "renamed").replace("min: 0.8", "min: 0.95") + "    metrics: [weighted_f1]\n")
    result = project.run()
    assert project.stages() == []
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  weighted_f1 *"])


def test_another_evaluation_split_is_predicted_without_training(project: Project) -> None:
    project.suite(GOOD)
    project.run()
    project.stages()
    (project.path / "test.csv").write_text("text,label\nanother row,lost\nthey took it,stolen\n")
    project.run()
    assert project.stages() == ["predict good 42"]


def test_cases_that_want_one_training_share_it(project: Project) -> None:
    project.suite(GOOD + GOOD.replace("good", "same"))
    project.run()
    assert project.stages() == ["train good 42", "predict good 42"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param("use", [], id="use"),
        pytest.param("refresh", ["train good 42", "predict good 42"], id="refresh"),
        pytest.param("off", ["train good 42", "predict good 42"], id="off"),
        pytest.param("only", [], id="only"),
    ],
)
def test_cache_modes_on_a_store_that_has_it(project: Project, mode: str, expected: list[str]) -> None:
    project.suite(GOOD)
    project.run()
    project.stages()
    project.run(f"--ft-cache={mode}").assert_outcomes(passed=1)
    assert project.stages() == expected


def test_a_refresh_trains_what_cases_share_once(project: Project) -> None:
    project.suite(GOOD + GOOD.replace("good", "same"))
    project.run()
    project.stages()
    project.run("--ft-cache=refresh").assert_outcomes(passed=2)
    assert project.stages() == ["train good 42", "predict good 42"]


def test_cache_off_keeps_nothing(project: Project) -> None:
    project.suite(GOOD)
    project.run("--ft-cache=off")
    project.run()
    assert project.stages().count("train good 42") == 2


def test_cache_only_on_an_empty_store_is_an_error_that_says_so(project: Project) -> None:
    project.suite(GOOD)
    result = project.run("--ft-cache=only")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*good: seed 42 has not been trained yet and --ft-cache=only forbids doing it*"])
    assert project.stages() == []


def test_seeds_are_runs_of_their_own_and_their_mean_is_judged(project: Project) -> None:
    project.suite(GOOD + "    seeds: 3\n")
    project.run("--ft-json=out.json")
    assert [line for line in project.stages() if line.startswith("train")] == [f"train good {s}" for s in (42, 43, 44)]
    accuracy = project.results()["good"]["metrics"][0]
    assert accuracy["per_seed"] == [0.89, 0.9, 0.91]
    assert accuracy["value"] == pytest.approx(0.9)
    assert accuracy["interval"]["about"] == "recipe"


def test_more_seeds_train_only_those_that_are_new(project: Project) -> None:
    project.suite(GOOD)
    project.run()
    project.stages()
    project.run("--ft-seeds=2")
    assert project.stages() == ["train good 43", "predict good 43"]


def test_fixed_weights_are_judged_without_training(project: Project) -> None:
    project.suite("  as_it_is:\n    training: false\n    gates: {accuracy: {min: 0.4}}\n")
    project.run().assert_outcomes(passed=1)
    assert project.stages() == ["predict as_it_is 42"]


def test_costs_are_metrics_and_can_be_gated(project: Project) -> None:
    project.suite("  slow_one:\n    training: {learning_rate: 0.9}\n    gates: {train_seconds: {max: 30}}\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["train_seconds 41 is above the maximum 30 (*"])


def test_a_smoke_run_judges_nothing_and_says_so(project: Project) -> None:
    project.suite(BAD)
    result = project.run("--ft-limit=10", "--ft-json=out.json")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*--ft-limit=10: a smoke run*It is no gate*", "*1 smoke*"])
    assert project.results()["bad"]["verdict"] == "smoke"
    assert project.results()["bad"]["gates"] == []
    project.stages()
    project.run()
    assert project.stages() == ["train bad 42", "predict bad 42"], "a smoke run's result was used for a gate"


@pytest.mark.parametrize("failure", ["nan"])
def test_what_kept_a_case_from_being_measured_is_an_error_not_a_failure(
    project: Project, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    project.suite(GOOD)
    monkeypatch.setenv("FAKE_FAILURE", failure)
    result = project.run("--ft-json=out.json")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["good: the loss became NaN at step 7", "good: error: the loss became NaN at step 7"])
    assert "Traceback" not in result.stdout.str()
    assert project.results()["good"]["verdict"] == "error"
    monkeypatch.delenv("FAKE_FAILURE")
    project.stages()
    project.run()
    assert project.stages() == ["train good 42", "predict good 42"], "something of the failed training was kept"


def test_an_input_edited_during_training_is_noticed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.suite(GOOD)
    monkeypatch.setenv("FAKE_FAILURE", "edit")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["good: an input changed while it was being used (data.rows.train*): nothing is kept*"])
    monkeypatch.delenv("FAKE_FAILURE")
    project.stages()
    project.run().assert_outcomes(passed=1)
    assert project.stages() == ["train good 42", "predict good 42"]


def test_an_xfail_mark_excuses_a_failed_gate_but_never_an_error(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite(BAD + "    marks: [{xfail: known}]\n")
    project.run().assert_outcomes(xfailed=1)
    monkeypatch.setenv("FAKE_FAILURE", "nan")
    project.run("--ft-cache=refresh").assert_outcomes(errors=1)


def test_a_skipped_case_is_not_trained(project: Project) -> None:
    project.suite(GOOD + "    marks: [{skip: needs a rest}]\n")
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs a rest*"])
    assert project.stages() == []


@pytest.mark.parametrize(
    ("way", "says"),
    [
        pytest.param("leave", "code of the case's own ends the process at ", id="exit"),
        pytest.param("panic", "a library fails at ", id="panic"),
    ],
)
def test_code_that_would_end_the_session_is_an_error_of_its_case(
    way: str, says: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite(GOOD + BAD)
    monkeypatch.setenv("FAKE_FAILURE", f"{way} bad")
    result = project.run("--ft-json=out.json")
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert str(project.results()["bad"]["error"]).startswith(says)


def test_a_session_that_code_ended_says_that_it_is_not_complete(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`os._exit(0)` in pytest's own process can't be caught; its exit code is a lie that the results don't tell."""
    project.suite(GOOD + BAD)
    monkeypatch.setenv("FAKE_FAILURE", "end bad")
    assert project.start("--ft-json=out.json").ret == 0
    assert json.loads((project.path / "out.json").read_text())["complete"] is False
    assert set(project.results()) == {"good"}


def test_interrupted_training_exits_as_pytest_does_and_keeps_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.suite(GOOD)
    monkeypatch.setenv("FAKE_FAILURE", "interrupt")
    result = project.start("--ft-json=out.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert '"complete": false' in (project.path / "out.json").read_text()
    monkeypatch.delenv("FAKE_FAILURE")
    project.stages()
    project.run()
    assert project.stages() == ["train good 42", "predict good 42"]


def test_k_and_lf_and_x_work_on_cases(project: Project) -> None:
    project.suite(BAD + GOOD)
    project.run("-k", "good").assert_outcomes(passed=1, deselected=1)
    project.run("-x").assert_outcomes(failed=1)
    project.run("suite.ft.yaml::good").assert_outcomes(passed=1)


def test_k_knows_a_case_by_the_id_that_reports_show(project: Project) -> None:
    project.suite("  good: {matrix: {training.learning_rate: [0.8, 0.9]}}\n")
    result = project.run("-k", "good-0.8")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["*good-0.8: pass*"])


def test_what_a_stage_prints_is_captured_as_any_tests_output(project: Project) -> None:
    """Whether or not the test asks for the fixture."""
    project.suite(BAD + GOOD)
    (project.path / "conftest.py").write_text(
        """
from tests import fake
fake.install()
quiet = fake.FakeExecutor.produce
def produce(self, work, *others):
    print(f"a library about {work.job.case.id}")
    return quiet(self, work, *others)
fake.FakeExecutor.produce = produce
"""
    )
    result = project.run()
    result.stdout.no_fnmatch_line("*a library about good*")
    result.stdout.fnmatch_lines(["*Captured stdout setup*", "a library about bad"])


def test_a_plan_says_what_there_is_to_do_and_does_nothing(project: Project) -> None:
    project.suite(GOOD + "    seeds: 2\n" + BAD + "  fixed: {training: false}\n")
    project.run("suite.ft.yaml::good")
    project.stages()
    result = project.run("--ft-plan", "--ft-seeds=3")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "good: train 1 seed, evaluate 1, 2 found in the store",
            "bad: train 3 seeds, evaluate 3",
            "fixed: no training, evaluate 1",
            "3 cases, 7 runs: 4 to train, 5 to evaluate, 2 found in the store",
        ]
    )
    assert project.stages() == []


def test_a_plan_knows_that_a_model_was_taken_out(project: Project) -> None:
    """What is in the store is found without it; another evaluation split needs it."""
    project.suite(GOOD + "    keep_model: none\n")
    project.run()
    project.run("--ft-plan").stdout.fnmatch_lines(["good: 1 found in the store"])
    project.suite(GOOD + "    keep_model: none\n    data: {splits: {eval: train}}\n")
    project.run("--ft-plan").stdout.fnmatch_lines(["good: train 1 seed, evaluate 1"])


def test_a_smoke_run_is_no_run_that_why_compares(project: Project, own_cache: Path) -> None:
    project.suite(GOOD)
    project.run()
    project.run("--ft-limit=5")
    (history,) = Store(own_cache).cases()
    assert len(history.runs) == 1


def test_a_plan_shows_what_is_wrong_with_an_input(project: Project) -> None:
    project.suite("  gone:\n    checkpoint: ./checkpoint2\n" + GOOD)
    (project.path / "checkpoint2").mkdir()
    result = project.run("--ft-plan")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["gone: error: *checkpoint2*", "good: train 1 seed, evaluate 1"])


def test_progress_is_quiet_off_a_terminal(project: Project) -> None:
    project.suite(GOOD)
    text = project.run().stdout.str()
    assert "\x1b" not in text
    assert "\r" not in text


def test_warnings_as_errors_leave_a_training_alone(project: Project) -> None:
    project.suite(GOOD)
    project.run("-W", "error").assert_outcomes(passed=1)


def test_text_out_of_the_data_is_escaped_in_the_terminal(project: Project) -> None:
    project.suite("  bad:\n    training: {learning_rate: 0.6}\n    gates: {accuracy: {min: 0.8}}\n")
    (project.path / "conftest.py").write_text(
        "from tests import fake\nfake.LABELS = ('lo\\x1b[31mst', 'stolen')\nfake.install()\n"
    )
    text = project.run().stdout.str()
    assert "\x1b[31m" not in text
    assert r"lo\x1b[31mst" in text


def test_a_job_s_page_gets_the_results(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    page = project.path / "summary.md"
    page.write_text("what was there\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    project.suite("  c:\n    training: {learning_rate: 0.6}\n    gates: {accuracy: {min: 0.8}}\n")
    project.run("-n2")
    assert page.read_text().startswith("what was there\n## ❌ ftcheck: 1 failed\n")
    assert page.read_text().count("## ") == 1, "workers write nothing"


def test_a_page_that_cannot_be_written_fails_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "nowhere" / "summary.md"))
    project.suite("  c:\n    training: {learning_rate: 0.9}\n    gates: {accuracy: {min: 0.8}}\n")
    result = project.run()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*the job's summary (*) can't be written: No such file or directory*"])
