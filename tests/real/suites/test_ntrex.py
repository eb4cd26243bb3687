"""NTREX-128: news from English into German; each row has all languages, nested. 1,604 training and 187 judged rows."""

from __future__ import annotations

import json

import ftcheck
from tests.real import small, where

where.skip_without_real_input()
where.skip_unless_full()

ROWS = [json.loads(line) for line in (where.data() / "ntrex128" / "train.jsonl").read_text("utf-8").splitlines()]
TEXTS = [row["translation"][language] for row in ROWS for language in ("en", "de")]


@ftcheck.case(
    checkpoint=small.encoder_decoder(TEXTS, vocabulary=2_000),
    task={
        "name": "translation",
        "max_source_length": 128,
        "max_target_length": 128,
        "generation": {"num_beams": 1, "max_new_tokens": 96, "no_repeat_ngram_size": 3},
    },
    data={
        **where.files("jsonl", train="ntrex128/train.jsonl", test="ntrex128/test.jsonl"),
        "columns": {"source": "translation.en", "target": "translation.de"},
    },
    training={
        "num_train_epochs": 8,
        "learning_rate": 3e-3,
        "per_device_train_batch_size": 16,
        "warmup_steps": 0.1,
        "train_sampling_strategy": "group_by_length",
    },
    metrics=["perplexity", "bits_per_byte"],
    seeds=3,
    keep_model="none",
    # 207, half-width of the interval 13. To know how often each token occurs in the German of the training rows, and
    # nothing more, has 615. So few rows teach no translating: chrF is 10, that of the English itself 25, and no gate.
    gates={"perplexity": {"max": 270}},
)
def test_ntrex() -> None: ...
