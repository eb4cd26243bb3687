"""`attention: eager`: while a model trains, its attention is computed by plain matrix products.

transformers asks torch for attention by default (sdpa). Where dropout is drawn for its weights, torch has no fused
kernel on a CPU, and its general way multiplies in float32 also where bf16 is asked for. To answer, where nothing is
drawn, its fused kernel is the faster one and takes less memory, so that a model is judged as by default. Rounding
differs, and the order in which random numbers are drawn, as if the seed were another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ftcheck.errors import TechniqueError
from ftcheck.finetune.techniques import Options, Technique

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ftcheck.finetune.techniques import Context

EAGER = "eager"


class AttentionOptions(Options):
    training: Literal["auto", "eager"] = Field(
        description="How attention is computed in training: as transformers does by default, or by plain products."
    )


class Attention(Technique):
    name = "attention"
    description = "How attention is computed in training: as by default (auto), or by plain matrix products (eager)."
    options = AttentionOptions
    short = "training"
    resumes = True  # what it changes is as it was between two steps
    excludes: ClassVar[Mapping[str, str]] = {"loop": "a loop takes its steps by itself"}

    def callbacks(self, context: Context, model: Any) -> list[Any]:
        return [_eager_steps(model)] if self.given["training"] == EAGER else []


def _eager_steps(model: Any) -> Any:
    """The TrainerCallback by which `model` is eager within each step, and as it was between two, where it is judged.
    Raises TechniqueError for a model that can't be."""
    from transformers import PreTrainedModel, TrainerCallback

    usual = {part: part.config._attn_implementation for part in model.modules() if isinstance(part, PreTrainedModel)}

    class EagerSteps(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            for part in usual:
                part.set_attn_implementation(EAGER)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            for part, implementation in usual.items():
                part.set_attn_implementation(implementation)

    steps = EagerSteps()
    steps.on_step_begin()
    stays = [part for part in usual if part.config._attn_implementation != EAGER]
    steps.on_step_end()
    if stays:
        raise TechniqueError(
            f"attention: {type(stays[0]).__name__} can't compute its attention in another way than "
            f"{usual[stays[0]]}; leave attention out"
        )
    return steps
