"""Row hashes: equal for equal rows however they are held, different for anything that differs."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pytest

from ftcheck.errors import DataError
from ftcheck.finetune.data import rows


def hashed(columns: dict[str, list[Any]], features: Any = None) -> list[str]:
    from datasets import Dataset

    return rows.hashes(Dataset.from_dict(columns, features=features), tuple(columns))


def test_hashes_are_written_down() -> None:
    """They are recorded with runs: another version must find the same."""
    assert hashed({"text": ["é\0"], "label": [1]}) == ["e75efafe876b6a70db75382599a953ae"]
    assert rows.digest(["a", "b"]) == "e1220d74c5179666f88b611a728a8b846863d0f5782760124b44f51b8c76a347"


def test_the_order_of_columns_and_columns_that_are_not_asked_for_do_not_matter() -> None:
    from datasets import Dataset

    dataset = Dataset.from_dict({"noise": [7], "label": [1], "text": ["a"]})
    assert rows.hashes(dataset, ("text", "label")) == hashed({"text": ["a"], "label": [1]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"a": ["1"]}, {"a": [1]}, id="text-and-number"),
        pytest.param({"a": ["x"]}, {"b": ["x"]}, id="column-name"),
        pytest.param({"a": ["xy"], "b": ["z"]}, {"a": ["x"], "b": ["yz"]}, id="where-one-ends"),
        pytest.param({"a": [["x", "y"]]}, {"a": [["xy"]]}, id="lists"),
        pytest.param({"a": [None]}, {"a": ["null"]}, id="null"),
        pytest.param({"a": [datetime.date(2026, 1, 2)]}, {"a": ["2026-01-02"]}, id="date"),
        pytest.param({"a": [b"x"]}, {"a": ["x"]}, id="bytes"),
        pytest.param({"a": [decimal.Decimal("1.0")]}, {"a": ["1.0"]}, id="decimal"),
        pytest.param({"a": [datetime.timedelta(seconds=1)]}, {"a": [1.0]}, id="duration"),
    ],
)
def test_different_rows_differ(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> None:
    assert hashed(one) != hashed(other)


def test_classes_are_hashed_by_name() -> None:
    """So that ids in another order differ, and names held as text don't."""
    from datasets import ClassLabel, Features, List

    up = Features({"label": ClassLabel(names=["no", "yes"])})
    down = Features({"label": ClassLabel(names=["yes", "no"])})
    assert hashed({"label": [0]}, up) == hashed({"label": [1]}, down) == hashed({"label": ["no"]})
    assert hashed({"label": [0]}, up) != hashed({"label": [0]}, down)
    tags = Features({"tags": List(ClassLabel(names=["O", "B"]))})
    assert hashed({"tags": [[0, 1]]}, tags) == hashed({"tags": [["O", "B"]]})


def test_the_digest_minds_order() -> None:
    assert rows.digest(["a", "b"]) != rows.digest(["b", "a"])


def test_a_value_that_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="holds a object, which can't be compared"):
        rows._canonical(object())
