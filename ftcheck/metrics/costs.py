"""What a run cost, as metrics like any other: one number per run, read out of the run's costs, without examples."""

from __future__ import annotations

import math

from ftcheck.metrics import Definition


def _cost(name: str, unit: str, summary: str, *, greater_is_better: bool = False, most: float = math.inf) -> Definition:
    return Definition(
        name=name,
        input="cost",
        unit=unit,
        bounds=(0.0, most),
        summary=summary,
        greater_is_better=greater_is_better,
        make=None,
    )


METRICS = (
    _cost("train_seconds", "s", "wall-clock time of training"),
    _cost("train_samples_per_second", "1/s", "training samples per second of training", greater_is_better=True),
    _cost("eval_samples_per_second", "1/s", "evaluation samples per second of prediction", greater_is_better=True),
    _cost("peak_memory_bytes", "bytes", "highest memory use while training"),
    _cost("parameters", "parameters", "parameters of the model"),
    _cost("trainable_parameters", "parameters", "parameters that training may change"),
    _cost("model_bytes", "bytes", "size of the model's weights"),
    _cost("adapter_bytes", "bytes", "size of the weights that are kept beside the checkpoint, of `peft`"),
    _cost("parity_difference", "logit", "how far outputs of the model that answers lie from those of the trained one"),
    _cost("sparsity", "", "share of zeros among the weights that `prune` prunes", greater_is_better=True, most=1.0),
)
