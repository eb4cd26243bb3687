"""The real data sets, as they are published: every row is found, and none is changed."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from ftcheck.finetune.data import Loaded, load
from ftcheck.spec import Data
from tests.data.jobs import job

ROOT = Path(os.environ.get("FTCHECK_REAL_DATA", "/nonexistent"))
pytestmark = pytest.mark.skipif(
    not ROOT.is_dir(), reason="needs the real data sets: set FTCHECK_REAL_DATA to their folder (docs/real-data.md)"
)


def read(reader: str, task: str, files: dict[str, str], **fields: object) -> Loaded:
    paths = {split: (str(ROOT / name),) for split, name in files.items()}
    return load(job(Data(kind="reader", path=reader, files=paths, **fields), task))  # type: ignore[arg-type]


def counts(loaded: Loaded) -> dict[str, int]:
    return {role: found["count"] for role, found in loaded.rows.items()}


def test_banking77_holds_77_classes_and_newlines_within_fields() -> None:
    files = {"train": "banking77/train.csv", "test": "banking77/test.csv"}
    found = read("csv", "text-classification", files, columns={"label": "category"})
    assert counts(found) == {"train": 10_003, "eval": 3_080}
    assert found.train is not None
    assert sorted(set(found.train["label"])) == sorted(json.loads((ROOT / "banking77/categories.json").read_text()))
    with (ROOT / files["train"]).open(newline="", encoding="utf-8") as file:
        assert found.train["text"][:] == [row["text"] for row in csv.DictReader(file)]
    assert any("\n" in text for text in found.train["text"])


def test_banking77_as_a_folder_is_the_same() -> None:
    files = {"train": "banking77/train.csv", "test": "banking77/test.csv"}
    by_file = read("csv", "text-classification", files, columns={"label": "category"})
    by_folder = load(job(Data(kind="local", path=str(ROOT / "banking77"), columns={"label": "category"})))
    assert by_file.rows == by_folder.rows


def test_banking77_held_out_keeps_every_class() -> None:
    path = str(ROOT / "banking77" / "train.csv")
    data = Data(kind="local", path=path, columns={"label": "category"}, holdout={"eval": 0.2, "tune": 0.1})
    found = load(job(data))
    assert counts(found) == {"train": 7_002, "tune": 1_000, "eval": 2_001}
    assert {len(set(r.dataset["label"])) for r in found.roles.values()} == {77}


def test_wnut17_sentences_and_tags() -> None:
    files = {
        "train": "wnut17/wnut17train.conll",
        "dev": "wnut17/emerging.dev.conll",
        "test": "wnut17/emerging.test.annotated",
    }
    found = read("conll", "token-classification", files, splits={"tune": "dev"})
    assert counts(found) == {"train": 3_394, "tune": 1_009, "eval": 1_287}
    types = ("corporation", "creative-work", "group", "location", "person", "product")
    tags = {"O", *(f"{prefix}-{name}" for prefix in "BI" for name in types)}
    for role, name in (("train", "train"), ("tune", "dev"), ("eval", "test")):
        dataset = found.roles[role].dataset
        assert {tag for row in dataset["tags"] for tag in row} == tags, role
        written = [line for line in (ROOT / files[name]).read_text("utf-8").split("\n") if line.strip()]
        assert [word for row in dataset["tokens"] for word in row] == [line.split("\t")[0] for line in written]


@pytest.mark.parametrize(
    ("version", "expected", "unanswerable"),
    [
        pytest.param("v1.1", {"train": 7_602, "eval": 2_968}, 0, id="v1.1"),
        pytest.param("v2.0", {"train": 9_634, "eval": 2_239}, 0.4, id="v2.0"),
    ],
)
def test_squad_questions(version: str, expected: dict[str, int], unanswerable: float) -> None:
    files = {"train": f"squad/train-{version}.json", "validation": f"squad/validation-{version}.json"}
    found = read("squad", "question-answering", files)
    assert counts(found) == expected
    assert found.eval is not None
    part = sum(not answers["text"] for answers in found.eval["answers"]) / len(found.eval)
    assert unanswerable <= part <= (0.6 if unanswerable else 0)


def test_tinyshakespeare_is_read_by_lines() -> None:
    from ftcheck.finetune.data.source import from_files

    table = from_files("text", {"train": [str(ROOT / "tinyshakespeare/input.txt")]}, {}).splits["train"](None).table
    assert table.num_rows == 40_000


@pytest.mark.parametrize(
    ("task", "folder", "columns", "size"),
    [
        pytest.param("summarization", "scitldr", {"document": "source", "summary": "target"}, 618, id="scitldr"),
        pytest.param(
            "translation", "ntrex128", {"source": "translation.en", "target": "translation.de"}, 187, id="ntrex128"
        ),
    ],
)
def test_texts_and_references_are_read_as_they_are(task: str, folder: str, columns: dict[str, str], size: int) -> None:
    """Lists of sentences with one to several references; languages within a column."""
    from ftcheck import tasks

    files = {split: f"{folder}/{split}.jsonl" for split in ("train", "test")}
    found = read("jsonl", task, files, columns=columns).roles["eval"]
    kind = tasks.get(task)
    assert len(found.dataset) == size
    assert kind.check(found.dataset, "eval", {}, kind.options().model_dump(), found.place) == []


def test_no_two_rows_of_banking77_have_one_hash() -> None:
    files = {"train": "banking77/train.csv", "test": "banking77/test.csv"}
    found = read("csv", "text-classification", files, columns={"label": "category"})
    assert found.train is not None
    assert len(set(found.roles["train"].hashes)) == len({(row["text"], row["label"]) for row in found.train})
