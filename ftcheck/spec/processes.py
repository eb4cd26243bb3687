"""What doesn't go with a training in several processes (`resources: {gpus: 2}` and more), and what needs one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck.spec.case import Resources
from ftcheck.spec.declaration import KeyPath
from ftcheck.spec.fields import CaseFields

SHARED_OUT = ("fsdp", "deepspeed")
"""TrainingArguments fields that spread a model over processes. On CPUs accelerate takes no notice of `fsdp`."""

_ONE_BATCH = "each process takes batches of its own, of per_device_train_batch_size rows; leave it out"
_ALONE: Mapping[str, tuple[Any, str]] = {
    "average_tokens_across_devices": (
        True,
        "the loss is always the mean over the items of all processes; leave it out",
    ),
    "ddp_backend": (None, "the device decides: NCCL on CUDA, gloo on CPUs; leave it out"),
}
"""TrainingArguments field -> the value that it may have, and why no other."""


def count(fields: CaseFields) -> int:
    """How many processes train one run of a case."""
    return Resources(**fields.resources.model_dump()).processes


def problems(fields: CaseFields, defaults: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """(path of a field of the case, what is wrong with it). `defaults`: the task's, of TrainingArguments fields."""
    processes = count(fields)
    at: KeyPath = ("resources", "gpus")
    nodes = fields.resources.nodes
    if nodes > 1 and (processes == 1 or processes % nodes):
        yield (
            ("resources", "nodes"),
            f"{nodes} machines need as many devices each: resources.gpus, which counts those of all, must be {nodes} "
            f"or a multiple of it, not {fields.resources.gpus or 1:g}",
        )
    if fields.training is False:
        if processes > 1:
            yield at, "with `training: false` nothing is trained, and one process predicts; leave it out"
        return
    if processes > 1 and fields.on_oom != "fail":
        yield ("on_oom",), f"with resources.gpus: {processes}, one process may run out of memory alone; leave it out"
    for name, message in training_problems({**defaults, **fields.training}, processes):
        yield ("training", name) if name in fields.training else at, message


def training_problems(given: Mapping[str, Any], processes: int) -> Iterator[tuple[str, str]]:
    """(TrainingArguments field, what is wrong with it) among those that the suite or the task gives."""
    for name in SHARED_OUT:
        if given.get(name):
            yield name, "is not supported: with resources.gpus each process holds the whole model (DDP); leave it out"
    if processes == 1:
        return
    for name, (value, why) in _ALONE.items():
        if given.get(name, value) not in (value, None):
            yield name, f"with resources.gpus: {processes}, {why}"
    if given.get("train_sampling_strategy") == "batch_rebalance":
        yield (
            "train_sampling_strategy",
            f"with resources.gpus: {processes}, batch_rebalance is not known to be right: leave it out",
        )
    options = given.get("accelerator_config") or {}
    if options.get("split_batches") or options.get("dispatch_batches") or not options.get("even_batches", True):
        yield "accelerator_config", f"with resources.gpus: {processes}, {_ONE_BATCH}"
