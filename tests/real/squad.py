"""What the cases on SQuAD v1.1 and v2.0 share: the part for CI, and the recipe."""

from __future__ import annotations

import json
from typing import Any

from tests.real import where

WORDS = 110
"""Longest paragraph of the part for CI: one window each, half the time of all lengths."""


def short(answered: int, silent: int) -> Any:
    """The part of v2.0 for CI: so many training questions with and without answer, 500 to judge, all on short
    paragraphs."""
    import datasets

    train, validation = (questions(f"{split}-v2.0.json") for split in ("train", "validation"))
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


TRAINING = {
    "num_train_epochs": where.sized(ci=1, full=2),
    "learning_rate": where.sized(ci=3e-4, full=2e-4),
    "per_device_train_batch_size": where.sized(ci=12, full=16),
    "warmup_steps": 0.1,
    "train_sampling_strategy": "group_by_length",
}
LENGTHS = where.sized(ci={"max_length": 192, "doc_stride": 64}, full={"max_length": 384, "doc_stride": 128})
