"""What happens when memory runs out: how it is recognized, what is said of it, and the smaller batch that is tried."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ftcheck.errors import OutOfMemoryError, TrainingError
from ftcheck.finetune import Job

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

LOGITS_AT_ONCE = 1 << 29
"""Bytes that float32 logits of a judged batch may have, unless those of one feature have more: with what models and
losses make of them, evaluation stays within 1 GB."""

LOGITS_OF_A_PART = 1 << 27
"""Bytes that those of some places of one feature may have, where its own are more: soft caps and scales make copies."""

TRAIN, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
DEFAULTS: Mapping[str, int] = {TRAIN: 8, ACCUMULATION: 1}
"""TrainingArguments' own."""

_SAID = re.compile(
    r"out of memory|can(?:'|no)t allocate memory|_ALLOC_FAILED|could not create a primitive$", re.IGNORECASE
)
"""What torch, its backends and the C library say, each in an exception of another class, or none of its own: the last
is oneDNN's, where there is no room for the code that it makes."""
_NEEDED = re.compile(
    r"tried to allocate (?P<asked>[\d.]+ ?\w+)|unable to (?:allocate|mmap) (?P<other>[\d.]+ ?\w+)", re.IGNORECASE
)
_FREE = re.compile(r"total capacity of (?P<total>[\d.]+ \w+) of which (?P<free>[\d.]+ \w+) is free")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the device or on the host: most of those who say so say it in words only."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | OSError) and _SAID.search(str(error)) is not None


def unless_out_of_memory(compute: Callable[[], T], *, last_try: bool) -> T | None:
    """What is computed; None where memory ran out, unless this is the last try. The error goes, and with it what its
    traceback kept of the device's memory."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if last_try or not out_of_memory(error):
            raise
    return None


def _needed(error: BaseException) -> str:
    """What was asked for and what was left, as far as the error says it: ` (2.50 GiB more were asked for)`."""
    text = str(error)
    asked, free = _NEEDED.search(text), _FREE.search(text)
    told = []
    if asked is not None:
        told.append(f"{_amount(asked['asked'] or asked['other'])} more were asked for")
    if free is not None:
        told.append(f"{free['free']} of {free['total']} were free")
    return f" ({', '.join(told)})" if told else ""


def _amount(text: str) -> str:
    """`400000000 bytes` in units that are read at a glance; other amounts come in such."""
    number, _, unit = text.partition(" ")
    return f"{int(number) / 2**20:,.0f} MiB" if unit == "bytes" else text


@contextmanager
def explained(device: str, doing: str, advice: str, kind: type[TrainingError] = TrainingError) -> Iterator[None]:
    """Memory that runs out, as the one error of `kind` for it: what was being done, what was needed, what to set."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not out_of_memory(error):
            raise
        raise kind(f"out of memory {_where(error, device)}, {doing}{_needed(error)}: {advice}") from error


def _where(error: BaseException, device: str) -> str:
    on_host = isinstance(error, MemoryError | OSError) or "CPUAllocator" in str(error)
    return f"on the host, not on {device}" if on_host and device != "cpu" else f"on {device}"


def loading(job: Job) -> AbstractContextManager[None]:
    """Memory that isn't enough for the model is explained."""
    return explained(job.device, "loading the model", "take a smaller one, or a device with more memory")


def answering(job: Job) -> AbstractContextManager[None]:
    """Memory that isn't enough for one answer at a time is explained."""
    from ftcheck.finetune.model import length_option

    advice = f"lower {length_option(job.case.task_options)}, or take a device with more memory"
    return explained(job.device, "answering one example at a time", advice)


def answered_at_once(job: Job) -> int:
    """How many examples the case has answered at a time."""
    from ftcheck import tasks
    from ftcheck.finetune.predict import BATCH_SIZE

    given = {**tasks.get(job.case.task).training_defaults, **(job.case.training or {})}
    return int(given.get("per_device_eval_batch_size", BATCH_SIZE))


def written_at_once(job: Job) -> int | None:
    """How many texts the case has generated at a time; None where it doesn't say: what a task is set to answer at a
    time is for logits of all tokens, of which generation has but one for each text."""
    given = (job.case.training or {}).get("per_device_eval_batch_size")
    return None if given is None else int(given)


def fitting(places: np.ndarray, model: Any) -> int:
    """How many features are answered at once by a model that says something of every token of its vocabulary at so many
    `places` (features,) of each, when all are padded to the longest: as many as LOGITS_AT_ONCE has room for, at least
    one."""
    import numpy as np

    padded = np.maximum.accumulate(places) * np.arange(1, len(places) + 1)
    return max(1, int(np.searchsorted(padded, LOGITS_AT_ONCE // (4 * vocabulary(model)), side="right")))


def vocabulary(model: Any) -> int:
    """Its tokens; 1 where the model has none."""
    return getattr(model.config.get_text_config(decoder=True), "vocab_size", None) or 1


def batch(job: Job) -> tuple[int, int]:
    """(examples of a batch, batches of an optimizer step) that the job trains with."""
    from ftcheck import tasks

    given = {**DEFAULTS, **tasks.get(job.case.task).training_defaults, **(job.case.training or {})}
    return int(given[TRAIN]), int(given[ACCUMULATION])


def smaller(job: Job) -> Job | None:
    """The same job with half the batch, or the next smaller part that leaves as many examples to an optimizer step;
    None where a batch is one example."""
    size, steps = batch(job)
    if size == 1:
        return None
    part = next(part for part in range(size // 2, 0, -1) if size % part == 0)
    training = {**(job.case.training or {}), TRAIN: part, ACCUMULATION: steps * (size // part)}
    return replace(job, case=replace(job.case, training=training))


def training(job: Job) -> AbstractContextManager[None]:
    """Memory that isn't enough for a step of the training is an OutOfMemoryError, which says what to set."""
    from ftcheck.finetune import techniques
    from ftcheck.finetune.model import length_option

    size = batch(job)[0]
    halves = not any(technique.halving_problem() for technique in techniques.of(job.case))
    if size == 1:
        advice = "a batch is one example already: set"
    elif halves:
        advice = "set on_oom: halve_batch, which keeps the examples of a step, or"
    else:
        advice = "lower it, or set"
    advice += f" training.activation_checkpointing: true, or lower {length_option(job.case.task_options)}"
    return explained(job.device, f"training with {TRAIN} {size}", advice, OutOfMemoryError)


def told(asked: Job, used: Job) -> tuple[dict[str, Any], str]:
    """(record, note) of a training that took smaller batches than its case asks for."""
    (size, steps), (part, more) = batch(asked), batch(used)
    record = {"asked": {TRAIN: size, ACCUMULATION: steps}, "used": {TRAIN: part, ACCUMULATION: more}}
    note = (
        f"on_oom: memory ran out with {TRAIN} {size}: trained with {part} and {ACCUMULATION} {more}, which is the same "
        f"{size * steps:,} examples a step"
    )
    return record, note


def told_of_answers(asked: int, used: int) -> str:
    """The note of a stage that answered fewer examples at a time than it was to."""
    return (
        f"memory ran out with per_device_eval_batch_size {asked}: answered {used} at a time, which may change the last "
        "digits, and what is drawn where texts are sampled"
    )
