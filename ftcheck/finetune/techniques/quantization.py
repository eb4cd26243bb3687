"""`quantization: {load: 4bit | 8bit}`, `{qat: int8 | int4}` or `{post: int8 | int4}`: weights of few bits.

`load` puts a quantized checkpoint under an adapter (QLoRA: Dettmers et al. 2023). `qat` trains with the rounding that
comes afterwards (quantization-aware training: Jacob et al. 2018), `post` rounds what plain training left; both are
judged rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ftcheck.errors import TechniqueError
from ftcheck.finetune.parameters import heads
from ftcheck.finetune.techniques import Options, Problem, Technique, need

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Facts

BLOCK = 64
"""Weights that share a scale in bitsandbytes' 4 bits."""

BITS: Mapping[str, int] = {"int8": 8, "int4": 4}


class QuantizationOptions(Options):
    load: Literal["4bit", "8bit"] | None = Field(
        default=None, description="Load the checkpoint's weights in 4 (NF4) or 8 bits; an adapter of `peft` is trained."
    )
    qat: Literal["int8", "int4"] | None = Field(
        default=None, description="Train with rounded weights and activations, and judge the quantized model."
    )
    post: Literal["int8", "int4"] | None = Field(
        default=None, description="Quantize the trained model before it is judged; its training knows nothing of it."
    )


class Quantization(Technique):
    """What is kept has weights in full precision: they are rounded anew, and the same, before each judging."""

    name = "quantization"
    description = "Weights of few bits: under an adapter, in training, or after it."
    options = QuantizationOptions
    untrained = True

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.libraries = ("bitsandbytes",) if given["load"] else ("torchao",)
        self._rounds: str | None = given["qat"] or given["post"]

    @property
    def resumes(self) -> bool:  # type: ignore[override]
        """Layers that round while training are not proven to come back as they were."""
        return self.given["post"] is not None

    def problems(self, facts: Facts) -> Iterator[Problem]:
        chosen = [name for name, value in self.given.items() if value is not None]
        if len(chosen) != 1:
            yield (), f"expected one of {', '.join(self.given)}, got {' and '.join(chosen) or 'none'}"
            return
        if facts.training is None and chosen != ["post"]:
            yield (chosen[0],), "with `training: false` nothing is trained; `post` quantizes the checkpoint"
        if self.given["load"] and "peft" not in facts.techniques:
            yield ("load",), "can't be trained by itself: rounded weights have no gradient; add an adapter (`peft`)"
        if self.given["qat"] and "peft" in facts.techniques:
            yield ("qat",), "trains the weights that peft freezes; leave one of them out"
        merged = (facts.techniques.get("peft") or {}).get("parity")
        if self.given["post"] and "peft" in facts.techniques and not merged:
            yield ("post",), "quantizes whole weights; judge the merged model (peft: {parity: merged})"

    @property
    def alone(self) -> str:
        return (
            "it is not known whether rounded weights stay the same in all"
            if self.given["load"] or self.given["qat"]
            else ""
        )

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        return {name: self.given[name] for name in ("load", "qat") if self.given[name] is not None}

    def predict_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        return {"post": self.given["post"]} if self.given["post"] is not None else {}

    def model_kwargs(self, context: Context) -> dict[str, Any]:
        """The arguments of a quantized load: the head stays as it is, since it is trained."""
        if self.given["load"] is None:
            return {}
        import torch
        from transformers import BitsAndBytesConfig

        need("bitsandbytes", "quantization.load", "quantization")
        compute = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(context.job.precision, torch.float32)
        made = BitsAndBytesConfig(
            load_in_4bit=self.given["load"] == "4bit",
            load_in_8bit=self.given["load"] == "8bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=compute,
            llm_int8_skip_modules=_new_heads(context),
        )
        return {"quantization_config": made, "device_map": {"": context.job.device}}

    def adapt(self, model: Any, context: Context) -> Any:
        if self.given["load"] == "4bit" and context.job.device == "cpu":
            _refuse_narrow(model)
        if self.given["qat"] is not None:
            _quantize(model, _qat("prepare", _config(self.given["qat"])))
        return model

    def finish(self, model: Any, context: Context) -> Any:
        """Plain layers again, with the weights that were trained."""
        if self.given["qat"] is not None:
            _quantize(model, _qat("convert"))
        return model

    def judged(self, model: Any, context: Context) -> Any:
        if self._rounds is None:
            return model
        made = deepcopy(model)
        count = _quantize(made, _config(self._rounds))
        everything = sum(parameter.numel() for parameter in model.parameters())
        context.note(f"judged with {count / everything:.0%} of its weights in {BITS[self._rounds]} bits")
        return made

    @property
    def afterwards(self) -> bool:
        return self.given["post"] is not None

    @property
    def compares(self) -> bool:
        return self._rounds is not None

    def costs(self, model: Any, context: Context) -> dict[str, float]:
        return {} if self._rounds is None else {"model_bytes": _bytes(model, BITS[self._rounds])}


def _new_heads(context: Context) -> list[str] | None:
    """Names of the modules above the base, out of an empty model; None where the head is a language model's."""
    from ftcheck.finetune import model as models

    auto = context.task.auto_class
    if auto.endswith(("CausalLM", "Seq2SeqLM", "MaskedLM")):
        return None
    return heads(models.without_weights(models.Source.of_model(context.job), auto))


def _config(kind: str) -> Any:
    """Weights by output channel, activations by token as they come: 8 bits, but for weights of 4."""
    import torch

    quantization = need("torchao.quantization", "quantization", "quantization")
    weights = {"int8": torch.int8, "int4": torch.int4}[kind]
    return quantization.Int8DynamicActivationIntxWeightConfig(
        weight_dtype=weights, weight_granularity=quantization.PerAxis(0)
    )


def _qat(step: str, base: Any = None) -> Any:
    return need("torchao.quantization.qat", "quantization.qat", "quantization").QATConfig(base, step=step)


def _refuse_narrow(model: Any) -> None:
    """bitsandbytes' CPU kernel would fail in the first step, with nothing but a shape."""
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit" and module.in_features % BLOCK:
            raise TechniqueError(
                f"quantization.load: on a CPU, 4 bits need layers whose inputs are a multiple of {BLOCK}; {name} has "
                f"{module.in_features}: load 8bit"
            )


def _quantize(model: Any, config: Any) -> int:
    """Change the linear layers of `model` but those that share their weights with its embeddings. How many weights they
    have."""
    import torch

    embedded = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}

    def chosen(module: Any, name: str) -> bool:
        return isinstance(module, torch.nn.Linear) and id(module.weight) not in embedded

    found = [module.weight.numel() for name, module in model.named_modules() if chosen(module, name)]
    if not found:
        raise TechniqueError(
            f"quantization: {type(model).__name__} has no linear layers of its own (torch.nn.Linear), which is what "
            "torchao quantizes"
        )
    need("torchao.quantization", "quantization", "quantization").quantize_(model, config, filter_fn=chosen)
    return sum(found)


def _bytes(model: Any, bits: int) -> float:
    """Of all weights, quantized ones at their bits, with the scales beside them: torchao gives 4 bits a byte."""
    total, seen = 0.0, set()
    for tensor in model.state_dict().values():
        if hasattr(tensor, "qdata"):
            total += tensor.qdata.numel() * bits / 8
            total += sum(part.numel() * part.element_size() for part in (tensor.scale, tensor.zero_point))
        elif tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            total += tensor.numel() * tensor.element_size()
    return total
