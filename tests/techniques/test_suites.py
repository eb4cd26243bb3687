"""The suites of techniques that ship are valid, and run: judged by their techniques' tests, or as a smoke run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck import catalogue, suitefile
from ftcheck.spec import expand
from tests.techniques.trainings import SUITES, results_of

HERE = ("freeze.ft.yaml", "layer_lr_decay.ft.yaml", "lr_finder.ft.yaml", "folds.ft.yaml", "test_own_training.py")
"""What no technique's own test runs."""
CASES = ("gradual", "by_name", "timid", "crossvalidated", "test_callbacks")
"""One of each."""


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.ft.yaml")), ids=lambda path: path.name.partition(".")[0])
def test_a_shipped_suite_is_valid_and_names_a_technique(path: Path) -> None:
    cases = expand(suitefile.read(path), catalogue.installed())
    assert any(case.techniques for case in cases)


@pytest.mark.e2e
def test_of_suites_that_no_other_test_runs_a_case_is_trained_to_its_end(tmp_path: Path) -> None:
    """On some rows only, so that no gate is judged."""
    found = results_of(HERE, tmp_path, "--ft-limit=100", "-k", " or ".join(CASES))
    assert {result["verdict"] for result in found.values()} == {"smoke"}
    assert found.keys() == set(CASES)


@pytest.mark.e2e
def test_preferences_are_trained_on_top_of_answers_as_the_suite_says(tmp_path: Path) -> None:
    """By TRL's trainers, one after the other."""
    pytest.importorskip("trl")
    found = results_of("trainer.ft.yaml", tmp_path, "--ft-limit=16", "-k", "preferred")
    assert [(name, result["verdict"]) for name, result in found.items()] == [("preferred", "smoke")]
