"""Mistakes in suite files: found before anything is loaded, all of a file at once, the other files unaffected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.project import HEAD, INTERNAL, Done, Project

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

PYTHON = """
import ftcheck

@ftcheck.case(checkpoint="./checkpoint", task="text-clasification", data={"path": "csv"}, seed=1)
def test_a(finetuned): ...
"""

CASES = {
    "unknown_task": "  a: {task: text-clasification}\n",
    "unknown_metric": "  a: {metrics: [acuracy], gates: {f_1: {min: 0.5}}}\n",
    "misfit_metric": "  a: {metrics: [exact_match]}\n",
    "unknown_key": "  a: {seed: 3}\n  b: {checkpoints: x}\n",
    "unknown_argument": "  a: {training: {num_epochs: 3, evaluation_strategy: epoch}}\n",
    "bare_gate": "  a: {gates: {accuracy: 0.9}}\n",
    "unknown_column": "  a: {data: {columns: {txt: sentence}}}\n",
    "unknown_split": "  a: {data: {splits: {eval: dev}}}\n",
    "no_file": "  a: {data: {files: {train: tran.csv}}}\n",
    "no_checkpoint": "  a: {checkpoint: ./checkpont}\n",
    "duplicate_key": "  a: {seeds: 1}\n  b: {}\n  a: {seeds: 2}\n",
    "same_id": "  a b: {}\n  A-B: {}\n",
    "no_file_name": "  ../a: {}\n  con: {}\n  " + "x" * 201 + ": {}\n",
}

FILES: dict[str, str | bytes] = {
    **{f"{name}.ft.yaml": HEAD + cases for name, cases in CASES.items()},
    "bomb.ft.yaml": BOMB + "cases: {x: {metrics: *i}}\n",
    "itself.ft.yaml": "cases: {a: &a {gates: *a}}\n",
    "latin1.ft.yaml": "cases:\n  a: {description: café}\n".encode("latin-1"),
    "control.ft.yaml": b"cases:\n  a: {description: a\x00b}\n",
    "escaped.ft.yaml": HEAD + '  a: {task: "a\\x1b[31m\\0"}\n',
    "tab.ft.yaml": b"cases:\n\ta: {}\n",
    "empty.ft.yaml": b"",
    "test_python.py": PYTHON,
}

ERRORS = {
    "unknown_task.ft.yaml": [
        "9 cases.a.task: no task is called 'text-clasification'; did you mean text-classification?{any}"
    ],
    "unknown_metric.ft.yaml": [
        '9 cases.a.metrics[0]: no metric is called "acuracy"; did you mean accuracy?',
        '9 cases.a.gates.f_1: no metric is called "f_1"; did you mean f1?',
    ],
    "misfit_metric.ft.yaml": [
        "9 cases.a.metrics[0]: exact_match is computed from answers or texts, this task gives class ids and class "
        "probabilities; it has accuracy,{any}"
    ],
    "unknown_key.ft.yaml": [
        "9 cases.a.seed: no such key; did you mean seeds?",
        "10 cases.b.checkpoints: no such key; did you mean checkpoint?",
    ],
    "unknown_argument.ft.yaml": [
        "9 cases.a.training.num_epochs: no such TrainingArguments field; did you mean num_train_epochs?",
        "9 cases.a.training.evaluation_strategy: not in transformers {any}: write eval_strategy",
    ],
    "bare_gate.ft.yaml": ["9 cases.a.gates.accuracy: expected bounds, such as {min: 0.9}, got 0.9"],
    "unknown_column.ft.yaml": [
        "9 cases.a.data.columns.txt: text-classification has no such column; did you mean text?"
    ],
    "unknown_split.ft.yaml": ["9 cases.a.data.splits.eval: no split is called 'dev'; known: test, train"],
    "no_file.ft.yaml": ["9 cases.a.data.files.train[0]: {path}/tran.csv does not exist; near it: train.csv, test.csv"],
    "no_checkpoint.ft.yaml": ["9 cases.a.checkpoint.path: {path}/checkpont does not exist; near it: checkpoint,{any}"],
    "duplicate_key.ft.yaml": ["11 cases.a: duplicate key; it is already on line 9"],
    "same_id.ft.yaml": ["10 cases.A-B: the case id 'A-B' is taken by 'a-b' on line 9 (ids are file names, so {any})"],
    "no_file_name.ft.yaml": [
        "9 cases.../a: the case id '..-a' is no file name: it must start with a letter or digit (A-Z, a-z, 0-9)",
        "10 cases.con: the case id 'con' is no file name: Windows has a device of that name",
        "11 cases.xxx{any}: the case id is no file name: 201 characters, at most 200: xxx{any}…",
    ],
    "bomb.ft.yaml": ["{any}: aliases stand for more than 100,000 values"],
    "itself.ft.yaml": ["1 cases.a.gates: *a contains itself"],
    "latin1.ft.yaml": ["2: not UTF-8: byte 0xe9 at offset 29; save the file as UTF-8"],
    "control.ft.yaml": [r"2: the character \x00 is not allowed in YAML"],
    "escaped.ft.yaml": [r"9 cases.a.task: no task is called 'a\\x1b[31m\\x00'; known: {any}"],
    "tab.ft.yaml": ["2: not YAML: a tab where there can be none; indent with spaces"],
    "empty.ft.yaml": ["1: the file is empty; expected a mapping with `cases`"],
    "test_python.py": [
        "4 test_a.seed: no such key; did you mean seeds?",
        "4 test_a.data: `path: csv` is a reader: give `files: {train: ..., test: ...}`",
        "4 test_a.task: no task is called 'text-clasification'; did you mean text-classification?{any}",
    ],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Project:
    made = Project(tmp_path_factory.mktemp("suites") / "project", bert)
    made.write(**FILES)
    made.suite("  good: {}\n", "good.ft.yaml")
    return made


@pytest.fixture(scope="module")
def done(project: Project) -> Done:
    """One session over all files, which goes on past the broken ones."""
    return project.run("--continue-on-collection-errors")


@pytest.mark.parametrize("name", FILES)
def test_each_mistake_is_one_line_with_its_place(project: Project, done: Done, name: str) -> None:
    found = re.findall(rf"^_+ ERROR collecting {re.escape(name)} _+\n(.*?)\n(?=[_=]{{3,}} )", done.text, re.M | re.S)
    assert len(found) == 1
    lines = found[0].splitlines()
    assert len(lines) == len(ERRORS[name])
    for line, expected in zip(lines, ERRORS[name], strict=True):
        whole = f"{project.path / name}:{expected.replace('{path}', str(project.path))}"
        assert re.fullmatch(".*".join(map(re.escape, whole.split("{any}"))), line), f"{line}\n{whole}"


def test_the_other_files_are_unaffected(done: Done) -> None:
    assert list(done.results) == ["good"]
    assert done.results["good"]["verdict"] == "pass"


def test_nothing_from_inside_is_shown(done: Done) -> None:
    assert not INTERNAL.search(done.text), done.text
    assert not set(done.text) & {"\x00", "\x1b"}


def test_a_broken_file_stops_the_session_before_anything_is_trained(project: Project) -> None:
    stopped = project.run("good.ft.yaml", "unknown_key.ft.yaml", store=project.path / "untouched")
    assert stopped.code == pytest.ExitCode.INTERRUPTED
    assert not (project.path / "untouched").exists()
