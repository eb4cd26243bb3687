"""`load`: from a case's data to one Dataset per role, and every way in which that can't be done."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import DataError
from ftcheck.finetune.data import Loaded, load, quiet
from ftcheck.spec import Data
from tests.data.jobs import FEW, ROWS, job, read, write


def csv(folder: Path, contents: Mapping[str, str | bytes], *, limit: int | None = None, **fields: Any) -> Loaded:
    """`contents` (split: CSV) loaded with further fields of Data."""
    files = {split: (str(path),) for split, path in write(folder, **contents).items()}
    return load(job(Data(kind="reader", path="csv", files=files, **fields), limit=limit))


def called(made: Any, task: str = "text-classification", **fields: Any) -> Loaded:
    return load(job(Data(kind="callable", path="suite:rows", factory=lambda: made, **fields), task))


def test_importing_the_room_imports_nothing_heavy() -> None:
    program = "import sys, ftcheck.finetune.data, ftcheck.finetune.data.readers.delimited; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "datasets", "pyarrow", "pandas"} & set(done.stdout.split())


def test_columns_have_the_tasks_names_and_surplus_ones_go(tmp_path: Path) -> None:
    content = "id,sentence,category,noise,text\nx1,hello,greet,9,wrong\n"
    found = csv(tmp_path, {"train": content, "test": content}, columns={"text": "sentence", "label": "category"})
    assert found.train is not None
    assert found.train[0] == {"text": "hello", "label": "greet", "id": "x1"}


def test_an_optional_column_that_the_suite_switches_off_is_not_used(tmp_path: Path) -> None:
    content = "text,text_pair,label\na,b,x\n"
    contents = {"train": content, "test": content}
    assert "text_pair" in csv(tmp_path, contents).train.column_names  # type: ignore[union-attr]
    assert "text_pair" not in csv(tmp_path, contents, columns={"text_pair": None}).train.column_names  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        pytest.param(("train", "test", "validation", "dev"), "test", id="test"),
        pytest.param(("train", "dev", "validation"), "validation", id="validation"),
        pytest.param(("train", "dev"), "dev", id="dev"),
        pytest.param(("train", "valid"), "valid", id="valid"),
    ],
)
def test_the_judged_split_where_none_is_named(splits: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    found = csv(tmp_path, {split: f"text,label\n{split},a\n" for split in splits})
    assert found.eval is not None
    assert found.eval["text"][:] == [expected]
    assert found.tune is None


def test_judging_a_checkpoint_as_it_is_reads_no_training_rows(tmp_path: Path) -> None:
    """A train file that is broken doesn't matter then."""
    files = write(tmp_path, train=b"\xff", test=FEW.encode())
    data = Data(kind="reader", path="csv", files={split: (str(path),) for split, path in files.items()})
    found = load(job(data, trains=False))
    assert (found.train, len(found.eval or ())) == (None, 2)
    assert set(found.roles) == {"eval"}
    with pytest.raises(DataError, match="byte 0xff"):
        load(job(data))


def test_slices_sums_and_where_rows_came_from(tmp_path: Path) -> None:
    found = csv(tmp_path, {"train": ROWS, "test": FEW}, splits={"train": "train[-2:]+test[:1]", "tune": "train[:10%]"})
    assert found.train is not None
    assert found.train["text"][:] == ["text 18", "text 19", "t1"]
    rows = found.roles["train"]
    assert list(rows.index) == [18, 19, 0]
    assert [rows.place(i).rpartition("/")[2] for i in range(3)] == ["train.data:20", "train.data:21", "test.data:2"]
    assert found.rows["tune"]["count"] == 2


def test_files_of_a_split_follow_one_another(tmp_path: Path) -> None:
    write(tmp_path, a=FEW, b="label,text\nc,t3\n")
    files = (str(tmp_path / "a.data"), str(tmp_path / "b.data"))
    found = load(job(Data(kind="reader", path="csv", files={"train": files, "test": files[:1]})))
    assert found.train is not None
    assert found.train["text"][:] == ["t1", "t2", "t3"]
    assert found.roles["train"].place(2).endswith("b.data:2")


def test_a_holdout_takes_its_rows_out_of_train(tmp_path: Path) -> None:
    found = csv(tmp_path, {"train": ROWS}, holdout={"eval": 0.2, "tune": 0.1})
    texts = {role: set(rows.dataset["text"][:]) for role, rows in found.roles.items()}
    assert {role: len(rows) for role, rows in texts.items()} == {"train": 14, "tune": 2, "eval": 4}
    assert len(set.union(*texts.values())) == 20
    assert sorted(found.roles["eval"].dataset["label"][:]) == ["a", "a", "b", "b"]
    assert found.notes == (
        "eval: 4 of 20 rows carved out of train, stratified by class",
        "tune: 2 of 20 rows carved out of train, stratified by class",
    )


def test_a_holdout_is_the_same_whatever_is_limited_or_seeded(tmp_path: Path) -> None:
    files = {"train": (str(write(tmp_path, train=ROWS)["train"]),)}
    data = Data(kind="reader", path="csv", files=files, holdout={"eval": 0.2})
    limited = load(job(dataclasses.replace(data, limit={"train": 3}), seed=99)).roles["eval"].hashes
    assert limited == load(job(data)).roles["eval"].hashes


def test_a_lone_class_stays_in_train_and_is_told(tmp_path: Path) -> None:
    found = csv(tmp_path, {"train": ROWS + "only one,c\n"}, holdout={"eval": 0.5})
    assert found.train is not None
    assert "c" in found.train["label"][:]
    assert "1 class has one row only, which stays in train" in found.notes


def test_an_explicit_holdout_wins_over_a_test_split(tmp_path: Path) -> None:
    found = csv(tmp_path, {"train": ROWS, "test": FEW}, holdout={"eval": 0.2})
    assert found.rows["eval"]["count"] == 4


def test_limits_keep_order_and_are_told(tmp_path: Path) -> None:
    found = csv(tmp_path, {"train": ROWS, "test": FEW}, limit=5, **{})
    assert found.rows == {
        role: {"count": n, "hashes": found.rows[role]["hashes"]} for role, n in (("train", 5), ("eval", 2))
    }
    assert list(found.roles["train"].index) == sorted(found.roles["train"].index)
    assert found.notes == ("train: 5 of 20 rows (--ft-limit)",)
    bound = load(
        job(
            Data(
                kind="reader",
                path="csv",
                files={s: (str(tmp_path / f"{s}.data"),) for s in ("train", "test")},
                limit={"train": 3},
            ),
            limit=5,
        )
    )
    assert bound.notes == ("train: 3 of 20 rows (data.limit)",)


@pytest.mark.parametrize(
    ("contents", "fields", "message"),
    [
        pytest.param(
            {"train": FEW, "test": FEW},
            {"columns": {"text": "sentense"}},
            r"no column 'sentense' \(columns: text, label\); data.columns says which one is the task's text",
            id="column",
        ),
        pytest.param(
            {"train": FEW, "test": "text,labels\na,b\n"},
            {},
            r"'test' of data.files has no column 'label' \(columns: text, labels\); did you mean labels\?",
            id="column-of-one-split",
        ),
        pytest.param(
            {"train": "sentence,kind\na,b\n", "test": FEW},
            {},
            r"'train' of data.files has no column 'text' \(columns: sentence, kind\); data.columns says which",
            id="no-column-at-all",
        ),
        pytest.param(
            {"train": FEW, "test": FEW},
            {"splits": {"eval": "tset"}},
            r"data.splits.eval: data.files has no split 'tset' \(splits: train, test\); did you mean test\?",
            id="split",
        ),
        pytest.param(
            {"test": FEW}, {}, r"data.splits.train: data.files has no split 'train' \(splits: test\)", id="no-train"
        ),
        pytest.param(
            {"train": FEW},
            {},
            r"no test or validation split to judge \(splits: train\); name one in data.splits.eval, or carve",
            id="nothing-to-judge",
        ),
        pytest.param(
            {"train": FEW, "test": FEW}, {"splits": {"eval": "test[5:]"}}, "past the end: test has 2 rows", id="slice"
        ),
        pytest.param(
            {"train": FEW, "test": FEW},
            {"splits": {"eval": "test[1:1]"}},
            r"eval: 'test\[1:1\]' of data.files has no rows, so there is nothing to judge",
            id="empty-slice",
        ),
        pytest.param(
            {"train": FEW, "test": "text,label\n"},
            {},
            "eval: 'test' of data.files has no rows, so there is nothing to judge",
            id="empty-split",
        ),
        pytest.param(
            {"train": FEW},
            {"holdout": {"eval": 0.1}},
            "eval: data.holdout.eval: 0.1 has no rows, so there is nothing to judge",
            id="empty-holdout",
        ),
        pytest.param({"train": FEW, "test": FEW}, {"options": {"delimitr": ";"}}, "data.options.delimitr", id="option"),
    ],
)
def test_data_that_does_not_fit_says_what_to_do(
    contents: dict[str, str], fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        csv(tmp_path, contents, **fields)


def test_a_missing_value_is_said_with_its_row(tmp_path: Path) -> None:
    files = write(tmp_path, train='{"text": "a", "label": 1}\n{"text": "b"}\n', test='{"text": "a", "label": 1}\n')
    with pytest.raises(DataError, match=r"train.data:2: column label is missing or null"):
        read("jsonl", files)
    rows = {"tokens": [["a"], ["b"]], "tags": [["O"], [None]]}
    with pytest.raises(DataError, match=r"suite:rows split train row 2: column tags is missing or null"):
        called({"train": rows, "test": rows}, "token-classification")


def test_an_optional_column_of_nulls_is_left_out_but_holes_are_refused() -> None:
    rows = {"text": ["a", "b"], "text_pair": [None, None], "label": [0, 1]}
    found = called({"train": rows, "test": rows})
    assert found.train is not None
    assert "text_pair" not in found.train.column_names
    with pytest.raises(DataError, match="split train row 2: column text_pair is missing or null"):
        called({"train": {**rows, "text_pair": ["x", None]}, "test": rows})


def test_a_split_published_without_labels_is_refused() -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    labelled = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    kept_back = Dataset.from_dict({"text": ["a", "b"], "label": [-1, -1]}, features=features)
    with pytest.raises(DataError, match="column label is -1, so this split is published without labels; name another"):
        called(DatasetDict({"train": labelled, "test": kept_back}))
    found = called(DatasetDict({"train": labelled, "validation": labelled}))
    assert found.train is not None
    assert found.train.features["label"].names == ["no", "yes"]


def test_class_names_in_another_order_are_refused() -> None:
    """The ids of one split would silently be other classes than those of the next."""
    from datasets import ClassLabel, Dataset, Features, Value

    made = {}
    for split, names in (("train", ["no", "yes"]), ("test", ["yes", "no"])):
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        made[split] = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    with pytest.raises(DataError, match="column label: the class names of eval aren't those of train"):
        called(made)
    with pytest.raises(DataError, match=r"column label has other class names in suite:rows split test"):
        called(made, splits={"train": "train+test"})


def test_shared_rows_are_told(tmp_path: Path) -> None:
    found = csv(tmp_path, {"train": ROWS, "test": "text,label\ntext 3,b\nnew,a\n"}, splits={"tune": "test"})
    assert "tuned on the split that is judged, as the suite says: the result is too good by as much" in found.notes
    assert "1 of 2 judged rows are also trained on, word for word" in found.notes
    assert "2 of 2 judged rows are also used for tuning, word for word" in found.notes
    assert found.notes == found.judged_notes


def test_what_is_told_of_the_judged_rows_is_told_apart(tmp_path: Path) -> None:
    """Another evaluation split of one training has other notes; those on training rows stay."""
    files = {"train": (str(write(tmp_path, train=ROWS)["train"]),)}
    data = Data(
        kind="reader", path="csv", files=files, holdout={"eval": 0.2, "tune": 0.1}, limit={"train": 3, "eval": 2}
    )
    found = load(job(data))
    assert [note.partition(" ")[0] for note in found.notes] == ["eval:", "tune:", "train:", "eval:"]
    assert [note.partition(" ")[0] for note in found.judged_notes] == ["eval:", "eval:"]


@pytest.mark.parametrize(
    ("rows", "task"),
    [
        pytest.param(
            {"text": ["a", "b", "c", "d"], "label": [0.5, 1.5, 2.5, 3.5]}, "text-classification", id="measurements"
        ),
        pytest.param(
            {"text": ["a", "b", "c", "d"], "label": ["0.5", "1.5", "2.5", "3"]}, "text-classification", id="lone"
        ),
        pytest.param({"tokens": [["a"]] * 4, "tags": [["O"]] * 4}, "token-classification", id="tags"),
        pytest.param({"text": ["a"] * 4}, "text-classification", id="no-column"),
    ],
)
def test_what_holds_no_classes_is_carved_as_it_comes(rows: dict[str, list[Any]], task: str) -> None:
    data = Data(kind="callable", path="suite:rows", factory=lambda: rows, holdout={"eval": 0.5})
    if len(rows) == 1:
        with pytest.raises(DataError, match="has no column 'label'"):
            load(job(data, task))
        return
    assert load(job(data, task)).notes[0] == "eval: 2 of 4 rows carved out of train"


def test_class_names_survive_a_holdout_and_a_new_name() -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"id": Value("int32"), "text": Value("string"), "intent": ClassLabel(names=["no", "yes"])})
    made = Dataset.from_dict({"id": [7, 8] * 5, "text": ["a", "b"] * 5, "intent": [0, 1] * 5}, features=features)
    found = called(made, columns={"label": "intent"}, holdout={"eval": 0.2})
    assert found.eval is not None
    assert (found.eval.features["label"].names, found.eval.features["id"].dtype) == (["no", "yes"], "int32")
    assert sorted(found.eval["label"]) == [0, 1]


def test_what_callables_may_return() -> None:
    from datasets import Dataset, DatasetDict

    columns = {"text": ["a", "b"], "label": [0, 1]}
    listed = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    dataset = Dataset.from_dict(columns)
    by_split: list[Any] = [{"train": columns, "test": listed}, DatasetDict({"train": dataset, "test": dataset})]
    whole: list[Any] = [columns, listed, dataset]
    found = [called(made).rows for made in by_split] + [called(made, splits={"eval": "train"}).rows for made in whole]
    assert all(rows == found[0] for rows in found)
    assert found[0]["train"] == found[0]["eval"]


def test_what_callables_must_not_do() -> None:
    def broken() -> None:
        raise ZeroDivisionError("no rows today")

    data = Data(kind="callable", path="suite:rows", factory=broken)
    with pytest.raises(DataError, match="data: suite:rows raised ZeroDivisionError: no rows today"):
        load(job(data))
    with pytest.raises(DataError, match="suite:rows returned NoneType for train; a DatasetDict, a Dataset"):
        called(None)
    with pytest.raises(DataError, match="suite:rows returned rows that make no table"):
        called({"text": ["a", 1], "label": [0, 1]})


def test_an_indexed_dataset_is_read_as_it_is_indexed() -> None:
    from datasets import Dataset

    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]}).select([2, 0])
    assert called({"train": rows, "test": rows}).train["text"][:] == ["c", "a"]  # type: ignore[index]


def test_loading_is_quiet_and_leaves_the_switches_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    import datasets

    before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    with quiet():
        assert datasets.are_progress_bars_disabled()
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == before
    called({"text": ["a", "b"], "label": [0, 1]}, splits={"eval": "train"})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("problem", "label"),
    [
        pytest.param("multi_label_classification", lambda n: ["ab"[n % 2]] * (n % 3), id="sets"),
        pytest.param("regression", lambda n: n % 2 / 2, id="floats"),
        pytest.param("regression", lambda n: n % 2, id="whole-numbers-that-are-no-classes"),
    ],
)
def test_a_holdout_is_not_stratified_where_rows_have_no_one_class(problem: str, label: Any) -> None:
    made = [{"text": f"text {n}", "label": label(n)} for n in range(20)]
    data = Data(kind="callable", path="suite:rows", factory=lambda: {"train": made}, holdout={"eval": 0.2})
    found = load(job(data, options={"problem_type": problem}))
    assert found.notes[0] == "eval: 4 of 20 rows carved out of train"
    assert (len(found.roles["train"].dataset), len(found.roles["eval"].dataset)) == (16, 4)
