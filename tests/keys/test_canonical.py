"""Canonical JSON is the same for equal values and only those; a diff names every leaf that changed."""

from __future__ import annotations

import enum
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcheck.errors import IdentityError
from ftcheck.keys import Key, canonical, diff, plain_json


class Scheduler(str, enum.Enum):  # noqa: UP042  as transformers' own enums are made
    LINEAR = "linear"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(5e-5, 0.00005, id="one number, two spellings"),
        pytest.param(3, 3.0, id="whole float"),
        pytest.param(0.0, -0.0, id="zeros"),
        pytest.param((1, 2), [1, 2], id="tuple and list"),
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, id="order of names"),
        pytest.param(Scheduler.LINEAR, "linear", id="text enum"),
    ],
)
def test_equal_values_are_written_alike(one: object, other: object) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(1, True, id="number and truth value"),
        pytest.param(1, "1", id="number and text"),
        pytest.param(None, False, id="null and false"),
        pytest.param({}, [], id="empty dict and list"),
        pytest.param("\u00e9", "e\u0301", id="composed and decomposed"),
        pytest.param([1, 2], [2, 1], id="order of a list"),
        pytest.param(0.1 + 0.2, 0.3, id="neighbouring floats"),
    ],
)
def test_different_values_are_written_differently(one: object, other: object) -> None:
    assert canonical(one) != canonical(other)


def contains_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"a": {"b": [math.nan]}}, "data.a.b[0] is nan", id="nan"),
        pytest.param(math.inf, "data is inf", id="infinity"),
        pytest.param({"x": {1, 2}}, "data.x is a builtins.set", id="set"),
        pytest.param({"x": Path("/a")}, "data.x is a pathlib.PosixPath", id="path"),
        pytest.param({"x": b"a"}, "data.x is a builtins.bytes", id="bytes"),
        pytest.param({1: 2}, "data has the int 1 as a name", id="number as name"),
        pytest.param(contains_itself(), "data contains itself", id="cycle"),
        pytest.param(10**5000, "digits", id="number too long to write"),
    ],
)
def test_what_json_lacks_is_refused_by_name_never_guessed(value: object, message: str) -> None:
    with pytest.raises(IdentityError) as raised:
        canonical(value, "data")
    assert message in str(raised.value)


@given(JSON)
def test_canonical_json_is_strict_ascii_and_stable(value: Any) -> None:
    written = canonical(value)
    assert written.isascii()
    assert canonical(json.loads(written)) == written


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_a_diff_is_empty_exactly_where_keys_are_equal(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert (not diff(plain_json(old), plain_json(new))) == (Key.of(old).digest == Key.of(new).digest)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            {"versions": {"transformers": "5.17.0", "torch": "2"}},
            {"versions": {"transformers": "5.23.0", "torch": "2"}},
            ["transformers 5.17.0 → 5.23.0"],
            id="library",
        ),
        pytest.param(
            {"training": {"learning_rate": 5e-5}},
            {"training": {"learning_rate": 1e-4}},
            ["training.learning_rate 5e-05 → 0.0001"],
            id="argument",
        ),
        pytest.param({"peft": {"r": 8}}, {}, ["peft.r 8 → (none)"], id="component gone"),
        pytest.param({"a": {}}, {"a": {"b": {}}}, ["a.b (none) → {}"], id="empty dict appears"),
        pytest.param({"files": [1, 2]}, {"files": [1]}, ["files[1] 2 → (none)"], id="shorter list"),
        pytest.param({}, {"f": [{"h": "a" * 64}]}, ["f[0].h (none) → aaaaaaaaaaaa"], id="a list appears"),
        pytest.param({}, {"f": []}, ["f (none) → []"], id="an empty list appears"),
        pytest.param({"x": 1}, {"x": True}, ["x 1 → true"], id="number becomes truth value"),
        pytest.param({"h": "a" * 64}, {"h": "b" * 64}, ["h aaaaaaaaaaaa → bbbbbbbbbbbb"], id="hashes are cut"),
        pytest.param({"x": "a"}, {"x": "\x1b[31m"}, ["x a → \\x1b[31m"], id="control characters are escaped"),
    ],
)
def test_a_diff_says_what_changed(old: dict[str, Any], new: dict[str, Any], said: list[str]) -> None:
    assert [str(change) for change in diff(old, new)] == said
