"""`sampling: oversample | undersample | {temperature: 0.5}`: other shares of classes, or data sets, in training rows.

The last is p ~ n^T of multilingual pretraining (Devlin et al. 2019; Conneau et al. 2020, with T = 0.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ftcheck.finetune.techniques import Options, Problem, Technique, drawing

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.finetune.techniques import Context
    from ftcheck.spec import Facts


class SamplingOptions(Options):
    method: Literal["oversample", "undersample"] | None = Field(
        default=None, description="As many rows of each class as the largest has, or as the smallest."
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="As many rows as there are, each class's share by its size to this power: 1 as it is, 0 even.",
    )
    by: str | None = Field(
        default=None, min_length=1, description="A column of the data instead of the task's classes."
    )


class Sampling(Technique):
    """Draws by the run's seed. Each row of a class is used as often as the others, or once more."""

    name = "sampling"
    description = "Balance the training rows: oversample, undersample, or {temperature: 0.5}; by class or by a column."
    options = SamplingOptions
    short = "method"
    changes_rows = True
    column = "by"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if (self.given["method"] is None) == (self.given["temperature"] is None):
            yield (), "expected either a method (oversample, undersample) or a temperature"
        if self.given["by"] is None and _classes(facts.task, facts.task_options) is None:
            yield (), f"rows of {facts.task} have no one class each; name a column of the data: by"

    def rows(self, rows: RoleRows, context: Context) -> RoleRows:
        case = context.job.case
        by = self.given["by"] or _classes(case.task, case.task_options)
        assert by is not None
        found = {name: some for name, some in drawing.groups(rows, by, context.meta).items() if some}
        drawn = {
            name: drawing.draw(found[name], count, "sampling", context.job.seed, name)
            for name, count in self._counts({name: len(found[name]) for name in found}).items()
        }
        context.note(f"train: sampled by {by}: {drawing.counted(drawn)} (of {drawing.counted(found)})")
        return rows.take(sorted(row for drawn_rows in drawn.values() for row in drawn_rows))

    def _counts(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """How many rows of each group are wanted; at least one."""
        temperature = self.given["temperature"]
        if temperature is None:
            wanted = (max if self.given["method"] == "oversample" else min)(sizes.values())
            return dict.fromkeys(sizes, wanted)
        powers = {name: size**temperature for name, size in sizes.items()}
        scale = sum(sizes.values()) / sum(powers.values())
        return {name: max(1, round(power * scale)) for name, power in powers.items()}


def _classes(task: str, options: Mapping[str, Any]) -> str | None:
    """The column with the one class of each row."""
    from ftcheck import tasks

    return tasks.get(task).stratify_by(options)
