"""BANKING77 once more: the same rows with one technique at a time, each compared with plain fine-tuning.

A margin of 1 fails nothing: it makes the report say how far each is from the plain one, with an interval.
"""

from __future__ import annotations

from typing import Any

import ftcheck
from tests.real import where

where.skip_without_real_input()
where.skip_unless_full()

DATA = {
    **where.files("csv", train="banking77/train.csv", test="banking77/test.csv"),
    "columns": {"label": "category"},
}


def recipe(*, rows: int | None = 2_500, epochs: int = 4, rate: float = 3e-4, **fields: Any) -> dict[str, Any]:
    """The fields of a case; all but the plain one are compared with that."""
    return {
        "checkpoint": where.checkpoint(),
        "task": {"name": "text-classification", "max_length": 64},
        "data": {**DATA, "limit": {} if rows is None else {"train": rows}},
        "training": {
            "num_train_epochs": epochs,
            "learning_rate": rate,
            "per_device_train_batch_size": 32,
            "warmup_steps": 0.1,
            "train_sampling_strategy": "group_by_length",
        },
        "seeds": 2,
        "vs": "case:test_plain",
        "gates": {"accuracy": {"max_regression": 1.0}},
        **fields,
    }


@ftcheck.case(**recipe(vs="baseline", gates={"accuracy": {"min": 0.70}}))
def test_plain() -> None: ...


@ftcheck.case(**recipe(rate=3e-3, peft={"method": "lora", "r": 8, "target_modules": "all-linear"}))
def test_lora() -> None: ...


@ftcheck.case(**recipe(rate=1e-2, freeze="base"))
def test_frozen_base() -> None: ...


@ftcheck.case(**recipe(class_weights="balanced"))
def test_class_weights() -> None: ...


few_shot = recipe(rows=None, epochs=12, few_shot={"per_class": 10, "sets": 2})
del few_shot["seeds"]


@ftcheck.case(**few_shot)
def test_ten_rows_a_class() -> None: ...


@ftcheck.case(**recipe(epochs=8, distill={"teacher": "case:test_plain", "layers": 2}))
def test_distilled_to_two_layers() -> None: ...


@ftcheck.case(**recipe(quantization={"post": "int8"}))
def test_int8_afterwards() -> None: ...
