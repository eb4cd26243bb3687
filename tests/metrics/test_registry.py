"""The registry: metrics are known by name, cheaply, and a wrong name is told what was meant."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from ftcheck import metrics
from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Input

CONTEXTS: dict[Input, Context] = {
    "label": Context(labels=("no", "yes")),
    "tags": Context(labels=("O", "B-PER", "I-PER"), options={"scheme": "IOB2"}),
    "answer": Context(),
}


def test_names_are_checked_without_numpy_or_any_library_of_metrics() -> None:
    code = (
        "import sys; from ftcheck import metrics\n"
        "assert metrics.check('macro_f1', frozenset({'label'})) is None\n"
        "assert metrics.describe('entity_f1[PER]').input == 'tags'\n"
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
    assert "write NAME or NAME[ARGUMENT]" in str(metrics.check(text, frozenset({"label"})))


@pytest.mark.parametrize(
    ("text", "inputs", "error"),
    [
        pytest.param("macro_f1", {"label"}, None, id="fits"),
        pytest.param("f1[any class]", {"label"}, None, id="classes-are-not-known-yet"),
        pytest.param("train_seconds", {"label"}, None, id="costs-fit-every-task"),
        pytest.param("macro_f", {"label"}, 'no metric is called "macro_f"; did you mean macro_f1?', id="near-name"),
        pytest.param("zzz", {"answer"}, 'no metric is called "zzz"; known: answer_f1, eval_samples', id="unknown"),
        pytest.param("f1[\x1b]]", {"answer"}, "f1 is computed from class ids, this task gives answers", id="control"),
        pytest.param("zzz\x1b", {"answer"}, '"zzz\\x1b" is no metric: write NAME', id="escaped"),
        pytest.param(
            "entity_f1", {"label"}, "entity_f1 is computed from tag sequences, this task gives class ids", id="input"
        ),
        pytest.param(
            "f1", {"answer", "cost"}, "f1 is computed from class ids, this task gives answers; it has", id="costs"
        ),
        pytest.param("accuracy[PER]", {"label"}, "accuracy takes no argument, got [PER]", id="surplus-argument"),
        pytest.param(
            "answer_f1[hasans]", {"answer"}, 'answer_f1: no part is called "hasans"; did you mean HasAns?', id="part"
        ),
    ],
)
def test_check_says_what_is_wrong_in_one_sentence(text: str, inputs: set[Input], error: str | None) -> None:
    found = metrics.check(text, frozenset(inputs))
    if error is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(error)
        assert found.isprintable()


def test_names_can_be_asked_for_by_input() -> None:
    assert metrics.names(frozenset({"answer"})) == ("exact_match", "answer_f1")
    assert set(metrics.names(frozenset({"label"}))) < set(metrics.names())


@pytest.mark.parametrize("name", [name for name in metrics.names() if metrics.describe(name).input != "cost"])
def test_every_metric_keeps_the_protocol(name: str) -> None:
    known = metrics.describe(name)
    metric = metrics.build(name, CONTEXTS[known.input])
    assert metric.name == name
    assert metric.greater_is_better is known.greater_is_better
    assert metric.scale == "proportion"
    assert metric.signature.startswith(f"{name}|1")
    assert known.summary
    assert "\n" not in known.summary
    with pytest.raises(FrozenInstanceError):
        metric.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", [name for name in metrics.names() if metrics.describe(name).input != "cost"])
def test_no_examples_have_no_value(name: str) -> None:
    metric = metrics.build(name, CONTEXTS[metrics.describe(name).input])
    statistics = metric.statistics([], [])
    assert statistics.shape[0] == 0
    value = metric.aggregate(statistics.sum(axis=0))
    assert value.shape == ()
    assert value != value


@pytest.mark.parametrize("name", metrics.names(frozenset({"cost"})))
def test_a_cost_has_a_direction_and_a_unit_and_is_not_built(name: str) -> None:
    known = metrics.describe(name)
    assert known.greater_is_better is name.endswith("_per_second")
    assert known.signature == f"{name}|1|{known.unit}"
    with pytest.raises(MetricError, match="one number per run"):
        metrics.build(name, Context())


def test_build_refuses_what_check_refuses() -> None:
    with pytest.raises(MetricError, match="did you mean accuracy"):
        metrics.build("acuracy", Context())
    with pytest.raises(MetricError, match="takes no argument"):
        metrics.build("accuracy[x]", Context(labels=("x",)))


def test_two_metrics_of_one_name_are_refused() -> None:
    first = metrics.describe("accuracy")
    with pytest.raises(ValueError, match="two metrics are called accuracy"):
        metrics.register([first, replace(first, summary="another")])


def test_a_new_version_of_a_definition_changes_the_signature() -> None:
    known = metrics.describe("accuracy")
    assert known.make is not None
    context = Context(labels=("a", "b"))
    signatures = {known.make(replace(known, version=version), None, context).signature for version in (1, 2)}
    assert signatures == {"accuracy|1", "accuracy|2"}


def test_the_manual_defines_every_metric() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in metrics.names() if f"`{name}`" not in manual] == []
