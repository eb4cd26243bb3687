"""SQuAD v1.1, its dev set split by article: answers are spans of a paragraph."""

from __future__ import annotations

import ftcheck
from tests.real import squad, where

where.skip_without_real_input()
where.skip_unless_full()


@ftcheck.case(
    checkpoint=where.checkpoint(),
    task={"name": "question-answering", **squad.LENGTHS},
    data=where.files("squad", train="squad/train-v1.1.json", validation="squad/validation-v1.1.json"),
    training=squad.TRAINING,
    seeds=1,
    keep_model="none",
    gates={"answer_f1": {"min": 0.65}},
)
def test_squad_v1() -> None: ...
