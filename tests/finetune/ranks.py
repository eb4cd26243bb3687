"""The same trainings by one process and by several, which `python -m tests.finetune.ranks FOLDER` is the first of."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from ftcheck.finetune import Job, groups, techniques, together
from ftcheck.finetune.session import FineTuning
from ftcheck.spec import Data, EarlyStopping, Resources
from ftcheck.tasks.masking import CHANCE, MaskingCollator
from tests import warm
from tests.finetune.jobs import CHOICES, DOCUMENTS, NOUNS, QUESTIONS, TEXTS, UNANSWERABLE, Row, job, loaded
from tests.tiny import WORDS

PLAIN: dict[str, Any] = {"learning_rate": 0.1, "optim": "sgd", "logging_steps": 1, "num_train_epochs": 2}
"""Plain gradient descent: a gradient that is wrong by a factor shows, where Adam would hide it."""
LONG: Sequence[Row] = [
    {"tokens": ["the", *["old"] * (place * 7 % 40), "cat"], "tags": ["O", *["B-LOC"] * (place * 7 % 40), "O"]}
    for place in range(16)
]
"""16 sentences of 2 to 41 words."""
CHOSEN: Sequence[Row] = [
    {"prompt": f"the {noun}", "chosen": " runs ." + " it sleeps" * (place % 3), "rejected": " red ."}
    for place, noun in enumerate((*NOUNS, *NOUNS[:2]))
]
PAIRS: Sequence[Row] = [
    {"text": f"the {city} runs", "text_pair": f"{'old ' * place}{city}", "label": place / 8}
    for place, city in enumerate(WORDS[:8])
]


def jobs(folder: Path, processes: int) -> Iterator[tuple[str, Job, Any]]:
    """(name, job, rows): an optimizer step has the same rows, however many processes have a part of them."""
    bert, gpt2 = folder / "bert", folder / "gpt2"
    fields: dict[str, Any] = {"resources": Resources(gpus=processes if processes > 1 else None)}
    whole = loaded(train=TEXTS[:16], eval=TEXTS, tune=TEXTS[16:])

    def training(batch: int, **more: Any) -> dict[str, Any]:
        return {**PLAIN, "per_device_train_batch_size": batch // processes, **more}

    yield "classes", job("text-classification", bert, training=training(8), **fields), whole
    looks = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "learning_rate": 4.0}
    stopped = job(
        "text-classification",
        bert,
        training=training(4, **looks, **best, num_train_epochs=6),
        early_stopping=EarlyStopping(patience=2),
        **fields,
    )
    yield "stopped", stopped, whole
    uneven = training(4, gradient_accumulation_steps=2)
    yield "tokens", job("token-classification", bert, training=uneven, **fields), loaded(train=LONG, eval=LONG)
    texts = [{"text": " ".join(row["tokens"])} for row in LONG]
    yield (
        "texts",
        job("text-generation", gpt2, training=training(4, dataloader_drop_last=True), **fields),
        loaded(train=texts, eval=texts),
    )
    yield "pairs", job("sentence-similarity", bert, training=training(4), **fields), loaded(train=PAIRS, eval=PAIRS)
    for task, rows in TASKS.items():
        path, more = (folder / "t5", {"label_smoothing_factor": 0.1}) if task == "summarization" else (bert, {})
        taught = job(task, gpt2 if task == "preference" else path, training=training(4, **more), **fields)
        yield task, taught, loaded(train=rows, eval=rows)
    several = job("text-classification", bert, options=MULTI_LABEL, training=training(8), **fields)
    yield "labels", several, loaded(train=TAGGED[:16], eval=TAGGED)
    yield "masks", job("fill-mask", bert, training=training(4), **fields), loaded(train=texts, eval=texts)
    for name, options in TECHNIQUES.items():
        given = {"teacher": str(folder / "teacher")} if name == "distill" else options
        read = {name: techniques.get(name).read(given)}
        own = {"optim": "adamw_torch"} if name == "optimizers" else {}
        of_job: dict[str, Any] = {"parents": {"init_from": folder / "teacher"}} if name == "init_from" else {}
        made = job("text-classification", bert, training=training(8, **own), techniques=read, **fields, **of_job)
        yield name, made, loaded(train=TEXTS[:16], eval=TEXTS)
    for name, options in ADAPTERS.items():
        read = {"peft": techniques.get("peft").read(options)}
        made = job("text-classification", bert, training=training(8), techniques=read, **fields)
        yield name, made, loaded(train=TEXTS[:16], eval=TEXTS)
    texts_looks = {**looks, "dataloader_drop_last": True}
    for kind, spread in SPREAD.items():
        more = dict(spread) if processes > 1 else {}
        yield f"{kind}-classes", job("text-classification", bert, training=training(8, **more), **fields), whole
        chosen = training(4, **looks, **best, **more, num_train_epochs=6)
        yield (
            f"{kind}-stopped",
            job("text-classification", bert, training=chosen, early_stopping=EarlyStopping(patience=2), **fields),
            whole,
        )
        yield (
            f"{kind}-texts",
            job("text-generation", gpt2, training=training(4, **texts_looks, **more), **fields),
            loaded(train=texts, eval=texts, tune=texts[:4]),
        )
        yield (
            f"{kind}-summarization",
            job("summarization", folder / "t5", training=training(4, **looks, **more), **fields),
            loaded(train=DOCUMENTS, eval=DOCUMENTS, tune=DOCUMENTS[:2]),
        )
        adapter = {"peft": techniques.get("peft").read("lora")}
        yield (
            f"{kind}-lora",
            job("text-classification", bert, training=training(8, **more), techniques=adapter, **fields),
            whole,
        )
    streamed = Data(
        kind="reader",
        path="jsonl",
        files={split: (str(folder / "rows.jsonl"),) for split in ("train", "test")},
        streaming=True,
    )
    steps = training(4, max_steps=5)
    yield "stream", job("text-classification", bert, data=streamed, training=steps, **fields), None
    parted: dict[str, Any] = {"techniques": {"folds": techniques.get("folds").read(3)}, "fold": 1}
    alone = replace(streamed, files={"train": streamed.files["train"]}, streaming=False)
    yield "folds", job("text-classification", bert, data=alone, training=training(8), **parted, **fields), None


AFTERWARDS: Mapping[str, Any] = {"export": "onnx", "quantization": {"post": "int8"}}
"""Those that work on what was trained: one process answers with it."""
TECHNIQUES: Mapping[str, Any] = {
    "peft": "lora",
    "class_weights": {"moves": 3.0, "rests": 0.5},
    "freeze": "base",
    "layer_lr_decay": 0.5,
    "prune": {"amount": 0.5, "schedule": "cubic"},
    "lr_finder": {"steps": 20},
    "few_shot": 4,
    "focal": 2.0,
    "sampling": {"temperature": 0.5},
    "augment": {"method": "swap"},
    "distill": None,
    "parameter_groups": [{"match": "classifier.*", "learning_rate_factor": 10}],
    "optimizers": "tests.finetune.ranks:plain",
    "callbacks": ["tests.finetune.ranks:Slower"],
    "init_from": "case:teacher",
    **AFTERWARDS,
}
"""Those that have a part in training."""
ADAPTERS: Mapping[str, Any] = {
    "dora": {"method": "lora", "r": 4, "use_dora": True},
    "ia3": {"method": "ia3"},
    "prompt": {"method": "prompt_tuning"},
}
SPREAD: Mapping[str, Mapping[str, Any]] = {
    "fsdp": {"fsdp": True},
    **{
        f"zero{stage}": {"deepspeed": {"zero_optimization": {"stage": stage}}}
        for stage in (1, 2, 3)
        if find_spec("deepspeed") is not None
    },
}
"""What spreads a model over the processes."""
MULTI_LABEL = {"problem_type": "multi_label_classification"}
TAGGED: Sequence[Row] = [
    {**row, "label": [row["label"], *(["old"] if "old" in row["text"] else [])][: place % 3]}
    for place, row in enumerate(TEXTS)
]
"""Texts with no label, one or two."""
TASKS: Mapping[str, Sequence[Row]] = {
    "question-answering": [*QUESTIONS, *UNANSWERABLE],
    "multiple-choice": CHOICES,
    "preference": CHOSEN,
    "summarization": DOCUMENTS,
}


def plain(model: Any, args: Any) -> Any:
    """An optimizer of a suite's own."""
    return torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=args.learning_rate), None


class Slower(TrainerCallback):  # type: ignore[misc]
    """Halves the learning rate after each step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for group in kwargs["optimizer"].param_groups:
            group["lr"] /= 2


def masked(collator: MaskingCollator, examples: Sequence[Any]) -> dict[str, Any]:
    """In the place of `MaskingCollator.__call__`: masks by what stands where, since each process would draw random
    numbers of its own. Rows differ in how many of their tokens are masked."""
    batch = collator.pad(examples)
    if CHANCE in batch:
        ids, place = batch["input_ids"], torch.arange(batch["input_ids"].shape[1])
        chosen = (batch.pop(CHANCE) > 0) & ((ids + place) % 3 == 0)
        batch |= {"labels": ids.where(chosen, -100), "input_ids": ids.masked_fill(chosen, collator.mask)}
    return batch


def train(folder: Path, out: Path, processes: int) -> None:
    """Train all, and leave in `out` what came of each."""
    for name, made, rows in jobs(folder, processes):
        with FineTuning(made, loaded=rows) as tuning:
            trained = tuning.train()
            if together.is_first():
                weights = {key: value.contiguous().clone() for key, value in tuning.model.state_dict().items()}
                save_file(weights, out / f"{name}.safetensors")
                told = {"history": trained.log_history, "environment": trained.environment, "records": trained.records}
                (out / f"{name}.json").write_text(json.dumps(told))
                if name in AFTERWARDS:
                    tuning.save(out / name)


def grouped(folder: Path, out: Path, name: str, sampler: Any, training: dict[str, Any], **given: Any) -> None:
    """Train on rows grouped by length, with dropout; leave in which order they came, and where dropout began."""
    orders, seeds, sizes = [], [], []
    plain = sampler.__iter__

    def noted(self: Any) -> Iterator[int]:
        sizes.append(getattr(self, "size", None))
        orders.append(list(plain(self)))
        return iter(orders[-1])

    sampler.__iter__ = noted
    torch_seed = TrainerCallback.on_step_begin
    TrainerCallback.on_step_begin = lambda self, *args, **kwargs: seeds.append(torch.initial_seed())
    training = {**PLAIN, "per_device_train_batch_size": 2, **training}
    made = job(
        "text-classification", folder / "dropout", training=training, resources=Resources(gpus=2), techniques=given
    )
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        tuning.train()
    TrainerCallback.on_step_begin, sampler.__iter__ = torch_seed, plain
    found = {"orders": orders, "seeds": sorted(set(seeds)), "sizes": sizes}
    (out / f"{name}.{together.rank()}.json").write_text(json.dumps(found))


def refused(folder: Path, out: Path) -> None:
    """Two train what three should."""
    made = job("text-classification", folder / "bert", training=PLAIN, resources=Resources(gpus=3))
    try:
        with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
            tuning.train()
    except Exception as error:  # noqa: BLE001  whatever it is, the test reads it
        (out / f"refused.{together.rank()}").write_text(f"{type(error).__name__}: {error}")


def main(folder: Path) -> None:
    """The second is forked from the first, which saves it the import of the libraries."""
    for name in warm.IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()  # each training collects garbage: leave out the objects of the libraries
    second = os.fork()
    rank = 0 if second else 1
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {**place, "MASTER_ADDR": "localhost", "MASTER_PORT": "0", "GLOO_SOCKET_IFNAME": "lo"}
    together.join((folder / "meeting").as_uri(), rank=rank, processes=2, device="cpu")
    MaskingCollator.__call__ = masked  # type: ignore[assignment, method-assign]
    train(folder, folder / "several", 2)
    by_transformers = {"train_sampling_strategy": "group_by_length"}
    grouped(folder, folder / "several", "grouped", LengthGroupedSampler, by_transformers)
    grouped(folder, folder / "several", "groups", groups.Groups, {}, padding=techniques.get("padding").read("groups"))
    refused(folder, folder / "several")
    if second:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
