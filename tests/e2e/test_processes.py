"""A case that two processes train, through pytest."""

from __future__ import annotations

from tests.e2e.project import Project

TWO = "  two: {resources: {gpus: 2}, gates: {accuracy: {min: 0}}}\n"


def test_two_processes_train_one_predicts_and_the_run_is_found_again(project: Project) -> None:
    """Started by a process of the executor's own, which does what pytest's own does."""
    project.suite(TWO)
    first = project.run("--ft-executor=local")
    assert first.code == 0, first.text
    (run,) = first.results["two"]["runs"]
    assert (run["environment"]["processes"], run["environment"]["backend"]) == (2, "gloo")
    assert first.metrics["two"][0]["examples"] == 8  # all that are judged, once
    again = project.run("--ft-cache=only")
    assert again.code == 0, again.text
    assert again.metrics == first.metrics


def test_a_model_that_is_spread_is_judged_like_any_other(project: Project) -> None:
    project.suite(TWO.replace("gates", "training: {fsdp: true}, gates"))
    first = project.run()
    assert first.code == 0, first.text
    assert first.results["two"]["runs"][0]["environment"]["processes"] == 2
    assert first.metrics["two"][0]["examples"] == 8
    assert project.run("--ft-cache=only").metrics == first.metrics
