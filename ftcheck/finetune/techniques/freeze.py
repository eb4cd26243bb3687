"""`freeze: base | PATTERNS | {all_but_last: N}`: train a part of the model only, or one layer more in each epoch.

A frozen body under a trained head is linear probing; gradual unfreezing is ULMFiT's (Howard and Ruder 2018, "Universal
Language Model Fine-tuning for Text Classification", section 3.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ftcheck.errors import TechniqueError
from ftcheck.finetune.parameters import Depths, depths, matching
from ftcheck.finetune.techniques import Options, Problem, Technique

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context
    from ftcheck.spec import Facts

BASE = "base"


class FreezeOptions(Options):
    patterns: str | list[str] | None = Field(
        default=None,
        min_length=1,
        description="`base` (all but the head), or patterns of parameters' names, such as `*.embeddings.*`.",
    )
    all_but_last: int | None = Field(
        default=None, ge=0, description="Freeze all but the last N layers and what comes after them."
    )
    unfreeze_layers_per_epoch: int | None = Field(
        default=None,
        ge=1,
        description="From the second epoch on, unfreeze as many of the frozen layers, top ones first.",
    )


class Freeze(Technique):
    """Frozen parameters have no gradient, so that no optimizer touches them: not even with weight decay."""

    name = "freeze"
    description = "Parameters that are not trained, or only from a later epoch on."
    options = FreezeOptions
    short = "patterns"
    resumes = True  # what is unfrozen follows from the epoch
    excludes: ClassVar[Mapping[str, str]] = {"peft": "it freezes the checkpoint by itself"}

    def problems(self, facts: Facts) -> Iterator[Problem]:
        given = self.given
        if (given["patterns"] is None) == (given["all_but_last"] is None):
            yield (), "expected either patterns or all_but_last"
        if given["unfreeze_layers_per_epoch"] is None:
            return
        where = ("unfreeze_layers_per_epoch",)
        training = facts.training or {}
        if facts.streaming:
            yield where, "a stream has no epochs; leave it or data.streaming out"
        elif training.get("max_steps", -1) <= 0 and training.get("num_train_epochs", 3) <= 1:
            yield where, "with one epoch nothing is ever unfrozen; raise training.num_train_epochs"

    @property
    def alone(self) -> str:
        return (
            "they must know from the start which parameters are trained"
            if self.given["unfreeze_layers_per_epoch"]
            else ""
        )

    def adapt(self, model: Any, context: Context) -> Any:
        """Freezes for good; what is unfrozen later must be known to the optimizer, and is frozen by a callback."""
        frozen = self._frozen(model)
        if self.given["unfreeze_layers_per_epoch"] is None:
            _train(model, frozen, wanted=False)
        return model

    def callbacks(self, context: Context, model: Any) -> list[Any]:
        count = self.given["unfreeze_layers_per_epoch"]
        if count is None:
            return []
        return [_unfreezing(_from_the_top(self._frozen(model), depths(model)), count)]

    def _frozen(self, model: Any) -> set[str]:
        """Names of the parameters that don't train, or not at first. Raises TechniqueError: none, or all."""
        names = [name for name, _ in model.named_parameters()]
        frozen = self._of_depth(model) if self.given["patterns"] is None else self._of_patterns(model, names)
        if len(frozen) == len(names):
            raise TechniqueError(
                f"freeze: all parameters of {type(model).__name__} are frozen, so that there is nothing to train "
                "(a head that shares its weights with the embeddings is frozen with them)"
            )
        return frozen

    def _of_patterns(self, model: Any, names: Sequence[str]) -> set[str]:
        patterns = self.given["patterns"]
        if patterns == BASE:
            return _base(model, names)
        patterns = [patterns] if isinstance(patterns, str) else patterns
        return {name for pattern in patterns for name in matching(pattern, names, "freeze")}

    def _of_depth(self, model: Any) -> set[str]:
        found, last = depths(model), self.given["all_but_last"]
        if last > found.layers:
            raise TechniqueError(f"freeze.all_but_last is {last}, but {type(model).__name__} has {found.layers} layers")
        return {name for name, depth in found.of.items() if depth <= found.layers - last}


def _base(model: Any, names: Sequence[str]) -> set[str]:
    """Names of the parameters of transformers' `base_model`, which is all but the head."""
    if model.base_model is model:
        raise TechniqueError(f"freeze: {type(model).__name__} has no head of its own above a base; name patterns")
    of_base = {id(parameter) for parameter in model.base_model.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in of_base}


def _from_the_top(frozen: Collection[str], found: Depths) -> list[set[str]]:
    """The frozen parameters of each layer, top one first, the embeddings last; a pooler goes with the top layer."""
    by_depth: dict[int, set[str]] = {}
    for name in frozen:
        by_depth.setdefault(min(found.of[name], found.layers), set()).add(name)
    return [by_depth[depth] for depth in sorted(by_depth, reverse=True)]


def _train(model: Any, names: Collection[str], *, wanted: bool) -> None:
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(wanted)


def _unfreezing(layers: Sequence[Collection[str]], count: int) -> Any:
    """A TrainerCallback. A function, since transformers takes seconds to import."""
    from transformers import TrainerCallback

    class Unfreezing(TrainerCallback):  # type: ignore[misc]
        """Freezes once the optimizer has its parameters, and unfreezes `count` layers before each but the first
        epoch."""

        def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any) -> None:
            if state.num_train_epochs <= 1:
                raise TechniqueError(
                    "freeze.unfreeze_layers_per_epoch: the training ends within its first epoch, and nothing would "
                    "ever be unfrozen; raise training.max_steps"
                )
            _train(model, set().union(*layers), wanted=False)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any) -> None:
            _train(model, set().union(*layers[: int(state.epoch or 0) * count]), wanted=True)

    return Unfreezing()
