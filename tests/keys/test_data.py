"""Data is known by its rows' content, split by split, whatever form it comes in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import DataError, FtcheckError
from ftcheck.keys import Identifier, base_splits
from ftcheck.spec import Data

TRAINING = ("train", "tune")
JUDGING = ("eval",)


def identity(data: Data, roles: tuple[str, ...], memo: Path) -> dict[str, Any]:
    return Identifier(memo).data(data, roles)


@pytest.mark.parametrize(
    ("expression", "splits"),
    [
        pytest.param("train", ("train",), id="a split"),
        pytest.param("train[:2000]", ("train",), id="a slice"),
        pytest.param("train[10%:20%]+validation", ("train", "validation"), id="two"),
        pytest.param("train[:1] + train[-1:]", ("train",), id="one twice"),
    ],
)
def test_the_splits_of_an_expression(expression: str, splits: tuple[str, ...]) -> None:
    assert base_splits(expression) == splits


def test_what_is_no_expression_is_refused() -> None:
    with pytest.raises(DataError, match="no split expression"):
        base_splits("train[1")


def saved(folder: Path) -> Data:
    """What DatasetDict.save_to_disk writes, as far as files go."""
    folder.mkdir()
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test"]}))
    for split in ("train", "validation", "test"):
        (folder / split).mkdir()
        (folder / split / "data-00000-of-00001.arrow").write_bytes(split.encode())
        (folder / split / "state.json").write_text("{}")
    return Data(kind="local", path=str(folder))


def saved_alone(folder: Path) -> Data:
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    (folder / "train.arrow").write_bytes(b"train")
    return Data(kind="local", path=str(folder), splits={"eval": "train[:10%]"})


def plain_folder(folder: Path) -> Data:
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(f"text,label\n{split},1\n")
    (folder / "README.md").write_text("---\nconfigs: []\n---\n")
    return Data(kind="local", path=str(folder))


def single_file(folder: Path) -> Data:
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\ntrain,1\n")
    return Data(kind="local", path=str(folder / "train.csv"), splits={"eval": "train[50%:]"})


@pytest.mark.parametrize(
    ("make", "file", "trains", "judges"),
    [
        pytest.param(saved, "train/data-00000-of-00001.arrow", True, False, id="saved: train"),
        pytest.param(saved, "test/data-00000-of-00001.arrow", False, True, id="saved: test"),
        pytest.param(saved, "validation/data-00000-of-00001.arrow", False, False, id="saved: a split nobody reads"),
        pytest.param(saved_alone, "train.arrow", True, True, id="saved alone"),
        pytest.param(single_file, "train.csv", True, True, id="single file"),
        # Which file is which split, only `datasets` knows: a folder's files count for both sides.
        pytest.param(plain_folder, "train.csv", True, True, id="folder: train"),
        pytest.param(plain_folder, "test.csv", True, True, id="folder: test"),
        pytest.param(plain_folder, "README.md", True, True, id="folder: its card"),
    ],
)
def test_a_changed_file_changes_the_roles_that_may_read_it(
    tmp_path: Path, make: Callable[[Path], Data], file: str, trains: bool, judges: bool
) -> None:
    data = make(tmp_path / "data")
    old = [identity(data, roles, tmp_path / "memo") for roles in (TRAINING, JUDGING)]
    (tmp_path / "data" / file).write_bytes(b"changed")
    new = [identity(data, roles, tmp_path / "memo") for roles in (TRAINING, JUDGING)]
    assert [before != after for before, after in zip(old, new, strict=True)] == [trains, judges]


@pytest.mark.parametrize("make", [saved, saved_alone, plain_folder])
def test_a_folder_is_the_same_wherever_it_lies(tmp_path: Path, make: Callable[[Path], Data]) -> None:
    here = make(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    there = Data(kind="local", path=str(tmp_path / "there"), splits=here.splits)
    assert identity(here, TRAINING, tmp_path / "memo") == identity(there, TRAINING, tmp_path / "memo")


@pytest.mark.parametrize("make", [saved, plain_folder])
def test_another_slice_to_judge_leaves_training_alone(tmp_path: Path, make: Callable[[Path], Data]) -> None:
    path = make(tmp_path / "data").path
    data = [Data(kind="local", path=path, splits={"eval": expression}) for expression in ("test", "test[:1]")]
    train = [identity(each, TRAINING, tmp_path / "memo") for each in data]
    judged = [identity(each, JUDGING, tmp_path / "memo") for each in data]
    assert train[0] == train[1]
    assert judged[0] != judged[1]


def test_a_new_split_leaves_training_alone(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.csv").write_text(name)
    few = {name: (str(tmp_path / f"{name}.csv"),) for name in ("train", "validation")}
    many = {**few, "test": (str(tmp_path / "test.csv"),)}
    data = [Data(kind="reader", path="csv", files=files) for files in (few, many)]
    train = [identity(each, TRAINING, tmp_path / "memo") for each in data]
    judged = [identity(each, JUDGING, tmp_path / "memo") for each in data]
    assert train[0] == train[1]
    assert [found["splits"] for found in judged] == [{"eval": "validation"}, {"eval": "test"}]


def test_the_order_of_files_is_the_order_of_rows(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    one, other = (
        Data(kind="reader", path="text", files={"train": tuple(str(tmp_path / name) for name in order)})
        for order in ("ab", "ba")
    )
    assert identity(one, TRAINING, tmp_path / "memo") != identity(other, TRAINING, tmp_path / "memo")


def test_a_file_that_only_datasets_reads_depends_on_the_card_beside_it(tmp_path: Path) -> None:
    (tmp_path / "rows.arrow").write_bytes(b"x")
    data = Data(kind="local", path=str(tmp_path / "rows.arrow"))
    before = identity(data, TRAINING, tmp_path / "memo")
    (tmp_path / "README.md").write_text("---\n")
    assert identity(data, TRAINING, tmp_path / "memo") != before


def _lacks_its_folder(folder: Path) -> Data:
    return Data(kind="local", path=str(folder / "nowhere"))


def _lacks_a_split(folder: Path) -> Data:
    data = saved(folder / "saved")
    shutil.rmtree(folder / "saved" / "train")
    return data


def _has_a_broken_index(folder: Path) -> Data:
    data = saved(folder / "saved")
    (folder / "saved" / "dataset_dict.json").write_text('{"splits": ["../train"]}')
    return data


def _names_a_folder_as_file(folder: Path) -> Data:
    return Data(kind="reader", path="csv", files={"train": (str(folder),)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(_lacks_its_folder, "no such file or folder", id="nothing there"),
        pytest.param(_lacks_a_split, "no such folder", id="a split missing"),
        pytest.param(_has_a_broken_index, "is damaged", id="an index that points outside"),
        pytest.param(_names_a_folder_as_file, "a folder, where a file was expected", id="a folder as file"),
    ],
)
def test_data_that_is_not_there_is_one_clear_error(tmp_path: Path, make: Callable[[Path], Data], message: str) -> None:
    with pytest.raises(DataError) as raised:
        identity(make(tmp_path), TRAINING, tmp_path / "memo")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


class TestCallables:
    """A callable is what its rows are."""

    @staticmethod
    def data(make: Callable[[], Any], **more: Any) -> Data:
        return Data(kind="callable", path="suite.rows", factory=make, **more)

    @staticmethod
    def rows(train: list[str], test: list[str], names: tuple[str, ...] = ("a", "b")) -> Callable[[], Any]:
        from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

        features = Features({"text": Value("string"), "label": ClassLabel(names=list(names))})

        def make() -> Any:
            return DatasetDict(
                {
                    split: Dataset.from_dict({"text": texts, "label": [0] * len(texts)}, features=features)
                    for split, texts in (("train", train), ("test", test))
                }
            )

        return make

    def both(self, make: Callable[[], Any], tmp_path: Path) -> list[dict[str, Any]]:
        return [identity(self.data(make), roles, tmp_path / "memo") for roles in (TRAINING, JUDGING)]

    def test_other_code_with_the_same_rows_is_the_same_data(self, tmp_path: Path) -> None:
        one, other = self.rows(["x", "y"], ["z"]), self.rows(["x", "y"], ["z"])
        assert one is not other
        assert self.both(one, tmp_path) == self.both(other, tmp_path)

    @pytest.mark.parametrize(
        ("train", "test", "names", "differs"),
        [
            pytest.param(["x", "Y"], ["z"], ("a", "b"), [True, False], id="a training row"),
            pytest.param(["y", "x"], ["z"], ("a", "b"), [True, False], id="the order of training rows"),
            pytest.param(["x", "y"], ["Z"], ("a", "b"), [False, True], id="a judged row"),
            pytest.param(["x", "y"], ["z"], ("a", "c"), [True, True], id="a class that no row has"),
        ],
    )
    def test_other_rows_are_other_data_for_who_reads_them(
        self, tmp_path: Path, train: list[str], test: list[str], names: tuple[str, ...], differs: list[bool]
    ) -> None:
        old = self.both(self.rows(["x", "y"], ["z"]), tmp_path)
        new = self.both(self.rows(train, test, names), tmp_path)
        assert [before != after for before, after in zip(old, new, strict=True)] == differs

    def test_it_is_run_once_a_session(self, tmp_path: Path) -> None:
        runs = []

        def make() -> Any:
            runs.append(1)
            return {"train": [{"text": "x"}], "test": [{"text": "y"}]}

        identifier = Identifier(tmp_path / "memo")
        for roles in (TRAINING, JUDGING, TRAINING):
            identifier.data(self.data(make), roles)
        assert runs == [1]

    @pytest.mark.parametrize(
        "made",
        [
            pytest.param(lambda: 1 / 0, id="it fails"),
            pytest.param(lambda: {"train": 3}, id="no rows"),
            pytest.param(lambda: None, id="nothing"),
        ],
    )
    def test_a_failing_one_is_one_clear_error(self, tmp_path: Path, made: Callable[[], Any]) -> None:
        with pytest.raises(FtcheckError) as raised:
            identity(self.data(made), TRAINING, tmp_path / "memo")
        assert "suite.rows" in str(raised.value)
        assert "\n" not in str(raised.value)
