"""`layer_lr_decay: 0.9`: each layer learns slower than the one above it.

As ELECTRA (Clark et al. 2020, section 3.1) and BEiT fine-tune: of n layers, layer l learns with the learning rate times
decay^(n + 1 - l), the head with the learning rate itself, and the embeddings with decay^(n + 1) of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ftcheck.finetune.parameters import depths
from ftcheck.finetune.techniques import Optimized, Options, Problem, Technique
from ftcheck.finetune.techniques.parameter_groups import optimizer_problems

if TYPE_CHECKING:
    from ftcheck.spec import Facts


class LayerLRDecayOptions(Options):
    decay: float = Field(gt=0, lt=1, description="A layer's learning rate as a part of that of the layer above it.")


class LayerLRDecay(Technique):
    name = "layer_lr_decay"
    description = "Lower learning rates for lower layers: each has this part of the one above it."
    options = LayerLRDecayOptions
    short = "decay"
    excludes: ClassVar[Mapping[str, str]] = {"peft": "the checkpoint's layers are not trained; give parameter_groups"}

    def problems(self, facts: Facts) -> Iterator[Problem]:
        yield from optimizer_problems(facts)

    def optimized(self, model: Any) -> Mapping[str, Optimized]:
        found = depths(model)
        return {
            name: Optimized(factor=self.given["decay"] ** (found.layers + 1 - depth))
            for name, depth in found.of.items()
        }
