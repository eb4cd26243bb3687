"""What the hand-written scripts share: command line, rows, arguments of the two recipes, and how both judge.

`guide` is what tutorials teach: `padding="max_length"`, fp32, an evaluation and a checkpoint each epoch, and at the end
`trainer.evaluate` and `trainer.predict`. `good` is what a careful engineer writes: dynamic padding, bf16 if told so,
the judged rows sorted by length in batches of 64, one pass over them, no checkpoint but the final one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def options(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("recipe", choices=["guide", "good"])
    parser.add_argument("checkpoint")
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    return parser.parse_args()


def arguments(given: argparse.Namespace) -> Any:
    from transformers import TrainingArguments

    guide = given.recipe == "guide"
    return TrainingArguments(
        output_dir=str(given.out),
        num_train_epochs=given.epochs,
        learning_rate=given.rate,
        per_device_train_batch_size=given.batch,
        per_device_eval_batch_size=8 if guide else 64,
        eval_strategy="epoch" if guide else "no",
        save_strategy="epoch" if guide else "no",
        bf16=not guide and given.precision == "bf16",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )


def padding(given: argparse.Namespace) -> Mapping[str, Any]:
    """The tokenizer's arguments."""
    return {
        "truncation": True,
        "max_length": given.max_length,
        "padding": "max_length" if given.recipe == "guide" else False,
    }


def by_length(dataset: Any) -> Any:
    """The rows, longest first: who judges in this order pads least."""
    lengths = [len(ids) for ids in dataset["input_ids"]]
    return dataset.select(sorted(range(len(lengths)), key=lambda index: -lengths[index]))


def judge(trainer: Any, dataset: Any, given: argparse.Namespace, values: Any) -> None:
    """Train, save, and print the metrics as JSON. `values`: (the Trainer's output) -> metric -> value."""
    trainer.train()
    trainer.save_model(str(given.out / "model"))
    if given.recipe == "guide":
        trainer.evaluate()
    print(json.dumps(values(trainer.predict(dataset))))
