"""`init_from: case:NAME`: start from the model that another case of the file trained.

Domain adaptation before classification (Gururangan et al. 2020, "Don't Stop Pretraining"), or an intermediate task with
more data (STILTs: Phang et al. 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from ftcheck.finetune.techniques import Options, Technique, of

if TYPE_CHECKING:
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case


class InitFromOptions(Options):
    case: str = Field(
        pattern=r"^case:.+$", description="case:ID of the same file; its seed is this run's, or its first."
    )

    @field_validator("case", mode="before")
    @classmethod
    def _names_a_case(cls, value: Any) -> Any:
        if isinstance(value, str) and not (value.startswith("case:") and value.removeprefix("case:")):
            raise PydanticCustomError("own", "expected case: and the id of a case of this file")
        return value


class InitFrom(Technique):
    """The other case's body and, where it fits, head take the checkpoint's place; so does its tokenizer."""

    name = "init_from"
    description = "Start from the model of another case of this file: case:ID."
    options = InitFromOptions
    short = "case"
    parent = "case"

    @classmethod
    def parent_problem(cls, case: Case, parent: Case) -> str:
        if parent.checkpoint != case.checkpoint:
            return (
                f"{parent.id} fine-tunes {parent.checkpoint.path}, but this case's checkpoint is "
                f"{case.checkpoint.path}: name the same one"
            )
        for technique in of(parent):
            if technique.folds:
                return f"{parent.id} trains a model for each fold: leave one out, with a case of its own"
            if technique.keeps:
                return f"{parent.id} keeps no whole model ({technique.name}) that another training could start from"
        return ""

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """Nothing: the key of the other case's training is part of this one's, and its name is not."""
        return {}
