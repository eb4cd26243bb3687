"""Prediction records as a table: what was written is read again."""

from __future__ import annotations

import gc
import math
import tracemalloc
from array import array
from pathlib import Path
from typing import Any

import pytest

from ftcheck import examples
from ftcheck.errors import MetricError, StoreError

RECORDS: list[dict[str, Any]] = [
    {"index": 0, "text": "naïve", "scores": array("d", [0.1, 0.9]), "ids": [1, 2], "gold": None, "spans": [[1.5], []]},
    {"index": 1, "text": None, "scores": array("d"), "ids": [], "gold": "b", "spans": []},
    {
        "index": 2,
        "text": "",
        "scores": array("d", [-0.0, math.inf, 1e-300]),
        "ids": [3],
        "gold": "a",
        "spans": [[]],
    },
]


def written(records: list[dict[str, Any]], folder: Path) -> bytes:
    path = folder / examples.FILE
    examples.write(records, path)
    return path.read_bytes()


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = examples.read(written(RECORDS, tmp_path))
    assert repr(found) == repr(RECORDS)  # which tells -0.0 from 0.0


def test_the_collector_waits_while_many_records_are_made(tmp_path: Path) -> None:
    """It would look through all of them again and again: half of the time of a million."""
    content = written([{"index": row} for row in range(10 * gc.get_threshold()[0])], tmp_path)
    collections: list[str] = []

    def collected(phase: str, info: Any) -> None:
        if phase == "start":
            collections.append(phase)

    gc.callbacks.append(collected)
    try:
        found = examples.read(content)
    finally:
        gc.callbacks.remove(collected)
    assert len(found) == 10 * gc.get_threshold()[0]
    assert len(collections) <= 1  # the one that was put off


@pytest.mark.parametrize("rows", [1, examples.AT_ONCE, 2 * examples.AT_ONCE + 1])
def test_each_of_many_lists_is_its_own(rows: int, tmp_path: Path) -> None:
    records = [{"scores": array("d", [row] * (row % 3))} for row in range(rows)]
    assert examples.read(written(records, tmp_path)) == records


def test_lists_of_floats_are_written_as_arrays_of_them_are_and_read_as_arrays(tmp_path: Path) -> None:
    lists = [{**record, "scores": record["scores"].tolist()} for record in RECORDS]
    assert written(lists, tmp_path) == written(RECORDS, tmp_path)
    assert repr(examples.read(written(lists, tmp_path))) == repr(RECORDS)


@pytest.mark.parametrize("missing", [None, [0.5, None]])
def test_where_a_float_is_missing_lists_stay_lists(missing: Any, tmp_path: Path) -> None:
    records = [{"scores": missing}, {"scores": [0.5, 0.5]}]
    assert examples.read(written(records, tmp_path)) == records


def test_arrays_and_lists_may_be_in_one_column(tmp_path: Path) -> None:
    """As where folds are put together, and one of them has nothing but empty lists."""
    found = examples.read(
        written([{"scores": []}, {"scores": array("d", [0.5])}, {"scores": array("f", [2])}], tmp_path)
    )
    assert found == [{"scores": array("d", numbers)} for numbers in ([], [0.5], [2.0])]


def test_no_records_are_none(tmp_path: Path) -> None:
    assert examples.read(written([], tmp_path)) == []


def test_records_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="can't be stored as a table"):
        written([{"prediction": 1}, {"prediction": "b"}], tmp_path)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(StoreError, match="can't be read"):
        examples.read(b"PAR1 and no more")


def test_many_probabilities_take_eight_bytes_each_and_not_the_size_of_objects(tmp_path: Path) -> None:
    rows, classes = 50, 4_000
    content = written([{"scores": array("d", range(classes))} for _ in range(rows)], tmp_path)
    examples.read(content)  # what is imported
    tracemalloc.start()
    try:
        found = examples.read(content)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == rows
    assert held < 1.1 * 8 * rows * classes
