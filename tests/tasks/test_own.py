"""A task of the user's: where it is found, and what is said of one that can't be used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import ftcheck
from ftcheck import catalogue, tasks
from ftcheck.errors import SuiteErrors, TaskError
from ftcheck.spec import Case, Declaration, expand
from ftcheck.suitefile import parse
from ftcheck.tasks.text_classification import TextClassification

SOURCE = """
from pydantic import BaseModel, ConfigDict

import ftcheck
from ftcheck.tasks.text_classification import Options, TextClassification

class Headlines(TextClassification):
    name = "headlines"

class Outer:
    class Inner(Headlines):
        pass

class Other:
    pass

class Unfinished(ftcheck.Task):
    name = "unfinished"

    def inputs(self, options):
        return frozenset({"label"})

class Nameless(Headlines):
    name = " "

class Impostor(TextClassification):
    pass

class Required(Headlines):
    class options(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        size: int
        depth: int

class Thawed(Headlines):
    class options(BaseModel):
        model_config = ConfigDict(extra="forbid")

class Lenient(Headlines):
    class options(BaseModel):
        model_config = ConfigDict(frozen=True)

class NoModel(Headlines):
    options = {"max_length": 3}

class Needy(Headlines):
    def __init__(self, size):
        pass

value = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that can be imported, with tasks in it."""
    name = f"tasks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(SOURCE, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def suite(task: str) -> str:
    return (
        f"cases:\n  c: {{checkpoint: org/model, task: {task}, "
        "data: {path: org/data, splits: {train: train, eval: test}}}\n"
    )


def expanded(text: str) -> list[Case]:
    return expand(parse(text.encode(), Path("/suites/a.ft.yaml")), catalogue.installed())


def test_a_class_is_found_by_its_import_path(module: str) -> None:
    found = tasks.get(f"{module}:Headlines")
    assert isinstance(found, TextClassification)
    assert found.name == "headlines"
    assert tasks.get(f"{module}:Headlines") is found
    assert type(tasks.get(f"{module}:Outer.Inner")).__name__ == "Inner"


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        pytest.param("Absent", "has no Absent; known: ", id="no such attribute"),
        pytest.param("Headline", "has no Headline; did you mean Headlines?", id="near name"),
        pytest.param("Other", "it is a class, no subclass of ftcheck.Task", id="another class"),
        pytest.param("value", "it is a int, no subclass of ftcheck.Task", id="no class"),
        pytest.param("Unfinished", "lacks what every task must have: decode, default_metrics, enc", id="abstract"),
        pytest.param("Unfinished", "rows_from_input, score_inputs, columns, auto_class, options", id="attributes"),
        pytest.param("Nameless", "its name must be text, got ' '", id="no name"),
        pytest.param("Impostor", "its name text-classification is that of a task of ftcheck", id="taken name"),
        pytest.param("Required", "its options need defaults: size, depth have none", id="option without default"),
        pytest.param("Thawed", "need model_config = ConfigDict(frozen=True", id="not frozen"),
        pytest.param("Lenient", "need model_config = ConfigDict(frozen=True", id="extra allowed"),
        pytest.param("NoModel", "its options must be a pydantic model (a class), got {'max_length': 3}", id="options"),
        pytest.param("Needy", "Needy() fails: TypeError: Needy.__init__() missing 1 required", id="constructor"),
    ],
)
def test_a_class_that_cannot_serve_is_refused_in_one_sentence(module: str, attribute: str, message: str) -> None:
    with pytest.raises(TaskError) as raised:
        tasks.get(f"{module}:{attribute}")
    assert message in str(raised.value)
    assert f"{module}:{attribute}" in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param(None, "in sys.path): install its package, or name the folder that holds it in", id="absent"),
        pytest.param("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'", id="needs"),
        pytest.param("\n\nvalue = 1 / 0\n", ".py:3: ZeroDivisionError: division by zero", id="raises"),
        pytest.param("class Headlines(\n", "broken.py:1: SyntaxError: '(' was never closed", id="syntax"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, message: str
) -> None:
    name = f"{tmp_path.name}_broken"
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskError) as raised:
        tasks.get(f"{name}:Headlines")
    assert message in str(raised.value)
    assert str(raised.value).isprintable()


def test_an_unknown_name_is_told_the_nearest_and_how_own_ones_are_named() -> None:
    with pytest.raises(
        TaskError, match=r"'text-clasification'; did you mean text-classification\? \(a task of your own"
    ):
        tasks.get("text-clasification")


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that packages with these entry points are installed."""

    def install(*points: tuple[str, str]) -> None:
        found = [metadata.EntryPoint(name=name, value=value, group="ftcheck.tasks") for name, value in points]
        monkeypatch.setattr(metadata, "entry_points", lambda group: found if group == "ftcheck.tasks" else [])
        tasks._added.cache_clear()

    monkeypatch.setattr(tasks, "get", tasks.get.__wrapped__)
    return install


@pytest.fixture(autouse=True)
def forget() -> object:
    yield
    tasks._added.cache_clear()


def test_an_entry_point_gives_a_task_a_name(module: str, entry_points: Callable[..., None]) -> None:
    entry_points(("headlines", f"{module}:Headlines"))
    assert tasks.get("headlines").name == "headlines"
    assert tasks.names() == (*tasks.BUILT_IN, "headlines")
    assert tasks.import_path("headlines") == f"{module}:Headlines"


@pytest.mark.parametrize(
    ("points", "asked", "message"),
    [
        pytest.param(
            [("text-classification", "m:X")], "x", "takes a name that is taken by ftcheck.tasks", id="built in"
        ),
        pytest.param([("a", "m:X"), ("a", "n:Y")], "a", "a name that is taken by m:X", id="twice"),
        pytest.param([("news", "MODULE:Headlines")], "news", "called news, but its name is headlines", id="other name"),
    ],
)
def test_an_entry_point_that_clashes_is_refused(
    module: str, entry_points: Callable[..., None], points: list[tuple[str, str]], asked: str, message: str
) -> None:
    entry_points(*((name, value.replace("MODULE", module)) for name, value in points))
    with pytest.raises(TaskError, match=message):
        tasks.get(asked)


@pytest.mark.parametrize("form", ['"{}:Headlines"', '{{name: "{}:Headlines", max_length: 9}}'])
def test_a_suite_names_it_with_and_without_options(module: str, form: str) -> None:
    (case,) = expanded(suite(form.format(module)))
    assert case.task == f"{module}:Headlines"
    assert case.task_options["max_length"] == (9 if "max_length" in form else None)
    assert case.metrics == ("accuracy", "macro_f1")


def test_a_suite_is_told_what_is_wrong_with_it_at_its_line(module: str) -> None:
    with pytest.raises(SuiteErrors) as raised:
        expanded(suite(f'"{module}:Other"'))
    assert str(raised.value) == (
        f"/suites/a.ft.yaml:2 cases.c.task: {module}:Other can't be used as a task: it is a class, no subclass of "
        "ftcheck.Task"
    )


class Here(TextClassification):
    name = "here"


@ftcheck.metric(greater_is_better=False)
def mistakes(predictions: list[int], references: list[int]) -> list[float]:
    return [float(p != r) for p, r in zip(predictions, references, strict=True)]


def declared(**fields: object) -> Declaration:
    shared = {"checkpoint": "org/model", "data": {"path": "org/data", "splits": {"train": "train", "eval": "test"}}}
    return Declaration.of_function("test_c", Path("/suites/test_a.py"), 1, {**shared, **fields})


@pytest.mark.parametrize("task", [Here, {"name": Here, "max_length": 9}], ids=["class", "with-options"])
def test_a_python_suite_takes_the_class_and_the_function_themselves(task: object) -> None:
    declaration = declared(task=task, metrics=[mistakes], gates={mistakes: {"max": 0.5}})
    (case,) = expand([declaration], catalogue.installed())
    assert case.task == f"{__name__}:Here"
    assert case.metrics == ("accuracy", "macro_f1", f"{__name__}:mistakes")
    assert [(gate.metric, gate.max) for gate in case.gates] == [(f"{__name__}:mistakes", 0.5)]


def test_what_stands_inside_a_function_is_refused() -> None:
    class Inside(TextClassification):
        name = "inside"

    declaration = declared(task=Inside, metrics=[lambda p, r: 0.0])
    with pytest.raises(SuiteErrors) as raised:
        expand([declaration], catalogue.installed())
    assert str(raised.value).count("expected what stands at the top of a module, so that it can be imported") == 2
