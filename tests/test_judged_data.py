"""What a run is judged on, in a reader's words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.finetune import Job
from ftcheck.keys import Key
from ftcheck.results import JudgedData
from ftcheck.runs import Run, judged_data
from ftcheck.spec import Case, Checkpoint, Data

FILES = {"train": ("/home/ada/a.csv", "/home/ada/b.csv"), "test": ("/home/ada/test.csv",)}


def run(commit: str | None = None, **data: Any) -> Run:
    case = Case(
        id="c",
        suite=Path("/s.ft.yaml"),
        line=1,
        checkpoint=Checkpoint(path="x", local=False),
        task="text-classification",
        data=Data(**data),
    )
    job = Job(case=case, seed=1, device="cpu", precision="fp32", data_revision=commit)
    return Run(job=job, train=Key.of({"x": 1}), predict=Key.of({"x": 2}))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            {"kind": "hub", "path": "org/data", "name": "en", "revision": "v1", "splits": {"eval": "test[:9]"}},
            JudgedData(name="org/data", hub=True, config="en", split="test[:9]"),
            id="hub",
        ),
        pytest.param(
            {"kind": "local", "path": "/home/ada/intents"}, JudgedData(name="intents"), id="a-folder-without-its-place"
        ),
        pytest.param(
            {"kind": "reader", "path": "csv", "files": FILES}, JudgedData(name="ada/test.csv", split="test"), id="files"
        ),
        pytest.param(
            {"kind": "reader", "path": "csv", "files": {"train": FILES["train"]}, "holdout": {"eval": 0.2}},
            JudgedData(name="ada/a.csv, ada/b.csv"),
            id="carved-out",
        ),
        pytest.param({"kind": "callable", "path": "rows.load"}, JudgedData(name="rows.load"), id="callable"),
    ],
)
def test_data_is_named_without_paths_of_this_machine(data: dict[str, Any], expected: JudgedData) -> None:
    assert judged_data(run(**data)) == expected


def test_the_commit_on_the_hub_is_the_one_that_was_used() -> None:
    assert judged_data(run(commit="a1b2c3d", kind="hub", path="org/data")).revision == "a1b2c3d"


def test_folds_are_judged_on_the_training_rows() -> None:
    whole = run(kind="reader", path="csv", files=FILES)
    assert judged_data(replace(whole, parts=(whole,))) == JudgedData(name="ada/a.csv, ada/b.csv", split="train")
