"""What a run needs of the machine: as its suite says, as it was measured before, or as is estimated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck import tasks
from ftcheck.executors import estimate
from ftcheck.executors.estimate import Batch, Shape
from ftcheck.executors.leases import Need
from ftcheck.finetune import memory
from ftcheck.keys import hub
from ftcheck.spec import processes

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.executors import Work
    from ftcheck.finetune import Job
    from ftcheck.spec import Case

THREADS: Final = "OMP_NUM_THREADS"
MARGIN: Final = 1.15
"""Times what was estimated or measured: allocators keep more than is used."""
CONTEXT: Final = 800_000_000
"""Bytes of a CUDA context with the kernels of torch and cuBLAS; torch counts them in no peak."""
LIBRARIES: Final = 1_000_000_000
"""Bytes of a process that has imported torch, transformers and datasets."""
TOKENS: Final = 1024
"""The longest text that is expected where the suite says none and the model takes longer ones."""
_LOGITS: Final = ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM")
"""Models that say something of the whole vocabulary at every place."""
_TEXTS: Final = {"multiple-choice": 4, "preference": 2, "sentence-similarity": 2}
"""Task -> how many texts a row has."""
_LOADED: Final = {"4bit": 0.5, "8bit": 1.0}
_SHAPES: Final[dict[Path, Shape]] = {}
_DECIDING: Final = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_checkpointing", "optim")
"""TrainingArguments fields that memory depends on."""


def of(work: Work, device: Device, *, threads: int) -> Need:
    """What `work` needs when it trains on devices like `device`. `threads`: of each process, where the suite gives no
    `cpus`. A run whose memory nobody knows gets a GPU for itself; on a CPU its memory is not counted."""
    resources = work.job.case.resources
    processes = resources.processes
    on_gpu = device.kind == "cuda"
    known = resources.memory or _known(work, on_gpu=on_gpu)
    part = 0.0 if resources.gpus is None or not on_gpu else min(1.0, resources.gpus)
    if resources.memory is None and part:
        known = min(known or 0, int(part * device.memory)) if device.memory else 0
    elif known is None:
        part = 1.0 if on_gpu else 0.0
    return Need(
        memory=(known or 0) * (1 if on_gpu else processes),
        part=part,
        devices=processes if on_gpu else 1,
        cores=(resources.cpus or threads) * processes,
        said=resources.memory is not None,
        said_cores=resources.cpus is not None,
    )


def own_threads(cores: int, *, on_gpu: bool) -> int:
    """How many cores this process keeps busy when it trains: torch's threads, or on a GPU the one that feeds it."""
    return min(cores, said_threads() or (1 if on_gpu else cores))


def said_threads() -> int | None:
    """What the user set OMP_NUM_THREADS to, if anything."""
    said = os.environ.get(THREADS, "")
    return int(said) if said.isdecimal() and int(said) else None


def alike(one: Any, other: Any) -> bool:
    """Whether trainings with these components of train keys take the same memory, as far as keys tell."""
    same = ("checkpoint", "task", "techniques", "device_type", "precision", "limit")
    return all(one.get(name) == other.get(name) for name in same) and all(
        one.get("training", {}).get(name) == other.get("training", {}).get(name) for name in _DECIDING
    )


def _known(work: Work, *, on_gpu: bool) -> int | None:
    """Bytes, estimated; corrected by the peak of the training before, if there is one. None where nobody knows."""
    estimated = _estimated(work.job)
    if work.peak is not None:
        beside = CONTEXT if on_gpu else 0  # elsewhere the peak is the process's
        worse = 1.0 if estimated is None else max(1.0, estimated[1] / estimated[0])
        return int(MARGIN * work.peak * worse) + beside
    if estimated is None:
        return None
    return int(MARGIN * max(estimated)) + (CONTEXT if on_gpu else LIBRARIES)


def _estimated(job: Job) -> tuple[int, int] | None:
    """(bytes of the training, of predicting); None where the checkpoint's files aren't here or don't say."""
    folder = _folder(job)
    shape = None if folder is None else _shape(folder)
    if shape is None:
        return None
    case, task = job.case, tasks.get(job.case.task)
    arguments = {**task.training_defaults, **(case.training or {})}
    loaded = _LOADED.get(str(case.techniques.get("quantization", {}).get("load")), 4.0)
    texts = _TEXTS.get(case.task, 1)
    written = int((case.task_options.get("generation") or {}).get("max_new_tokens") or 0)

    def batch(rows: int, more: int = 0) -> Batch:
        return Batch(
            texts=texts * rows,
            tokens=_tokens(case, shape) + more,
            precision=job.precision,
            token_logits=task.auto_class in _LOGITS,
        )

    evaluating = estimate.evaluating(shape, batch(memory.answered_at_once(job), written), weight_bytes=loaded)
    if case.training is None:
        return evaluating, evaluating
    training = estimate.training(
        shape,
        batch(memory.batch(job)[0]),
        trained=_trained(case, shape),
        optimizer=str(arguments.get("optim", "adamw_torch")),
        checkpointing=bool(arguments.get("gradient_checkpointing")),
        weight_bytes=loaded,
        over=processes.spread_over(arguments, case.resources.processes),
    )
    beside = int(loaded * shape.parameters) if task.wants_reference(case.task_options) else 0
    return training + beside, evaluating + beside


def _folder(job: Job) -> Path | None:
    """Where the checkpoint's files are, as far as they are here: what is on the Hub may have to be fetched yet."""
    checkpoint = job.case.checkpoint
    if "init_from" in job.parents and job.parents["init_from"].is_dir():
        return job.parents["init_from"]
    if checkpoint.local:
        return Path(checkpoint.path)
    return hub.snapshot(checkpoint.path, job.checkpoint_revision) if job.checkpoint_revision else None


def _shape(folder: Path) -> Shape | None:
    """Read once: what changes meanwhile is refused by its key."""
    if folder not in _SHAPES and (found := Shape.read(folder)):
        _SHAPES[folder] = found
    return _SHAPES.get(folder)


def _tokens(case: Case, shape: Shape) -> int:
    """The most tokens of a text: what the suite cuts at, or else what the model takes."""
    from ftcheck.finetune.model import LENGTHS

    said = [int(case.task_options[name]) for name in LENGTHS if case.task_options.get(name)]
    return max(said) if said else min(shape.positions or 512, TOKENS)


def _trained(case: Case, shape: Shape) -> int | None:
    """How many parameters are trained: an adapter's, or (None) all. What is frozen otherwise counts as trained."""
    adapter = case.techniques.get("peft")
    if adapter is None:
        return None
    return shape.adapter(adapter.get("r") or 8, tuple(adapter.get("modules_to_save") or ()))
