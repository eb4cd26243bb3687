"""`ftcheck history`: what a reader sees of a case over time."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ftcheck.history import History, Session
from tests.cli.conftest import Command
from tests.history.test_log import START, baseline, judged

STEPS = (
    (0.861, None, "new"),
    (0.861, baseline(0.861), "pass"),
    (0.872, replace(baseline(0.872), anchor=baseline(0.861)), "pass"),
    (0.830, replace(baseline(0.872), anchor=baseline(0.861)), "fail"),
)
"""Accuracy, baseline, verdict: accepted, accepted anew, and worse than ever."""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history with a case of four results, and others."""
    history = History(tmp_path / "history.sqlite")
    for day, (value, entry, verdict) in enumerate(STEPS):
        one = judged(value, entry, verdict=verdict, gates=())
        told = Session(time=START + timedelta(days=day), ftcheck="0.1.0", commit="a1b2c3d4e5f6", dirty=day == 3)
        history.append(told, [one], 9)
    for suite, name in (("suites/intents.ft.yaml", "intents-large"), ("other/intents.ft.yaml", "small")):
        history.append(Session(time=START, ftcheck="0.1.0"), [replace(judged(case_id=name), suite=suite)], 9)
    history.append(Session(time=START, ftcheck="0.1.0"), [replace(judged(case_id="small"), suite="a/b.ft.yaml")], 9)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FTCHECK_HISTORY", str(history.path))
    monkeypatch.chdir(tmp_path)
    return history.path


def test_a_row_per_result_with_its_interval_steps_and_drift(file: Path, command: Command) -> None:
    code, out, _ = command("history", "suites/intents.ft.yaml::intents")
    assert code == 0
    assert out.splitlines() == [
        "suites/intents.ft.yaml::intents, accuracy (higher is better), cpu",
        "UTC                                     0.820              0.882",
        "2026-11-01 09:03   0.861 [0.851, 0.871]             ───●────      new  a1b2c3d",
        "                 baseline none → 0.861",
        "2026-11-02 09:03   0.861 [0.851, 0.871]             ───●────      pass a1b2c3d",
        "                 baseline 0.861 → 0.872",
        "2026-11-03 09:03   0.872 [0.862, 0.882]                ┊───●────  pass a1b2c3d",
        "2026-11-04 09:03 ▼ 0.830 [0.820, 0.840] ────●───       ┊   │      fail a1b2c3d+",
        "│ baseline  ┊ first accepted  ▼ worse than the first accepted beyond chance",
        "+ with uncommitted changes",
        "drift since the first accepted (0.861): 0.031 worse, beyond chance",
    ]


@pytest.mark.parametrize("width", [80, 60, 200])
def test_it_is_as_wide_as_the_terminal(
    file: Path, command: Command, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = command("history", "suites/intents.ft.yaml::intents")
    longest = max(map(len, out.splitlines()))
    assert longest <= max(width, 73)
    assert longest >= min(width - 20, 110)


def test_a_terminal_without_unicode_gets_ascii(file: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    command("history", "suites/intents.ft.yaml::intents")
    sys.stdout.flush()
    assert "v 0.830 [0.820, 0.840] ----o---       :   |  " in raw.getvalue().decode("ascii")


def test_without_a_case_all_are_listed_the_latest_first(file: Path, command: Command) -> None:
    code, out, _ = command("history")
    assert code == 0
    assert out.splitlines()[:2] == [
        "suites/intents.ft.yaml::intents (cpu)",
        "  2026-11-04 09:03  fail          4 results  accuracy ▆▆█▁",
    ]
    assert len(out.splitlines()) == 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("intents", "suites/intents.ft.yaml::intents,", id="id"),
        pytest.param("intents.ft.yaml::intents", "suites/intents.ft.yaml::intents,", id="end-of-the-path"),
        pytest.param("large", "suites/intents.ft.yaml::intents-large,", id="part"),
        pytest.param("other/intents.ft.yaml::small", "other/intents.ft.yaml::small,", id="whole"),
    ],
)
def test_a_case_is_named_as_far_as_it_takes(file: Path, command: Command, name: str, expected: str) -> None:
    code, out, _ = command("history", name)
    assert code == 0
    assert out.startswith(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ["small"],
            "several cases are called small: name one of a/b.ft.yaml::small, other/intents.ft.yaml::small",
            id="several",
        ),
        pytest.param(["intent-larg"], "has no case intent-larg; did you mean intents-large?", id="near"),
        pytest.param(
            ["intents", "--metric=acuracy"], "no result has a metric acuracy; did you mean accuracy?", id="metric"
        ),
        pytest.param(["intents", "--json", "--csv"], "--json and --csv: choose one", id="two-formats"),
        pytest.param(["--csv"], "name a case", id="no-case"),
        pytest.param(["intents", "--history=no.sqlite"], "there is no history", id="no-file"),
        pytest.param(["intents", "--history=none"], "no results are recorded", id="none"),
    ],
)
def test_what_cannot_be_shown_is_said(file: Path, command: Command, arguments: list[str], expected: str) -> None:
    code, out, err = command("history", *arguments)
    assert (code, out) == (4, "")
    assert expected in err


def test_json_is_all_that_is_known(file: Path, command: Command) -> None:
    _, out, _ = command("history", "intents", "--json", "--limit=1", "--metric=macro_f1")
    (point,) = json.loads(out)
    assert point["metrics"]["macro_f1"]["value"] == 0.8
    assert (point["case"], point["commit"], point["dirty"], point["seeds"]) == ("intents", "a1b2c3d4e5f6", True, [42])
    assert point["predict_keys"] == ["b" * 16]


def test_csv_has_a_row_per_result_and_metric(file: Path, command: Command) -> None:
    _, out, _ = command("history", "intents", "--csv", "--metric=accuracy", "--metric=macro_f1")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["metric"], row["value"]) for row in rows[-2:]] == [("accuracy", "0.83"), ("macro_f1", "0.8")]
    assert (len(rows), rows[-2]["baseline"], rows[-2]["anchor"], rows[-2]["drifted"]) == (8, "0.872", "0.861", "True")


def test_what_a_file_may_hold_that_no_session_wrote_is_shown(file: Path, command: Command) -> None:
    """Values at the ends of what a number can be, a device that is no word, results without metrics: fuzzing found
    what they did."""
    history = History(file)
    for value in (-1.7e308, 1.7e308):
        one = judged(value, case_id="huge", gates=())
        history.append(Session(time=START, ftcheck="0.1.0"), [replace(one, suite="b/huge.ft.yaml")], 9)
    connection = sqlite3.connect(file)
    connection.execute("UPDATE cases SET device = 'a' || char(27) WHERE name = 'huge'")
    connection.execute(
        "DELETE FROM metrics WHERE result IN (SELECT results.id FROM results JOIN cases ON cases.id = case_id "
        "WHERE name = 'small')"
    )
    connection.commit()
    connection.close()
    code, out, _ = command("history", "huge")
    assert code == 0
    assert out.splitlines()[0].endswith("a\\x1b")
    code, out, _ = command("history")
    assert code == 0
    assert "\x1b" not in out
    assert "a/b.ft.yaml::small (cpu)" in out
