"""`ftcheck advise`: whether fine-tuning is worth it for a case, and what to set, out of its rows and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftcheck import sizes, surveying, tasks
from ftcheck.errors import shown
from ftcheck.finetune import techniques
from ftcheck.report import numbers
from ftcheck.surveying import Reference, Size

if TYPE_CHECKING:
    from ftcheck.finetune import Job, OnProgress
    from ftcheck.spec import Case

FEW = 8
"""Examples of a class below which its score is mostly luck (Schick and Schütze 2021 call up to 32 few-shot)."""
IMBALANCED = 5.0
"""The largest class so many times the smallest: the loss is worth weighting."""
ENOUGH_STEPS = 300
"""Optimizer steps that a small data set should be trained for: Mosbach et al. 2021 ("On the Stability of Fine-tuning
BERT") find that runs fail for being too short."""
EPOCHS = (2, 20)
LARGEST_BATCH = 64
PADDED = 0.3
"""Part of a batch of rows drawn blindly that is padding: from there on, rows of like length are worth grouping."""
USABLE = 0.8
"""Part of the free memory that a training may take; the rest is the libraries'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a case should say, and why."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What was looked at, and what follows from it."""

    case: Case
    rows: Mapping[str, int]
    """Role -> how many."""
    classes: Mapping[str, int]
    """Class -> training rows; empty where rows have no one class."""
    lengths: tuple[int, ...]
    """Tokens of a sample of the training rows, sorted; empty where the task's features aren't rows."""
    size: Size
    references: tuple[Reference, ...]
    worth: str
    settings: tuple[Setting, ...]


def advise(case: Case, job: Job, *, on_progress: OnProgress) -> Advice:
    """Look at the rows and the checkpoint of `case`. `job` is one of its runs. Trains no neural model.

    Raises FtcheckError for data or a checkpoint that can't be used.
    """
    from ftcheck.finetune import data

    folding = techniques.folding(case)
    kept = {} if folding is None else {folding.name: folding.given}
    plain = replace(case, training=case.training or {}, techniques=kept, parents={})
    looked_at = replace(job, case=plain, fold=None if folding is None else 0)
    found = data.load(looked_at)
    size, tokenizer = surveying.checkpoint(looked_at)
    column = tasks.get(case.task).stratify_by(case.task_options)
    classes = surveying.classes(found.roles["train"], column)
    lengths = surveying.lengths(looked_at, found.roles["train"], tokenizer)
    references = tuple(surveying.references(looked_at, found, column, size, on_progress))
    rows = {role: len(picked.hashes) for role, picked in found.roles.items()}
    settings = _settings(job, rows=rows, classes=classes, lengths=lengths, size=size)
    return Advice(
        case=case,
        rows=rows,
        classes=classes,
        lengths=lengths,
        size=size,
        references=references,
        worth=worth(references, classes),
        settings=tuple(settings),
    )


# What follows


def worth(references: Sequence[Reference], classes: Mapping[str, int]) -> str:
    """Whether fine-tuning is worth it, and why, as one sentence or two."""
    scores = {reference.name: reference.scores for reference in references}
    few = sum(count < FEW for count in classes.values())
    caution = (
        f" {few} of {len(classes)} classes have fewer than {FEW} training rows: label more of them first."
        if few
        else ""
    )
    majority, words = (scores.get(name, {}).get("accuracy") for name in ("majority", "TF-IDF"))
    own = scores.get("as it is", {}).get("accuracy")
    if own is not None and words is not None and own > max(words, 0.9):
        return f"Hardly: the checkpoint as it is has accuracy {own:.3f} already.{caution}"
    if majority is None or words is None:
        return f"It must be tried: nothing cheap is known to compare with for this task.{caution}"
    if words >= 0.97:
        return (
            f"Hardly: words alone (TF-IDF and a logistic regression, in seconds) reach accuracy {words:.3f}; "
            f"fine-tuning can add {1 - words:.3f} at most.{caution}"
        )
    if words - majority < 0.02:
        return (
            f"Perhaps: words alone do no better ({words:.3f}) than the commonest class ({majority:.3f}); either the "
            f"task needs more than words, which fine-tuning may learn, or the labels hold no more than chance.{caution}"
        )
    return (
        f"Yes: words alone reach accuracy {words:.3f} (the commonest class {majority:.3f}), which leaves "
        f"{1 - words:.3f} to gain. A fine-tuned model should be above {words:.3f}: gates: {{accuracy: {{min: "
        f"{math.floor(words * 100) / 100:.2f}}}}}.{caution}"
    )


def _settings(
    job: Job, *, rows: Mapping[str, int], classes: Mapping[str, int], lengths: Sequence[int], size: Size
) -> Iterator[Setting]:
    case = job.case
    if lengths:
        yield _length(case, lengths, size)
    length = int(case.task_options.get("max_length") or (lengths[-1] if lengths else size.longest or 512))
    batch, why = _batch(job, rows["train"], min(length, lengths[-1]) if lengths else length, size)
    yield Setting(key="training.per_device_train_batch_size", value=batch, why=why)
    epochs, why = _epochs(rows["train"], batch)
    yield Setting(key="training.num_train_epochs", value=epochs, why=why)
    steps = math.ceil(rows["train"] / batch) * epochs
    yield Setting(
        key="training.warmup_steps",
        value=0.1,
        why=f"a tenth of about {numbers.count(steps, 'step')}: Adam's first estimates are too rough for the full rate",
    )
    if lengths:
        yield from _padding(case, [min(one, length) for one in lengths], batch)
    weights = "class_weights" in techniques.names()
    if weights and classes and max(classes.values()) >= IMBALANCED * min(classes.values()):
        most, least = next(iter(classes)), list(classes)[-1]
        yield Setting(
            key="class_weights",
            value="balanced",
            why=f"{shown(most, 40)} has {classes[most]:,} training rows, {shown(least, 40)} {classes[least]:,}; "
            "worth it where macro_f1 is what counts",
        )


def _length(case: Case, lengths: Sequence[int], size: Size) -> Setting:
    """The 99th percentile, rounded up to a multiple of 8, which tensor cores like."""
    wanted = math.ceil(lengths[math.ceil(0.99 * len(lengths)) - 1] / 8) * 8
    if size.longest is not None:
        wanted = min(wanted, size.longest)
    current = case.task_options.get("max_length")
    cut = sum(length > (current or size.longest or math.inf) for length in lengths)
    now = f"{current} cuts" if current else "none is set, and the model cuts"
    now = f"{now} {100 * cut / len(lengths):.1f} % of the rows"
    return Setting(
        key="task.max_length",
        value=wanted,
        why=f"99 of 100 rows have at most {lengths[math.ceil(0.99 * len(lengths)) - 1]:,} tokens (half at most "
        f"{lengths[len(lengths) // 2]:,}); {now}",
    )


def _padding(case: Case, lengths: Sequence[int], batch: int) -> Iterator[Setting]:
    kind = techniques.get("padding")
    part = padding(lengths, batch)
    if part >= PADDED and not case.data.streaming and not kind.excludes.keys() & case.techniques.keys():
        why = f"{100 * part:.0f} % of a batch of {batch} rows drawn blindly is padding"
        yield Setting(key=kind.name, value="groups", why=f"{why}; of rows of like length, next to nothing")


def padding(lengths: Sequence[int], batch: int) -> float:
    """The part of a batch that is padding where rows are drawn at random: the longest of `batch` draws is the k-th of n
    sorted `lengths` with probability (k / n)^batch - ((k - 1) / n)^batch."""
    n = len(lengths)
    longest = sum(length * ((k / n) ** batch - ((k - 1) / n) ** batch) for k, length in enumerate(lengths, 1))
    return 1 - sum(lengths) / n / longest


def memory(size: Size, *, batch: int, length: int, bytes_per_value: int) -> float:
    """Bytes that a training with Adam takes: weights, gradients and two moments in float32, and the activations of
    Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer Models", eq. 2), in values of
    `bytes_per_value` bytes instead of 2."""
    weights = 16.0 * size.parameters
    a_layer = batch * length * size.hidden * (34 + 5 * size.heads * length / size.hidden) * bytes_per_value / 2
    return weights + size.layers * a_layer


def _batch(job: Job, rows: int, length: int, size: Size) -> tuple[int, str]:
    """The largest power of two that fits the memory, the data (20 steps an epoch) and habit."""
    free = _free_memory(job.device)
    bytes_per_value = 4 if job.precision == "fp32" else 2

    def taken(batch: int) -> float:
        return memory(size, batch=batch, length=length, bytes_per_value=bytes_per_value)

    powers = [2**power for power in range(int(math.log2(LARGEST_BATCH)) + 1)]
    fitting = [batch for batch in powers if taken(batch) <= USABLE * free]
    if not fitting:
        return 1, (
            f"even one row of {length:,} tokens takes about {sizes.in_words(taken(1))} of {sizes.in_words(free)} "
            "free: train fewer parameters (peft, freeze), or shorter rows"
        )
    batch = max((b for b in fitting if b <= max(8, rows / 20)), default=fitting[0])
    return batch, (
        f"takes about {sizes.in_words(taken(batch))} with {length:,} tokens, of {sizes.in_words(free)} free; at "
        "least 20 steps an epoch where there are rows for them"
    )


def _free_memory(device: str) -> float:
    """Bytes: of the GPU, or of the machine."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(psutil.virtual_memory().available)


def _epochs(rows: int, batch: int) -> tuple[int, str]:
    steps = math.ceil(rows / batch)
    epochs = min(max(math.ceil(ENOUGH_STEPS / steps), EPOCHS[0]), EPOCHS[1])
    return (
        epochs,
        f"{numbers.count(steps, 'step')} an epoch; fewer than {ENOUGH_STEPS} in all are often unstable",
    )


# What is said


def report(found: Advice, nodeid: str) -> Iterator[str]:
    """The lines of the report."""
    case = found.case
    counts = ", ".join(f"{role} {count:,}" for role, count in found.rows.items())
    parameters = f"{sizes.scaled(found.size.parameters)}parameters"
    yield f"{nodeid}: {case.task} with {shown(case.checkpoint.path, 100)}, {parameters}"
    yield f"  rows: {counts}"
    if found.classes:
        yield f"  classes: {_said_classes(found.classes)}"
    yield ""
    yield "without fine-tuning:"
    for reference in found.references:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in reference.scores.items())
        yield f"  {reference.name}: {scores or reference.why_not}"
    if not found.references:
        yield "  nothing cheap is known for this task"
    yield ""
    yield f"worth it? {found.worth}"
    yield ""
    yield "what to set:"
    for setting in found.settings:
        current = _current(case, setting.key)
        now = "as it is" if current == setting.value else "not set" if current is None else f"now {current}"
        yield f"  {setting.key}: {setting.value}  ({now})"
        yield f"      {setting.why}"


def _said_classes(classes: Mapping[str, int]) -> str:
    most, least = next(iter(classes.items())), list(classes.items())[-1]
    if most[1] == least[1]:
        return f"{len(classes):,}, {numbers.count(most[1], 'row')} each"
    return (
        f"{len(classes):,}, from {shown(least[0], 40)} ({least[1]:,}) to {shown(most[0], 40)} ({most[1]:,}): "
        f"{most[1] / least[1]:.1f} times as many"
    )


def _current(case: Case, key: str) -> Any:
    """What the case says there."""
    group, _, name = key.partition(".")
    if not name:
        return case.techniques.get(key, {}).get(techniques.get(key).short or "")
    part: Mapping[str, Any] = {"task": case.task_options, "training": case.training or {}}[group]
    return part.get(name)
