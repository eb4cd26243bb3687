"""`padding: parts`: a training batch is divided by length, and each part padded to its own longest row.
`padding: groups`: rows of like length make a batch.

In parts, the same batches and the same mean loss have fewer padding tokens (`ftcheck.finetune.parts`). What changes is
float rounding, and which random numbers dropout draws: as if the seed were another. Groups are other batches
(`ftcheck.finetune.groups`): another recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ftcheck.finetune import groups, parts
from ftcheck.finetune.techniques import Options, Problem, Technique

if TYPE_CHECKING:
    from ftcheck.spec import Facts


class PaddingOptions(Options):
    within: Literal["batch", "parts", "groups"] = Field(
        description="What is padded to its longest row: the batch, each of its parts of like length, or a batch of "
        "rows of like length (groups)."
    )


class Padding(Technique):
    name = "padding"
    description = "How far training rows are padded: to the longest of their batch, a part of it, or of like rows."
    options = PaddingOptions
    short = "within"
    excludes: ClassVar[Mapping[str, str]] = {
        "trainer": "a Trainer of another kind takes whole batches",
        "loop": "a loop takes whole batches",
    }

    def problems(self, facts: Facts) -> Iterator[Problem]:
        training = facts.training or {}
        if self.given["within"] == "groups":
            yield from _beside_groups(training, streaming=facts.streaming)
        if self.given["within"] != "parts":
            return
        if training.get("include_num_input_tokens_seen", "no") not in ("no", False):
            yield (), "parts can't be combined with training.include_num_input_tokens_seen, which counts whole batches"
        if "lomo" in str(training.get("optim", "")):
            yield (), f"parts can't be combined with training.optim {training['optim']}, which steps at every pass"

    @property
    def alone(self) -> str:
        return "another has another number of parts, and waits" if self.given["within"] == "parts" else ""

    def sampler(self, features: Any, size: int) -> Any:
        return groups.of(features, size) if self.given["within"] == "groups" else None

    def collator(self, collate: Any, model: Any) -> Any:
        if self.given["within"] != "parts":
            return collate
        return parts.PartCollator(collate=collate, overhead=parts.overhead(model))


def _beside_groups(training: Mapping[str, Any], *, streaming: bool) -> Iterator[Problem]:
    strategy = training.get("train_sampling_strategy", "random")
    if strategy != "random":
        yield (), f"groups can't be combined with training.train_sampling_strategy: {strategy}, another order of rows"
    if streaming:
        yield (), "groups are chosen among all rows, which a stream doesn't know; data.shuffle_buffer shuffles it"
