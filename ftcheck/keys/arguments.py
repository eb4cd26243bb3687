"""Which TrainingArguments change what is trained. One that isn't named here does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NEVER: Final = frozenset(
    {
        # where things are written, and what is written beside the model
        *("output_dir", "save_only_model", "save_total_limit", "save_on_each_node", "enable_jit_checkpoint"),
        # what is said, and to whom
        *("log_level", "log_level_replica", "log_on_each_node", "disable_tqdm", "report_to", "run_name", "project"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        *("logging_first_step", "logging_nan_inf_filter", "include_num_input_tokens_seen", "skip_memory_metrics"),
        # what is uploaded
        *(
            "push_to_hub",
            "hub_token",
            "hub_private_repo",
            "hub_model_id",
            "hub_strategy",
            "hub_always_push",
            "hub_revision",
        ),
        # how fast the same batches arrive
        *("dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
        *("torch_empty_cache_steps", "ddp_timeout"),
    }
)
"""Arguments that no result depends on."""

BY_EVALUATION: Final = frozenset(
    {
        *("per_device_eval_batch_size", "eval_accumulation_steps", "prediction_loss_only", "batch_eval_metrics"),
        *("logging_strategy", "logging_steps"),
    }
)
"""Arguments that act only through evaluation during training: on when it happens (`eval_steps` defaults to
`logging_steps`), on its scores in the last digits (batch sizes)."""

BY_BEST: Final = frozenset({"save_strategy", "save_steps"})
"""Arguments that act only through `load_best_model_at_end`: on which checkpoint there is to go back to."""

PREDICTION: Final = frozenset({"per_device_eval_batch_size", "eval_accumulation_steps"})
"""Arguments that change predictions in the last digits, so they are in the predict key."""


def for_training(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `arguments` that the trained model depends on."""
    ignored = NEVER if evaluates(arguments) else NEVER | BY_EVALUATION
    if not arguments.get("load_best_model_at_end"):
        ignored |= BY_BEST
    return {name: value for name, value in arguments.items() if name not in ignored}


def for_prediction(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `arguments` that predictions depend on, besides the model."""
    return {name: value for name, value in arguments.items() if name in PREDICTION}


def evaluates(arguments: Mapping[str, Any]) -> bool:
    """Whether the Trainer evaluates while it trains."""
    return arguments.get("eval_strategy", "no") not in ("no", False, None) or bool(arguments.get("eval_on_start"))
