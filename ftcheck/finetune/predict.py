"""Runs a model over features: batches sorted by length, results in the features' order; and answers single inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ftcheck import timing
from ftcheck.errors import TrainingError
from ftcheck.finetune import Job, allocator, memory, spreading
from ftcheck.finetune.environment import give_back
from ftcheck.finetune.memory import out_of_memory, told_of_answers
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

T = TypeVar("T")
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
    `prompts` (None: as many at a time as BATCH_SIZE, or fewer where their caches would be large). Leaves the model in
    evaluation mode."""
    import numpy as np

    from ftcheck.finetune import writing

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
    arguments = task.generation(tokenizer, meta, options)
    longest = int(np.diff(prompts.starts).max(initial=0))
    size = texts_at_once or min(BATCH_SIZE, writing.rows_that_fit(model, longest, arguments))
    with timing.phase("generate"):
        generated = generate(
            model,
            tokenizer,
            prompts,
            arguments,
            device=job.device,
            precision=job.precision,
            batch_size=size,
            on_batch=on_batch,
        )
    notes = generated.notes
    if generated.batch_size < size:
        notes += (told_of_answers(size, generated.batch_size),)
    return replace(answers, texts=generated.texts, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What a model wrote."""

    texts: list[str]
    """One a prompt, in their order."""
    batch_size: int
    """How many prompts were answered at a time in the end."""
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
    import torch

    from ftcheck.finetune import writing
    from ftcheck.tasks import features as encoded

    alone = not model.config.is_encoder_decoder
    collate = replace(encoded.collator(tokenizer, None), left=alone)
    given = dict(arguments)
    seed = given.pop("seed", 0)
    sharing = _sharing(prompts, apart=bool(writing.settings(model, given).do_sample))
    order = sorted(sharing, key=lambda index: -len(prompts[index]["input_ids"]))
    texts = [""] * len(prompts)
    low = done = endless = 0
    watch = _NaNWatch()
    in_step = spreading.is_spread(model)  # others would wait for this one, whose batches became others
    model.eval()
    with writing.weights_cast_once(model), autocast(device, precision):
        while low < len(order):
            chosen = order[low : low + batch_size]
            batch = {name: t.to(device) for name, t in collate([prompts[index] for index in chosen]).items()}
            torch.manual_seed(seed + low)
            write = partial(_written, model, {**batch, **given, "logits_processor": [watch]})
            tokens = _unless_out_of_memory(write, last_try=len(chosen) == 1 or in_step)
            if tokens is None:
                batch_size = len(chosen) // 2
                give_back(device)
                continue
            watch.check()
            # A decoder's output begins with its prompt, an encoder-decoder's with the token that it starts with.
            tokens = tokens[:, batch["input_ids"].shape[1] if alone else 1 :]
            without = _endless(tokens, model.generation_config, given["max_new_tokens"])
            written = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            for index, text, has_none in zip(chosen, written, without, strict=True):
                endless += has_none * len(sharing[index])
                done += len(sharing[index])
                for row in sharing[index]:
                    texts[row] = text
            low += len(chosen)
            if on_batch is not None:
                on_batch(done, len(texts))
    if not endless:
        return Generated(texts=texts, batch_size=batch_size)
    limit = f"max_new_tokens ({given['max_new_tokens']})"
    note = f"{endless:,} of {len(texts):,} generated texts reached {limit} without an end of their own"
    return Generated(texts=texts, batch_size=batch_size, notes=(note,))


def _sharing(prompts: EncodedRows, *, apart: bool) -> dict[int, list[int]]:
    """The first row with a prompt -> all rows with the same, which it is answered for; each alone where `apart`."""
    tokens, starts = prompts.tokens["input_ids"], prompts.starts
    rows: dict[Any, list[int]] = {}
    for row, (start, stop) in enumerate(pairwise(starts)):
        rows.setdefault(row if apart else tokens[start:stop].tobytes(), []).append(row)
    return {same[0]: same for same in rows.values()}


def _written(model: Any, arguments: dict[str, Any]) -> Any:
    """What `generate` makes of a batch."""
    from ftcheck.finetune import writing

    with writing.finished_rows_leave(model, arguments):
        return model.generate(**arguments)


def _unless_out_of_memory(compute: Callable[[], T], *, last_try: bool) -> T | None:
    """What is computed; None where memory ran out, unless this is the last try. The error goes, and with it what its
    traceback kept of the device's memory."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if last_try or not out_of_memory(error):
            raise
    return None


class _NaNWatch:
    """Looks at the scores that each token is chosen by: the largest of NaNs would be a token like any other."""

    def __init__(self) -> None:
        self._seen: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        found = scores.isnan().any()
        self._seen = found if self._seen is None else self._seen | found  # read at the end: a device needn't wait
        return scores

    def check(self) -> None:
        """Raises TrainingError."""
        if self._seen is not None and bool(self._seen):
            raise _no_numbers("scores of tokens")


def _no_numbers(what: str) -> TrainingError:
    return TrainingError(
        f"the model answers with {what} that are no numbers (NaN), so that nothing can be measured: its weights are "
        "broken, or too large for the precision; look at the checkpoint, or try precision: fp32"
    )


def _endless(tokens: Any, config: Any, limit: int) -> list[bool]:
    """Which of (batch, new tokens) have no end of their own within `limit` tokens: one that the model is forced to
    write in the last place is none."""
    import torch

    if tokens.shape[1] < limit:
        return [False] * len(tokens)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ends = torch.tensor([end for end in ends if end is not None], device=tokens.device, dtype=tokens.dtype)
    own = tokens[:, : limit - 1] if config.forced_eos_token_id is not None else tokens
    without: list[bool] = (~torch.isin(own, ends).any(dim=1)).tolist()
    return without


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
    in_step = spreading.is_spread(model)
    model.eval()
    giving = nullcontext() if spoken is None else allocator.but_large_blocks(device)
    with writing.weights_cast_once(model), autocast(device, precision), giving:
        while low < len(order):
            chosen = _at_once(order[low : low + batch_size], spoken, model)
            of_batch = partial(_outputs, speaker, collate([features[int(i)] for i in chosen]), task, device, tokens)
            answered = _unless_out_of_memory(of_batch, last_try=len(chosen) == 1 or in_step)
            if answered is None:
                batch_size = len(chosen) // 2
                give_back(device)
                continue
            found, loss, counted = answered
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
                    raise _no_numbers("outputs")
                array[places] = values
            low += len(chosen)
            if on_batch is not None:
                on_batch(low, len(order))
    return Answers(arrays=arrays, loss=total / items if items else None, tokens=tokens, batch_size=batch_size)


def _at_once(features: np.ndarray, places: np.ndarray | None, model: Any) -> np.ndarray:
    """Those of the numbered features, from the first on, that are answered at once."""
    return features if places is None else features[: memory.fitting(places[features], model)]


def _outputs(
    speaker: Speaker, collated: Mapping[str, Any], task: Task, device: str, tokens: Tokens
) -> tuple[list[np.ndarray], float, int]:
    """(what the task reads of a batch's output, its summed loss, the items of that), the latter 0 without targets."""
    batch = {name: t.to(device) for name, t in collated.items()}
    targets = {name: batch.pop(name) for name in task.targets if name in batch}
    output = speaker.output(batch, targets)
    found = [_array(tensor) for tensor in task.outputs(output, targets)]
    told = task.targets[0] in targets
    loss, items = (float(task.loss(output, targets, 0.0)), int(task.items(targets))) if told else (0.0, 0)
    tokens.count(batch)  # now that its memory was enough
    return found, loss, items


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
