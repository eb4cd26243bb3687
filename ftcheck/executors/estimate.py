"""How much memory a training takes, from what the checkpoint's files say of the model: no torch, no weights read.

Weights, gradients, optimizer: 4 bytes a parameter in fp32, 2 more for the copy that mixed precision computes with, 4
for the gradient and 8 for Adam's two moments of what is trained (Rajbhandari et al. 2020, ZeRO, section 3.1; Hugging
Face, "Model training anatomy").

Activations that wait for the backward pass, of a layer in 16 bits: s b h (34 + 5 a s / h) bytes, for b texts of s
tokens, width h, a attention heads and a feed-forward part of width 4 h (Korthikanti et al. 2022, Reducing activation
recomputation in large transformer models, equation 2). Here the feed-forward part is as wide as the model's own, 8
bytes a number instead of 4 where it is gated. In fp32 all of it counts two and a half times, in mixed precision twice:
autocast leaves norms, softmax and the residual stream in fp32, and the models of transformers keep a quarter more than
they must (masks of dropout in full size, the steps of GELU), which tests/executors/test_estimate.py counts. The second
term stands for attention that keeps its weights, which fused kernels don't. A decoder's layer that also attends to an
encoder keeps half as much again. With gradient checkpointing each layer keeps its input, one at a time everything.

Logits of every token, where there are any, are there in fp32 three times: with their softmax and their gradient.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ftcheck import plainfiles
from ftcheck.finetune.memory import LOGITS_AT_ONCE

MOST_HEADER: Final = 100_000_000
"""Bytes of a safetensors header, as the library itself limits it."""
_OPTIMIZER_BYTES: Final = ((r"8bit|8_bit", 2), (r"adafactor|sgd|lion|adagrad", 4), (r"", 8))
"""What a name in `optim` has -> bytes a trained parameter, in all; the first that fits."""
_EMBEDDING: Final = re.compile(r"embed|wte|wpe|shared")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What counts of a model."""

    parameters: int
    width: int
    """h."""
    layers: int
    heads: int
    """a."""
    inner: int
    """The width of the feed-forward part."""
    vocabulary: int
    positions: int | None = None
    """The longest text; None: any."""
    gated: bool = False
    crossed: int = 0
    """How many of the layers attend to an encoder, too."""
    matrices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Name -> rows and columns of each weight of a layer."""

    @classmethod
    def read(cls, folder: Path) -> Shape | None:
        """Of a checkpoint's folder; None where its files don't say."""
        try:
            config = plainfiles.json_of(plainfiles.read(folder / "config.json"))
            sizes = {name: size for path in sorted(folder.glob("*.safetensors")) for name, size in _sizes(path)}
            return cls._of({**config, **config.get("text_config", {})}, sizes) if sizes else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def _of(cls, config: Mapping[str, Any], sizes: Mapping[str, list[int]]) -> Shape:
        """From names that configurations have in transformers. Raises KeyError where one is missing."""
        width = _one(config, "hidden_size", "d_model", "n_embd", "dim")
        encoder = _one(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
        decoder = 0
        if config.get("is_encoder_decoder"):
            encoder = config.get("encoder_layers") or encoder
            decoder = config.get("num_decoder_layers") or config.get("decoder_layers") or encoder
        activation = f"{config.get('hidden_act')} {config.get('hidden_activation')} {config.get('model_type')}"
        gated = config.get("is_gated_act", bool(re.search("silu|llama|mistral|qwen|gemma|modernbert", activation)))
        inner_names = ("intermediate_size", "n_inner", "d_ff", "encoder_ffn_dim", "ffn_dim", "hidden_dim")
        return cls(
            parameters=sum(math.prod(size) for size in sizes.values()),
            width=width,
            layers=encoder + decoder,
            heads=_one(config, "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
            inner=_one({**config, "4h": 4 * width}, *inner_names, "4h"),
            vocabulary=config["vocab_size"],
            positions=config.get("max_position_embeddings") or config.get("n_positions"),
            gated=bool(gated),
            crossed=decoder,
            matrices={
                name: (size[0], size[1])
                for name, size in sizes.items()
                if len(size) == 2 and not _EMBEDDING.search(name)
            },
        )

    def adapter(self, rank: int, whole: tuple[str, ...] = ()) -> int:
        """Parameters of LoRA's two matrices beside each weight, at most (Hu et al. 2022: r (m + n) beside m × n), and
        of modules that are trained whole."""
        beside = sum(rank * (rows + columns) for rows, columns in self.matrices.values())
        return beside + sum(
            rows * columns
            for name, (rows, columns) in self.matrices.items()
            if any(part in whole for part in name.split("."))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What goes through the model at once."""

    texts: int
    tokens: int
    """Of each text."""
    precision: str
    """`fp32`, `bf16` or `fp16`."""
    token_logits: bool = False
    """Whether the model says something of every token of the vocabulary at every place."""


def training(
    shape: Shape,
    batch: Batch,
    *,
    trained: int | None = None,
    optimizer: str = "adamw_torch",
    checkpointing: bool = False,
    weight_bytes: float = 4.0,
    over: tuple[int, int, int] = (1, 1, 1),
) -> int:
    """Bytes that a training takes at most. `trained`: how many parameters, None for all; `weight_bytes`: of each that
    is not trained (4 bits: 0.5); `over`: over how many processes weights, gradients and the optimizer's states are
    spread, as ZeRO's stages 3, 2 and 1 do."""
    trained = shape.parameters if trained is None else trained
    state = next(size for part, size in _OPTIMIZER_BYTES if re.search(part, optimizer))
    frozen = max(0, shape.parameters - trained)
    layer = _layer(shape, batch)
    layers = layer * (shape.layers + 0.5 * shape.crossed)
    if checkpointing:
        layers = shape.layers * batch.texts * batch.tokens * shape.width * 4 + layer
    weights, gradients, states = over
    kept = (weight_bytes * frozen + 4 * trained) / weights + trained * (4 / gradients + state / states)
    return int(kept + _copies(shape, batch) + layers + 3 * _logits(shape, batch))


def evaluating(shape: Shape, batch: Batch, *, weight_bytes: float = 4.0) -> int:
    """Bytes that predicting takes at most: the weights, one layer, the keys and values of what is generated, logits and
    their softmax, of as many texts as are answered at once."""
    logits = min(_logits(shape, batch), max(LOGITS_AT_ONCE, _logits(shape, replace(batch, texts=1))))
    kept = 2 * 4 * shape.layers * batch.texts * batch.tokens * shape.width
    return int(weight_bytes * shape.parameters + _copies(shape, batch) + _layer(shape, batch) + kept + 2 * logits)


def _layer(shape: Shape, batch: Batch) -> float:
    """Bytes that one layer keeps for the backward pass."""
    area = batch.tokens * batch.texts
    feed_forward = (8 if shape.gated else 4) * shape.inner
    attention = 5 * shape.heads * batch.tokens
    return area * (18 * shape.width + feed_forward + attention) * (2.5 if batch.precision == "fp32" else 2)


def _copies(shape: Shape, batch: Batch) -> float:
    """Bytes of the weights' copies in 16 bits."""
    return 0 if batch.precision == "fp32" else 2 * shape.parameters


def _logits(shape: Shape, batch: Batch) -> float:
    return 4 * batch.texts * batch.tokens * shape.vocabulary if batch.token_logits else 0


def _one(config: Mapping[str, Any], *names: str) -> int:
    """The first of these that the configuration has. Raises KeyError."""
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    raise KeyError(names[0])


def _sizes(path: Path) -> list[tuple[str, list[int]]]:
    """(name, size) of each tensor in a safetensors file, from its header. Raises ValueError, KeyError and TypeError for
    a file that isn't one."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MOST_HEADER:
            raise ValueError(path)
        header = plainfiles.json_of(file.read(length))
    return [(name, [int(n) for n in told["shape"]]) for name, told in header.items() if name != "__metadata__"]
