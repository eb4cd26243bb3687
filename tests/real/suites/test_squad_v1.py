"""SQuAD v1.1, its dev set split by article: answers are spans of a paragraph."""

from __future__ import annotations

from typing import Any

import ftcheck
from tests.real import squad, where

where.skip_without_real_input()


def short_v1() -> Any:
    return squad.short("1.1", 2_250, 0)


@ftcheck.case(
    checkpoint=where.checkpoint(),
    task={"name": "question-answering", **squad.LENGTHS},
    data=where.sized(
        ci=short_v1,
        full=where.files("squad", train="squad/train-v1.1.json", validation="squad/validation-v1.1.json"),
    ),
    training=squad.TRAINING,
    seeds=1,
    keep_model="none",
    gates={"answer_f1": {"min": where.sized(ci=0.40, full=0.65)}},
)
def test_squad_v1() -> None: ...
