"""The results file while a session goes on: whole at any time, and not written more often than it is worth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ftcheck.errors import UsageError
from ftcheck.report import growing, jsonfile
from tests.report import results

CASES = [f"suite.ft.yaml::case{number:04}" for number in range(2000)]


class Clock:
    """Seconds that pass while a file is written: as many as its results take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, a_result: float = 0.001) -> None:
        self.now = 100.0
        self.written: list[int] = []
        write = jsonfile.written

        def slow(path: Any, lines: Any, **how: Any) -> None:
            self.now += a_result * len(lines)
            self.written.append(len(lines))
            write(path, lines, **how)

        monkeypatch.setattr(growing, "time", self)
        monkeypatch.setattr(jsonfile, "written", slow)

    def monotonic(self) -> float:
        return self.now


def test_a_file_on_its_way_is_valid_and_says_what_is_missing(tmp_path: Path) -> None:
    path, left = tmp_path / "out.json", CASES[:3]
    file = growing.GrowingFile(str(path), lambda: left)
    file.write(complete=False)
    assert jsonfile.load(path).missing == tuple(CASES[:3])
    left = CASES[1:3]
    file.add(results.case(nodeid=CASES[0]))
    file.write(complete=False)
    jsonschema.validate(json.loads(path.read_text()), jsonfile.schema())
    found = jsonfile.load(path)
    assert (found.complete, found.missing) == (False, tuple(CASES[1:3]))
    assert [result.nodeid for result in found.results] == CASES[:1]


def test_the_last_writing_equals_a_file_written_at_once(tmp_path: Path) -> None:
    cases = [results.case(nodeid=nodeid) for nodeid in reversed(CASES[:5])]
    file = growing.GrowingFile(str(tmp_path / "grown.json"), lambda: [])
    for case in cases:
        file.add(case)
    file.write(complete=True)
    jsonfile.write(tmp_path / "once.json", cases, complete=True)
    grown, once = (json.loads((tmp_path / name).read_text()) | {"created": ""} for name in ("grown.json", "once.json"))
    assert grown == once


def test_each_case_that_takes_its_time_is_on_the_disk_when_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    file = growing.GrowingFile(str(tmp_path / "out.json"), lambda: [])
    for nodeid in CASES[:20]:
        clock.now += 30
        file.add(results.case(nodeid=nodeid))
    assert clock.written == list(range(1, 21))


def test_two_thousand_cases_out_of_the_store_are_not_written_two_thousand_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing takes a twentieth of the time, however many there are: the number of writings grows as a logarithm."""
    clock = Clock(monkeypatch, a_result=0.0001)
    file = growing.GrowingFile(str(tmp_path / "out.json"), lambda: [])
    begun = clock.now
    for nodeid in CASES:
        clock.now += 0.005
        file.add(results.case(nodeid=nodeid))
    spent = 0.0001 * sum(clock.written)
    assert spent <= (growing.SHARE + 0.01) * (clock.now - begun)
    assert 3 < len(clock.written) < 40


def test_what_was_waiting_is_written_while_the_next_case_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, a_result=1.0)
    file = growing.GrowingFile(str(tmp_path / "out.json"), lambda: [])
    file.add(results.case(nodeid=CASES[0]))
    file.add(results.case(nodeid=CASES[1]))
    assert clock.written == [1]
    file.tick()
    assert clock.written == [1]
    clock.now += 40
    file.tick()
    file.tick()
    assert clock.written == [1, 2]


def test_a_disk_that_is_full_for_a_while_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    path = tmp_path / "folder" / "out.json"
    file = growing.GrowingFile(str(path), lambda: [])
    (tmp_path / "folder").write_text("in the way")
    file.add(results.case(nodeid=CASES[0], metrics=(results.metric(value=math.nan, half=None),)))
    with pytest.raises(UsageError, match=r"out.json can't be written"):
        file.write(complete=True)
    (tmp_path / "folder").unlink()
    clock.now += growing.RETRY
    file.tick()
    assert len(jsonfile.read(path)) == 1
