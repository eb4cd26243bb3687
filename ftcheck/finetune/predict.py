"""Runs a model over features: batches sorted by length, results in the features' order; and answers single inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.finetune import Job
from ftcheck.tasks import Meta, Task

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.tasks.features import EncodedRows

BATCH_SIZE = 64
"""`per_device_eval_batch_size` unless the suite says otherwise; the Trainer's own 8 is slow."""

LOGITS = ("logits", "start_logits", "end_logits")
"""What outputs of models call what they say."""

OnBatch = Callable[[int, int], None]
"""(features done, features in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model said: see `Task.decode` for the arrays' shapes."""

    arrays: list[np.ndarray]
    loss: float | None
    """The mean over items; None without any."""
    texts: list[str] | None = None
    """What it generated, one text a row; None where the task generates nothing."""
    notes: tuple[str, ...] = ()
    """Said to the reader: how many texts have no end."""


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
    on_batch: OnBatch | None = None,
) -> Answers:
    """Everything that `Task.decode` wants to know: the model's outputs for `features`, and what it generates from
    `prompts`. Leaves the model in evaluation mode."""
    options = job.case.task_options
    answers = Answers(arrays=[], loss=None)
    if task.runs_model(features):
        collate = task.collator(tokenizer, None)
        answers = run(
            model,
            features,
            collate,
            task,
            device=job.device,
            precision=job.precision,
            batch_size=batch_size,
            on_batch=on_batch,
        )
    if prompts is None:
        return answers
    generated = generate(
        model,
        tokenizer,
        prompts,
        task.generation(tokenizer, meta, options),
        device=job.device,
        precision=job.precision,
        batch_size=batch_size,
        on_batch=on_batch,
    )
    return replace(answers, texts=generated.texts, notes=generated.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What a model wrote."""

    texts: list[str]
    """One a prompt, in their order."""
    notes: tuple[str, ...] = ()


def generate(
    model: Any,
    tokenizer: Any,
    prompts: EncodedRows,
    arguments: Mapping[str, Any],
    *,
    device: str,
    precision: str,
    batch_size: int,
    on_batch: OnBatch | None = None,
) -> Generated:
    """What the model continues or answers each prompt with, special tokens left out.

    Batches hold prompts of like length, longest first; where memory runs out, they are halved from there on. A
    decoder's prompts are padded on the left and are not part of the answer. `arguments` are those of `model.generate`
    (`max_new_tokens` among them), and the `seed` of sampling: each batch starts from it and its own place, so that what
    is drawn depends on the batch size, but not on what became of other batches.
    """
    import numpy as np
    import torch

    from ftcheck.tasks import features as encoded

    alone = not model.config.is_encoder_decoder
    collate = replace(encoded.collator(tokenizer, None), left=alone)
    given = dict(arguments)
    seed = given.pop("seed", 0)
    order = np.argsort(-np.diff(prompts.starts), kind="stable").tolist()
    texts = [""] * len(order)
    low = endless = 0
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        while low < len(order):
            chosen = order[low : low + batch_size]
            batch = {name: t.to(device) for name, t in collate([prompts[index] for index in chosen]).items()}
            torch.manual_seed(seed + low)
            tokens = _generated(model, {**batch, **given}, last_try=len(chosen) == 1)
            if tokens is None:
                batch_size = len(chosen) // 2
                torch.cuda.empty_cache()
                continue
            # A decoder's output begins with its prompt, an encoder-decoder's with the token that it starts with.
            tokens = tokens[:, batch["input_ids"].shape[1] if alone else 1 :]
            endless += _endless(tokens, model.generation_config, given["max_new_tokens"])
            for index, text in zip(chosen, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                texts[index] = text
            low += len(chosen)
            if on_batch is not None:
                on_batch(low, len(order))
    if not endless:
        return Generated(texts=texts)
    limit = f"max_new_tokens ({given['max_new_tokens']})"
    note = f"{endless:,} of {len(texts):,} generated texts reached {limit} without an end of their own"
    return Generated(texts=texts, notes=(note,))


def _generated(model: Any, arguments: Mapping[str, Any], *, last_try: bool) -> Any:
    """(batch, tokens); None where memory ran out, unless this is the last try."""
    try:
        return model.generate(**arguments)
    except (RuntimeError, MemoryError) as error:
        if last_try or not out_of_memory(error):
            raise
    return None


def _endless(tokens: Any, config: Any, limit: int) -> int:
    """How many of (batch, new tokens) have no end of their own within `limit` tokens: one that the model is forced to
    write in the last place is none."""
    import torch

    if tokens.shape[1] < limit:
        return 0
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ends = torch.tensor([end for end in ends if end is not None], device=tokens.device, dtype=tokens.dtype)
    own = tokens[:, : limit - 1] if config.forced_eos_token_id is not None else tokens
    return int((~torch.isin(own, ends).any(dim=1)).sum())


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
) -> Answers:
    """The task's outputs for every feature, in the order of `features`.

    Batches hold features of like length (longest first, so that memory runs out at once or never); what a feature's
    output is doesn't depend on its batch but for float rounding. Leaves the model in evaluation mode.
    """
    import numpy as np
    import torch

    lengths = np.diff(features.starts)
    order = np.argsort(-lengths, kind="stable")
    arrays: list[np.ndarray] = []
    total, items = 0.0, 0
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        for low in range(0, len(order), batch_size):
            chosen = order[low : low + batch_size]
            batch = {name: t.to(device) for name, t in collate([features[int(i)] for i in chosen]).items()}
            targets = {name: batch.pop(name) for name in task.targets if name in batch}
            output = task.forward(model, batch, targets)
            found = [_array(tensor) for tensor in task.outputs(output, targets)]
            if task.targets[0] in targets:
                total += float(task.loss(output, targets, 0.0))
                items += int(task.items(targets))
            places: np.ndarray = chosen
            if task.per_token:
                inside, places = _tokens(features.starts, chosen, found[0].shape[1], left=_is_left(collate))
                found = [values[inside] for values in found]
            if not arrays:
                count = int(features.starts[-1]) if task.per_token else len(order)
                arrays = [np.empty((count, *values.shape[1:]), dtype=values.dtype) for values in found]
            for array, values in zip(arrays, found, strict=True):
                array[places] = values
            if on_batch is not None:
                on_batch(low + len(chosen), len(order))
    return Answers(arrays=arrays, loss=total / items if items else None)


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
    import torch

    found = [] if task.runs_model(features) else [math.nan]
    with torch.inference_mode(), autocast(device, precision):
        for low in range(0, len(features) if not found else 0, batch_size):
            chosen = [features[index] for index in range(low, min(low + batch_size, len(features)))]
            batch = {name: t.to(device) for name, t in collate(chosen).items()}
            targets = {name: batch.pop(name) for name in task.targets if name in batch}
            outputs = [task.forward(model, batch, targets) for model in (one, other)]
            for name in LOGITS:
                first, second = (getattr(output, name, None) for output in outputs)
                if first is not None and second is not None:
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


def out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory: on a CPU it says so in words only."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


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
        from ftcheck.finetune.environment import give_back

        self.model = self.tokenizer = None
        give_back(self._job.device)
