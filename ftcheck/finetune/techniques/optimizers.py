"""`optimizers: package.module:function`: an optimizer of the user's, and a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ftcheck.errors import TechniqueError, shown
from ftcheck.finetune.techniques import Options, Problem, Technique, get, user_code
from ftcheck.spec import Facts

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case


class OptimizersOptions(Options):
    function: user_code.ImportPath = Field(
        description="Import path of a function (model, arguments) -> (optimizer, schedule); the schedule may be None."
    )


class Optimizers(Technique):
    """The Trainer steps the optimizer and the schedule that the function returns."""

    name = "optimizers"
    description = "A function of your own that makes the optimizer and the schedule, by its import path."
    options = OptimizersOptions
    resumes = False
    short = "function"
    excludes = {"loop": "a loop makes its own"}  # noqa: RUF012  declared as a ClassVar in the base

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if found := user_code.problem(self.given["function"]):
            yield (), found
        for field in ("optim", "optim_args"):
            if field in (facts.training or {}):
                yield (), f"makes the optimizer: leave out training.{field}, which has no effect"
        for other in facts.techniques:
            if get(other).optimized is not Technique.optimized:
                yield (), f"makes the optimizer, so that {other} has no effect: leave one of them out"

    @property
    def whole(self) -> str:
        return "the Trainer takes no optimizer there that was made before the model was spread"

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """The function's source instead of its name."""
        return {"code": user_code.identity(self.given["function"])}

    def own_code(self) -> Sequence[str]:
        return (self.given["function"],)

    def optimizers(self, model: Any, arguments: Any, context: Context) -> tuple[Any, Any]:
        import torch

        path = self.given["function"]
        function = user_code.load(path)
        if not isinstance(function, FunctionType):
            raise TechniqueError(f"optimizers: {shown(path, 200)} is a {type(function).__name__}, no function")
        made = function(model, arguments)
        kinds = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None)
        if not (isinstance(made, tuple) and len(made) == 2 and all(map(isinstance, made, kinds))):
            raise TechniqueError(
                f"optimizers: {shown(path, 200)} must return (a torch optimizer, a schedule of torch or None), "
                f"got {shown(repr(made))}"
            )
        return made
