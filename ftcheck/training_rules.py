"""What a suite may not say with TrainingArguments fields, what became of old names, and what doesn't go together.

`conflicts` finds before training what the Trainer refuses late, or with an error that names no field of the suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ftcheck.spec.trust import ELSEWHERE

_HUB = "ftcheck publishes nothing; publish a model that passed yourself"
_PRECISION = "the case's `precision` decides this (auto, fp32, bf16 or fp16)"
_DEVICE = "the device is chosen for the whole run: --ft-device"
_ROWS = "the case's `data` says what trains and what is judged"
_PREDICTS = "ftcheck predicts and scores by itself, on rows in their own order"
_RESUMES = "ftcheck resumes by itself what was broken off, where save_strategy has it write checkpoints"

OWNED: Mapping[str, str] = {
    "output_dir": "ftcheck trains in a folder of its own and keeps the model in the run store",
    "seed": "the case's `seeds` says this",
    "data_seed": "the case's `seeds` says this",
    **dict.fromkeys(("bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "half_precision_backend"), _PRECISION),
    **dict.fromkeys(("use_cpu", "no_cuda", "use_mps_device", "local_rank"), _DEVICE),
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), _ROWS),
    **dict.fromkeys(("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy"), _HUB),
    **dict.fromkeys(("hub_always_push", "hub_revision"), _HUB),
    **dict.fromkeys(("push_to_hub_model_id", "push_to_hub_organization", "push_to_hub_token"), _HUB),
    **dict.fromkeys(
        ("resume_from_checkpoint", "ignore_data_skip", "restore_callback_states_from_checkpoint"), _RESUMES
    ),
    **dict.fromkeys(
        ("prediction_loss_only", "batch_eval_metrics", "include_for_metrics", "eval_do_concat_batches"), _PREDICTS
    ),
    **dict.fromkeys(("include_inputs_for_metrics", "eval_use_gather_object"), _PREDICTS),
    "auto_find_batch_size": "it makes batches smaller without a word, and trains on with fewer examples a step; write "
    "on_oom: halve_batch beside `training`, which keeps them and says what it did",
    "remove_unused_columns": "the task decides what the model is given",
    "label_names": "the task decides what the model is given",
    "trust_remote_code": ELSEWHERE,
    "logging_nan_inf_filter": "ftcheck turns it off, so that a NaN loss is seen and stops the training",
}
"""Field -> why a suite doesn't set it. Some exist in some versions only."""

SUCCESSORS: Mapping[str, str] = {
    "evaluation_strategy": "write eval_strategy",
    "warmup_ratio": "write warmup_steps; a number below 1 is a ratio",
    "group_by_length": "write train_sampling_strategy: group_by_length",
    "per_gpu_train_batch_size": "write per_device_train_batch_size",
    "per_gpu_eval_batch_size": "write per_device_eval_batch_size",
    "adafactor": "write optim: adafactor",
    "fp16_opt_level": "apex is gone; leave it out",
    "fp16_backend": "leave it out; the case's `precision` chooses",
    "logging_dir": "leave it out; ftcheck keeps the log history with the run",
    "overwrite_output_dir": "leave it out; nothing is overwritten in the run store",
    "save_safetensors": "leave it out; models are always saved as safetensors",
    "evaluate_during_training": "write eval_strategy: steps",
    "lr_scheduler": "write lr_scheduler_type",
    "eval_accumulation": "write eval_accumulation_steps",
    "use_ipex": "leave it out; torch itself has these optimizations",
    "jit_mode_eval": "leave it out; see torch_compile",
    "torchdynamo": "write torch_compile_backend",
    "past_index": "leave it out; models with past states are no longer supported by the Trainer",
    "tpu_num_cores": "leave it out",
    "tpu_metrics_debug": "write debug: tpu_metrics_debug",
    "fsdp_min_num_params": "write fsdp_config: {min_num_params: ...}",
    "fsdp_transformer_layer_cls_to_wrap": "write fsdp_config: {transformer_layer_cls_to_wrap: ...}",
    "ray_scope": "leave it out",
    "dispatch_batches": "write accelerator_config: {dispatch_batches: ...}",
    "split_batches": "write accelerator_config: {split_batches: ...}",
    "mp_parameters": "leave it out",
    "activation_checkpointing": "write gradient_checkpointing",
    "activation_checkpointing_kwargs": "write gradient_checkpointing_kwargs",
    "gradient_checkpointing": "write activation_checkpointing",
    "gradient_checkpointing_kwargs": "write activation_checkpointing_kwargs",
    "use_liger": "write use_liger_kernel",
    "epochs": "write num_train_epochs",
    "batch_size": "write per_device_train_batch_size",
    "lr": "write learning_rate",
    "early_stopping_patience": "write early_stopping: {patience: ...} beside `training`",
    "early_stopping": "write it beside `training`, not in it",
}
"""A name that the installed version lacks -> what to write. Of older and newer versions, and of other trainers."""

FLAGS = frozenset({"fsdp"})
"""Fields that true switches on: what their annotation says is how they were once written."""

_Range = tuple[str, Callable[[Any], bool]]
_POSITIVE: _Range = ("a number above 0", lambda value: value > 0)
_NOT_NEGATIVE: _Range = ("a number of at least 0", lambda value: value >= 0)
_AT_LEAST_1: _Range = ("at least 1", lambda value: value >= 1)
_PART: _Range = ("a number of at least 0 and below 1", lambda value: 0 <= value < 1)

RANGES: Mapping[str, _Range] = {
    "learning_rate": _POSITIVE,
    "num_train_epochs": _POSITIVE,
    "max_steps": ("a number of steps above 0, or -1 to train num_train_epochs", lambda value: value > 0 or value == -1),
    "per_device_train_batch_size": _AT_LEAST_1,
    "per_device_eval_batch_size": _AT_LEAST_1,
    "gradient_accumulation_steps": _AT_LEAST_1,
    "eval_accumulation_steps": _AT_LEAST_1,
    "torch_empty_cache_steps": _AT_LEAST_1,
    "save_total_limit": _AT_LEAST_1,
    "warmup_steps": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "eval_delay": _NOT_NEGATIVE,
    "dataloader_num_workers": _NOT_NEGATIVE,
    "eval_steps": _POSITIVE,
    "save_steps": _POSITIVE,
    "logging_steps": _POSITIVE,
    "adam_epsilon": _POSITIVE,
    "adam_beta1": _PART,
    "adam_beta2": _PART,
    "label_smoothing_factor": _PART,
}


RELATED = frozenset(
    {
        "load_best_model_at_end",
        "metric_for_best_model",
        "lr_scheduler_type",
        "max_steps",
        "num_train_epochs",
        "dataloader_num_workers",
        *(f"{kind}_{what}" for kind in ("eval", "save", "logging") for what in ("steps", "strategy")),
    }
)
"""What `conflicts` looks at: it has nothing to say while one of them is wrong."""


def conflicts(given: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field of `given`, what it doesn't go with). `values`: all fields, defaults filled in, each valid by itself."""
    yield from _best_model(given, values)
    yield from _steps(given, values)
    if values.get("lr_scheduler_type") in ("reduce_lr_on_plateau", "greedy") and values.get("eval_strategy") == "no":
        yield "lr_scheduler_type", f"{values['lr_scheduler_type']} needs eval_strategy: it looks at evaluations"
    if given.get("save_strategy") == "best":
        if values.get("eval_strategy") == "no":
            yield "save_strategy", "best needs eval_strategy: epoch or steps, to know which model is best"
        if not values.get("load_best_model_at_end") and values.get("metric_for_best_model") is None:
            yield "save_strategy", "best needs metric_for_best_model"
    if given.get("max_steps", -1) > 0 and "num_train_epochs" in given:
        yield "max_steps", f"overrides num_train_epochs: {given['num_train_epochs']:g}; give one of them"
    if given.get("dataloader_prefetch_factor") is not None and not values.get("dataloader_num_workers"):
        yield "dataloader_prefetch_factor", "needs dataloader_num_workers of at least 1"
    if given.get("gradient_checkpointing") is not None and "activation_checkpointing" in values:
        yield "gradient_checkpointing", "deprecated in this transformers; write activation_checkpointing"
    if given.get("gradient_checkpointing_kwargs") is not None and "activation_checkpointing_kwargs" in values:
        yield "gradient_checkpointing_kwargs", "deprecated in this transformers; write activation_checkpointing_kwargs"


def _best_model(given: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """`load_best_model_at_end` needs a checkpoint of every evaluation."""
    if not values.get("load_best_model_at_end"):
        return
    evaluates, saves = values.get("eval_strategy"), values.get("save_strategy")
    own = "load_best_model_at_end" in given
    at = "load_best_model_at_end" if own else next(iter(given), "load_best_model_at_end")
    needs = "needs" if own else "the task sets load_best_model_at_end, which needs"
    if evaluates == "no":
        yield at, f"{needs} eval_strategy: epoch or steps, to know which model is best"
    elif saves not in ("best", evaluates):
        yield at, f"{needs} a checkpoint of each evaluation: save_strategy: {evaluates} or best (it is {saves})"
    elif evaluates == saves == "steps":
        every, saved = _evaluated_every(values), values.get("save_steps")
        if every and saved and not _is_multiple(saved, every):
            yield at, f"{needs} save_steps ({saved:g}) to be a multiple of eval_steps ({every:g})"


def _evaluated_every(values: Mapping[str, Any]) -> float:
    """`eval_steps`, or what stands in for it."""
    return float(values.get("eval_steps") or values.get("logging_steps") or 0)


def _is_multiple(saved: float, every: float) -> bool:
    """Whether each save falls on an evaluation. Below 1 both are parts of the training, which don't mix with steps."""
    if (saved < 1) != (every < 1):
        return False
    scale = 1_000_000 if saved < 1 else 1
    return round(saved * scale) % round(every * scale) == 0


def _steps(given: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Numbers of steps: whole ones, or a part of the training below 1; needed where something happens every so many."""
    for kind in ("eval", "save", "logging"):
        name, strategy = f"{kind}_steps", f"{kind}_strategy"
        steps = given.get(name)
        if isinstance(steps, float) and steps > 1 and steps != int(steps):
            yield name, f"expected a whole number of steps, or a part of the training below 1, got {steps}"
        if steps is not None and strategy in values and values[strategy] != "steps":
            yield (
                name,
                f"has no effect while {strategy} is {values[strategy]}; write {strategy}: steps, or leave it out",
            )
    if given.get("eval_strategy") == "steps" and values.get("eval_steps") is None:
        yield "eval_strategy", "steps needs eval_steps: after how many steps to evaluate"
