"""A model that is spread over the processes that train it, as `training: {fsdp, deepspeed}` say: what they do all
together, and how it becomes whole again in the first one.

What evaluates, is tuned, saved and judged is a model like any other: the one that was given, with the weights that were
gathered. Nothing of it is on a disk meanwhile but the best model, where `load_best_model_at_end` wants one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftcheck.errors import MissingExtraError
from ftcheck.finetune import Job, together
from ftcheck.spec.processes import SPREADS

BEST = "whole.safetensors"
"""In a checkpoint's folder."""
_SAID_ELSEWHERE = dict.fromkeys(
    ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"), "auto"
)
"""What DeepSpeed is told by TrainingArguments fields: left out, it wouldn't clip, and count batches in its own way."""


def asked(job: Job) -> bool:
    """Whether the case wants its model spread."""
    return any((job.case.training or {}).get(name) for name in SPREADS)


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """TrainingArguments fields over `given`, where those spread the model. Raises MissingExtraError."""
    if given.get("fsdp"):
        return {"fsdp_config": {"version": 2, **(given.get("fsdp_config") or {})}}
    if given.get("deepspeed"):
        if find_spec("deepspeed") is None:
            raise MissingExtraError("training.deepspeed", "deepspeed", "deepspeed")
        zero = dict(given["deepspeed"]["zero_optimization"])
        if zero["stage"] == 3:
            zero["stage3_gather_16bit_weights_on_model_save"] = True
        return {"deepspeed": {**given["deepspeed"], **_SAID_ELSEWHERE, "zero_optimization": zero}}
    return {}


def is_spread(model: Any) -> bool:
    """Whether each process has but a part of the model's weights, so that all must call it together."""
    if together.size() == 1:
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(weight, DTensor) or hasattr(weight, "ds_id") for weight in model.parameters())


def prepare(trainer: Any) -> None:
    """What accelerate leaves open of FSDP (1.15): on CPUs it takes no notice of it, and it stops at embeddings that are
    a unit of the model's own or have one weight in several places, which it makes a unit once more."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    if not trainer.args.fsdp:
        return
    state = trainer.accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU:
        plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
        if trainer.accelerator.mixed_precision != "no":
            plugin.set_mixed_precision(trainer.accelerator.mixed_precision)
        state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, plugin
        PartialState().distributed_type = DistributedType.FSDP  # which states made later begin with
        trainer.is_fsdp_enabled = True
    _share_embeddings(trainer.model)
    if state.fsdp_plugin.transformer_cls_names_to_wrap is None:
        state.fsdp_plugin.transformer_cls_names_to_wrap = _units(trainer.model)


def _share_embeddings(model: Any) -> None:
    """Let embeddings of one weight be one module: those of an encoder and its decoder."""
    from torch import nn

    first: dict[tuple[int, str], Any] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Embedding):
            kept = first.setdefault((id(module.weight), repr(module)), module)
            if kept is not module:
                inside, _, own = name.rpartition(".")
                setattr(model.get_submodule(inside), own, kept)


def _units(model: Any) -> list[str]:
    """The classes of `model`'s layers that are gathered one at a time, without what holds its embeddings."""
    named = set(getattr(model, "_no_split_modules", None) or ())
    embeddings = model.get_input_embeddings()
    found = {type(module).__name__: list(module.modules()) for module in model.modules()}
    return sorted(name for name in named & found.keys() if not any(part is embeddings for part in found[name]))


class Whole:
    """A model's modules without its weights, from before it was spread, which take the weights in afterwards."""

    def __init__(self, model: Any) -> None:
        """`model`: not spread yet. Buffers are copied, parameters are not."""
        from torch import nn

        places: dict[int, list[str]] = {}
        for name, weight in model.named_parameters(remove_duplicate=False):
            places.setdefault(id(weight), []).append(name)
        self._tied = tuple(tuple(names) for names in places.values())
        """The names of each weight: several where it is used in several places."""
        without = {
            id(weight): nn.Parameter(weight.to("meta"), requires_grad=weight.requires_grad)
            for weight in model.parameters()
        }
        self._model = copy.deepcopy(model, without)

    def keep(self, trainer: Any, folder: str | None) -> None:
        """Write the weights as they are to `folder`. All processes call it."""
        from safetensors.torch import save_file

        state = self._gathered(trainer)
        if together.is_first():
            place = Path(folder or trainer.args.output_dir)
            place.mkdir(parents=True, exist_ok=True)
            save_file(state, place / BEST)

    def filled(self, trainer: Any) -> Any:
        """The whole model with the weights that were trained, the best ones where those are asked for, on the CPU;
        in other processes than the first one without weights. All processes call it."""
        from safetensors.torch import load_file
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()  # or models that one process loads from now on would be spread, and wait for others
        best = trainer.state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
        state = self._gathered(trainer) if best is None else {}
        model = self._model
        if not together.is_first():
            return model
        if best is not None:
            state = load_file(Path(best) / BEST)
        weights = dict(model.named_parameters(remove_duplicate=False))
        state = {name: value.to(weights[name].dtype) if name in weights else value for name, value in state.items()}
        found = model.load_state_dict(state, strict=False, assign=True)
        missing = set(found.missing_keys) - {name for names in self._tied for name in names[1:]}
        if missing or found.unexpected_keys:
            raise RuntimeError(f"weights that didn't come back: {sorted(missing)}; and more: {found.unexpected_keys}")
        for first, *others in self._tied:
            for name in others:
                inside, _, own = name.rpartition(".")
                setattr(model.get_submodule(inside), own, model.get_parameter(first))
        return model

    def _gathered(self, trainer: Any) -> dict[str, Any]:
        """Name -> weight or buffer, each weight once, on the CPU; nothing in other processes than the first one."""
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        again = {name for names in self._tied for name in names[1:]}
        if not together.is_first():
            return {}
        return {name: value.detach().cpu().contiguous() for name, value in state.items() if name not in again}
