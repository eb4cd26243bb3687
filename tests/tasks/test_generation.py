"""What a suite may say about generation, and what `generate` is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ftcheck import catalogue, suitefile
from ftcheck.errors import SuiteErrors
from ftcheck.spec import expand
from ftcheck.tasks.generation import MAX_NEW_TOKENS, Generation, arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"beams": 4}, "Extra inputs are not permitted", id="unknown"),
        pytest.param({"temperature": 0.7}, "temperature is for sampling: add do_sample: true", id="temperature"),
        pytest.param({"top_p": 0.9, "do_sample": False}, "top_p is for sampling", id="top_p"),
        pytest.param({"seed": 3}, "seed is for sampling", id="seed"),
        pytest.param({"length_penalty": 2.0, "num_beams": 1}, "length_penalty is for beam search", id="no-beams"),
        pytest.param(
            {"min_new_tokens": 9, "max_new_tokens": 8}, "min_new_tokens 9 is above max_new_tokens 8", id="min"
        ),
        pytest.param({"temperature": 0.0, "do_sample": True}, "greater than 0", id="cold"),
        pytest.param({"num_beams": 0}, "greater than or equal to 1", id="no-beam"),
        pytest.param({"length_penalty": float("nan"), "num_beams": 2}, "finite number", id="nan"),
    ],
)
def test_what_would_be_ignored_or_fail_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Generation(**given)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param("{num_beam: 4}", "task.generation.num_beam: no such key; did you mean num_beams?", id="unknown"),
        pytest.param(
            "{top_k: 5}", "task.generation: top_k is for sampling: add do_sample: true, or leave it out", id="ignored"
        ),
        pytest.param(
            "{early_stopping: maybe}",
            "task.generation.early_stopping: expected one of True, False, never, got 'maybe' (text)",
            id="no-choice",
        ),
        pytest.param("greedy", "task.generation: expected a mapping, got 'greedy' (text)", id="no-mapping"),
    ],
)
def test_a_suite_is_told_where_and_what(written: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.ft.yaml"
    (tmp_path / "model").mkdir()
    path.write_text(
        "cases:\n  one:\n    checkpoint: ./model\n    data: org/name\n"
        f"    task: {{name: translation, generation: {written}}}\n"
    )
    with pytest.raises(SuiteErrors, match=re.escape(f"suite.ft.yaml:5 cases.one.{message}")):
        expand(suitefile.read(path), catalogue.installed())


def test_where_the_suite_is_silent_so_are_the_arguments() -> None:
    """The checkpoint's generation_config holds then; but a text's length is always bounded by ours."""
    assert arguments(Generation().model_dump()) == {"max_new_tokens": MAX_NEW_TOKENS, "seed": 0}
    assert arguments(Generation().model_dump(), 30) == {"max_new_tokens": 30, "seed": 0}


def test_what_the_suite_says_goes_to_generate() -> None:
    given = {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "max_new_tokens": 20, "do_sample": False}
    assert arguments(Generation(**given).model_dump(), 30) == {**given, "seed": 0}


def test_a_dumped_model_makes_the_same_again() -> None:
    made = Generation(do_sample=True, seed=7, top_k=5)
    assert Generation(**made.model_dump()) == made
