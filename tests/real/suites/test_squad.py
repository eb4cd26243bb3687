"""SQuAD v1.1 and v2.0, their dev sets split by article: answers are spans of a paragraph; in v2.0 half have none."""

from __future__ import annotations

import json
from typing import Any

import ftcheck
from tests.real import where

where.skip_without_real_input()

WORDS = 110
"""Longest paragraph of the part for CI: one window each, half the time of all lengths."""


def short(version: str, answered: int, silent: int) -> Any:
    """The part for CI: so many training questions with and without answer, 500 to judge, all on short paragraphs."""
    import datasets

    train, validation = (questions(f"{split}-v{version}.json") for split in ("train", "validation"))
    with_answer, without = ([row for row in train if bool(row["answers"]["text"]) is has] for has in (True, False))
    rows = {"train": with_answer[:answered] + without[:silent], "validation": validation[::2][:500]}
    return datasets.DatasetDict({split: datasets.Dataset.from_list(found) for split, found in rows.items()})


def questions(name: str) -> list[dict[str, Any]]:
    """One row per question on a short paragraph, as `datasets` has SQuAD."""
    found = []
    for article in json.loads((where.data() / "squad" / name).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            if len(paragraph["context"].split()) > WORDS:
                continue
            for question in paragraph["qas"]:
                answers = {key: [answer[key] for answer in question["answers"]] for key in ("text", "answer_start")}
                row = {"id": question["id"], "question": question["question"], "answers": answers}
                found.append({**row, "context": paragraph["context"]})
    return found


def short_v1() -> Any:
    return short("1.1", 2_250, 0)


def short_v2() -> Any:
    return short("2.0", 1_800, 450)


TRAINING = {
    "num_train_epochs": where.sized(ci=1, full=2),
    "learning_rate": where.sized(ci=3e-4, full=2e-4),
    "per_device_train_batch_size": where.sized(ci=12, full=16),
    "warmup_steps": 0.1,
    "train_sampling_strategy": "group_by_length",
}
LENGTHS = where.sized(ci={"max_length": 192, "doc_stride": 64}, full={"max_length": 384, "doc_stride": 128})


@ftcheck.case(
    checkpoint=where.checkpoint(),
    task={"name": "question-answering", **LENGTHS},
    data=where.sized(
        ci=short_v1,
        full=where.files("squad", train="squad/train-v1.1.json", validation="squad/validation-v1.1.json"),
    ),
    training=TRAINING,
    seeds=1,
    keep_model="none",
    gates={"answer_f1": {"min": where.sized(ci=0.40, full=0.65)}},
)
def test_squad_v1() -> None: ...


@ftcheck.case(
    checkpoint=where.checkpoint(),
    task={"name": "question-answering", **LENGTHS, "null_threshold": where.sized(ci=0.0, full="auto")},
    data=where.sized(
        ci=short_v2,
        full={
            **where.files("squad", train="squad/train-v2.0.json", validation="squad/validation-v2.0.json"),
            # rows are in the order of their articles, so that no paragraph is on both sides
            "splits": {"train": "train[:90%]", "tune": "train[90%:]", "eval": "validation"},
        },
    ),
    training=TRAINING,
    metrics=["exact_match[HasAns]", "answer_f1[HasAns]", "exact_match[NoAns]"],
    seeds=1,
    keep_model="none",
    # Which questions have no answer is not learned from 2,250 of them: a tuned threshold would answer nothing at all,
    # which is right on half. In CI the threshold is 0, and both kinds are gated.
    gates=where.sized(
        ci={"answer_f1[HasAns]": {"min": 0.30}, "exact_match[NoAns]": {"min": 0.20}},
        full={"answer_f1": {"min": 0.57}, "answer_f1[HasAns]": {"min": 0.30}},
    ),
)
def test_squad_v2() -> None: ...
