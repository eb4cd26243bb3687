"""SciTLDR: abstracts, as lists of sentences, to one sentence; judged against two to four references."""

from __future__ import annotations

import json

import ftcheck
from tests.real import small, where

where.skip_without_real_input()

ROWS = [json.loads(line) for line in (where.data() / "scitldr" / "train.jsonl").read_text("utf-8").splitlines()]
TEXTS = [text for row in ROWS for text in (*row["source"], *row["target"])]


@ftcheck.case(
    checkpoint=small.encoder_decoder(TEXTS, vocabulary=2_000),
    task={
        "name": "summarization",
        "max_source_length": 192,
        "max_target_length": 64,
        "generation": {"num_beams": 1, "max_new_tokens": 48, "no_repeat_ngram_size": 3},
    },
    data={
        **where.files("jsonl", train="scitldr/train.jsonl", test="scitldr/test.jsonl"),
        "columns": {"document": "source", "summary": "target"},
        "limit": where.sized(ci={"eval": 200}, full={}),
    },
    training={
        "num_train_epochs": where.sized(ci=3, full=15),
        "learning_rate": 3e-3,
        "per_device_train_batch_size": 16,
        "warmup_steps": 0.1,
    },
    metrics=["perplexity", "bits_per_byte"],
    seeds=where.sized(ci=1, full=3),
    keep_model="none",
    gates={"bits_per_byte": {"max": 4.0}},
)
def test_scitldr() -> None: ...
