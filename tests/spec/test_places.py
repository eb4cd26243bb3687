"""Paths are relative to the suite file, local ones win over Hub ids, and a wrong one is told what is near."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.spec import Data
from ftcheck.spec.places import split_problem
from tests.spec.catalogue import errors, one, suite


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite's folder with data and a checkpoint in it."""
    for name in ("data/train.csv", "data/b.csv", "data/a.csv", "data/odd[1].csv", "enc/config.json", "weights.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "local", "path"),
    [
        pytest.param("org/name", False, "org/name", id="hub"),
        pytest.param("bert-base-uncased", False, "bert-base-uncased", id="hub-without-organisation"),
        pytest.param("enc", True, "enc", id="what-exists-is-local"),
        pytest.param("./enc", True, "enc", id="dot"),
        pytest.param("data/../enc", True, "enc", id="dots-within"),
    ],
)
def test_a_checkpoint_is_local_or_on_the_hub(folder: Path, text: str, local: bool, path: str) -> None:
    checkpoint = one(f"checkpoint: {text}", folder).checkpoint
    assert checkpoint.local is local
    assert checkpoint.path == (str(folder / path) if local else path)


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert one("checkpoint: ~/enc").checkpoint.path == str(folder / "enc")


def test_the_tokenizer_may_come_from_elsewhere(folder: Path) -> None:
    assert one("checkpoint: {path: org/name, tokenizer: ./enc}", folder).checkpoint.tokenizer == str(folder / "enc")
    assert one("checkpoint: {path: ./enc, tokenizer: org/name}", folder).checkpoint.tokenizer == "org/name"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param("checkpoint: ./ecn", "checkpoint.path: FOLDER/ecn does not exist; near it: enc", id="near-name"),
        pytest.param(
            "checkpoint: ./modles/x",
            "checkpoint.path: FOLDER/modles/x does not exist; FOLDER has no modles",
            id="missing-folder",
        ),
        pytest.param(
            "checkpoint: ./weights.bin",
            "checkpoint.path: FOLDER/weights.bin is a file; a checkpoint is a folder with config.json and weights",
            id="file-as-checkpoint",
        ),
        pytest.param(
            "checkpoint: {path: ./enc, revision: main}",
            "checkpoint.revision: a local checkpoint has no revision; leave it out",
            id="revision-of-a-folder",
        ),
        pytest.param(
            "checkpoint: {path: org/x, tokenizer: ./nope}",
            "checkpoint.tokenizer: FOLDER/nope does not exist",
            id="missing-tokenizer",
        ),
        pytest.param("data: ./dta", "data.path: FOLDER/dta does not exist; near it: data", id="data-folder"),
        pytest.param(
            "data: data/trian.csv",
            "data.path: neither a data set on the Hub (org/name) nor a local path: "
            "FOLDER/data/trian.csv does not exist; near it: train.csv, a.csv",
            id="data-file",
        ),
        pytest.param(
            "data: {path: csv, files: {train: data/trian.csv, test: data/a.csv}}",
            "data.files.train[0]: FOLDER/data/trian.csv does not exist; near it: train.csv, a.csv",
            id="file-of-a-reader",
        ),
        pytest.param(
            "data: {path: csv, files: {train: data, test: data/a.csv}}",
            "data.files.train[0]: FOLDER/data is a folder; name its files, e.g. data/*",
            id="folder-as-file",
        ),
        pytest.param(
            "data: {path: csv, files: {train: data/*.tsv, test: data/a.csv}}",
            "data.files.train[0]: no file matches FOLDER/data/*.tsv",
            id="pattern-without-files",
        ),
        pytest.param(
            "data: {path: csv, files: {train: 'https://x.org/a.csv', test: data/a.csv}}",
            "data.files.train[0]: only files on this machine can be read; their content is part of a result's identity",
            id="address",
        ),
        pytest.param(
            "data: {path: csv, files: {'a b': data/a.csv, train: data/a.csv, test: data/a.csv}}",
            "data.files.a b: 'a b' is no name of a split",
            id="split-name",
        ),
        pytest.param(
            "data: {path: csv, files: {train: [], test: data/a.csv}}",
            "data.files.train: expected a list of 1 or more, got an empty list",
            id="no-files",
        ),
        pytest.param(
            "data: {path: csv, files: {train: data/a.csv}}",
            "data.files: no split to judge (test or validation or valid or dev); "
            "name one in data.splits.eval (train), or carve one out of train: data.holdout: 0.2",
            id="nothing-to-judge",
        ),
        pytest.param(
            "data: data/train.csv",
            "data.path: no split to judge (test or validation or valid or dev); "
            "name one in data.splits.eval (train), or carve one out of train: data.holdout: 0.2",
            id="one-file-that-is-all-train",
        ),
        pytest.param(
            "data: {path: data/train.csv, splits: {eval: test}}",
            "data.splits.eval: no split is called 'test'; known: train",
            id="one-file-has-no-other-split",
        ),
        pytest.param(
            "data: {path: csv, files: {test: data/a.csv}}",
            "data.files: no split is called train; name one in data.splits.train (test)",
            id="nothing-to-train-on",
        ),
        pytest.param(
            "data: {path: csv, files: {train: data/a.csv}, splits: {eval: trian}}",
            "data.splits.eval: no split is called 'trian'; did you mean train?",
            id="unknown-split",
        ),
        pytest.param(
            "data: {path: csv, name: x, files: {train: data/a.csv, test: data/a.csv}}",
            "data.name: goes with a Hub id; this data comes from csv",
            id="name-with-reader",
        ),
        pytest.param(
            "data: {path: ./data, revision: x}",
            "data.revision: goes with a Hub id; this data comes from ./data",
            id="revision-with-folder",
        ),
    ],
)
def test_a_wrong_place_is_one_clear_error(folder: Path, fields: str, expected: str) -> None:
    (error,) = errors(suite(fields), folder)
    assert error.removeprefix("3 cases.c.") == expected.replace("FOLDER", str(folder))


def test_files_of_a_reader_are_absolute_and_patterns_sorted(folder: Path) -> None:
    data = one(
        "data: {path: csv, files: {train: ['data/[ab].csv', data/train.csv], test: 'data/odd[1].csv'},"
        " options: {delimiter: ';'}}",
        folder,
    ).data
    assert data == Data(
        kind="reader",
        path="csv",
        files={
            "train": tuple(str(folder / "data" / name) for name in ("a.csv", "b.csv", "train.csv")),
            "test": (str(folder / "data" / "odd[1].csv"),),
        },
        options={"delimiter": ";"},
    )


def test_a_reader_is_meant_by_its_name_even_beside_a_folder_of_that_name(folder: Path) -> None:
    (folder / "csv").mkdir()
    fields = "data: {{path: {}, {}}}"
    assert one(fields.format("csv", "files: {train: data/a.csv, test: data/b.csv}"), folder).data.kind == "reader"
    assert one(fields.format("./csv", "limit: 5"), folder).data.kind == "local"


def test_paths_start_at_the_suite_file_not_at_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "data")
    assert one("data: {path: data/train.csv, holdout: 0.2}", folder).data.path == str(folder / "data" / "train.csv")


@pytest.mark.parametrize(
    "expression",
    [
        *("train", "train[:2000]", "train[10%:20%]", "train[-500:]", "train[:-1]", "train[5:-5]", "train[:]"),
        *("a+b", "a[:5] + b[5:]", "validation.matched", "dev-matched[:50%]"),
    ],
)
def test_split_expressions(expression: str) -> None:
    assert split_problem(expression) == ""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("", "'' is no split", id="empty"),
        pytest.param("train[", "'train[' is no split", id="open"),
        pytest.param("train[5]", "'train[5]' is no split", id="index"),
        pytest.param("train[a:b]", "'train[a:b]' is no split", id="words"),
        pytest.param("train+", "'' is no split", id="nothing-after-plus"),
        pytest.param("train[5:5]", "the slice is empty", id="empty-slice"),
        pytest.param("train[10:5]", "the slice is empty", id="backwards"),
        pytest.param("train[-5:-10]", "the slice is empty", id="backwards-from-the-end"),
        pytest.param("train[:0]", "the slice is empty", id="none"),
        pytest.param("train[:0%]", "the slice is empty", id="no-per-cent"),
        pytest.param("train[:150%]", "per cent go from -100 to 100", id="per-cent-range"),
        pytest.param("train[10:20%]", "both ends of a slice are rows, or both per cent", id="mixed-units"),
    ],
)
def test_what_is_no_split_expression(expression: str, expected: str) -> None:
    assert expected in split_problem(expression)
