"""Cross-validation: every row judged once, by a model that wasn't trained on it, and one verdict over all."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck import catalogue, suitefile
from ftcheck.devices import Device
from ftcheck.errors import DataError, StoreError, SuiteErrors
from ftcheck.executors.inline import InlineExecutor
from ftcheck.finetune import data
from ftcheck.finetune.data.rows import digest
from ftcheck.finetune.techniques.folds import Folds
from ftcheck.finetuned import Finetuned
from ftcheck.keys import Identifier
from ftcheck.pipeline import Pipeline
from ftcheck.runs import Measured
from ftcheck.settings import Settings
from ftcheck.spec import Case, expand, link
from ftcheck.store import Store
from tests import tiny
from tests.finetune.jobs import TEXTS

HEAD = """
defaults:
  checkpoint: ./checkpoint
  task: text-classification
  precision: fp32
  data: {path: csv, files: {train: train.csv}}
  training: {num_train_epochs: 1, learning_rate: 1e-3}
cases:
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a classifier and 24 rows, in two classes, of six customers."""
    path = tmp_path_factory.mktemp("project")
    tiny.bert(path / "checkpoint", head="BertForSequenceClassification", labels=("moves", "rests"))
    lines = [f"{row['text']},{row['label']},{place // 4}" for place, row in enumerate(TEXTS)]
    (path / "train.csv").write_text("\n".join(["text,label,customer", *lines]) + "\n")
    return path


def cases(project: Path, text: str) -> list[Case]:
    """The cases of a suite with these (indented by two)."""
    declared = suitefile.parse((HEAD + text).encode(), project / "suite.ft.yaml")
    return link(expand(declared, catalogue.installed()), catalogue.installed())


def pipeline(store: Path, settings: Settings | None = None) -> Pipeline:
    return Pipeline(
        settings=settings or Settings(),
        store=Store(store),
        identifier=Identifier(store / "memo"),
        device=Device(kind="cpu", name="a CPU"),
        executor=InlineExecutor(),
    )


def measure(case: Case, store: Path, settings: Settings | None = None) -> Measured:
    made = pipeline(store, settings)
    return made.measure(case, case.id, lambda seed, progress: None, lambda message: None)


@pytest.mark.e2e
def test_every_row_is_judged_once_by_a_model_that_was_not_trained_on_it(project: Path, tmp_path: Path) -> None:
    (case,) = cases(project, "  c: {folds: 3, seeds: 2, gates: {accuracy: {min: 0}}}\n")
    measured = measure(case, tmp_path)
    texts = [str(row["text"]) for row in TEXTS]
    assert measured.result.examples == len(TEXTS)
    assert [run.run.job.seed for run in measured.runs] == [42, 43]
    assert {name: [len(rows) for rows in each] for name, each in measured.scored.statistics.items()} == {
        name: [24, 24] for name in measured.scored.statistics
    }
    for run in measured.runs:
        assert [record["input"] for record in run.records()] == texts  # in the order of the data
        assert [record["index"] for record in run.records()] == list(range(len(TEXTS)))
        judged: Counter[str] = Counter()
        for part in run.run.parts:
            job = part.job
            rows = data.load(job).roles
            assert not set(rows["train"].hashes) & set(rows["eval"].hashes)
            assert len(rows["train"].hashes) + len(rows["eval"].hashes) == len(TEXTS)
            judged.update(rows["eval"].hashes)
        assert set(judged.values()) == {1}
        assert len(judged) == len(TEXTS)


@pytest.mark.e2e
def test_the_whole_is_its_folds_put_together(project: Path, tmp_path: Path) -> None:
    (case,) = cases(project, "  c: {folds: 3, metrics: [train_seconds, parameters]}\n")
    measured = measure(case, tmp_path)
    store = Store(tmp_path)
    (whole,) = measured.runs
    parts = [
        (store.get("runs", part.train.digest), store.get("predictions", part.predict.digest))
        for part in whole.run.parts
    ]
    costs = [trained.content["costs"] for trained, _ in parts if trained]
    assert whole.costs()["train_seconds"] == pytest.approx(sum(cost["train_seconds"] for cost in costs))
    assert whole.costs()["parameters"] == costs[0]["parameters"]
    assert [predicted.content["rows"]["eval"]["count"] for _, predicted in parts if predicted] == [8, 8, 8]
    assert whole.trained is not None
    hashes = [str(record["hash"]) for record in whole.records()]
    assert whole.trained.content["rows"]["train"] == {"count": 24, "hashes": digest(hashes)}
    assert not whole.trained.model_size
    assert all(trained.model_size for trained, _ in parts if trained)
    with pytest.raises(StoreError, match="a model for each fold"):
        _ = Finetuned(measured).model


@pytest.mark.e2e
def test_what_is_in_the_store_is_not_done_again(project: Path, tmp_path: Path) -> None:
    (case,) = cases(project, "  c: {folds: 3, gates: {accuracy: {min: 0}}}\n")
    assert [(run.train, run.predict) for run in pipeline(tmp_path).plan(case)] == [("train", "evaluate")]
    first = measure(case, tmp_path)
    assert first.runs[0].made == {"train", "predict"}
    assert [(run.train, run.predict) for run in pipeline(tmp_path).plan(case)] == [("found", "found")]
    assert measure(case, tmp_path).runs[0].made == frozenset()
    run, store = first.runs[0].run, Store(tmp_path)
    kept = [store.get("runs", part.train.digest) for part in run.parts]
    for stage, key in (("runs", run.train), ("predictions", run.predict), ("runs", run.parts[1].train)):
        shutil.rmtree(store.place(stage, key.digest))  # type: ignore[arg-type]  # names of stages
    assert [(run.train, run.predict) for run in pipeline(tmp_path).plan(case)] == [("train", "evaluate")]
    again = measure(case, tmp_path)
    assert again.runs[0].made == {"train"}
    created = [store.get("runs", part.train.digest) for part in run.parts]
    assert [(old and old.manifest) == (new and new.manifest) for old, new in zip(kept, created, strict=True)][0::2] == [
        True,
        True,
    ]
    assert [m.value for m in again.result.metrics] == [m.value for m in first.result.metrics]


@pytest.mark.e2e
@pytest.mark.parametrize(("keep", "models"), [("all", 3), ("first", 1), ("none", 0)])
def test_models_are_kept_as_the_case_says(project: Path, tmp_path: Path, keep: str, models: int) -> None:
    (case,) = cases(project, f"  c: {{folds: 3, keep_model: {keep}}}\n")
    made = pipeline(tmp_path)
    measured = made.measure(case, case.id, lambda seed, progress: None, lambda message: None)
    made.drop_models(measured, case)
    store = Store(tmp_path)
    entries = [store.get("runs", part.train.digest) for part in measured.runs[0].run.parts]
    assert sum(bool(entry and entry.model_size) for entry in entries) == models


@pytest.mark.e2e
def test_the_checkpoint_as_it_is_is_compared_on_the_same_rows(project: Path, tmp_path: Path) -> None:
    (case,) = cases(project, "  c: {folds: 3, seeds: 2, vs: base-checkpoint, gates: {accuracy: {max_regression: 1}}}\n")
    measured = measure(case, tmp_path)
    assert measured.result.verdict in ("pass", "inconclusive")  # other rows would make it incomparable
    assert measured.result.references


@pytest.mark.e2e
def test_a_smoke_run_and_rows_to_tune_on_work_within_folds(project: Path, tmp_path: Path) -> None:
    (case,) = cases(
        project,
        "  c: {folds: 3, data: {holdout: {tune: 0.25}}, training: {eval_strategy: epoch}}\n",
    )
    measured = measure(case, tmp_path, Settings(limit=4))
    assert (measured.result.verdict, measured.result.examples) == ("smoke", 12)


# The splits


LABELS = np.array([0, 0, 0, 1] * 10)
GROUPS = [str(row // 5) for row in range(40)]


def all_folds(
    given: dict[str, Any] | int, *, labels: Any = LABELS, groups: Sequence[Any] | None = None, seed: int = 42
) -> list[tuple[Any, Any]]:
    technique = Folds(Folds.read(given))
    return [technique.split(fold, seed, labels, groups, 40) for fold in range(technique.folds)]


@pytest.mark.parametrize(
    ("given", "labels", "groups"),
    [
        pytest.param(5, LABELS, None, id="classes"),
        pytest.param(5, None, None, id="no-classes"),
        pytest.param({"n": 5, "by": "plain"}, LABELS, None, id="plain"),
        pytest.param({"n": 4, "by": "grouped", "group": "customer"}, LABELS, GROUPS, id="groups-and-classes"),
        pytest.param({"n": 4, "by": "grouped", "group": "customer"}, None, GROUPS, id="groups"),
    ],
)
def test_each_row_is_judged_in_one_fold(given: Any, labels: Any, groups: Any) -> None:
    made = all_folds(given, labels=labels, groups=groups)
    judged = np.concatenate([part for _, part in made])
    assert sorted(judged.tolist()) == list(range(40))
    for train, part in made:
        assert sorted([*train.tolist(), *part.tolist()]) == list(range(40))
        assert train.tolist() == sorted(train.tolist())
        if groups is not None:
            assert not {groups[row] for row in train} & {groups[row] for row in part}
        elif labels is not None and given == 5:
            assert labels[part].tolist().count(1) == 2
    again = all_folds(given, labels=labels, groups=groups)
    assert all(bool((a[1] == b[1]).all()) for a, b in zip(made, again, strict=True))


def test_each_seed_draws_a_partition_of_its_own() -> None:
    one, other = all_folds(5), all_folds(5, seed=43)
    assert [part.tolist() for _, part in one] != [part.tolist() for _, part in other]


@pytest.mark.parametrize(
    ("given", "labels", "groups", "message"),
    [
        pytest.param(41, None, None, "40 training rows can't make 41 folds", id="rows"),
        pytest.param(11, LABELS, None, "the rarest class has 10 training rows, fewer than 11 folds", id="class"),
        pytest.param(
            {"n": 9, "by": "grouped", "group": "customer"},
            LABELS,
            GROUPS,
            "the column customer has 8 groups, fewer than 9 folds",
            id="groups",
        ),
        pytest.param({"n": 5, "by": "stratified"}, None, None, "needs rows with one class each", id="no-classes"),
    ],
)
def test_rows_that_cannot_be_split_so_are_refused(given: Any, labels: Any, groups: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        all_folds(given, labels=labels, groups=groups)


def test_groups_come_from_a_column_of_the_data(project: Path, tmp_path: Path) -> None:
    (case,) = cases(project, "  c: {folds: {n: 3, by: grouped, group: customer}}\n")
    for part in pipeline(tmp_path).runs(case)[0].parts:
        rows = data.load(part.job).roles
        customers = [{index // 4 for index in rows[role].index} for role in ("train", "eval")]
        assert not customers[0] & customers[1]
    (wrong,) = cases(project, "  c: {folds: {n: 3, by: grouped, group: costumer}}\n")
    with pytest.raises(DataError, match=r"no column 'costumer' \(columns: .*\); did you mean customer\?"):
        data.load(pipeline(tmp_path).runs(wrong)[0].parts[0].job)


# The key


def test_each_fold_has_keys_of_its_own_and_so_has_the_whole(project: Path, tmp_path: Path) -> None:
    (case,) = cases(project, "  c: {folds: 3}\n")
    (run,) = pipeline(tmp_path).runs(case)
    every = (run, *run.parts)
    assert len({part.train.digest for part in every}) == len({part.predict.digest for part in every}) == 4
    for change in ("{n: 3, by: plain}", "4", "{n: 3, by: grouped, group: customer}"):
        (other,) = cases(project, f"  c: {{folds: {change}}}\n")
        assert pipeline(tmp_path).runs(other)[0].train != run.train
    (plain,) = cases(project, "  c: {data: {holdout: 0.2}}\n")
    assert "scikit-learn" not in pipeline(tmp_path).runs(plain)[0].train.components["versions"]
    assert "scikit-learn" in run.train.components["versions"]
    renamed = replace(case, id="other", gates=(), keep_model="none")
    assert pipeline(tmp_path).runs(renamed)[0].train == run.train


def test_repeats_are_partitions_with_seeds_of_their_own(project: Path, tmp_path: Path) -> None:
    """Those that are there are found when more are wanted."""
    (case,) = cases(project, "  c: {folds: {n: 3, repeats: 2}}\n")
    assert case.seeds == (42, 43)
    runs = pipeline(tmp_path).runs(case)
    (more,) = cases(project, "  c: {folds: {n: 3, repeats: 4}}\n")
    assert [run.train for run in pipeline(tmp_path).runs(more)[:2]] == [run.train for run in runs]
    (seeds,) = cases(project, "  c: {folds: 3, seeds: 2}\n")
    assert [run.predict for run in pipeline(tmp_path).runs(seeds)] == [run.predict for run in runs]


# What can't be


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            "folds: 3, data: {splits: {eval: train}}",
            "folds: judges the training rows: leave out data.splits.eval, data.holdout.eval and data.limit.eval",
            id="rows-to-judge",
        ),
        pytest.param(
            "folds: 3, data: {holdout: 0.2}",
            "folds: judges the training rows: leave out data.splits.eval, data.holdout.eval and data.limit.eval",
            id="holdout",
        ),
        pytest.param(
            "folds: {n: 3, repeats: 2}, seeds: 2",
            "seeds: folds.repeats says how many runs are made; leave one of the two out",
            id="repeats-and-seeds",
        ),
        pytest.param("folds: 1", "folds: expected a number of at least 2, got 1", id="one"),
        pytest.param(
            "folds: {n: 3, by: grouped}",
            "folds.group: goes with by: grouped, which needs it: the column whose rows stay together",
            id="no-group",
        ),
        pytest.param(
            "folds: {n: 3, group: customer}",
            "folds.group: goes with by: grouped, which needs it: the column whose rows stay together",
            id="group-alone",
        ),
        pytest.param(
            "folds: 3, training: false",
            "folds: with `training: false` nothing is trained; leave it out",
            id="untrained",
        ),
        pytest.param(
            "folds: 3, search: {space: {weight_decay: {uniform: [0, 0.1]}}}, data: {holdout: {tune: 0.2}}",
            "folds: can't be combined with search: its trials would need rows of their own in each fold; keep rows "
            "apart to be judged instead",
            id="search",
        ),
    ],
)
def test_what_cannot_be_folded_is_refused_where_it_stands(project: Path, fields: str, message: str) -> None:
    with pytest.raises(SuiteErrors) as raised:
        cases(project, f"  c: {{{fields}}}\n")
    (error, *_) = raised.value.errors
    assert f"{error.location.key}: {error.message}" == f"cases.c.{message}"


def test_a_case_without_folds_still_needs_rows_to_judge(project: Path) -> None:
    with pytest.raises(SuiteErrors, match="no split to judge"):
        cases(project, "  c: {}\n")


def test_no_case_starts_from_folds(project: Path) -> None:
    with pytest.raises(SuiteErrors, match="folded trains a model for each fold"):
        cases(project, "  folded: {folds: 3}\n  c: {init_from: 'case:folded', data: {holdout: 0.2}}\n")
