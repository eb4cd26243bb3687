"""What doesn't go with a training in several processes (`resources: {gpus: 2}` and more), and what needs one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftcheck.errors import shown
from ftcheck.spec.case import Resources
from ftcheck.spec.declaration import KeyPath
from ftcheck.spec.fields import CaseFields

SPREADS = ("fsdp", "deepspeed")
"""TrainingArguments fields that spread a model, its gradients or its optimizer over processes."""

_FSDP = {
    *("version", "reshard_after_forward", "auto_wrap_policy", "transformer_layer_cls_to_wrap", "min_num_params"),
    *("cpu_offload", "activation_checkpointing"),
}
"""What `fsdp_config` may say."""

_DEEPSPEED = {
    *("zero_optimization", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer"),
    *("communication_data_type", "prescale_gradients", "gradient_predivide_factor"),
}
"""What `deepspeed` may say: for the rest there are fields that hold however a model is trained."""

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


def problems(fields: CaseFields, training: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """(path of a field of the case, what is wrong with it). `training`: TrainingArguments fields, also the task's."""
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
    for name, message in training_problems(training, processes):
        yield ("training", name) if name in fields.training else at, message


def training_problems(given: Mapping[str, Any], processes: int) -> Iterator[tuple[str, str]]:
    """(TrainingArguments field, what is wrong with it) among those that the suite or the task gives."""
    yield from _spreading_problems(given, processes)
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


def spread_over(given: Mapping[str, Any], processes: int) -> tuple[int, int, int]:
    """Over how many processes a model's weights, its gradients and its optimizer's states are spread."""
    stage = 3 if given.get("fsdp") else (given.get("deepspeed") or {}).get("zero_optimization", {}).get("stage", 0)
    weights, gradients, states = (processes if stage >= least else 1 for least in (3, 2, 1))
    return weights, gradients, states


def _spreading_problems(given: Mapping[str, Any], processes: int) -> Iterator[tuple[str, str]]:
    fsdp, config, deepspeed = given.get("fsdp"), given.get("fsdp_config"), given.get("deepspeed")
    for name in SPREADS:
        if given.get(name) and processes == 1:
            yield name, "spreads a model over several processes: say how many with resources.gpus, or leave it out"
    if fsdp and deepspeed:
        yield "deepspeed", "can't be combined with fsdp; leave one out"
    if config and not fsdp:
        yield "fsdp_config", "has no effect without fsdp: true"
    for name in sorted((config or {}).keys() - _FSDP):
        yield "fsdp_config", f"{shown(name, 60)} is none of {', '.join(sorted(_FSDP))}; leave it out"
    if (config or {}).get("version", 2) != 2:
        yield "fsdp_config", "version: only 2 is supported (torch's fully_shard); leave it out"
    yield from _deepspeed_problems(deepspeed or {})


def _deepspeed_problems(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in sorted(given.keys() - _DEEPSPEED):
        yield (
            "deepspeed",
            f"{shown(name, 60)} is none of {', '.join(sorted(_DEEPSPEED))}; batch sizes, optimizer, schedule, clipping "
            "and precision are what the case says elsewhere",
        )
    zero = given.get("zero_optimization")
    if given and not (isinstance(zero, Mapping) and zero.get("stage") in (1, 2, 3)):
        yield "deepspeed", "zero_optimization: {stage: 1, 2 or 3} is missing: say what is spread"
        return
    for name, value in (zero or {}).items():
        if isinstance(value, Mapping) and value.get("device", "cpu") not in ("cpu", "none"):
            yield (
                "deepspeed",
                f"zero_optimization.{shown(name, 60)}.device: expected cpu or none; nothing is put on disks",
            )
