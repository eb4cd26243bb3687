"""`ftcheck.evaluate`: what pytest would have found, without pytest, and shown where it is displayed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from runpy import run_path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import ftcheck
from ftcheck.errors import FtcheckError, StoreError, SuiteErrors, UsageError
from ftcheck.report import notebook
from tests import fake
from tests.plugin.conftest import REPOSITORY, Project
from tests.report import results

GOOD = "  good:\n    training: {learning_rate: 0.9}\n    seeds: 2\n    gates: {accuracy: {min: 0.8}}\n"
FIELDS: dict[str, Any] = {
    "checkpoint": "./checkpoint",
    "task": "text-classification",
    "data": {"path": "csv", "files": {"train": "train.csv", "test": "test.csv"}},
    "precision": "fp32",
    "training": {"learning_rate": 0.9},
    "seeds": 2,
    "gates": {"accuracy": {"min": 0.8}},
}


@pytest.fixture
def here(faked: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose trainings are faked in this process too."""
    monkeypatch.chdir(faked.path)
    fake.install()
    return faked


def test_a_case_of_a_suite_is_what_pytest_finds(here: Project) -> None:
    here.suite(GOOD + "  other: {training: {learning_rate: 0.5}}\n")
    first = ftcheck.evaluate("suite.ft.yaml::good")
    assert first.result.runs[0].train.source == "computed"
    here.stages()
    assert here.pytester.runpytest_inprocess("-q", "-k", "good", "--ft-json=out.json").ret == 0
    found = ftcheck.evaluate("suite.ft.yaml::good")
    assert here.stages() == [], "both use one store"
    reported = here.results()["good"]
    assert reported["history"], "a session's reports have these two besides"
    assert reported["breakdown"]
    assert found.result.to_json() == {**reported, "history": [], "breakdown": None}


def test_all_forms_are_one_case(here: Project) -> None:
    here.suite(GOOD)
    of_file = ftcheck.evaluate("suite.ft.yaml::good")
    assert len(here.stages()) == 4
    (here.path / "declared.py").write_text(
        f"import ftcheck\n@ftcheck.case(**{FIELDS!r})\ndef good(finetuned):\n    raise RuntimeError('never run')\n"
    )
    for case in (FIELDS, run_path("declared.py")["good"]):
        found = ftcheck.evaluate(case)
        assert here.stages() == []
        assert found.verdict == "pass"
        stages = of_file.result.runs
        assert [run.train.key for run in found.result.runs] == [run.train.key for run in stages]
    assert ftcheck.evaluate(FIELDS, name="mine").result.nodeid == "notebook::mine"


def test_it_answers_as_the_fixture_does(here: Project) -> None:
    found = ftcheck.evaluate(FIELDS, seeds=1)
    assert found.result.seeds == (42,)
    assert found.metrics["accuracy"] == pytest.approx(0.89)
    assert len(found.examples) == 100
    frame = found.dataframe()
    assert list(frame["metric"]) == ["accuracy", "macro_f1"]
    assert frame.loc[0, "value"] == found.metrics["accuracy"]


def test_a_verdict_is_returned_and_what_keeps_it_from_being_measured_is_raised(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ftcheck.evaluate({**FIELDS, "training": {"learning_rate": 0.5}}).verdict == "fail"
    assert ftcheck.evaluate(FIELDS, limit=5).verdict == "smoke"
    with pytest.raises(StoreError, match="seed 42 has not been trained yet"):
        ftcheck.evaluate({**FIELDS, "training": {"learning_rate": 0.7}}, cache="only")
    monkeypatch.setenv("FAKE_FAILURE", "nan")
    with pytest.raises(FtcheckError, match="the loss became NaN at step 7") as raised:
        ftcheck.evaluate({**FIELDS, "training": {"learning_rate": 0.6}})
    assert str(raised.traceback[-1].path).endswith("evaluating.py"), "no frame of what it calls"


@pytest.mark.parametrize(
    ("case", "error", "told"),
    [
        pytest.param("suite.ft.yaml::god", UsageError, "did you mean good", id="no-such-case"),
        pytest.param("suite.ft.yaml", UsageError, "stands for 3 cases", id="several"),
        pytest.param("suite.ft.yaml::many", UsageError, "many-0.1, many-0.2", id="a-matrix"),
        pytest.param("test_suite.py::test_x", UsageError, "import the function", id="a-python-suite"),
        pytest.param("none.ft.yaml::x", SuiteErrors, "can't be read", id="no-such-file"),
        pytest.param({**FIELDS, "tast": "x"}, SuiteErrors, "tast", id="no-such-field"),
        pytest.param({**FIELDS, "matrix": {"seeds": [1, 2]}}, UsageError, "its matrix stands for 2", id="matrix"),
        pytest.param(3, UsageError, "not 3", id="no-case"),
        pytest.param(len, UsageError, "not <built-in", id="no-declared-function"),
    ],
)
def test_what_is_no_case_is_refused(here: Project, case: Any, error: type[Exception], told: str) -> None:
    here.suite(GOOD + "  many:\n    matrix: {training.weight_decay: [0.1, 0.2]}\n")
    with pytest.raises(error, match=told):
        ftcheck.evaluate(case)
    assert here.stages() == []


def test_a_variant_of_a_matrix_is_named_as_reports_or_as_pytest_names_it(here: Project) -> None:
    here.suite("  many:\n    matrix: {training.learning_rate: [0.8, 0.9]}\n")
    for name in ("many-0.9", "many[0.9]"):
        assert ftcheck.evaluate(f"suite.ft.yaml::{name}").result.case_id == "many-0.9"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param({"device": "tpu"}, "no device is called 'tpu'", id="device"),
        pytest.param({"cache": "never"}, "cache: 'never' is none of", id="cache"),
        pytest.param({"seeds": 0}, "seeds: expected a whole number from 1, got '0'", id="seeds"),
    ],
)
def test_an_argument_that_is_wrong_is_said(here: Project, given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ftcheck.evaluate(FIELDS, **given)


def test_what_is_not_given_comes_from_the_environment(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCHECK_SEEDS", "3")
    monkeypatch.setenv("FTCHECK_UPDATE", "1")
    assert len(ftcheck.evaluate(FIELDS).result.seeds) == 3
    assert len(ftcheck.evaluate(FIELDS, seeds=1).result.seeds) == 1
    assert not (here.path / "__baselines__").exists()


def test_a_store_of_its_own_lasts_as_long_as_the_evaluation(here: Project, own_cache: Path) -> None:
    found = ftcheck.evaluate(FIELDS, cache="off")
    assert list(own_cache.iterdir()) == []
    assert len(found.examples) == 100


def test_it_shares_results_with_other_machines(here: Project) -> None:
    remote = f"file://{here.path}/remote"
    assert ftcheck.evaluate(FIELDS, remote=remote, cache_dir="one").verdict == "pass"
    here.stages()
    found = ftcheck.evaluate(FIELDS, remote=remote, cache_dir="two", cache="only")
    assert (found.verdict, here.stages()) == ("pass", [])


def test_a_remote_that_cannot_be_used_is_a_note(here: Project) -> None:
    notes = " ".join(ftcheck.evaluate(FIELDS, remote="nonsense://ada:hunter2@host/a").result.notes)
    assert "nonsense://host/a can't be used" in notes
    assert "6 results were not uploaded" in notes
    assert "hunter2" not in notes


def test_models_that_are_not_wanted_are_gone_and_that_is_said(here: Project, own_cache: Path) -> None:
    found = ftcheck.evaluate({**FIELDS, "keep_model": "none"})
    assert list(own_cache.glob("runs/*/*/model/*")) == []
    with pytest.raises(StoreError, match="was taken out of the store"):
        found.predict("where is it")


def test_it_does_without_pytest_and_says_progress_on_stderr(here: Project) -> None:
    here.suite(GOOD)
    code = (
        "import sys, ftcheck; from tests import fake; fake.install(); from ftcheck.report import pace;"
        "pace.ELSEWHERE = -1.0\n"
        "@ftcheck.case(**{'checkpoint': './checkpoint'})\ndef declared(finetuned): ...\n"
        "found = ftcheck.evaluate('suite.ft.yaml::good'); found._repr_html_(); found._repr_markdown_();"
        "print(repr(found)); print([name for name in sys.modules if name.partition('.')[0] in ('pytest', '_pytest')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    shown, modules = done.stdout.splitlines()
    assert shown.startswith("<Evaluation good: pass: accuracy 0.895 [0.807, 0.946] (trained in")
    assert modules == "[]"
    assert done.stderr.startswith("good")


class Text(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[Any] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param("<script>alert(1)</script>", id="script"),
        pytest.param("<img src=x onerror=alert(1)>", id="handler"),
        pytest.param("</td></table><h1>passed", id="closing-tags"),
        pytest.param('"><svg/onload=alert(1)>', id="attribute"),
        pytest.param("| a | b |\n# heading [x](javascript:alert(1))", id="markdown"),
        pytest.param("\x1b[31m\u202eevil\x00", id="control-and-bidirectional"),
        pytest.param("x" * 1_000_000, id="a-megabyte"),
    ],
)
def test_text_is_never_markup(hostile: str) -> None:
    plain = results.case()
    gate = replace(plain.gates[0], message=hostile, shown_limit=hostile, part=hostile)
    result = replace(plain, case_id=hostile, gates=(gate,), notes=(hostile,), device=hostile)
    html = Text(notebook.html(result))
    assert html.tags == {"div", "p", "strong", "table", "thead", "tr", "th", "tbody", "td", "ul", "li"}
    assert html.attributes == []
    assert "\x1b" not in html.text
    assert "\u202e" not in html.text
    assert len(html.text) < 5_000
    markdown = notebook.markdown(result)
    assert "<" not in markdown
    assert "[x](" not in markdown
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 4
    assert len(markdown) < 8_000


def test_a_notebook_shows_it(here: Project) -> None:
    """Executed for real, by Jupyter's own kernel."""
    here.suite(GOOD)
    cells = [
        "from tests import fake; fake.install(); import ftcheck",
        "ftcheck.evaluate('suite.ft.yaml::good')",
        "ftcheck.evaluate({'task': 'text-classification', 'checkpoint': './none'})",
    ]
    v4: Any = nbformat.v4
    book = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        book, timeout=300, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(here.path)}}
    )
    client.execute()
    _, good, bad = book.cells
    (shown,) = [output for output in good.outputs if output.output_type == "execute_result"]
    assert "✅ good: pass" in shown["data"]["text/html"]
    assert "| accuracy | 0.895 |" in shown["data"]["text/markdown"]
    assert shown["data"]["text/plain"].startswith("<Evaluation good: pass")
    (error,) = bad.outputs
    assert error.ename == "SuiteErrors"
    assert "data" in error.evalue
