"""`callbacks: [package.module:Class]`: TrainerCallbacks of the user's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ftcheck.errors import TechniqueError, shown
from ftcheck.finetune.techniques import Options, Problem, Technique, user_code
from ftcheck.spec import Facts

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case


class CallbacksOptions(Options):
    classes: list[user_code.ImportPath] = Field(min_length=1, description="Import paths, package.module:Class.")


class Callbacks(Technique):
    """One of each class, made without arguments, is told of a training by the Trainer."""

    name = "callbacks"
    description = "TrainerCallbacks of your own, by their import paths."
    options = CallbacksOptions
    resumes = False
    short = "classes"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        for index, path in enumerate(self.given["classes"]):
            if found := user_code.problem(path):
                yield (index,), found

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """The classes' sources: a callback may change what is trained."""
        return {"code": [user_code.identity(path) for path in self.given["classes"]]}

    def own_code(self) -> Sequence[str]:
        return tuple(self.given["classes"])

    def callbacks(self, context: Context, model: Any) -> list[Any]:
        from transformers import TrainerCallback

        made = []
        for path in self.given["classes"]:
            found = user_code.load(path)
            if not (isinstance(found, type) and issubclass(found, TrainerCallback)):
                raise TechniqueError(f"callbacks: {shown(path, 200)} is no subclass of transformers.TrainerCallback")
            made.append(found())
        return made
