"""`trainer: package.module:Class`: a Trainer of the user's, from which ftcheck's own is derived."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, JsonValue

from ftcheck.errors import TechniqueError, shown
from ftcheck.finetune.techniques import Options, Problem, Technique, user_code
from ftcheck.spec import Facts

if TYPE_CHECKING:
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case

OF_THEIR_OWN: Final = ("trl", "sentence_transformers")
"""Libraries whose Trainers take rows and arguments of their own kinds."""


class TrainerOptions(Options):
    path: user_code.ImportPath = Field(description="The class's import path, package.module:Class.")
    options: dict[str, JsonValue] = Field(default_factory=dict, description="Arguments that the class takes besides.")


class Trainer(Technique):
    """What the class does differently is done, within what ftcheck makes sure of (see `finetune.trainer`)."""

    name = "trainer"
    description = "A subclass of transformers' Trainer of your own, by its import path."
    options = TrainerOptions
    short = "path"
    excludes = {"loop": "a loop stands in the Trainer's place"}  # noqa: RUF012  declared as a ClassVar in the base

    def problems(self, facts: Facts) -> Iterator[Problem]:
        path = self.given["path"]
        if path.partition(":")[0].partition(".")[0] in OF_THEIR_OWN:
            yield (), _refusal(path)
        elif found := user_code.problem(path):
            yield (), found

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """The class's source instead of its name, and its options."""
        return {"code": user_code.identity(self.given["path"]), "options": self.given["options"]}

    def own_code(self) -> Sequence[str]:
        return (self.given["path"],)

    def trainer(self) -> tuple[type, Mapping[str, Any]]:
        import transformers

        path = self.given["path"]
        found = user_code.load(path)
        if not (isinstance(found, type) and issubclass(found, transformers.Trainer)):
            raise TechniqueError(f"trainer: {shown(path, 200)} is no subclass of transformers.Trainer")
        tops = {kind.__module__.partition(".")[0] for kind in found.__mro__}
        if tops.intersection(OF_THEIR_OWN):
            raise TechniqueError(f"trainer: {_refusal(path)}")
        if issubclass(found, transformers.Seq2SeqTrainer):
            raise TechniqueError(
                f"trainer: {shown(path, 200)} is a Seq2SeqTrainer, which generates when it evaluates; ftcheck does "
                "that by itself: derive the class from Trainer"
            )
        return found, self.given["options"]


def _refusal(path: str) -> str:
    return (
        f"{shown(path, 200)} takes rows and arguments of its own kinds, which ftcheck can't answer for: see "
        "docs/techniques.md for what does the same here"
    )
