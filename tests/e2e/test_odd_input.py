"""Input that is odd but right: it is measured, or refused with one error, like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.project import HEAD, INTERNAL, ROWS, Done, Project, csv

HUGE = "L" * 5000

CASES = """
  crlf_and_bom:
    data: {files: {train: crlf.csv, test: crlf.csv}}
  one_judged_row:
    data: {files: {train: train.csv, test: one.csv}}
  one_judged_class:
    data: {files: {train: train.csv, test: moves.csv}}
    metrics: [f1, weighted_f1]
  empty_texts:
    data: {files: {train: empty_texts.csv, test: empty_texts.csv}}
  endless_word:
    data: {files: {train: endless.csv, test: endless.csv}}
  huge_label:
    data: {files: {train: huge.csv, test: huge.csv}}
    gates: {accuracy: {min: 1.0}, macro_f1: {min: 1.0}}
  same_ids:
    data: {files: {train: ids.csv, test: ids.csv}}
  larger_batch_than_data:
    training: {per_device_train_batch_size: 1000, per_device_eval_batch_size: 1000}
  one_row_judged_of_many:
    data: {limit: {eval: 1}}
  no_batch_at_all:
    training: {per_device_train_batch_size: 1000, dataloader_drop_last: true}
  one_row_of_lists:
    task: token-classification
    data: {path: json, files: {train: tags.jsonl, test: one_tag.jsonl}}
  words_of_nothing:
    task: token-classification
    data: {path: json, files: {train: tags.jsonl, test: odd_tags.jsonl}}
  cut_at_three_tokens:
    task: {name: text-classification, max_length: 3}
"""

ERRORS = {
    "no_batch_at_all": "training.dataloader_drop_last drops all 24 training rows: a batch is 1,000 "
    "(per_device_train_batch_size)",
}
FAILED = {"huge_label"}
EXAMPLES = {
    "crlf_and_bom": 8,
    "one_judged_row": 1,
    "one_judged_class": 12,
    "empty_texts": 3,
    "endless_word": 3,
    "huge_label": 24,
    "same_ids": 4,
    "larger_batch_than_data": 8,
    "one_row_judged_of_many": 1,
    "one_row_of_lists": 1,
    "words_of_nothing": 4,
    "cut_at_three_tokens": 8,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Project:
    """In a folder whose name has a space and letters beyond ASCII, as the suite file's has."""
    made = Project(tmp_path_factory.mktemp("odd") / "prüfung der modelle ✓", bert)
    sentences = [
        {"tokens": [name, "runs", "in", city], "tags": ["B-PER", "O", "O", "B-LOC"]}
        for name in ("Ann", "Bob")
        for city in ("Paris", "Rome")
    ]
    odd = [
        {"tokens": [], "tags": []},
        {"tokens": ["", " "], "tags": ["O", "B-PER"]},
        {"tokens": ["x" * 10_000, "Ann"], "tags": ["O", "B-PER"]},
        {"tokens": ["Ann"] * 200, "tags": ["B-PER"] * 200},
    ]
    files: dict[str, str | bytes] = {
        "crlf.csv": b"\xef\xbb\xbf" + csv(ROWS[:8]).replace("\n", "\r\n").encode(),
        "one.csv": csv(ROWS[:1]),
        "moves.csv": csv([row for row in ROWS if row[1] == "moves"]),
        "empty_texts.csv": 'text,label\n"",moves\n" ",rests\ncat runs,moves\n',
        "endless.csv": csv([("x" * 10_000, "moves"), *ROWS[1:3]]),
        "huge.csv": csv([(text, HUGE if label == "moves" else "rühen 漢字 🙂") for text, label in ROWS]),
        "ids.csv": "id,text,label\n" + "".join(f"1,{text},{label}\n" for text, label in ROWS[2:6]),
        "tags.jsonl": "".join(json.dumps(row) + "\n" for row in sentences),
        "one_tag.jsonl": json.dumps(sentences[0]) + "\n",
        "odd_tags.jsonl": "".join(json.dumps(row) + "\n" for row in odd),
        "größe 1.ft.yaml": b"\xef\xbb\xbf" + (HEAD + CASES).replace("\n", "\r\n").encode(),
    }
    made.write(**files)
    return made


@pytest.fixture(scope="module")
def done(project: Project) -> Done:
    return project.run()


def test_all_is_measured_but_what_can_not_be(done: Done) -> None:
    verdicts = {**dict.fromkeys(EXAMPLES, "pass"), **dict.fromkeys(FAILED, "fail"), **dict.fromkeys(ERRORS, "error")}
    assert {case_id: result["verdict"] for case_id, result in done.results.items()} == verdicts
    assert {case_id: done.results[case_id]["examples"] for case_id in EXAMPLES} == EXAMPLES
    assert not INTERNAL.search(done.text), done.text


@pytest.mark.parametrize("case_id", ERRORS)
def test_the_message_says_what_to_do(done: Done, case_id: str) -> None:
    assert done.errors(case_id) == ERRORS[case_id]


def test_a_huge_label_does_not_flood_the_screen(done: Done) -> None:
    screen = done.section("huge_label")
    assert "rühen 漢字 🙂" in screen
    assert max(map(len, screen.splitlines())) < 250
    assert "reproduce: pytest 'größe 1.ft.yaml::huge_label' --ft-device=cpu" in screen


def test_a_smoke_run_of_one_row_is_a_smoke_run(project: Project) -> None:
    smoke = project.run("--ft-limit=1")
    assert {result["verdict"] for result in smoke.results.values()} == {"smoke", "error"}
    assert not INTERNAL.search(smoke.text), smoke.text
    for result in smoke.results.values():
        if "one class only" in result["error"]:
            assert result["error"].endswith("there is nothing to learn (of so few rows: raise --ft-limit=1)")


BODIES = """
import ftcheck

COMMON = dict(
    checkpoint="./checkpoint", task="text-classification", precision="fp32",
    data={"path": "csv", "files": {"train": "train.csv", "test": "test.csv"}},
    training={"num_train_epochs": 1},
)

@ftcheck.case(**COMMON)
def test_number(finetuned):
    finetuned.predict(3)

@ftcheck.case(**COMMON)
def test_nothing_in_a_list(finetuned):
    finetuned.predict(["a", None])

@ftcheck.case(**COMMON)
def test_texts_and_pairs(finetuned):
    finetuned.predict(["a", ("b", "c")])

@ftcheck.case(**COMMON)
def test_no_such_metric(finetuned):
    finetuned.metrics["acuracy"]

@ftcheck.case(**COMMON, keep_model="first", seeds=2)
def test_right(finetuned):
    assert finetuned.predict([]) == []
    assert finetuned.predict("").label in ("moves", "rests")
    assert finetuned.predict(["x" * 10_000, "\\0\\x1b"])[1].score > 0
"""

KINDS = "predict takes a text, a pair (text, text_pair) or a dict with text and text_pair, or a list of these; got "


def test_a_body_that_asks_wrongly_sees_its_own_line_only(project: Project) -> None:
    project.write(**{"test_bodies.py": BODIES})
    done = project.run("test_bodies.py")
    assert {case_id: result["verdict"] for case_id, result in done.results.items()} == {
        **dict.fromkeys(
            ("test_number", "test_nothing_in_a_list", "test_texts_and_pairs", "test_no_such_metric"), "fail"
        ),
        "test_right": "pass",
    }
    for case_id, line, message in (
        ("test_number", "finetuned.predict(3)", f"DataError: {KINDS}3"),
        ("test_nothing_in_a_list", 'finetuned.predict(["a", None])', f"DataError: {KINDS}None"),
        (
            "test_texts_and_pairs",
            "finetuned.predict",
            "DataError: predict takes texts or pairs of texts, not both at once",
        ),
        (
            "test_no_such_metric",
            'finetuned.metrics["acuracy"]',
            "this case has no metric 'acuracy'; did you mean accuracy?",
        ),
    ):
        screen = done.section(case_id)
        assert f">       {line}" in screen
        assert message in screen
    assert not INTERNAL.search(done.text), done.text
