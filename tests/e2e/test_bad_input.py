"""Bad data, checkpoints and trainings: one clear error each, nothing of them kept, the other cases unaffected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.project import INTERNAL, ROWS, Done, Project, csv

CASES = """
  good: {}
  no_column:
    data: {columns: {text: sentence}}
  empty_split:
    data: {files: {train: train.csv, test: empty.csv}}
  empty_file:
    data: {files: {train: train.csv, test: nothing.csv}}
  past_the_end:
    data: {splits: {eval: "test[100:]"}}
  new_label:
    data: {files: {train: train.csv, test: new_label.csv}}
  one_class:
    data: {splits: {train: "train[:2]"}}
  ragged_row:
    data: {files: {train: ragged.csv, test: test.csv}}
  invalid_utf8:
    data: {files: {train: train.csv, test: latin1.csv}}
  control_characters:
    data: {files: {train: train.csv, test: control.csv}}
  control_failure:
    data: {files: {train: train.csv, test: contradiction.csv}}
    gates: {accuracy: {min: 1.0}}
  tags:
    task: token-classification
    data: {path: json, files: {train: tags.json, test: tags.json}}
  answer:
    task: question-answering
    data: {path: squad, files: {train: squad.json, test: squad.json}}
  no_checkpoint:
    checkpoint: ./empty
  no_weights:
    checkpoint: ./weightless
  broken_weights:
    checkpoint: ./broken
  pickled:
    checkpoint: ./pickled
  no_head_fixed:
    training: false
  other_head_fixed:
    checkpoint: ./classifier
    task: {name: text-classification, labels: [moves, rests]}
    training: false
  other_classes_fixed:
    checkpoint: ./classifier
    training: false
  other_head_trained:
    checkpoint: ./classifier
  no_padding:
    checkpoint: ./gpt2
  long_text:
    data: {files: {train: train.csv, test: long.csv}}
  too_long:
    task: {name: text-classification, max_length: 100}
  nan:
    training: {learning_rate: 1e30}
  offline:
    checkpoint: nobody/nothing
"""

HUB = """
cases:
  offline_data:
    checkpoint: ./checkpoint
    task: text-classification
    data: {path: nobody/nothing}
"""

ERRORS = {
    "no_column": "'train' of data.files has no column 'sentence' (columns: text, label); data.columns says which "
    "one is the task's text",
    "empty_split": "eval: 'test' of data.files has no rows, so there is nothing to judge; give it some, or "
    "choose others with data.splits or data.holdout",
    "empty_file": "nothing.csv: the file is empty; its first line must name the columns",
    "past_the_end": "test[100:]: 100 is past the end: test has 8 rows",
    "new_label": 'new_label.csv:3: column label: label "barks" is not among the 2 classes of the training rows '
    "(known: moves, rests); if it is right, name all classes: task: {labels: [...]}",
    "one_class": 'column label of the training rows has one class only ("moves"): there is nothing to learn',
    "ragged_row": "ragged.csv:2: 3 fields where there are 2 columns (text, label); is a quote or a delimiter "
    "missing? (data.options: delimiter, quotechar)",
    "invalid_utf8": "latin1.csv:2: byte 0xe9 at offset 14 isn't utf-8; save the file as UTF-8 or set "
    "data.options.encoding",
    "control_characters": r'control.csv:3: column label: label "ba\x00\x1b[31md" is not among the 2 classes of '
    "the training rows (known: moves, rests); if it is right, name all classes: task: {labels: [...]}",
    "tags": 'tags.json row 1: 3 tokens but 2 tags ("Ann runs home"): there must be one tag for each token',
    "answer": "squad.json question q1: the answer 'Rome' isn't in its context at 14; there stands 'Pari'",
    "no_checkpoint": "{path}/empty is no checkpoint: it has no config.json; give a folder that `save_pretrained` wrote",
    "no_weights": "{path}/weightless has no weights: there is no *.safetensors file beside its config.json; give "
    "a folder that `save_pretrained` wrote",
    "broken_weights": "checkpoint {path}/broken: its weights are damaged or cut off (Error while deserializing "
    "header: incomplete metadata, file not fully covered): get it again",
    "pickled": "{path}/pickled has its weights as a pickle only, which is never loaded (it can run code); if you "
    "trust it, convert it once, with the model's own Auto class: AutoModel.from_pretrained(DIR, "
    "use_safetensors=False).save_pretrained(DIR)",
    "no_head_fixed": "checkpoint {path}/checkpoint: it has no trained head for this task (classifier.bias, "
    "classifier.weight missing), and `training: false` can't learn one: name a fine-tuned checkpoint, or "
    "train",
    "other_head_fixed": "task.labels names 2 classes, but the checkpoint was trained for 3 (eats, runs, sleeps): "
    "name each of them, by id, or leave labels out",
    "other_classes_fixed": 'test.csv:2: column label: the model knows no class "moves" (known: eats, runs, '
    "sleeps); name its classes as the data does, by id: task: {labels: [...]}",
    "too_long": "task.max_length is 100, but checkpoint {path}/checkpoint takes at most 64 tokens: lower max_length",
    "nan": "the loss is nan at step 2 of 3 (epoch 0.33), after 0.5256 at the step before: nothing of this training is "
    "kept; lower training.learning_rate (it is 1e+30) or max_grad_norm, or train in another precision",
    "offline": "the checkpoint nobody/nothing (revision main) is not in the local Hub cache {path}/hub and "
    "this run goes to no network (--ft-offline, --ft-vendor or HF_HUB_OFFLINE): run once online, or give the path of a "
    "copy",
    "offline_data": "the data set nobody/nothing (revision main) is not in the local Hub cache {path}/hub and "
    "this run goes to no network (--ft-offline, --ft-vendor or HF_HUB_OFFLINE): run once online, or give the path of a "
    "copy",
}

NOTES = {
    "other_head_trained": "the head starts anew: classifier.weight has 3×32 in the checkpoint, 2×32 here",
    "no_padding": "the tokenizer has no padding token: batches are padded with <|endoftext|>",
    "long_text": "eval: 1 of 2 texts were cut at 64 tokens",
}

PASSED = {"good", *NOTES}
MEASURED = {*PASSED, "control_failure"}


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, bert: Path, classifier: Path, gpt2: Path, pickled: Path
) -> Project:
    made = Project(tmp_path_factory.mktemp("bad") / "project", bert)
    for name, checkpoint in (("classifier", classifier), ("gpt2", gpt2), ("pickled", pickled)):
        made.link(checkpoint, name)
    for name in ("empty", "weightless", "broken"):
        (made.path / name).mkdir()
    for name in ("weightless", "broken"):
        for file in bert.iterdir():
            (made.path / name / file.name).write_bytes(file.read_bytes())
    (made.path / "weightless" / "model.safetensors").unlink()
    weights = made.path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    question = {"id": "q1", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 14}]}
    squad = {"data": [{"title": "t", "paragraphs": [{"context": "Ann sleeps in Paris.", "qas": [question]}]}]}
    files: dict[str, str | bytes] = {
        "empty.csv": csv([]),
        "nothing.csv": "",
        "new_label.csv": csv([ROWS[0], ("cat barks", "barks")]),
        "ragged.csv": csv([("cat", "runs,moves")]),
        "latin1.csv": csv([("café runs", "moves")]).encode("latin-1"),
        "control.csv": csv([("c\x00at \x1b[2Jruns", "moves"), ("dog", "ba\x00\x1b[31md")]),
        "contradiction.csv": csv([("c\x00at \x1b[2Jruns", label) for label in ("moves", "rests")]),
        "long.csv": csv([("cat " * 1000, "moves"), ROWS[3]]),
        "tags.json": json.dumps([{"tokens": ["Ann", "runs", "home"], "tags": ["B-PER", "O"]}]),
        "squad.json": json.dumps(squad),
    }
    made.write(**files)
    made.suite(CASES)
    made.write(**{"hub.ft.yaml": HUB})
    return made


@pytest.fixture(scope="module")
def done(project: Project) -> Done:
    """All of them in one session, offline."""
    return project.run("--ft-offline", HF_HUB_CACHE=str(project.path / "hub"))


@pytest.mark.parametrize("case_id", ERRORS)
def test_the_message_says_where_and_what_to_do(project: Project, done: Done, case_id: str) -> None:
    assert done.errors(case_id) == ERRORS[case_id].replace("{path}", str(project.path))


@pytest.mark.parametrize("case_id", NOTES)
def test_what_can_be_dealt_with_is_noted(done: Done, case_id: str) -> None:
    assert done.results[case_id]["verdict"] == "pass"
    assert NOTES[case_id] in done.results[case_id]["notes"]
    assert f"note: {NOTES[case_id]}" in done.unbroken


def test_control_characters_are_escaped_in_a_failure(done: Done) -> None:
    assert done.results["control_failure"]["verdict"] == "fail"
    assert r": c\x00at \x1b[2Jruns" in done.section("control_failure")


def test_the_other_cases_are_unaffected(done: Done) -> None:
    assert {case_id for case_id, result in done.results.items() if result["verdict"] == "pass"} == PASSED
    assert set(done.results) == MEASURED | set(ERRORS)
    assert done.code == pytest.ExitCode.TESTS_FAILED


def test_nothing_from_inside_is_shown(done: Done) -> None:
    assert not INTERNAL.search(done.text), done.text
    assert not set(done.text) & {"\x00", "\x1b"}


def test_nothing_of_an_error_is_kept(project: Project, done: Done) -> None:
    assert done.code
    kept = {entry.parent.name + entry.name for entry in project.kept()}
    trained = {run["train"]["key"] for case_id in MEASURED for run in done.results[case_id]["runs"]}
    assert kept == trained
    assert len(project.kept("predictions")) == len(MEASURED)
    assert project.scratch() == []
