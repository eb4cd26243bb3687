"""What a stream of training rows can't do: have a size, be cut into parts, or be read by other roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck.spec.declaration import KeyPath
from ftcheck.spec.fields import DataFields


def data_problems(data: DataFields) -> Iterator[tuple[KeyPath, str]]:
    """(path of a field of the case, what is wrong with it)."""
    if callable(data.path):
        yield (
            ("data", "streaming"),
            "what a function returns is known by all of its rows, which a stream never shows: name files or a Hub id",
        )
    if data.holdout:
        yield ("data", "holdout"), "can't be carved out of a stream; name other splits in data.splits"
    train = data.splits.get("train", "train")
    if "[" in train or "+" in train:
        yield ("data", "splits", "train"), "a stream is one whole split; data.limit.train takes its first rows"
        return
    for role, expression in data.splits.items():
        if role != "train" and train.strip() in (part.partition("[")[0].strip() for part in expression.split("+")):
            yield ("data", "splits", role), f"{train.strip()} is streamed to train on; {role} needs a split of its own"


def training_problems(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(TrainingArguments field, what is wrong with it) among those that the suite or the task gives."""
    steps = given.get("max_steps")
    if not isinstance(steps, int) or steps < 1:
        yield "max_steps", "needs training.max_steps: how many steps an epoch of a stream has is not known"
    for name in ("train_sampling_strategy", "group_by_length"):
        if given.get(name):
            yield name, "chooses among all rows, which a stream doesn't know; data.shuffle_buffer shuffles it"
    if given.get("dataloader_num_workers"):
        yield "dataloader_num_workers", "a stream is read in the training's own process; leave it out"
    for name in ("eval_strategy", "save_strategy", "logging_strategy"):
        if given.get(name) == "epoch":
            yield name, "where an epoch of a stream ends is not known; write steps"
