"""Modules of Hugging Face `evaluate`, loaded from local files: the numbers they return, and what keeps them from it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Lookup, leave_one_out

pytest.importorskip("evaluate")

SOURCE = """
import datasets
import evaluate


class CLASS(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="d", citation="c", inputs_description="i",
            features=datasets.Features({"predictions": datasets.Value("TYPE"), "references": REFERENCES}),
        )

    def _compute(self, predictions, references):
        return RESULT
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RIGHT = "sum(p == r for p, r in zip(predictions, references)) / len(references)"
EACH = "[float(p == r) for p, r in zip(predictions, references)]"

Write = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where `evaluate` copies what it then imports."""
    from evaluate import config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        patch.setattr("sys.path", [*sys.path])  # it adds the folder
        yield


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a module into a folder of its name below the suite's, and says how a suite names it."""

    def written(result: str, *, kind: str = "int32", references: str = "", extra: str = "") -> str:
        name = f"module{len(list(tmp_path.glob('metrics/*')))}"
        source = SOURCE.replace("CLASS", name.title()).replace("RESULT", result).replace("TYPE", kind)
        source = source.replace("REFERENCES", references or f'datasets.Value("{kind}")')
        script = tmp_path / "metrics" / name / f"{name}.py"
        script.parent.mkdir(parents=True)
        script.write_text(source + extra, "utf-8")
        return f"evaluate:./metrics/{name}"

    return written


def statistics(
    text: str, folder: Path, predictions: list[Any], references: list[Any], kind: Any = "label"
) -> tuple[float, np.ndarray[Any, Any]]:
    metric = Lookup(inputs=frozenset({kind}), folder=folder).build(text, Context(labels=("a", "b")))
    assert metric.name == text
    rows = metric.statistics(predictions, references)
    return float(metric.aggregate(rows.sum(axis=0))), rows


@pytest.mark.parametrize(
    ("result", "field"),
    [
        pytest.param(f'{{"right": {RIGHT}}}', "", id="only number"),
        pytest.param(f'{{"right": {RIGHT}, "each": {EACH}}}', "", id="only number among others"),
        pytest.param(f'{{"right": {RIGHT}, "wrong": 7.0}}', "[right]", id="field"),
    ],
)
def test_one_number_is_left_out_example_by_example(write: Write, tmp_path: Path, result: str, field: str) -> None:
    value, rows = statistics(write(result) + field, tmp_path, [0, 1, 1, 0], [0, 1, 0, 0])
    assert value == pytest.approx(0.75)
    np.testing.assert_allclose(rows, leave_one_out.statistics(0.75, np.array([2 / 3, 2 / 3, 1.0, 2 / 3])))


@pytest.mark.parametrize("field", ["", "[each]"])
def test_a_number_for_each_example_is_a_mean(write: Write, tmp_path: Path, field: str) -> None:
    value, rows = statistics(write(f'{{"each": {EACH}, "kind": "x"}}') + field, tmp_path, [0, 1, 1, 0], [0, 1, 0, 0])
    assert value == 0.75
    np.testing.assert_array_equal(rows, [[1, 1], [1, 1], [0, 1], [1, 1]])


@pytest.mark.parametrize(
    ("references", "given"),
    [
        pytest.param("", [["a"], ["b"]], id="one of one"),
        pytest.param('datasets.Sequence(datasets.Value("string"))', [["a"], ["b", "c"]], id="all"),
    ],
)
def test_texts_have_as_many_references_as_the_module_takes(
    write: Write, tmp_path: Path, references: str, given: list[Any]
) -> None:
    found = "[float(p == r or p in list(r)) for p, r in zip(predictions, references)]"
    name = write(f'{{"each": {found}}}', kind="string", references=references)
    assert statistics(name, tmp_path, ["a", "c"], given, "text")[0] == (1.0 if references else 0.5)


@pytest.mark.parametrize(
    ("result", "field", "predictions", "references", "message"),
    [
        pytest.param('{"a": 1.0, "b": 2.0}', "", [0], [0], "returns a, b: say which, ", id="two numbers"),
        pytest.param('{"f1": 1.0}', "[f2]", [0], [0], 'returns no "f2"; known: f1', id="no such field"),
        pytest.param("1.0", "", [0], [0], "compute() must return a dict, got 1.0", id="no dict"),
        pytest.param('{"a": 1 / 0}', "", [0], [0], "compute() raises ZeroDivisionError", id="exception"),
        pytest.param('{"a": 1.0}', "", ["x"], ["y"], "compute() raises ValueError", id="other input"),
        pytest.param('{"a": "high"}', "[a]", [0], [0], "must return a number", id="text"),
    ],
)
def test_what_goes_wrong_inside_is_one_sentence(
    write: Write, tmp_path: Path, result: str, field: str, predictions: list[Any], references: list[Any], message: str
) -> None:
    with pytest.raises(MetricError) as raised:
        statistics(write(result) + field, tmp_path, predictions, references)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_several_references_are_refused_where_one_is_taken(write: Write, tmp_path: Path) -> None:
    name = write(f'{{"a": {RIGHT}}}', kind="string")
    with pytest.raises(MetricError, match="one reference for each example, and example 1 has 2"):
        statistics(name, tmp_path, ["a", "b"], [["a"], ["b", "c"]], "text")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("evaluate:./metrics/absent", "absent does not exist; give a Python file", id="no such path"),
        pytest.param("evaluate:exact_match", "runs code from the Hub: pin it, evaluate:exact_match@COMMIT", id="name"),
        pytest.param("evaluate:exact_match@main", "pin it, evaluate:exact_match@COMMIT with the 40", id="branch"),
        pytest.param("evaluate:org/x@v1", "pin it, evaluate:org/x@COMMIT", id="tag"),
        pytest.param(
            f"evaluate:exact_match@{COMMIT}",
            f"`hf download evaluate-metric/exact_match --repo-type space --revision {COMMIT}`",
            id="not in the cache",
        ),
        pytest.param("evaluate:a b/c d/e", "is neither a name on the Hub nor a path", id="nonsense"),
    ],
)
def test_a_module_that_may_not_or_cannot_be_run_is_said_at_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    problem = Lookup(inputs=frozenset({"label"}), folder=tmp_path).check(text)
    assert problem is not None
    assert message in problem
    assert problem.isprintable()


def test_a_pinned_module_runs_from_the_hub_cache(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    place = tmp_path / "hub" / "spaces--evaluate-metric--module0" / "snapshots" / COMMIT
    write(f'{{"a": {RIGHT}}}')
    place.parent.mkdir(parents=True)
    (tmp_path / "metrics" / "module0").rename(place)
    assert statistics(f"evaluate:module0@{COMMIT}", tmp_path, [0, 1], [0, 0])[0] == 0.5


def test_its_signature_changes_with_its_code(write: Write, tmp_path: Path) -> None:
    lookup = Lookup(inputs=frozenset({"label"}), folder=tmp_path)
    name = write('{"a": 1.0}')
    before = lookup.describe(name).signature
    assert lookup.describe(name).signature == before
    (tmp_path / "metrics" / "module0" / "beside.py").write_text("x = 1\n")
    after = lookup.describe(name).signature
    assert after != before
    fields = {lookup.build(f"{name}{field}", Context()).signature for field in ("", "[a]")}
    assert len(fields) == 2


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "evaluate" else real(name))
    problem = Lookup(inputs=frozenset({"label"}), folder=tmp_path).check("evaluate:./metrics/mine")
    assert problem == "evaluate:./metrics/mine needs evaluate: pip install 'ftcheck[evaluate]'"
