"""What is written to a history and read from it: results of sessions, by case and kind of device."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck.errors import HistoryError, shown
from ftcheck.history.database import opened
from ftcheck.plainfiles import json_of
from ftcheck.results import WORST_FIRST, CaseResult, HistoryPoint, MetricResult, PastValue, Verdict

if TYPE_CHECKING:
    import sqlite3

    from ftcheck.baselines import Entry

KEY_DIGITS: Final = 16
"""Of a key's digest: enough to name it to `ftcheck cache why`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """When and of what code the results are."""

    time: datetime
    """UTC."""
    ftcheck: str
    commit: str = ""
    branch: str = ""
    dirty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A case's result, and the baseline that was in force when its session ended."""

    suite: str
    """As the history knows it (see `History`)."""
    result: CaseResult
    baseline: Entry | None = None

    @property
    def device(self) -> str:
        """The kind of it."""
        return self.result.device.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A case that a history has results of, on one kind of device."""

    id: int
    suite: str
    case: str
    device: str
    points: int
    time: str
    """Of the latest."""

    def __str__(self) -> str:
        return f"{self.suite}::{self.case}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A point of a case's history with all that is known of it."""

    point: HistoryPoint
    """With all metrics, whatever their definition."""
    ftcheck: str
    examples: int
    seeds: tuple[int, ...]
    train_keys: tuple[str, ...]
    """Their beginnings, seed by seed."""
    predict_keys: tuple[str, ...]
    environment: Mapping[str, Any]
    signatures: Mapping[str, str]
    greater_is_better: Mapping[str, bool]
    gates: Mapping[str, str] = field(default_factory=dict)
    """Metric -> the worst verdict of its gates."""


@dataclass(frozen=True, slots=True)
class History:
    """Results over time in a file. `wal` as `database.opened` says.

    Suites are known by a text that the caller chooses: the absolute path in a file that serves all projects of a user,
    the path from the project's root in one that is committed or shared.
    """

    path: Path
    wal: bool = False

    def append(self, session: Session, judged: Sequence[Judged], limit: int) -> list[tuple[HistoryPoint, ...]]:
        """Add a session's results, all or none. For each of them the latest `limit` points of its case on its kind of
        device, oldest first: the last one is this result. Raises HistoryError."""
        with opened(self.path, writes=True, wal=self.wal) as connection:
            told = (int(session.time.timestamp()), session.commit, session.branch, session.dirty, session.ftcheck)
            number = _insert(connection, "sessions (time, commit_id, branch, dirty, ftcheck)", told)
            cases = [_append(connection, number, one) for one in judged]
            return [_past(connection, case, one.result, limit) for one, case in zip(judged, cases, strict=True)]

    def known(self) -> list[Known]:
        """The cases that it has, the latest result's first. Raises HistoryError."""
        with opened(self.path, writes=False) as connection:
            rows = connection.execute(
                "SELECT cases.id, suite, name, device, count(*), max(time) AS latest FROM cases "
                "JOIN results ON case_id = cases.id JOIN sessions ON sessions.id = last_session "
                "GROUP BY cases.id ORDER BY latest DESC, suite, name, device"
            ).fetchall()
        with _as_written():
            return [
                Known(id=i, suite=_text(suite), case=_text(name), device=_text(device), points=points, time=_iso(time))
                for i, suite, name, device, points, time in rows
            ]

    def records(self, case: Known, limit: int) -> list[Record]:
        """The latest `limit` points of a case, oldest first. Raises HistoryError."""
        with opened(self.path, writes=False) as connection:
            return _records(connection, case.id, limit)


def shown_metrics(result: CaseResult) -> tuple[str, ...]:
    """The metrics whose past a report draws: gated ones, or the first where none is gated."""
    gated = {gate.metric for gate in result.gates}
    names = tuple(metric.name for metric in result.metrics)
    return tuple(name for name in names if name in gated) or names[:1]


def drifted(metric: MetricResult, result: CaseResult, baseline: Entry | None) -> bool:
    """Whether a metric is worse than when it was first accepted, beyond chance.

    A `max_drift` gate tells it by its paired comparison: the one-sided bound of the difference is on the worse side.
    Without one it is said only where the two intervals lie apart, which is stricter: a twin of the first accepted
    recipe is marked in about 3 of 1,000 results.
    """
    for gate in result.gates:
        if (gate.metric, gate.bound, gate.part) == (metric.name, "max_drift", "") and gate.comparison is not None:
            return gate.comparison.low > 0
    first = baseline.first.metrics.get(metric.name) if baseline is not None else None
    if first is None or first.interval is None or metric.interval is None or first.signature != metric.signature:
        return False
    low, high = first.interval
    return metric.interval.high < low if metric.greater_is_better else metric.interval.low > high


def _append(connection: sqlite3.Connection, session: int, judged: Judged) -> int:
    """Add a result, or say of the last one that it was found again. Returns the case's id."""
    where = (judged.suite, judged.result.case_id, judged.device)
    connection.execute("INSERT OR IGNORE INTO cases (suite, name, device) VALUES (?, ?, ?)", where)
    (case,) = connection.execute("SELECT id FROM cases WHERE suite = ? AND name = ? AND device = ?", where).fetchone()
    facts, metrics = _facts(connection, judged), sorted(_rows(judged))
    last = connection.execute(
        f"SELECT id, {', '.join(_FACTS)} FROM results WHERE case_id = ? ORDER BY id DESC LIMIT 1",  # noqa: S608
        (case,),
    ).fetchone()
    accepted = judged.result.update == "written"
    if last is not None and last[1:] == facts and _metrics(connection, last[0]) == metrics:
        connection.execute(
            "UPDATE results SET last_session = ?, sessions = sessions + 1, accepted = max(accepted, ?) WHERE id = ?",
            (session, accepted, last[0]),
        )
        return int(case)
    columns = f"results (case_id, first_session, last_session, sessions, accepted, {', '.join(_FACTS)})"
    result = _insert(connection, columns, (case, session, session, 1, accepted, *facts))
    for row in metrics:
        _insert(connection, f"metrics (result, {', '.join(_METRIC)})", (result, *row))
    return int(case)


_FACTS: Final = ("verdict", "examples", "seeds", "train_keys", "predict_keys", "environment")
_METRIC: Final = (
    *("name", "value", "low", "high", "per_seed", "signature", "greater_is_better", "gate", "baseline", "anchor"),
    "drifted",
)


def _insert(connection: sqlite3.Connection, columns: str, values: Sequence[Any]) -> int:
    """Insert a row into `table (columns)`, which are this module's own names. Returns its id."""
    marks = ", ".join("?" * len(values))
    return int(connection.execute(f"INSERT INTO {columns} VALUES ({marks})", values).lastrowid or 0)  # noqa: S608


def _facts(connection: sqlite3.Connection, judged: Judged) -> tuple[Any, ...]:
    """What of a result is not a metric's, as _FACTS names it."""
    result = judged.result
    content = json.dumps(dict(result.runs[0].environment) if result.runs else {}, sort_keys=True)
    connection.execute("INSERT OR IGNORE INTO environments (content) VALUES (?)", (content,))
    (environment,) = connection.execute("SELECT id FROM environments WHERE content = ?", (content,)).fetchone()
    keys = [[run.train.key, run.predict.key] for run in result.runs]
    train, predict = (" ".join(pair[stage][:KEY_DIGITS] for pair in keys) for stage in (0, 1))
    return (result.verdict, result.examples, json.dumps(result.seeds), train, predict, environment)


def _rows(judged: Judged) -> Iterator[tuple[Any, ...]]:
    """A result's metrics as _METRIC names them."""
    result, baseline = judged.result, judged.baseline
    for metric in result.metrics:
        gates = [gate.verdict for gate in result.gates if gate.metric == metric.name]
        accepted = baseline.metrics.get(metric.name) if baseline else None
        first = baseline.first.metrics.get(metric.name) if baseline else None
        yield (
            metric.name,
            _number(metric.value),
            metric.interval and _number(metric.interval.low),
            metric.interval and _number(metric.interval.high),
            json.dumps([_number(value) for value in metric.per_seed]),
            metric.signature,
            int(metric.greater_is_better),
            min(gates, key=WORST_FIRST.index, default=None),
            accepted and accepted.value,
            first and first.value,
            int(drifted(metric, result, baseline)),
        )


def _number(value: float) -> float | None:
    """SQLite has no NaN, and JSON neither NaN nor infinities."""
    return float(value) if math.isfinite(value) else None


def _metrics(connection: sqlite3.Connection, result: int) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"SELECT {', '.join(_METRIC)} FROM metrics WHERE result = ? ORDER BY name",  # noqa: S608
        (result,),
    ).fetchall()


def _found(
    connection: sqlite3.Connection, case: int, limit: int, names: Collection[str] | None = None
) -> list[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """The latest `limit` results of a case, oldest first, each with its metrics (or those called `names`)."""
    rows = connection.execute(
        f"""SELECT results.id, first.time, last.time, sessions, accepted,
            last.commit_id, last.branch, last.dirty, last.ftcheck, {", ".join(_FACTS)}
        FROM results JOIN sessions AS first ON first.id = first_session JOIN sessions AS last ON last.id = last_session
        WHERE case_id = ? ORDER BY results.id DESC LIMIT ?""",  # noqa: S608
        (case, limit),
    ).fetchall()
    chosen = "" if names is None else f"AND name IN ({', '.join('?' * len(names))})"
    metrics = connection.execute(
        f"""SELECT result, {", ".join(_METRIC)} FROM metrics WHERE result IN
        (SELECT id FROM results WHERE case_id = ? ORDER BY id DESC LIMIT ?) {chosen} ORDER BY name""",  # noqa: S608
        (case, limit, *(names or ())),
    )
    of: dict[int, list[dict[str, Any]]] = {row[0]: [] for row in rows}
    for result, *metric in metrics:
        if result in of:  # else its session is gone
            of[result].append(dict(zip(_METRIC, metric, strict=True)))
    return [(row, of[row[0]]) for row in reversed(rows)]


@contextmanager
def _as_written() -> Iterator[None]:
    """Raises HistoryError for values that `append` can't have written."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, OverflowError, OSError, RecursionError) as error:
        raise HistoryError(f"the history has a result that ftcheck did not write: {shown(error)}") from None


def _past(connection: sqlite3.Connection, case: int, result: CaseResult, limit: int) -> tuple[HistoryPoint, ...]:
    """A case's points as a result of it shows them: drawn metrics, as far as they were defined as they are now."""
    drawn = shown_metrics(result)
    now = {metric.name: metric.signature for metric in result.metrics if metric.name in drawn}
    found = _found(connection, case, limit, names=now)
    with _as_written():
        return tuple(
            _point(row, [metric for metric in metrics if metric["signature"] == now[metric["name"]]])
            for row, metrics in found
        )


def _records(connection: sqlite3.Connection, case: int, limit: int) -> list[Record]:
    found = _found(connection, case, limit)
    environments = dict(connection.execute("SELECT id, content FROM environments"))
    with _as_written():
        return [_record(row, metrics, environments) for row, metrics in found]


def _record(row: Sequence[Any], metrics: Sequence[Mapping[str, Any]], environments: Mapping[int, str]) -> Record:
    ftcheck, _, examples, seeds, train, predict, environment = row[8:]
    return Record(
        point=_point(row, metrics),
        ftcheck=_text(ftcheck),
        examples=_whole(examples),
        seeds=tuple(map(_whole, _list(seeds))),
        train_keys=tuple(_text(train).split()),
        predict_keys=tuple(_text(predict).split()),
        environment=dict(json_of(_text(environments.get(environment, "{}")))),
        signatures={metric["name"]: _text(metric["signature"]) for metric in metrics},
        greater_is_better={metric["name"]: bool(metric["greater_is_better"]) for metric in metrics},
        gates={metric["name"]: _text(metric["gate"]) for metric in metrics if metric["gate"]},
    )


def _point(row: Sequence[Any], metrics: Iterable[Mapping[str, Any]]) -> HistoryPoint:
    _, time, until, sessions, accepted, commit, branch, dirty, _, verdict, *_ = row
    return HistoryPoint(
        time=_iso(time),
        until=_iso(until),
        sessions=_whole(sessions),
        verdict=_verdict(verdict),
        commit=_text(commit),
        branch=_text(branch),
        dirty=bool(dirty),
        accepted=bool(accepted),
        values={
            _text(metric["name"]): PastValue(
                value=_nan(metric["value"]),
                per_seed=tuple(map(_nan, _list(metric["per_seed"]))),
                **{name: _finite(metric[name]) for name in ("low", "high", "baseline", "anchor")},
                drifted=bool(metric["drifted"]),
            )
            for metric in metrics
        },
    )


# SQLite takes any kind of value in any column: these raise TypeError or ValueError for one that `append` never wrote.


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{shown(repr(value), 40)} is no text")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{shown(repr(value), 40)} is no whole number")
    return value


def _finite(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{shown(repr(value), 40)} is no number")
    return float(value)


def _nan(value: Any) -> float:
    found = _finite(value)
    return math.nan if found is None else found


def _list(text: Any) -> list[Any]:
    found = json_of(_text(text))
    if not isinstance(found, list):
        raise TypeError(f"{shown(text, 40)} is no list")
    return found


def _verdict(value: Any) -> Verdict:
    if value not in WORST_FIRST:
        raise ValueError(f"{shown(repr(value), 40)} is no verdict")
    found: Verdict = value
    return found


def _iso(seconds: Any) -> str:
    return datetime.fromtimestamp(_whole(seconds), UTC).isoformat(timespec="seconds")
