"""What a person reads in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.report import numbers, terminal
from ftcheck.results import CaseResult
from tests.report import results


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_the_table_is_wider_than_the_terminal(width: int) -> None:
    found = terminal.table([results.case(notes=("a long note " * 20,))], width=width, details=False)
    assert max(len(line.text) for line in found) <= width


def test_the_table_shows_value_interval_gate_and_verdict_of_every_metric() -> None:
    text = "\n".join(line.text for line in terminal.table([results.case()], width=100, details=False))
    assert "suites/intents.ft.yaml" in text
    assert "intents: fail (1 seed, n = 400, cpu fp32, trained in 41 s)" in text
    assert "accuracy  0.842  [0.825, 0.860]  ≥ 0.86  fail" in text
    assert "macro_f1  0.830  [0.810, 0.850]" in text


def test_details_add_each_seed_and_what_libraries_warned_of() -> None:
    found = results.case(
        seeds=(42, 43), metrics=(results.metric(per_seed=(0.84, 0.85)),), runs=(results.run(42), results.run(43))
    )
    text = "\n".join(line.text for line in terminal.table([found], width=120, details=True))
    assert "accuracy by seed: 42: 0.840, 43: 0.850" in text
    assert "seed 43 warned: a library warned" in text


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        pytest.param([results.run()], "trained in 41 s", id="trained"),
        pytest.param([results.run(train="store", predict="store")], "from the store", id="store"),
        pytest.param([results.run(train="store")], "evaluated in 2.5 s", id="evaluated"),
        pytest.param(
            [results.run(), results.run(43, "store", "store")], "1 trained in 41 s, 1 from the store", id="both"
        ),
    ],
)
def test_it_says_where_the_runs_came_from(runs: list[object], expected: str) -> None:
    assert terminal.origin(results.case(runs=tuple(runs))) == expected


def test_a_failure_opens_with_the_line_that_matters_and_ends_with_the_command() -> None:
    lines = terminal.failure(results.case(), Path("/project/suites"), Path("/project")).splitlines()
    assert lines[0] == "accuracy 0.8424 is below the minimum 0.86 (95 % interval [0.825, 0.860], 1 seed, n = 400)"
    assert lines[-1] == "reproduce: pytest intents.ft.yaml::intents --ft-device=cpu"
    assert any("12 × lost_card taken for stolen_card" in line for line in lines)


def test_text_out_of_the_data_cant_drive_the_terminal() -> None:
    text = terminal.failure(results.case(), Path("/project"), Path("/project"))
    assert "\x1b" not in text
    assert r"\x1b[31mlost it" in text


def test_a_command_with_odd_characters_can_be_pasted() -> None:
    found = results.case(nodeid="suites/a b.ft.yaml::intents[1e-4]")
    assert (
        terminal.reproduce(found, Path("/project"), Path("/project"))
        == "pytest 'suites/a b.ft.yaml::intents[1e-4]' --ft-device=cpu"
    )


def test_a_smoke_run_says_that_it_is_no_gate() -> None:
    text = "\n".join(
        line.text
        for line in terminal.table([results.case(verdict="smoke", limited=8, gates=())], width=100, details=False)
    )
    assert "--ft-limit=8: a smoke run on a part of the data. It is no gate" in text


def test_an_interval_about_one_model_is_said_to_be_one() -> None:
    one = terminal.table([results.case(metrics=(results.metric(about="model"),))], width=200, details=False)
    many = terminal.table([results.case(metrics=(results.metric(about="recipe"),))], width=200, details=False)
    assert "speaks of this model, not of the recipe" in one[-1].text
    assert "not of the recipe" not in many[-1].text


def test_an_error_is_shown_with_its_reason() -> None:
    found = results.case(verdict="error", error="data.path: no such file\nsecond line", metrics=(), gates=(), runs=())
    assert terminal.summary(found) == "intents: error: data.path: no such file"
    text = "\n".join(line.text for line in terminal.table([found], width=100, details=False))
    assert "intents: error: data.path: no such file" in text
    assert "second line" in text


@pytest.mark.parametrize(
    ("half", "digits"),
    [(0.0171, 3), (0.17, 2), (1.7, 1), (17.0, 0), (0.00017, 5), (0.0, 4), (None, 4), (float("inf"), 4)],
)
def test_values_are_rounded_to_two_digits_of_their_half_width(half: float | None, digits: int) -> None:
    assert numbers.decimals(half) == digits


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("peak_memory_bytes", 90_900_000.0, "90.9 MB"),
        ("model_bytes", 12.0, "12 B"),
        ("parameters", 22_713_216.0, "22.7 M"),
        ("train_samples_per_second", 312.4, "312"),
        ("train_seconds", 41.2, "41 s"),
        ("train_seconds", 0.84, "0.8 s"),
        ("train_seconds", 725.0, "12 min 5 s"),
        ("train_seconds", 12_000.0, "3 h 20 min"),
        ("accuracy", float("nan"), "nan"),
    ],
)
def test_values_carry_their_unit(name: str, value: float, expected: str) -> None:
    assert numbers.value(results.metric(name, value, None)) == expected


def test_results_survive_json() -> None:
    found = results.case(notes=("one", "two"), limited=3, seeds=(1, 2))
    assert CaseResult.from_json(found.to_json()) == found
