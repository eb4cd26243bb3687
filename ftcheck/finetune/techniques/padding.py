"""`padding: parts`: a training batch is divided by length, and each part padded to its own longest row.

The same batches and the same mean loss with fewer padding tokens (`ftcheck.finetune.parts`). What changes is float
rounding, and which random numbers dropout draws: as if the seed were another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ftcheck.finetune import parts
from ftcheck.finetune.techniques import Options, Problem, Technique

if TYPE_CHECKING:
    from ftcheck.spec import Facts


class PaddingOptions(Options):
    within: Literal["batch", "parts"] = Field(
        description="What is padded to its longest row: the batch, or each of its parts of like length."
    )


class Padding(Technique):
    name = "padding"
    description = "How far training rows are padded: to the longest of their batch, or of a part of it."
    options = PaddingOptions
    short = "within"
    excludes: ClassVar[Mapping[str, str]] = {
        "trainer": "a Trainer of another kind takes whole batches",
        "loop": "a loop takes whole batches",
    }

    def problems(self, facts: Facts) -> Iterator[Problem]:
        training = facts.training or {}
        if self.given["within"] == "batch":
            return
        if training.get("include_num_input_tokens_seen", "no") not in ("no", False):
            yield (), "parts can't be combined with training.include_num_input_tokens_seen, which counts whole batches"
        if "lomo" in str(training.get("optim", "")):
            yield (), f"parts can't be combined with training.optim {training['optim']}, which steps at every pass"

    @property
    def alone(self) -> str:
        return "" if self.given["within"] == "batch" else "another has another number of parts, and waits"

    def collator(self, collate: Any, model: Any) -> Any:
        if self.given["within"] == "batch":
            return collate
        return parts.PartCollator(collate=collate, overhead=parts.overhead(model))
