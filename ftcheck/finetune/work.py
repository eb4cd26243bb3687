"""How much work a model did, and how much its device could have done: tokens, floating-point operations, the limit.

A forward pass takes 2 operations for each weight of a matrix and token, and 4 · width for each layer and pair of tokens
that attention looks at; a backward pass takes the forward's again for the activations, and for each weight that is
trained (Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022, appendix B). Tokens of padding are work that nobody
wants: they don't count. The share of what the device could have done is the model FLOPs utilization, MFU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

from ftcheck.finetune.parameters import count

_SECONDS = 0.3
"""How long the device's limit is measured, at least."""


@dataclass(slots=True)
class Tokens:
    """What a model read. Sums stay on the device until they are asked for, so that counting doesn't wait for it."""

    read: Any = 0
    """Tokens of the rows."""
    squares: Any = 0
    """Of each row the square of its tokens: what attention looks at."""
    places: int = 0
    """Tokens and padding."""

    def count(self, batch: Mapping[str, Any]) -> None:
        """Count a batch. One without a mask of (..., tokens) is taken as without padding."""
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        self.places += ids.numel()
        if mask is None or mask.shape != ids.shape:
            self.read, self.squares = self.read + ids.numel(), self.squares + ids.numel() * ids.shape[-1]
            return
        lengths = mask.sum(dim=-1)
        self.read, self.squares = self.read + lengths.sum(), self.squares + (lengths * lengths).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """What a stage computed."""

    tokens: int
    """Without padding."""
    places: int
    """With it."""
    operations: float | None
    """Floating-point operations for the tokens; None where they can't be told."""
    limit: float | None = None
    """Operations a second that the device does, multiplying matrices; None where it wasn't measured."""


def work(model: Any, tokens: Tokens, *, trains: bool, per_token: bool, limit: float | None) -> Compute:
    """What `model` did with `tokens`. `per_token`: whether its head answers for each token, not once a row."""
    read = int(tokens.read)
    return Compute(
        tokens=read,
        places=tokens.places,
        operations=_operations(model, read, int(tokens.squares), trains=trains, per_token=per_token),
        limit=limit,
    )


def _operations(model: Any, tokens: int, squares: int, *, trains: bool, per_token: bool) -> float | None:
    """None for an encoder-decoder, whose parts read different tokens, and for what isn't a model of transformers or
    doesn't tell its size."""
    from torch import nn

    config = model.config.get_text_config()
    width, layers = getattr(config, "hidden_size", None), getattr(config, "num_hidden_layers", None)
    if not (isinstance(width, int) and isinstance(layers, int) and hasattr(model, "base_model")):
        return None
    if model.config.is_encoder_decoder:
        return None
    head = None if per_token else _names_of_head(model)
    weights = [
        parameter
        for name, module in model.named_modules()
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 2 and not isinstance(module, nn.Embedding) and (head is None or name not in head)
    ]
    every = float(sum(map(count, weights)))
    trained = float(sum(count(parameter) for parameter in weights if parameter.requires_grad))
    attention = 4.0 * layers * width * squares
    forward = 2.0 * every * tokens + attention
    return forward if not trains else 2.0 * forward + 2.0 * trained * tokens + attention


def _names_of_head(model: Any) -> frozenset[str]:
    """The modules that answer once a row: what isn't the body, and the body's pooler."""
    body = {id(module) for name, module in model.base_model.named_modules() if "pooler" not in name}
    return frozenset(name for name, module in model.named_modules() if id(module) not in body)


@cache
def limit(device: str, precision: str) -> float:
    """Operations a second that multiplying square matrices of `precision` reaches on `device`: the best of some."""
    import torch

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    size = 8192 if device.startswith("cuda") else 1536
    one, other = (torch.ones(size, size, device=device, dtype=kind) for _ in range(2))
    best, spent = math.inf, 0.0
    with torch.inference_mode():
        torch.mm(one, other)
        while spent < _SECONDS:
            _wait(device)
            start = perf_counter()
            torch.mm(one, other)
            _wait(device)
            best, spent = min(best, perf_counter() - start), spent + perf_counter() - start
    return 2.0 * size**3 / best


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
