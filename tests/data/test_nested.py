"""Nested columns: `translation.en` is the key `en` of the column `translation`, wherever rows come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import DataError
from ftcheck.finetune.data import Loaded, load
from ftcheck.spec import Data
from tests.data.jobs import job

ROWS: list[dict[str, Any]] = [
    {"id": f"r{n}", "pair": {"en": f"text {n}", "de": {"new": f"Text {n}", "old": "?"}}, "label": "ab"[n % 2]}
    for n in range(6)
]
COLUMNS = {"text": "pair.en", "text_pair": "pair.de.new"}


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> Data:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Data(kind="reader", path="jsonl", files={"train": (str(path),)})


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Data:
    from datasets import Dataset

    path = folder / "rows.parquet"
    Dataset.from_list(rows).to_parquet(path)
    return Data(kind="reader", path="parquet", files={"train": (str(path),)})


def saved(folder: Path, rows: list[dict[str, Any]]) -> Data:
    from datasets import Dataset

    Dataset.from_list(rows).save_to_disk(str(folder / "saved"))
    return Data(kind="local", path=str(folder / "saved"))


def a_folder(folder: Path, rows: list[dict[str, Any]]) -> Data:
    jsonl(folder, rows)
    (folder / "rows.jsonl").rename(folder / "train.jsonl")
    return Data(kind="local", path=str(folder))


def function(folder: Path, rows: list[dict[str, Any]]) -> Data:
    return Data(kind="callable", path="suite:rows", factory=lambda: rows)


def read(data: Data, **fields: Any) -> Loaded:
    return load(job(replace(data, **{"splits": {"eval": "train"}, "columns": COLUMNS, **fields})))


@pytest.mark.parametrize("source", [jsonl, parquet, saved, a_folder, function])
def test_a_nested_column_is_read_from_every_source(source: Any, tmp_path: Path) -> None:
    found = read(source(tmp_path, ROWS)).eval
    assert found is not None
    assert list(found[1].items()) == [("text", "text 1"), ("text_pair", "Text 1"), ("label", "b"), ("id", "r1")]


def test_it_is_the_same_data_as_when_it_lies_flat(tmp_path: Path) -> None:
    flat = [
        {"id": row["id"], "text": row["pair"]["en"], "text_pair": row["pair"]["de"]["new"], "label": row["label"]}
        for row in ROWS
    ]
    assert read(jsonl(tmp_path, ROWS)).rows == read(function(tmp_path, flat), columns={}).rows


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(
            {"text": "pair.fr"},
            r"'train' of suite:rows: column pair has no key 'fr' \(keys: en, de\); data.columns says which one is the "
            "task's text",
            id="no-key",
        ),
        pytest.param({"text": "pair.enn"}, r"\(keys: en, de\); did you mean en\?", id="near"),
        pytest.param(
            {"text": "pair.de.now"}, r"column pair.de has no key 'now' \(keys: new, old\); did you mean", id="deeper"
        ),
        pytest.param({"text": "label.en"}, "column label holds string, which has no key 'en'", id="no-object"),
        pytest.param({"text": "pear.en"}, r"has no column 'pear.en' \(columns: .*pair", id="no-column"),
    ],
)
def test_a_key_that_is_not_there_is_refused_with_those_that_are(
    columns: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read(function(tmp_path, ROWS), columns=columns)


def test_a_column_whose_own_name_has_a_point_is_meant_before_a_nested_one(tmp_path: Path) -> None:
    rows = [{**row, "pair.en": "flat"} for row in ROWS]
    found = read(jsonl(tmp_path, rows)).eval
    assert found is not None
    assert set(found["text"]) == {"flat"}


@pytest.mark.parametrize("hole", [{"en": None, "de": {"new": "x", "old": "y"}}, {"de": {"new": "x", "old": "y"}}, None])
def test_a_row_without_the_key_is_refused_by_its_place(hole: Any, tmp_path: Path) -> None:
    rows = [*ROWS[:2], {**ROWS[2], "pair": hole}]
    with pytest.raises(DataError, match=r"rows.jsonl:3: column text is missing or null"):
        read(jsonl(tmp_path, rows))


def test_nested_classes_keep_their_names_and_are_stratified_by() -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "marks": {"kind": ClassLabel(names=["no", "yes"])}})
    made = Dataset.from_dict({"text": list("abcdefghij"), "marks": [{"kind": n % 2} for n in range(10)]}, features)
    data = Data(kind="callable", path="suite:rows", factory=lambda: made)
    found = read(data, columns={"label": "marks.kind"}, splits={}, holdout={"eval": 0.2})
    assert found.notes[0] == "eval: 2 of 10 rows carved out of train, stratified by class"
    assert found.eval is not None
    assert found.eval.features["label"].names == ["no", "yes"]
    assert sorted(found.eval["label"]) == [0, 1]


def test_parts_of_several_splits_may_be_nested(tmp_path: Path) -> None:
    made = {"train": ROWS[:3], "test": ROWS[3:]}
    data = Data(kind="callable", path="suite:rows", factory=lambda: made)
    found = read(data, splits={"train": "train+test", "eval": "test"}).train
    assert found is not None
    assert found["text"][:] == [row["pair"]["en"] for row in ROWS]


def test_a_translation_feature_is_read_as_its_card_declares_it(tmp_path: Path) -> None:
    """How the translation data sets of the Hub hold their languages."""
    from datasets import Dataset, Features, Translation

    rows = {"translation": [{"en": "the cat", "de": "die Katze"}, {"en": "the sun", "de": "die Sonne"}]}
    made = Dataset.from_dict(rows, features=Features({"translation": Translation(languages=["en", "de"])}))
    columns = {"text": "translation.en", "label": "translation.de"}
    found = read(Data(kind="callable", path="suite:rows", factory=lambda: made), columns=columns).eval
    assert found is not None
    assert found[1] == {"text": "the sun", "label": "die Sonne"}
