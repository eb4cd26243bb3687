"""The heavy room: data, model, trainer, prediction. Its facade: importing it imports no torch or transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ftcheck.spec import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found before the first run of a case: all its runs share it."""

    training: Mapping[str, Any]
    """TrainingArguments fields that it chose."""
    record: Mapping[str, Any]
    """How it came to them, to be kept with each run."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run to make: everything the heavy room needs, resolved."""

    case: Case
    seed: int
    device: str
    """`cpu`, `cuda:N` or `mps`."""
    precision: Literal["fp32", "bf16", "fp16"]
    limit: int | None = None
    """`--ft-limit N`: at most N rows of every role."""
    offline: bool = False
    allow_remote_code: bool = False
    """`--ft-allow-remote-code`: code that the suite pins may run."""
    checkpoint_revision: str | None = None
    """The resolved commit where the checkpoint is on the Hub: load exactly this."""
    tokenizer_revision: str | None = None
    data_revision: str | None = None
    """The resolved commit where the data is on the Hub: load exactly this."""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Of other models on the Hub that techniques load: name -> the resolved commit."""
    parents: Mapping[str, Path] = field(default_factory=dict)
    """Technique -> the folder of the trained model of the case that it names. It is there where the job trains, or
    keeps a part of a model only."""
    parent_keys: Mapping[str, str] = field(default_factory=dict)
    """Technique -> the digest of that model's train key."""
    fold: int | None = None
    """Which part of the training rows is judged instead of being trained on, counted from 0."""
    found: Mapping[str, Found] = field(default_factory=dict)
    """Technique -> what its search found; `case.training` has the values."""
    profile: bool = False
    """Whether the device's limit is measured. No result depends on it."""
    tensorboard: str | None = None
    """The folder that the Trainer writes events to. No result depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a stage stands, for the live line."""

    stage: Literal["load", "search", "train", "evaluate", "predict"]
    done: int = 0
    total: int = 0
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None


OnProgress = Callable[[Progress], None]
"""Called from within training; may raise to stop it."""

Arrays = Mapping[str, Any]
"""NumPy arrays by name."""
Share = Callable[[Mapping[str, Any], Callable[[], Arrays]], Arrays]
"""(what arrays depend on, what makes them) -> them, made once for all runs that ask for the same."""


def unshared(components: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """Made for this run alone."""
    return make()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Where the time and the memory of a stage went."""

    seconds: Mapping[str, float]
    """Phase -> seconds, without the phases within it."""
    peak_bytes: Mapping[str, int]
    """Phase -> the most memory in use meanwhile, as `peak_memory_bytes` counts it."""
    work: Mapping[str, Any] | None
    """What the model did, as `finetune.work.Compute` has it; None where it did nothing, or nobody counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training left behind besides the model."""

    meta: Mapping[str, Any]
    tuned: Mapping[str, Any]
    costs: Mapping[str, float]
    """train_seconds and train_samples_per_second (neither without training), peak_memory_bytes (on the GPU; elsewhere
    resident in this process, libraries included; of several processes in the one that took most), parameters,
    trainable_parameters, model_bytes (of the weights)."""
    log_history: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any]
    """Library versions, threads, device name, driver: recorded, not all of it in the key."""
    rows: Mapping[str, Any]
    """Role -> {"count": N, "hashes": digest of the rows' own hashes}."""
    first_losses: tuple[float, ...] = ()
    """Of the training's first steps: whether two trainings part from the start."""
    spent: Spent | None = None
    row_hashes: tuple[str, ...] = ()
    """Of the training rows, in order: how many differ between two trainings."""
    records: Mapping[str, Any] = field(default_factory=dict)
    """Technique -> what it left to be read, as JSON: the trials of a search, the curve of a learning-rate test."""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """The evaluation rows as the model answered them."""

    records: list[dict[str, Any]]
    meta: Mapping[str, Any]
    tuned: Mapping[str, Any]
    costs: Mapping[str, float]
    """eval_seconds, eval_samples_per_second; without training also parameters, trainable_parameters, model_bytes."""
    rows: Mapping[str, Any]
    spent: Spent | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())
