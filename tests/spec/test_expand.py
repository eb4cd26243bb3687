"""Declarations become complete cases, or every mistake is told at once with its line and key."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck.errors import SuiteErrors
from ftcheck.spec import Case, Checkpoint, Data, Declaration, EarlyStopping, Gate, Mark, Resources, expand
from ftcheck.spec.fields import CaseFields
from ftcheck.suitefile import parse
from tests.spec.catalogue import CATALOGUE, cases, errors, one, suite

ALL_WRONG = """\
defaults:
  task: tagging
  sedes: 3
cases:
  one:
    checkpoint: org/model
    data: {path: org/data, colums: {text: t},
           columns: {txt: t},
           splits: {train: "train[5:", test: x}}
    training:
      epochs: 3
      learning_rate: "1e-4"
      seed: 1
    gates:
      accuracy: {min: 0.9, max: 0.8}
      macro_f1: {max_regresion: 0.1}
      nonsense: {min: 0}
    precision: fp8
  two: {checkpoint: ./nowhere,
        task: taging,
        seeds: 0, data: [1],
        matrix: {training.weight_decay: [0.1,
                   -1]}}
"""


def test_all_errors_of_a_file_come_at_once_with_their_lines() -> None:
    assert errors(ALL_WRONG) == [
        "3 defaults.sedes: no such key; did you mean seeds?",
        "7 cases.one.data.colums: no such key; did you mean columns?",
        "8 cases.one.data.columns.txt: tagging has no such column; did you mean text?",
        "9 cases.one.data.splits.test: no such key; known: train, tune, eval",
        "9 cases.one.data.splits.train: 'train[5:' is no split: write a name and perhaps a slice, e.g. train, "
        "train[:2000], train[10%:20%], train+validation",
        f"11 cases.one.training.epochs: not in transformers {version('transformers')}: write num_train_epochs",
        "12 cases.one.training.learning_rate: expected a number, got '1e-4' (text): leave out the quotes",
        "13 cases.one.training.seed: the case's `seeds` says this",
        "15 cases.one.gates.accuracy: min 0.9 is above max 0.8: no value passes",
        "16 cases.one.gates.macro_f1.max_regresion: no such key; did you mean max_regression?",
        "17 cases.one.gates.nonsense: no metric is called nonsense",
        "18 cases.one.precision: expected one of auto, fp32, bf16, fp16, got 'fp8' (text)",
        "19 cases.two.checkpoint.path: /suites/nowhere does not exist; / has no suites",
        "20 cases.two.task: no task is called 'taging'; did you mean tagging?",
        "21 cases.two.data: expected a mapping, got a list",
        "21 cases.two.seeds: expected 1 to 1000 seeds, got 0",
        "23 cases.two.matrix.training.weight_decay[1]: expected a number of at least 0, got -1",
    ]


def test_a_complete_case() -> None:
    case = one(
        "training: {learning_rate: 1e-4, eval_strategy: epoch, metric_for_best_model: eval_macro_f1},"
        " early_stopping: {patience: 2}, precision: bf16, seeds: 3, metrics: [macro_f1], keep_model: first,"
        " task: {name: tagging, max_length: 64}, gates: {macro_f1: {min: 0.5, max: 1}, train_seconds: {max: 60}},"
        " data: {path: org/data, name: small, revision: abc, columns: {text: body, text_pair: null},"
        " splits: {train: 'train[:2000]'}, holdout: {tune: 0.1}, limit: 100},"
        " marks: [slow, {skip: later}, {timeout: 60}], description: what it is"
    )
    assert case == Case(
        id="c",
        name="c",
        suite=Path("/suites/a.ft.yaml"),
        line=3,
        checkpoint=Checkpoint(path="org/model", local=False),
        task="tagging",
        task_options={"max_length": 64, "scheme": "plain"},
        data=Data(
            kind="hub",
            path="org/data",
            name="small",
            revision="abc",
            columns={"text": "body", "text_pair": None},
            splits={"train": "train[:2000]"},
            holdout={"tune": 0.1},
            limit={"train": 100},
        ),
        training={"learning_rate": 1e-4, "eval_strategy": "epoch", "metric_for_best_model": "eval_macro_f1"},
        early_stopping=EarlyStopping(patience=2, threshold=0.0),
        precision="bf16",
        seeds=(42, 43, 44),
        metrics=("accuracy", "macro_f1", "train_seconds"),
        gates=(Gate(metric="macro_f1", min=0.5, max=1.0), Gate(metric="train_seconds", max=60.0)),
        keep_model="first",
        marks=(Mark(name="slow"), Mark(name="skip", kwargs={"reason": "later"}), Mark(name="timeout", args=(60,))),
        description="what it is",
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param("{}", Resources(), id="nothing"),
        pytest.param("{gpus: 0.25, memory: 8GB, cpus: 2}", Resources(gpus=0.25, memory=8 * 10**9, cpus=2), id="all"),
        pytest.param("{gpus: 4, memory: 1.5GiB}", Resources(gpus=4.0, memory=1536 * 1024**2), id="several-devices"),
        pytest.param("{gpus: 4, nodes: 2}", Resources(gpus=4.0, nodes=2), id="several-machines"),
        pytest.param("{gpus: null, memory: null, cpus: null}", Resources(), id="nothing"),
    ],
)
def test_what_a_run_asks_of_the_machine(said: str, expected: Resources) -> None:
    assert one(f"resources: {said}").resources == expected
    assert one(f"resources: {said}").resources.processes == (4 if expected.gpus == 4 else 1)


UNEQUAL = (
    "nodes: 2 machines need as many devices each: resources.gpus, which counts those of all, must be 2 or a multiple "
    "of it, not {}"
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param("gpus: 1.5", "gpus: expected a part of one device (0.25), or how many (2), got 1.5", id="part"),
        pytest.param("gpus: 0", "gpus: expected a number above 0.0, got 0", id="none"),
        pytest.param("gpus: .inf", "gpus: expected a finite number, got inf", id="endless"),
        pytest.param("memory: much", "memory: expected a size, such as 500MB or 8GB, got 'much' (text)", id="size"),
        pytest.param("memory: 0", "memory: expected a size, such as 500MB or 8GB, got 0", id="no-memory"),
        pytest.param("cpus: 0", "cpus: expected a number of at least 1, got 0", id="no-core"),
        pytest.param("nodes: 0", "nodes: expected a number of at least 1, got 0", id="no-machine"),
        pytest.param("nodes: 2", UNEQUAL.format(1), id="machines-without-devices"),
        pytest.param("gpus: 3, nodes: 2", UNEQUAL.format(3), id="not-as-many-each"),
        pytest.param("gpu: 1", "gpu: no such key; did you mean gpus?", id="typo"),
    ],
)
def test_resources_that_cannot_be(said: str, expected: str) -> None:
    assert errors(suite(f"resources: {{{said}}}")) == [f"3 cases.c.resources.{expected}"]


def test_defaults_merge_mappings_and_replace_the_rest() -> None:
    (case,) = cases(
        "defaults:\n"
        "  {checkpoint: org/model, task: tagging, data: {path: org/data, limit: 5}, seeds: [1, 2],\n"
        "   metrics: [macro_f1], training: {learning_rate: 1, weight_decay: 0.1},\n"
        "   gates: {accuracy: {min: 0.5}, macro_f1: {min: 0.5}}}\n"
        "cases: {a: {training: {learning_rate: 2}, seeds: [3], metrics: [], data: {name: x},\n"
        "            gates: {accuracy: null, macro_f1: {max: 1}}}}\n"
    )
    assert case.training == {"learning_rate": 2, "weight_decay": 0.1}
    assert case.seeds == (3,)
    assert case.gates == (Gate(metric="macro_f1", min=0.5, max=1.0),)
    assert (case.data.path, case.data.name, case.data.limit) == ("org/data", "x", {"train": 5})


def test_null_at_the_top_of_a_case_takes_a_default_back() -> None:
    (case,) = cases("defaults: {training: false}\ncases: {a: {training: ~, checkpoint: o/m, task: tagging, data: o/d}}")
    assert case.training == {}


def test_training_false_judges_one_set_of_weights() -> None:
    """Fixed weights have no seed noise: more runs of them would only pretend to tell something."""
    case = one("training: false, seeds: 3")
    assert case.training is None
    assert case.seeds == (42,)


def test_a_mistake_in_defaults_is_told_once() -> None:
    text = "defaults: {task: tagging, data: org/d, precision: fp8}\ncases: {a: {checkpoint: o/m}, b: {checkpoint: o/m}}"
    assert errors(text) == ["1 defaults.precision: expected one of auto, fp32, bf16, fp16, got 'fp8' (text)"]


def test_what_is_missing_is_named_at_the_case() -> None:
    assert errors("cases:\n  a: {}\n  b: {task: tagging, data: org/data}\n") == [
        "2 cases.a.checkpoint: is missing",
        "2 cases.a.task: is missing",
        "2 cases.a.data: is missing",
        "3 cases.b.checkpoint: is missing",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param("nonsense: 1", ".nonsense: no such key; known: checkpoint, ", id="unknown-key"),
        pytest.param(
            "learning_rate: 1",
            ".learning_rate: a TrainingArguments field: write training.learning_rate",
            id="misplaced",
        ),
        pytest.param("checkpoint: 3", ".checkpoint: expected a mapping, got 3", id="checkpoint-number"),
        pytest.param("checkpoint: ''", ".checkpoint: expected a text that isn't empty, got '' (text)", id="empty-text"),
        pytest.param("checkpoint: {revision: x}", ".checkpoint.path: is missing", id="checkpoint-without-path"),
        pytest.param(
            "checkpoint: a/b/c/d",
            ".checkpoint.path: neither a model on the Hub (org/name) nor a local path: /suites/a/b/c/d does not exist",
            id="checkpoint-that-is-nothing",
        ),
        pytest.param(
            "task: {name: tagging, max_length: 1}",
            ".task.max_length: expected a number of at least 3, got 1",
            id="task-option-range",
        ),
        pytest.param(
            "task: {name: tagging, max_lenght: 9}",
            ".task.max_lenght: no such key; did you mean max_length?",
            id="task-option-name",
        ),
        pytest.param(
            "seeds: true",
            ".seeds: expected how many seeds, a list of them, or {min: 2, max: 8}, got true",
            id="seeds-bool",
        ),
        pytest.param("seeds: []", ".seeds: expected a list of 1 to 1000 seeds, got an empty list", id="seeds-empty"),
        pytest.param("seeds: [1, 2, 1]", ".seeds: expected distinct seeds, but 1 is there twice", id="seeds-repeated"),
        pytest.param("seeds: [1, -2]", ".seeds[1]: expected a number of at least 0, got -2", id="seeds-negative"),
        pytest.param("seeds: [1.5]", ".seeds[0]: expected a whole number, got 1.5", id="seeds-float"),
        pytest.param(
            "seeds: [4294967296]", ".seeds[0]: expected a number below 4294967296, got 4294967296", id="seeds-too-large"
        ),
        pytest.param(
            "gates: {vs: base-checkpoint}",
            ".gates.vs: no such key; `vs` is a key of the case, beside `gates`",
            id="vs-among-gates",
        ),
        pytest.param(
            "gates: {accuracy: {vs: base-checkpoint}}",
            ".gates.accuracy.vs: no such key; `vs` is a key of the case, beside `gates`",
            id="vs-in-a-gate",
        ),
        pytest.param(
            "gates: {accuracy: 0.9}", ".gates.accuracy: expected bounds, such as {min: 0.9}, got 0.9", id="gate-number"
        ),
        pytest.param(
            "gates: {accuracy: {}}",
            ".gates.accuracy: expected at least one of min, max, max_regression, ",
            id="gate-empty",
        ),
        pytest.param(
            "gates: {accuracy: {min: true}}", ".gates.accuracy.min: expected a number, got true", id="gate-bool"
        ),
        pytest.param(
            "gates: {accuracy: {min: .nan}}", ".gates.accuracy.min: expected a finite number, got nan", id="gate-nan"
        ),
        pytest.param(
            "gates: {accuracy: {min: '0.9'}}",
            ".gates.accuracy.min: expected a number, got '0.9' (text)",
            id="gate-text",
        ),
        pytest.param(
            "gates: {macro_f: {min: 1}}", ".gates.macro_f: no metric is called macro_f", id="gate-unknown-metric"
        ),
        pytest.param("metrics: [nope]", ".metrics[0]: no metric is called nope", id="unknown-metric"),
        pytest.param("metrics: accuracy", ".metrics: expected a list, got 'accuracy' (text)", id="metrics-text"),
        pytest.param(
            "training: true",
            ".training: expected a mapping of TrainingArguments fields, or false to train nothing, got true",
            id="training-true",
        ),
        pytest.param(
            "training: {lerning_rate: 1}",
            ".training.lerning_rate: no such TrainingArguments field; did you mean learning_rate?",
            id="training-field",
        ),
        pytest.param(
            "training: false, gates: {train_seconds: {max: 1}}",
            ".gates.train_seconds: with `training: false` nothing is trained, so there is no train_seconds",
            id="cost-without-training",
        ),
        pytest.param(
            "training: false, metrics: [train_seconds]",
            ".metrics[0]: with `training: false` nothing is trained, so there is no train_seconds",
            id="cost-metric-without-training",
        ),
        pytest.param(
            "training: false, early_stopping: {patience: 1}",
            ".early_stopping: with `training: false` there is no training to stop",
            id="stopping-without-training",
        ),
        pytest.param(
            "keep_model: some", ".keep_model: expected one of all, first, none, got 'some' (text)", id="keep-model"
        ),
        pytest.param("description: 3", ".description: expected text, got 3", id="description"),
        pytest.param("marks: slow", ".marks: expected a list, got 'slow' (text)", id="marks-text"),
        pytest.param("marks: [skip]", ".marks[0]: a reason is needed: {skip: why}", id="skip-without-reason"),
        pytest.param(
            "marks: [{xfail: {strict: true}}]",
            ".marks[0]: a reason is needed: {xfail: {reason: why}}",
            id="xfail-without-reason",
        ),
        pytest.param(
            "marks: [{skip: a, xfail: b}]",
            ".marks[0]: expected a mark's name, or one name and its arguments, got a mapping",
            id="two-marks-in-one",
        ),
        pytest.param("marks: [a b]", ".marks[0]: 'a b' is no name of a mark", id="mark-name"),
        pytest.param(
            "marks: [{parametrize: x}]",
            ".marks[0]: the mark parametrize is not for suite files: use `matrix`",
            id="parametrize-mark",
        ),
        pytest.param(
            "data: {path: o/d, holdout: 1.5}", ".data.holdout: expected a number below 1.0, got 1.5", id="holdout-range"
        ),
        pytest.param(
            "data: {path: o/d, holdout: {eval: 0.5, tune: 0.5}}",
            ".data.holdout: nothing is left to train on: the parts add up to 1 or more",
            id="holdout-all",
        ),
        pytest.param(
            "data: {path: o/d, holdout: {train: 0.5}}",
            ".data.holdout.train: no such key; known: eval, tune",
            id="holdout-role",
        ),
        pytest.param(
            "data: {path: o/d, holdout: 0.1, splits: {eval: test}}",
            ".data.holdout.eval: `splits` says already where it comes from; give one of them",
            id="holdout-and-split",
        ),
        pytest.param(
            "data: {path: o/d, limit: 0}", ".data.limit: expected a number of at least 1, got 0", id="limit-range"
        ),
        pytest.param(
            "data: {path: o/d, limit: true}", ".data.limit: expected a whole number, got true", id="limit-bool"
        ),
        pytest.param(
            "data: {path: o/d, columns: {label: null}}",
            ".data.columns.label: tagging needs this column: it can't be null",
            id="needed-column-null",
        ),
        pytest.param(
            "data: {path: o/d, columns: {text: ''}}",
            ".data.columns.text: expected the name of a column of the data, got empty text",
            id="column-empty",
        ),
        pytest.param(
            "data: {path: o/d, files: {train: a.csv}}", ".data.files: goes with a reader", id="files-with-hub"
        ),
        pytest.param(
            "data: {path: o/d, options: {sep: x}}",
            ".data.options: goes with a reader or a local file",
            id="options-with-hub",
        ),
        pytest.param(
            "data: {path: csv}",
            ".data: `path: csv` is a reader: give `files: {train: ..., test: ...}`",
            id="reader-without-files",
        ),
        pytest.param(
            "data: nothing.csv",
            ".data.path: neither a data set on the Hub (org/name) nor a local path: /suites/nothing.csv does not exist",
            id="file-that-is-not-there",
        ),
        pytest.param(
            "gates: {accuracy: {min: 90}}",
            ".gates.accuracy.min: accuracy is never above 1, got 90; for 90 % write 0.9",
            id="gate-in-per-cent",
        ),
        pytest.param(
            "gates: {train_seconds: {min: 5, max: -1e-3}}",
            ".gates.train_seconds: min 5.0 is above max -0.001: no value passes",
            id="gate-that-is-empty",
        ),
        pytest.param(
            "gates: {train_seconds: {max: -1}}",
            ".gates.train_seconds.max: train_seconds is never below 0, got -1",
            id="gate-out-of-reach",
        ),
    ],
)
def test_each_mistake_is_one_clear_error(fields: str, expected: str) -> None:
    (error,) = errors(suite(fields))
    assert error.startswith(f"3 cases.c{expected}")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            "training: {eval_strategy: epoch}",
            "3 cases.c.training.eval_strategy: looks at scores during training, on rows that are not judged: give "
            "data.splits.tune or data.holdout.tune (naming the judged split there says that you mean it)",
            id="evaluation-without-tune",
        ),
        pytest.param(
            "training: {eval_strategy: epoch}, data: {path: o/d, holdout: {tune: 0.1}}", None, id="tune-carved-out"
        ),
        pytest.param(
            "training: {eval_strategy: epoch}, data: {path: o/d, splits: {tune: test, eval: test}}",
            None,
            id="judged-split-named-on-purpose",
        ),
        pytest.param(
            "on_oom: halve_batch, training: {dataloader_drop_last: true}",
            "3 cases.c.training.dataloader_drop_last: drops fewer rows where on_oom: halve_batch makes batches "
            "smaller; leave one of them out",
            id="batches-of-no-one-size",
        ),
        pytest.param("on_oom: halve_batch, training: false", None, id="nothing-to-halve"),
        pytest.param(
            "data: {path: o/d, splits: {tune: x}}, early_stopping: {patience: 1}",
            "3 cases.c.early_stopping: needs training.eval_strategy (steps or epoch): it looks at each evaluation",
            id="stopping-without-evaluation",
        ),
        pytest.param(
            "data: {path: o/d, splits: {tune: x}}, early_stopping: {patience: 1}, training: {eval_strategy: epoch}",
            "3 cases.c.early_stopping: needs training.metric_for_best_model: loss, or a metric of the case",
            id="stopping-without-metric",
        ),
        pytest.param(
            "data: {path: o/d, splits: {tune: x}}, training: {eval_strategy: epoch, metric_for_best_model: macro_f1}",
            "3 cases.c.training.metric_for_best_model: expected loss or a metric of the case, got 'macro_f1'; "
            "known: accuracy, loss (`metrics` adds one)",
            id="best-by-a-metric-that-is-not-computed",
        ),
        pytest.param(
            "data: {path: o/d, splits: {tune: x}}, metrics: [parameters],"
            " training: {eval_strategy: epoch, metric_for_best_model: parameters}",
            "3 cases.c.training.metric_for_best_model: expected loss or a metric of the case, got 'parameters'; "
            "known: accuracy, loss (`metrics` adds one)",
            id="best-by-a-cost",
        ),
    ],
)
def test_scores_during_training_need_rows_that_are_not_judged(fields: str, expected: str | None) -> None:
    if expected is None:
        assert one(fields).id == "c"
    else:
        assert expected in errors(suite(fields))


def test_the_tasks_own_training_defaults_count() -> None:
    """A task that loads the best model at the end needs what any suite that says so needs."""
    found = errors(suite("task: picky, training: {learning_rate: 1}"))
    assert any("needs eval_strategy: epoch or steps" in error for error in found)
    assert any("give data.splits.tune or data.holdout.tune" in error for error in found)


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["o/m", "tagging", "csv", "accuracy", "epoch", "train[:5]", "", ".", "~", "a\0b", "\udcff", "x" * 300]
    )
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["path", "name", "min", "max", "train", "eval", "values", "ids", "include", "seeds"])
            | st.sampled_from(["learning_rate", "eval_strategy", "training.max_steps", "columns", "files", "splits"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
_FIELDS = st.dictionaries(
    st.sampled_from([*CaseFields.model_fields, "matrix", "nonsense"]),
    _VALUES,
    max_size=8,
)


@settings(deadline=None)
@given(_FIELDS, _FIELDS)
def test_any_values_give_cases_or_our_errors(fields: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Whatever a suite says, the answer is cases or SuiteErrors: no exception from inside, no half-built case."""
    base = {"checkpoint": "o/m", "task": "tagging", "data": "o/d"}
    (empty,) = parse(b"cases: {c: {}}", Path("/suites/a.ft.yaml"))
    declaration = Declaration(
        name="c",
        path=Path("/suites/a.ft.yaml"),
        fields=fields,
        source=empty.source,
        defaults={**base, **defaults},
        defaults_source=empty.source,
    )
    try:
        found = expand([declaration], CATALOGUE)
    except SuiteErrors as error:
        said = str(error)
    else:
        said = ""
        assert all(case.seeds and case.checkpoint.path and case.task == "tagging" for case in found)
    assert said.replace("\n", "").isprintable()
