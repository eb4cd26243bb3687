"""The history's file: what is written comes back, sessions don't disturb each other, what is no history is refused."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from ftcheck.baselines import Accepted, Entry, MetricRecord
from ftcheck.errors import HistoryError
from ftcheck.history import History, Judged, Session, database, drifted
from ftcheck.report import jsonfile
from ftcheck.results import CaseResult, ComparisonResult, GateResult, StageOrigin
from tests.report.results import case, metric, run

OTHER = StageOrigin(source="store", key="c" * 64, seconds=1.0)
START = datetime(2026, 11, 1, 9, 3, tzinfo=UTC)
SUITE = "suites/intents.ft.yaml"


def session(day: int = 0, commit: str = "", branch: str = "") -> Session:
    return Session(time=START + timedelta(days=day), ftcheck="0.1.0", commit=commit, branch=branch)


def baseline(value: float = 0.86, half: float = 0.01, signature: str = "accuracy|1") -> Entry:
    """An accepted result of `accuracy`, which is the first one."""
    record = MetricRecord(
        value=value,
        per_seed=(value,),
        signature=signature,
        greater_is_better=True,
        interval=(value - half, value + half),
    )
    return Entry(
        device="cpu",
        accepted=Accepted(date="2026-11-01"),
        metrics={"accuracy": record},
        seeds=(42,),
        examples=400,
        fixed=False,
        components={},
        keys={},
        statistics="c.cpu.npz",
        digest="",
    )


def judged(value: float = 0.86, entry: Entry | None = None, **fields: object) -> Judged:
    metrics = (metric("accuracy", value, 0.01), metric("macro_f1", 0.8, 0.02))
    return Judged(suite=SUITE, result=case(**{"metrics": metrics, **fields}), baseline=entry)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "new" / "history.sqlite")


def only(history: History) -> int:
    """How many points the one case has."""
    (known,) = history.known()
    return known.points


def test_what_is_written_comes_back(history: History) -> None:
    seeds = (metric("accuracy", 0.86, 0.01, per_seed=(0.85, 0.87)),)
    one = judged(metrics=seeds, seeds=(42, 43), runs=(run(42), run(43)), update="written", entry=baseline())
    history.append(session(commit="a1b2c3d", branch="main"), [one], 10)
    (known,) = history.known()
    (record,) = history.records(known, 10)
    assert (known.suite, known.case, known.device, known.points) == (SUITE, "intents", "cpu", 1)
    assert (record.seeds, record.train_keys, record.predict_keys) == ((42, 43), ("a" * 16,) * 2, ("b" * 16,) * 2)
    assert (record.point.time, record.point.commit, record.point.branch) == (START.isoformat(), "a1b2c3d", "main")
    assert (record.point.verdict, record.point.accepted, record.gates) == ("fail", True, {"accuracy": "fail"})
    value = record.point.values["accuracy"]
    assert (value.value, value.per_seed, value.low, value.high) == (0.86, (0.85, 0.87), 0.85, 0.87)
    assert (value.baseline, value.anchor, value.drifted) == (0.86, 0.86, False)


def test_numbers_that_are_none_come_back_as_nan(history: History) -> None:
    broken = metric("accuracy", math.nan, None, per_seed=(math.nan, 0.5))
    ((point,),) = history.append(session(), [judged(metrics=(broken,))], 10)
    value = point.values["accuracy"]
    assert math.isnan(value.value)
    assert math.isnan(value.per_seed[0])
    assert (value.per_seed[1], value.low, value.high) == (0.5, None, None)


def test_a_result_gets_its_past_and_itself_last_within_the_limit(history: History) -> None:
    for day in range(4):
        (points,) = history.append(session(day), [judged(0.8 + day / 100)], 3)
    assert [round(point.values["accuracy"].value, 2) for point in points] == [0.81, 0.82, 0.83]


def test_the_past_is_that_of_the_kind_of_device(history: History) -> None:
    history.append(session(), [judged(0.8)], 9)
    for device, expected in (("cuda:1", 1), ("cuda:0", 2)):
        (points,) = history.append(session(), [judged(0.7, device=device, examples=expected)], 9)
        assert len(points) == expected


def test_reports_get_gated_metrics_as_they_are_defined_now(history: History) -> None:
    for day, signature in enumerate(["accuracy|1", "accuracy|2"]):
        now = (metric("accuracy", 0.86, 0.01, signature=signature), metric("macro_f1", 0.8, 0.02))
        (points,) = history.append(session(day), [judged(metrics=now)], 9)
    assert [set(point.values) for point in points] == [set(), {"accuracy"}]


def test_sessions_in_a_row_that_found_the_same_are_one_point(history: History) -> None:
    for day, value in enumerate([0.86, 0.86, 0.85, 0.86]):
        (points,) = history.append(session(day, commit=f"{day}" * 7), [judged(value)], 9)
    assert [(point.sessions, point.commit[0]) for point in points] == [(2, "1"), (1, "2"), (1, "3")]
    assert (points[0].time[:10], points[0].until[:10]) == ("2026-11-01", "2026-11-02")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"verdict": "pass"}, id="verdict"),
        pytest.param({"entry": baseline(0.9)}, id="baseline"),
        pytest.param({"runs": (replace(run(), predict=OTHER),)}, id="key"),
        pytest.param({"seeds": (43,)}, id="seeds"),
    ],
)
def test_what_differs_in_anything_is_a_point_of_its_own(history: History, changed: dict[str, object]) -> None:
    history.append(session(), [judged()], 9)
    history.append(session(1), [judged(**changed)], 9)  # type: ignore[arg-type]
    assert only(history) == 2


def test_a_session_is_written_as_a_whole_or_not_at_all(history: History) -> None:
    broken = judged(runs=(replace(run(), environment={"x": object()}),))
    with pytest.raises(TypeError):
        history.append(session(), [judged(), broken], 9)
    assert history.known() == []


def compared(low: float) -> tuple[GateResult, ...]:
    """A max_drift gate whose lower bound of the difference is `low`."""
    found = ComparisonResult(
        against="the first accepted result",
        reference=0.9,
        value=0.8,
        difference=0.1,
        low=low,
        high=0.2,
        confidence=0.95,
        p_value=0.1,
        p_worse=0.05,
        examples=400,
        runs=3,
        reference_runs=3,
        discordant=9,
        seed_source="runs",
    )
    return (
        GateResult(
            metric="accuracy",
            bound="max_drift",
            limit=0.1,
            value=0.8,
            verdict="pass",
            message="",
            comparison=found,
        ),
    )


@pytest.mark.parametrize(
    ("value", "better", "gates", "entry", "expected"),
    [
        pytest.param(0.83, True, (), baseline(), True, id="intervals-apart"),
        pytest.param(0.845, True, (), baseline(), False, id="intervals-touch"),
        pytest.param(0.89, True, (), baseline(), False, id="better"),
        pytest.param(0.89, False, (), baseline(), True, id="lower-is-better"),
        pytest.param(0.83, True, (), None, False, id="no-baseline"),
        pytest.param(0.83, True, (), baseline(signature="accuracy|2"), False, id="defined-otherwise"),
        pytest.param(0.83, True, compared(-0.01), baseline(), False, id="the-gate-says-no"),
        pytest.param(0.845, True, compared(0.01), baseline(), True, id="the-gate-says-yes"),
    ],
)
def test_drift_is_what_the_gate_says_or_intervals_apart(
    value: float, better: bool, gates: tuple[GateResult, ...], entry: Entry | None, expected: bool
) -> None:
    found = metric("accuracy", value, 0.01, greater_is_better=better)
    assert drifted(found, case(metrics=(found,), gates=gates), entry) is expected


def test_concurrent_sessions_all_arrive(history: History) -> None:
    failures: list[Exception] = []

    def write(worker: int, with_wal: History) -> None:
        try:
            for step in range(5):
                with_wal.append(session(step), [judged(worker / 10 + step / 100, case_id=f"c{worker}")], 9)
        except HistoryError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n, replace(history, wal=n % 2 == 0))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [known.points for known in history.known()] == [5] * 4


def test_the_file_that_is_shared_is_one_file(history: History, tmp_path: Path) -> None:
    history.append(session(), [judged()], 9)
    assert [path.name for path in history.path.parent.iterdir()] == ["history.sqlite"]


def sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statements", "content", "expected"),
    [
        pytest.param((), b"no database at all, but text" * 99, "can't be used: file is not a database", id="text"),
        pytest.param(("CREATE TABLE users (name)",), b"", "is a database of something else", id="foreign"),
        pytest.param(
            (f"PRAGMA application_id = {database.APPLICATION}", "PRAGMA user_version = 99"),
            b"",
            "has schema 99, this version of ftcheck reads up to 1: update ftcheck",
            id="newer",
        ),
        pytest.param(
            (
                f"PRAGMA application_id = {database.APPLICATION}",
                "PRAGMA user_version = 1",
                "CREATE VIEW cases AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
            ),
            b"",
            "has tables that ftcheck did not make",
            id="a-view-without-an-end",
        ),
    ],
)
def test_what_is_no_history_is_refused_and_left_alone(
    history: History, statements: Sequence[str], content: bytes, expected: str
) -> None:
    history.path.parent.mkdir()
    history.path.write_bytes(content)
    if statements:
        sql(history.path, *statements)
    before = history.path.read_bytes()
    for use in (history.known, lambda: history.append(session(), [judged()], 9)):
        with pytest.raises(HistoryError, match=expected):
            use()
    assert history.path.read_bytes() == before


def test_a_cut_file_is_refused(history: History) -> None:
    for day in range(40):
        history.append(session(day), [judged(day / 100)], 9)
    history.path.write_bytes(history.path.read_bytes()[:6000])
    with pytest.raises(HistoryError, match="can't be used: database disk image is malformed"):
        history.append(session(), [judged()], 9)


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(lambda whole, at: whole[:at] + b"\xff" * 17 + whole[at:], id="a-size-beyond-memory"),
        pytest.param(lambda whole, at: whole.replace(b"tableenv", b"table\x9anv"), id="a-schema-that-is-no-text"),
    ],
)
def test_a_file_that_sqlite_itself_stumbles_over_is_refused(
    history: History, damaged: Callable[[bytes, int], bytes]
) -> None:
    """By errors that aren't its own, as fuzzing found."""
    history.append(session(), [judged()], 9)
    sql(history.path, "PRAGMA page_size = 512", "VACUUM")
    whole = history.path.read_bytes()
    history.path.write_bytes(damaged(whole, whole.index(b"tablesessions") - 9))
    with pytest.raises(HistoryError, match="can't be used"):
        history.known()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match=r"history\.sqlite can't be used: File exists|Not a directory"):
        History(tmp_path / "file" / "history.sqlite").append(session(), [judged()], 9)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE results SET seeds = 'rm -rf'", id="no-json"),
        pytest.param("UPDATE results SET seeds = '{}'", id="no-list"),
        pytest.param("UPDATE results SET seeds = '[0.5]'", id="half-a-seed"),
        pytest.param(f"UPDATE metrics SET per_seed = '{'[' * 5000}'", id="deep"),
        pytest.param("UPDATE environments SET content = '[1]'", id="no-environment"),
        pytest.param("UPDATE metrics SET low = 'low'", id="a-bound-of-text"),
        pytest.param("UPDATE metrics SET anchor = 9e999", id="an-infinite-value"),
        pytest.param("UPDATE metrics SET signature = x'00'", id="bytes"),
        pytest.param("UPDATE results SET verdict = 'good'", id="an-unknown-verdict"),
    ],
)
def test_a_value_that_something_else_wrote_is_one_sentence(history: History, change: str) -> None:
    history.append(session(), [judged()], 9)
    (known,) = history.known()
    sql(history.path, change)
    with pytest.raises(HistoryError, match="a result that ftcheck did not write"):
        history.records(known, 9)


@pytest.mark.parametrize("time", ["'today'", 10**17], ids=["text", "the-far-future"])
def test_a_time_that_is_none_is_one_sentence(history: History, time: object) -> None:
    history.append(session(), [judged()], 9)
    sql(history.path, f"UPDATE sessions SET time = {time}")
    with pytest.raises(HistoryError, match="a result that ftcheck did not write"):
        history.known()


def test_a_result_whose_session_is_gone_is_left_out(history: History) -> None:
    for day in range(2):
        history.append(session(day), [judged(day / 10)], 9)
    (known,) = history.known()
    sql(history.path, "DELETE FROM sessions WHERE id = 1")
    assert len(history.records(known, 9)) == 1


def test_an_older_schema_is_brought_up_to_date_with_what_it_holds(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.append(session(), [judged()], 9)
    added = ("ALTER TABLE results ADD COLUMN later TEXT NOT NULL DEFAULT 'none'",)
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, added))
    assert only(history) == 1
    shutil.copy(history.path, history.path.with_name("copy"))
    connection = sqlite3.connect(history.path.with_name("copy"))
    assert connection.execute("SELECT later FROM results").fetchall() == [("none",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()


HOSTILE = "'); DROP TABLE results; --"


def test_text_is_bound(history: History) -> None:
    one = judged(case_id=HOSTILE, metrics=(metric(HOSTILE, 0.5, 0.1),), gates=())
    history.append(session(commit=HOSTILE, branch=HOSTILE), [replace(one, suite=HOSTILE)], 9)
    (known,) = history.known()
    assert (known.suite, known.case) == (HOSTILE, HOSTILE)
    assert set(history.records(known, 9)[0].point.values) == {HOSTILE}


def test_a_result_with_its_past_survives_a_results_file_that_keeps_the_schema(history: History, tmp_path: Path) -> None:
    broken = judged(metrics=(metric("accuracy", math.nan, None, per_seed=(math.nan,)),), case_id="broken", gates=())
    whole = judged(entry=baseline())
    points = history.append(session(), [whole, broken], 9)
    results = [
        replace(one.result, nodeid=one.result.case_id, history=found)
        for one, found in zip((whole, broken), points, strict=True)
    ]
    assert CaseResult.from_json(results[0].to_json()) == results[0]
    jsonfile.write(tmp_path / "out.json", results, complete=True)
    jsonschema.validate(json.loads((tmp_path / "out.json").read_text()), jsonfile.schema())
    read = {result.case_id: result for result in jsonfile.read(tmp_path / "out.json")}
    assert read["intents"].history == points[0]
    assert math.isnan(read["broken"].history[0].values["accuracy"].per_seed[0])
