"""Runs a model over features: batches sorted by length, results in the features' order; and answers single inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import TrainingError
from ftcheck.finetune import Job, allocator, memory, spreading
from ftcheck.finetune.environment import give_back
from ftcheck.finetune.memory import told_of_answers
from ftcheck.finetune.output import Speaker
from ftcheck.finetune.work import Tokens
from ftcheck.tasks import Meta, Task, head

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.tasks.features import EncodedRows

BATCH_SIZE = 64
"""`per_device_eval_batch_size` unless the suite says otherwise; the Trainer's own 8 is slow."""

LOGITS = ("logits", "start_logits", "end_logits")
"""What outputs of models call what they say."""

OnBatch = Callable[[int, int], None]
"""(features done, features in all)."""
OnRead = Callable[[Sequence[int], Any], None]
"""(numbers of features, (features, places, width): what the model's encoder made of them, None where it isn't told)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model said: see `Task.decode` for the arrays' shapes."""

    arrays: list[np.ndarray]
    loss: float | None
    """The mean over items; None without any."""
    texts: list[str] | None = None
    """What it generated, one text a row; None where the task generates nothing."""
    notes: tuple[str, ...] = ()
    """Said to the reader: how many texts have no end, and that memory ran out for as many as were to be written at a
    time."""
    tokens: Tokens = field(default_factory=Tokens)
    """What the model read for `arrays`."""
    batch_size: int = 0
    """How many features were answered at a time in the end: fewer than asked for where memory ran out."""


def answer(
    model: Any,
    tokenizer: Any,
    task: Task,
    features: EncodedRows,
    prompts: EncodedRows | None,
    *,
    meta: Meta,
    job: Job,
    batch_size: int = BATCH_SIZE,
    texts_at_once: int | None = None,
    on_batch: OnBatch | None = None,
) -> Answers:
    """Everything that `Task.decode` wants to know: the model's outputs for `features`, and what it generates from
    `prompts` (None: as many at a time as BATCH_SIZE, or fewer where their caches would be large). What an encoder
    reads for both it reads once. Leaves the model in evaluation mode."""
    import numpy as np

    from ftcheck.finetune import writing
    from ftcheck.finetune.generating import Writer

    options = job.case.task_options
    answers = Answers(arrays=[], loss=None)
    writer, size = None, 0
    if prompts is not None:
        arguments = task.generation(tokenizer, meta, options)
        longest = int(np.diff(prompts.starts).max(initial=0))
        size = texts_at_once or min(BATCH_SIZE, writing.rows_that_fit(model, longest, arguments))
        writer = Writer(
            model,
            tokenizer,
            prompts,
            arguments,
            device=job.device,
            precision=job.precision,
            batch_size=size,
            on_batch=on_batch,
        )
    if task.runs_model(features):
        once = vars(type(task)).get("read_once") and writer is not None and writer.reads(features)
        reader = writer if once else None
        answers = run(
            model,
            features,
            task.collator(tokenizer, None),
            task,
            device=job.device,
            precision=job.precision,
            batch_size=batch_size,
            on_batch=on_batch if reader is None else None,
            on_read=None if reader is None else reader.take,
        )
    if writer is None:
        return answers
    generated = writer.finish()
    notes = generated.notes
    if generated.batch_size < size:
        notes += (told_of_answers(size, generated.batch_size),)
    return replace(answers, texts=generated.texts, notes=notes)


def no_numbers(what: str) -> TrainingError:
    return TrainingError(
        f"the model answers with {what} that are no numbers (NaN), so that nothing can be measured: its weights are "
        "broken, or too large for the precision; look at the checkpoint, or try precision: fp32"
    )


def run(
    model: Any,
    features: Any,
    collate: Callable[[Sequence[Any]], dict[str, Any]],
    task: Task,
    *,
    device: str,
    precision: str,
    batch_size: int = BATCH_SIZE,
    on_batch: OnBatch | None = None,
    on_read: OnRead | None = None,
) -> Answers:
    """The task's outputs for every feature, in the order of `features`.

    Batches hold features of like length (longest first, so that memory runs out at once or never), of a model that
    speaks of a whole vocabulary no more than there is room for (`memory.fitting`); where memory runs out, they are
    halved from there on: what a feature's output is doesn't depend on its batch but for float rounding. Leaves the
    model in evaluation mode. Raises TrainingError for outputs that are NaN.
    """
    import numpy as np

    from ftcheck.finetune import writing

    order = np.argsort(-np.diff(features.starts), kind="stable")
    spoken = task.places(features)
    arrays: list[np.ndarray] = []
    tokens = Tokens()
    speaker = Speaker(model, task)
    total, items = 0.0, 0
    low = 0
    in_step = spreading.is_spread(model)  # others would wait for this one, whose batches became others
    model.eval()
    giving = nullcontext() if spoken is None else allocator.but_large_blocks(device)
    with writing.weights_cast_once(model), autocast(device, precision), giving:
        while low < len(order):
            chosen = _at_once(order[low : low + batch_size], spoken, model)
            collated = collate([features[int(i)] for i in chosen])
            of_batch = partial(_outputs, speaker, collated, task, device, tokens, read=on_read is not None)
            answered = memory.unless_out_of_memory(of_batch, last_try=len(chosen) == 1 or in_step)
            if answered is None:
                batch_size = len(chosen) // 2
                give_back(device)
                continue
            found, loss, counted, read = answered
            total, items = total + loss, items + counted
            places: np.ndarray = chosen
            if task.per_token:
                inside, places = _tokens(features.starts, chosen, found[0].shape[1], left=_is_left(collate))
                found = [values[inside] for values in found]
            if not arrays:
                count = int(features.starts[-1]) if task.per_token else len(order)
                arrays = [np.empty((count, *values.shape[1:]), dtype=values.dtype) for values in found]
            for array, values in zip(arrays, found, strict=True):
                if np.isnan(values).any():
                    raise no_numbers("outputs")
                array[places] = values
            low += len(chosen)
            if on_batch is not None:
                on_batch(low, len(order))
            if on_read is not None:
                on_read(chosen.tolist(), read)
    return Answers(arrays=arrays, loss=total / items if items else None, tokens=tokens, batch_size=batch_size)


def _at_once(features: np.ndarray, places: np.ndarray | None, model: Any) -> np.ndarray:
    """Those of the numbered features, from the first on, that are answered at once."""
    return features if places is None else features[: memory.fitting(places[features], model)]


def _outputs(
    speaker: Speaker, collated: Mapping[str, Any], task: Task, device: str, tokens: Tokens, *, read: bool
) -> tuple[list[np.ndarray], float, int, Any]:
    """(what the task reads of a batch's output, its summed loss, the items of that, what the encoder made of the
    batch): loss and items are 0 without targets, the last is None unless `read`, and where it isn't told."""
    batch = {name: t.to(device) for name, t in collated.items()}
    targets = {name: batch.pop(name) for name in task.targets if name in batch}
    output = speaker.output(batch, targets)
    found = [_array(tensor) for tensor in task.outputs(output, targets)]
    told = task.targets[0] in targets
    loss, items = (float(task.loss(output, targets, 0.0)), int(task.items(targets))) if told else (0.0, 0)
    tokens.count(batch)  # now that its memory was enough
    encoded = getattr(output, "encoder_last_hidden_state", None) if read else None
    if encoded is not None and encoded.shape[:2] != batch["input_ids"].shape:  # places of its own (prompt tuning)
        encoded = None
    return found, loss, items, encoded


def difference(
    one: Any,
    other: Any,
    features: Any,
    collate: Callable[[Sequence[Any]], dict[str, Any]],
    task: Task,
    *,
    device: str,
    precision: str,
    batch_size: int = BATCH_SIZE,
) -> float:
    """The largest absolute difference between two models' logits for any feature; NaN where no logits are read."""
    import numpy as np
    import torch

    found = [] if task.runs_model(features) else [math.nan]
    speakers = [Speaker(model, task) for model in (one, other)]
    left = np.arange(0 if found else len(features))
    spoken = None if found else task.places(features)
    with torch.inference_mode(), autocast(device, precision):
        while len(left):
            chosen = _at_once(left[:batch_size], spoken, one)
            left = left[len(chosen) :]
            batch = {name: t.to(device) for name, t in collate([features[int(i)] for i in chosen]).items()}
            targets = {name: batch.pop(name) for name in task.targets if name in batch}
            outputs = [speaker.output(batch, targets) for speaker in speakers]
            for name in LOGITS:
                for first, second in head.pairs(*(getattr(output, name, None) for output in outputs)):
                    apart = torch.where(first == second, 0.0, (first.float() - second.float()).abs())
                    found.append(float(apart.max()))
    return float(torch.tensor(found or [math.nan]).max())


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """The arithmetic that training used."""
    import torch

    if precision == "fp32":
        return nullcontext()
    kind = torch.bfloat16 if precision == "bf16" else torch.float16
    context: AbstractContextManager[Any] = torch.autocast(torch.device(device).type, dtype=kind)
    return context


def _array(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.float() if tensor.is_floating_point() else tensor.to(torch.int32)
    array: np.ndarray = tensor.cpu().numpy()
    return array


def _is_left(collate: Any) -> bool:
    return bool(getattr(collate, "left", False))


def _tokens(starts: np.ndarray, chosen: np.ndarray, width: int, *, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which of a padded batch's (features, width) places are tokens, and where those lie among all tokens."""
    import numpy as np

    column = np.arange(width)
    lengths = (starts[chosen + 1] - starts[chosen])[:, None]
    begin = width - lengths if left else np.zeros_like(lengths)
    inside = (column >= begin) & (column < begin + lengths)
    return inside, (starts[chosen][:, None] + column - begin)[inside]


class Predictor:
    """A fine-tuned model that answers the task's natural input: what the `finetuned` fixture hands out.

    Loaded from `directory` (as `FineTuning.save` left it), or with None the case's checkpoint as it is.
    """

    def __init__(self, job: Job, directory: Path | None, *, meta: Mapping[str, Any], tuned: Mapping[str, Any]) -> None:
        from ftcheck import tasks
        from ftcheck.finetune import model as models
        from ftcheck.finetune.quiet import own_randomness, quiet
        from ftcheck.finetune.session import FineTuning

        self._job = job
        self._task = tasks.get(job.case.task)
        self._meta: Meta = dict(meta)
        self._tuned = dict(tuned)
        with quiet(), own_randomness(job.device):
            kept = FineTuning(job)
            if directory is None:
                kept.model, kept.tokenizer, _ = models.load(job, self._task, self._meta)
                kept.model.to(job.device).eval()
            else:
                kept.load(directory)
            self.model, self.tokenizer = kept.answering(), kept.tokenizer

    def predict(self, value: Any) -> Any:
        """One natural input -> its output, a list of them -> a list. Raises DataError for anything else."""
        import datasets

        from ftcheck.finetune.quiet import own_randomness, quiet

        task, options = self._task, self._job.case.task_options
        rows = task.rows_from_input(value)
        if not rows:
            return []
        with quiet(), own_randomness(self._job.device):
            table = datasets.Dataset.from_list(rows)
            features = task.encode(table, self.tokenizer, self._meta, options, training=False)
            prompts = task.prompts(table, self.tokenizer, self._meta, options)
            found = answer(self.model, self.tokenizer, task, features, prompts, meta=self._meta, job=self._job)
            records = task.decode(
                found.arrays,
                features,
                table,
                meta=self._meta,
                options=options,
                tuned=self._tuned,
                texts=found.texts,
            )
        answers = [task.natural_output(record, self._meta) for record in records]
        return answers[0] if task.is_one(value) else answers

    def close(self) -> None:
        """Give the model's memory back."""
        self.model = self.tokenizer = None
        give_back(self._job.device)
