"""The registry: metrics are known by name, cheaply, and a wrong name is told what was meant."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from importlib import import_module
from pathlib import Path

import pytest

from ftcheck import metrics, statistics
from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Definition, Input, Lookup, Metric

CONTEXTS: dict[Input, Context] = {
    "label": Context(labels=("no", "yes")),
    "tags": Context(labels=("O", "B-PER", "I-PER"), options={"scheme": "IOB2"}),
    "answer": Context(),
    "text": Context(),
    "tokens": Context(),
    "preference": Context(),
    "reward": Context(),
    "scores": Context(labels=("no", "yes")),
    "labels": Context(labels=("no", "yes")),
    "value": Context(),
}
ARGUMENTS = {("f1", "labels"): "[yes]", ("precision", "labels"): "[yes]", ("recall", "labels"): "[yes]"}
"""What a metric can't do without."""
LABELS = Lookup(inputs=frozenset({"label"}))
EVERY = pytest.mark.parametrize(
    "known", [pytest.param(k, id=f"{k.name}-{k.input}") for k in metrics.every() if k.input != "cost"]
)


def made(known: Definition) -> Metric:
    text = known.name + ARGUMENTS.get((known.name, known.input), "")
    return Lookup(inputs=frozenset({known.input})).build(text, CONTEXTS[known.input])


def test_names_are_checked_without_numpy_or_any_library_of_metrics() -> None:
    code = (
        "import sys; from ftcheck import metrics\n"
        "assert metrics.Lookup(inputs=frozenset({'label'})).check('macro_f1') is None\n"
        "assert metrics.Lookup(inputs=frozenset({'tags'})).describe('entity_f1[PER]').input == 'tags'\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'seqeval', 'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("accuracy", ("accuracy", None), id="name"),
        pytest.param("f1[PER]", ("f1", "PER"), id="argument"),
        pytest.param("f1[a[0]]", ("f1", "a[0]"), id="brackets-inside"),
        pytest.param("f1[Ja, natürlich\n]", ("f1", "Ja, natürlich\n"), id="any-text-inside"),
    ],
)
def test_parse_splits_name_and_argument(text: str, parts: tuple[str, str | None]) -> None:
    assert metrics.parse(text) == parts


@pytest.mark.parametrize("text", ["", "f1[", "f1]", "f1[]", "[PER]", "f1[PER] ", "macro f1", "f1[a]x"])
def test_malformed_metric_is_shown_the_syntax(text: str) -> None:
    with pytest.raises(MetricError, match=r"write NAME or NAME\[ARGUMENT\]"):
        metrics.parse(text)
    assert "write NAME or NAME[ARGUMENT]" in str(metrics.Lookup(inputs=frozenset({"label"})).check(text))


@pytest.mark.parametrize(
    ("text", "inputs", "error"),
    [
        pytest.param("macro_f1", {"label"}, None, id="fits"),
        pytest.param("f1[any class]", {"label"}, None, id="classes-are-not-known-yet"),
        pytest.param("train_seconds", {"label"}, None, id="costs-fit-every-task"),
        pytest.param("macro_f", {"label"}, 'no metric is called "macro_f"; did you mean macro_f1?', id="near-name"),
        pytest.param(
            "zzz", {"answer"}, 'no metric is called "zzz"; known: adapter_bytes, answer_f1, eval_samples', id="unknown"
        ),
        pytest.param(
            "f1[\x1b]]",
            {"answer"},
            "f1 is computed from class ids or sets of classes, this task gives answers",
            id="control",
        ),
        pytest.param("zzz\x1b", {"answer"}, '"zzz\\x1b" is no metric: write NAME', id="escaped"),
        pytest.param(
            "entity_f1", {"label"}, "entity_f1 is computed from tag sequences, this task gives class ids", id="input"
        ),
        pytest.param(
            "f1",
            {"answer", "cost"},
            "f1 is computed from class ids or sets of classes, this task gives answers; it has",
            id="costs",
        ),
        pytest.param("accuracy[PER]", {"label"}, "accuracy takes no argument, got [PER]", id="surplus-argument"),
        pytest.param(
            "answer_f1[hasans]",
            {"answer"},
            'answer_f1: the argument can\'t be "hasans"; did you mean HasAns?',
            id="part",
        ),
    ],
)
def test_check_says_what_is_wrong_in_one_sentence(text: str, inputs: set[Input], error: str | None) -> None:
    found = metrics.Lookup(inputs=frozenset(inputs)).check(text)
    if error is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(error)
        assert found.isprintable()


@pytest.mark.parametrize("family", metrics.FAMILIES)
def test_a_family_is_found_by_what_its_metrics_are_computed_from(family: str) -> None:
    assert {known.input for known in import_module(family).METRICS} == metrics.FAMILIES[family]


def test_names_can_be_asked_for_by_input() -> None:
    costs = tuple(known.name for known in metrics.every() if known.input == "cost")
    assert metrics.Lookup(inputs=frozenset({"answer"})).names() == ("exact_match", "answer_f1", *costs)


@EVERY
def test_every_metric_keeps_the_protocol(known: Definition) -> None:
    name, metric = known.name, made(known)
    assert metric.name == name + ARGUMENTS.get((name, known.input), "")
    assert metric.greater_is_better is known.greater_is_better
    assert (metric.scale == "proportion") is (known.bounds == (0.0, 1.0))
    assert metric.signature.startswith(f"{name}|1")
    assert known.summary
    assert "\n" not in known.summary
    with pytest.raises(FrozenInstanceError):
        metric.name = "other"  # type: ignore[misc]


@EVERY
def test_no_examples_have_no_value(known: Definition) -> None:
    metric = made(known)
    rows = metric.statistics([], [])
    assert rows.shape[0] == 0
    value = metric.aggregate(statistics.totals(rows))
    assert value.shape == ()
    assert value != value


@pytest.mark.parametrize("known", [pytest.param(k, id=k.name) for k in metrics.every() if k.input == "cost"])
def test_a_cost_has_a_direction_and_a_unit_and_is_not_built(known: Definition) -> None:
    name = known.name
    assert known.greater_is_better is (name.endswith("_per_second") or name == "sparsity")
    assert known.signature == "|".join(filter(None, (name, "1", known.unit)))
    with pytest.raises(MetricError, match="one number per run"):
        LABELS.build(name, Context())


def test_build_refuses_what_check_refuses() -> None:
    with pytest.raises(MetricError, match="did you mean accuracy"):
        LABELS.build("acuracy", Context())
    with pytest.raises(MetricError, match="takes no argument"):
        LABELS.build("accuracy[x]", Context(labels=("x",)))


def test_two_metrics_of_one_name_are_refused() -> None:
    first = LABELS.describe("accuracy")
    with pytest.raises(ValueError, match="two metrics are called accuracy"):
        metrics.register([first, replace(first, summary="another")])


def test_a_new_version_of_a_definition_changes_the_signature() -> None:
    known = LABELS.describe("accuracy")
    assert known.make is not None
    context = Context(labels=("a", "b"))
    signatures = {known.make(replace(known, version=version), None, context).signature for version in (1, 2)}
    assert signatures == {"accuracy|1", "accuracy|2"}


def test_the_manual_defines_every_metric() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [known.name for known in metrics.every() if f"`{known.name}`" not in manual] == []
