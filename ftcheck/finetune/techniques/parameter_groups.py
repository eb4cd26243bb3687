"""`parameter_groups: [{match: "classifier.*", learning_rate_factor: 10}, ...]`: by name, learning rates and decays.

PyTorch's optimizers call it parameter groups; discriminative fine-tuning is ULMFiT's name (Howard and Ruder 2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ftcheck.errors import TechniqueError, shown
from ftcheck.finetune.parameters import matching
from ftcheck.finetune.techniques import Optimized, Options, Problem, Technique

if TYPE_CHECKING:
    from ftcheck.spec import Facts

OWN_GROUPS = ("galore", "apollo", "lomo", "adalomo")
"""Optimizers that group parameters in their own way, by what their names begin with."""


class ParameterGroup(Options):
    match: str = Field(min_length=1, description="A pattern of parameters' names, such as `classifier.*`.")
    learning_rate_factor: float = Field(default=1.0, gt=0, description="The learning rate is multiplied with it.")
    weight_decay: float | None = Field(default=None, ge=0, description="Instead of training.weight_decay.")


class ParameterGroupsOptions(Options):
    groups: list[ParameterGroup] = Field(
        min_length=1, description="The first whose pattern matches a parameter's name holds for it."
    )


class ParameterGroups(Technique):
    name = "parameter_groups"
    description = "Learning rates and weight decays of their own for parameters, by patterns of their names."
    options = ParameterGroupsOptions
    short = "groups"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        yield from optimizer_problems(facts)
        for index, group in enumerate(self.given["groups"]):
            if group["learning_rate_factor"] == 1 and group["weight_decay"] is None:
                yield (index,), "changes nothing; give learning_rate_factor or weight_decay"

    def optimized(self, model: Any) -> Mapping[str, Optimized]:
        """Raises TechniqueError for a group without parameters that train."""
        names = [name for name, _ in model.named_parameters()]
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        found: dict[str, Optimized] = {}
        for index, group in enumerate(self.given["groups"]):
            new = trained.intersection(matching(group["match"], names, f"parameter_groups[{index}].match")) - set(found)
            if not new:
                raise TechniqueError(
                    f"parameter_groups[{index}]: all that {shown(group['match'], 80)!r} matches is frozen, or belongs "
                    "to a group before it: put the narrower pattern first"
                )
            setting = Optimized(factor=group["learning_rate_factor"], weight_decay=group["weight_decay"])
            found |= dict.fromkeys(new, setting)
        return found


def optimizer_problems(facts: Facts) -> Iterator[Problem]:
    """What is wrong with learning rates of parameters where the optimizer has groups of its own."""
    optimizer = str((facts.training or {}).get("optim", ""))
    if optimizer.startswith(OWN_GROUPS):
        yield (), f"can't be combined with training.optim {optimizer}, which groups parameters in its own way"
