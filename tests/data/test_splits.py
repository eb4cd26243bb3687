"""Which rows a split expression, a holdout and a limit choose."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck.errors import DataError
from ftcheck.finetune.data import splits


def chosen(expression: str, size: int) -> list[int]:
    (piece,) = splits.parse(expression)
    found: list[int] = splits.positions(piece, size).tolist()
    return found


@pytest.mark.parametrize(
    ("expression", "size", "expected"),
    [
        pytest.param("train", 3, [0, 1, 2], id="all"),
        pytest.param("train[:2]", 3, [0, 1], id="first"),
        pytest.param("train[1:]", 3, [1, 2], id="rest"),
        pytest.param("train[-2:]", 3, [1, 2], id="last"),
        pytest.param("train[:-1]", 3, [0, 1], id="all-but-last"),
        pytest.param("train[:3]", 3, [0, 1, 2], id="exactly-all"),
        pytest.param("train[10%:20%]", 20, [2, 3], id="per-cent"),
        pytest.param("train[-10%:]", 20, [18, 19], id="last-per-cent"),
        pytest.param("train[:50%]", 5, [0, 1], id="per-cent-rounded"),
        pytest.param(" train [ 0 : 1 ] ", 5, [0], id="spaces"),
        pytest.param("train[2:2]", 5, [], id="empty"),
        pytest.param("train[3:1]", 5, [], id="backwards"),
        pytest.param("train", 0, [], id="empty-split"),
    ],
)
def test_a_slice_names_rows(expression: str, size: int, expected: list[int]) -> None:
    assert chosen(expression, size) == expected


@settings(deadline=None)  # the first example imports `datasets`
@given(size=st.integers(0, 300), start=st.integers(0, 100), stop=st.integers(0, 100))
def test_per_cents_are_those_of_datasets(size: int, start: int, stop: int) -> None:
    from datasets import ReadInstruction

    if start >= stop:
        return
    said = ReadInstruction.from_spec(f"train[{start}%:{stop}%]").to_absolute({"train": size})[0]
    assert chosen(f"train[{start}%:{stop}%]", size) == list(range(said.from_, said.to))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        pytest.param("train[:2001]", r"train\[:2001\]: 2001 is past the end: train has 2,000 rows", id="stop"),
        pytest.param("train[2001:]", "2001 is past the end", id="start"),
        pytest.param("train[-2001:]", "-2001 is past the end", id="before-the-start"),
        pytest.param("train[:101%]", "101% is outside", id="per-cent"),
    ],
)
def test_a_slice_past_the_end_is_refused(expression: str, message: str) -> None:
    """`datasets` clips it silently, and a suite judges fewer rows than it says."""
    with pytest.raises(DataError, match=message):
        chosen(expression, 2000)


@pytest.mark.parametrize(
    "expression", ["", "train[", "train[1]", "train[a:b]", "train[1:2:3]", "train+", "tr ain", "+"]
)
def test_what_is_no_split_expression(expression: str) -> None:
    with pytest.raises(DataError, match="is no split expression; write train"):
        splits.parse(expression)


def test_a_sum_has_pieces() -> None:
    assert [(p.split, p.start, p.stop) for p in splits.parse("a.b[:5]+c-d + e[10%:]")] == [
        ("a.b", "", "5"),
        ("c-d", "", ""),
        ("e", "10%", ""),
    ]


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=200),
    eval_part=st.floats(0.05, 0.5),
    tune_part=st.floats(0.05, 0.45),
)
def test_holdouts_are_disjoint_complete_and_stratified(labels: list[int], eval_part: float, tune_part: float) -> None:
    codes = np.array([sorted(set(labels)).index(label) for label in labels])
    parts = {"eval": eval_part, "tune": tune_part}
    carved, lone = splits.carve(len(codes), parts, codes)
    together = np.concatenate(list(carved.values()))
    assert sorted(together.tolist()) == list(range(len(codes)))
    assert set(codes[carved["train"]]) == set(codes), "every class stays in train"
    assert lone == sum(count == 1 for count in Counter(labels).values())
    assert all((np.diff(index) > 0).all() for index in carved.values()), "rows keep their order"
    for role, part in parts.items():
        assert len(carved[role]) <= round(len(codes) * part)
        for code, count in Counter(codes.tolist()).items():
            assert int((codes[carved[role]] == code).sum()) <= count * part + 1


def test_a_holdout_has_its_size_and_its_proportions() -> None:
    codes = np.repeat([0, 1, 2], [700, 250, 50])
    carved, _ = splits.carve(1000, {"eval": 0.2, "tune": 0.1}, codes)
    assert np.bincount(codes[carved["eval"]]).tolist() == [140, 50, 10]
    assert np.bincount(codes[carved["tune"]]).tolist() == [70, 25, 5]


def test_a_holdout_without_classes() -> None:
    carved, lone = splits.carve(1000, {"eval": 0.2}, None)
    assert (len(carved["eval"]), len(carved["train"]), lone) == (200, 800, 0)


def test_a_holdout_of_tune_leaves_that_of_eval_as_it_was() -> None:
    codes = np.arange(500) % 7
    alone, _ = splits.carve(500, {"eval": 0.2}, codes)
    both, _ = splits.carve(500, {"eval": 0.2, "tune": 0.1}, codes)
    assert alone["eval"].tolist() == both["eval"].tolist()


def test_of_nothing_nothing_is_carved() -> None:
    carved, _ = splits.carve(0, {"eval": 0.2}, np.empty(0, dtype=np.int64))
    assert [len(index) for index in carved.values()] == [0, 0]


@given(size=st.integers(0, 500), small=st.integers(0, 500), large=st.integers(0, 500))
def test_a_smaller_limit_keeps_a_part_of_what_a_larger_keeps(size: int, small: int, large: int) -> None:
    small, large = sorted((small, large))
    few, many = splits.sample(size, small, "train").tolist(), splits.sample(size, large, "train").tolist()
    assert set(few) <= set(many)
    assert few == sorted(few)
    assert len(few) == min(size, small)


def test_a_sample_is_spread_and_differs_by_role() -> None:
    """Data sets are often sorted by class: the first rows would be one class."""
    counts = np.bincount(splits.sample(10_000, 1_000, "train") // 1_000, minlength=10)
    assert counts.sum() == 1_000
    assert 60 < counts.min() <= counts.max() < 140
    assert splits.sample(10_000, 1_000, "train").tolist() != splits.sample(10_000, 1_000, "eval").tolist()


CHOICES = (
    "import numpy as np; from ftcheck.finetune.data import splits;"
    "carved, _ = splits.carve(40, {'eval': 0.1}, np.arange(40) % 4);"
    "print(splits.sample(1000, 5, 'train').tolist(), carved['eval'].tolist())"
)


def test_choices_are_the_same_everywhere_and_for_ever() -> None:
    """Written down: a change of these would silently change every suite's data."""
    said = subprocess.run(
        [sys.executable, "-c", CHOICES], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert said.stdout.strip() == "[258, 517, 534, 720, 735] [0, 11, 21, 30]"


def test_ranks_are_splitmix64() -> None:
    """The generator's published first outputs for seed 0."""
    assert [hex(rank) for rank in splits._ranks(3, 0).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]
