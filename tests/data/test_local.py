"""`load` from local files, folders and saved datasets, and what is wrong with some of them."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import DataError
from ftcheck.finetune.data import load
from ftcheck.spec import Data
from tests.data.jobs import FEW, ROWS, job, write


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        pytest.param("csv", FEW, id="csv"),
        pytest.param("tsv", FEW.replace(",", "\t"), id="tsv"),
        pytest.param("jsonl", '{"text": "t1", "label": "a"}\n{"text": "t2", "label": "b"}\n', id="jsonl"),
        pytest.param("json", '[{"text": "t1", "label": "a"}, {"text": "t2", "label": "b"}]', id="json"),
    ],
)
def test_one_file_is_train(suffix: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_text(content)
    found = load(job(Data(kind="local", path=str(path), holdout={"eval": 0.5})))
    assert sorted([*found.train["text"], *found.eval["text"]]) == ["t1", "t2"]  # type: ignore[index]


def test_a_folder_of_files_names_its_splits(tmp_path: Path) -> None:
    write(tmp_path, train=ROWS, test=FEW)
    for split in ("train", "test"):
        (tmp_path / f"{split}.data").rename(tmp_path / f"{split}.csv")
    (tmp_path / "LICENSE").write_text("free")
    found = load(job(Data(kind="local", path=str(tmp_path))))
    assert {role: rows["count"] for role, rows in found.rows.items()} == {"train": 20, "eval": 2}


def test_a_card_in_a_folder_may_set_the_separator(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  sep: ';'\n  data_files:\n"
        "  - {split: train, path: a.csv}\n  - {split: test, path: a.csv}\n---\n"
    )
    (tmp_path / "a.csv").write_text("text;label\nNA;007\n")
    found = load(job(Data(kind="local", path=str(tmp_path))))
    assert found.train is not None
    assert found.train[0] == {"text": "NA", "label": "007"}


def test_a_card_that_sets_more_is_followed_by_datasets_itself(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  skiprows: 1\n  data_files:\n"
        "  - {split: train, path: a.csv}\n  - {split: test, path: a.csv}\n---\n"
    )
    (tmp_path / "a.csv").write_text("a title\ntext,label\nNA,x\n")
    found = load(job(Data(kind="local", path=str(tmp_path))))
    assert found.train is not None
    assert found.train[0] == {"text": "NA", "label": "x"}


@pytest.mark.parametrize("as_dict", [True, False])
def test_saved_datasets(as_dict: bool, tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = Dataset.from_dict({"text": ["a", "b"] * 5, "label": [1, 0] * 5}, features=features)
    saved = DatasetDict({"train": rows, "test": rows}) if as_dict else rows
    saved.save_to_disk(str(tmp_path / "saved"))
    fields: dict[str, Any] = {} if as_dict else {"holdout": {"eval": 0.2}}
    found = load(job(Data(kind="local", path=str(tmp_path / "saved"), **fields)))
    assert found.train is not None
    assert found.train.features["label"].names == ["no", "yes"]
    assert found.train.cache_files == []


def test_a_saved_dataset_that_is_damaged(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["a"], "label": [0]}).save_to_disk(str(tmp_path / "saved"))
    for file in (tmp_path / "saved").glob("*.arrow"):
        file.write_bytes(b"junk")
    with pytest.raises(DataError, match="no readable saved dataset"):
        load(job(Data(kind="local", path=str(tmp_path / "saved"), splits={"eval": "train"})))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: no such file or folder"):
        load(job(Data(kind="local", path=str(tmp_path / "absent"))))
    (tmp_path / "notes.xyz").write_text("?")
    with pytest.raises(DataError, match=r"holds no data files|can't be read"):
        load(job(Data(kind="local", path=str(tmp_path / "notes.xyz"))))


def test_options_go_to_a_reader_of_ours_or_nowhere(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text;label\na;b\n")
    data = Data(kind="local", path=str(tmp_path), options={"delimiter": ";"}, splits={"eval": "train"})
    assert load(job(data)).rows["train"]["count"] == 1
    (tmp_path / "train.csv").rename(tmp_path / "train.arrow")
    with pytest.raises(DataError, match=r"is read by `datasets` \(arrow\), which takes none here"):
        load(job(data))
    with pytest.raises(DataError, match="is read by `datasets`"):
        load(job(dataclasses.replace(data, path=str(tmp_path / "train.arrow"))))


def test_files_of_a_split_that_do_not_fit_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "b", "label": "x"}\n')
    files = {"train": (str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"))}
    data = Data(kind="reader", path="jsonl", files=files, holdout={"eval": 0.5})
    with pytest.raises(DataError, match=r"a.jsonl, .*b.jsonl: the files' columns don't fit together"):
        load(job(data))


def test_a_file_that_changed_in_place_is_read_anew(tmp_path: Path) -> None:
    """`datasets` keeps a table by path and time stamp."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "test.csv").write_text(FEW)
    texts = []
    for word in ("one", "two"):
        (folder / "train.csv").write_text(f"text,label\n{word},a\n")
        os.utime(folder / "train.csv", ns=(10**18, 10**18))
        for path in (folder, folder / "train.csv"):
            found = load(job(Data(kind="local", path=str(path), splits={"eval": "train"})))
            texts.append(found.train["text"][0])  # type: ignore[index]
    assert texts == ["one", "one", "two", "two"]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, train=ROWS, test=FEW)
    for split in ("train", "test"):
        (folder / f"{split}.data").rename(folder / f"{split}.csv")
    found = load(job(Data(kind="local", path=str(folder))))
    assert found.train is not None
    assert found.train.map(lambda row: row).num_rows == 20, "and the rows need nothing that is gone"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sorted(path.name for path in folder.iterdir()) == ["test.csv", "train.csv"]
