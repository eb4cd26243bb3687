"""`few_shot: {per_class: 16, sets: 5}`: small training sets, another one for each run, so that luck is in the result.

One set says little: which rows are drawn moves a result as much as anything (Gao et al. 2021, "Making Pre-trained
Language Models Better Few-shot Learners", train on five sets of 16 rows a class).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ftcheck.errors import TechniqueError, shown
from ftcheck.finetune.techniques import Options, Problem, Technique, drawing

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.finetune.techniques import Context
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Facts


class FewShotOptions(Options):
    per_class: int | None = Field(default=None, ge=1, description="Training rows of each class.")
    rows: int | None = Field(default=None, ge=1, description="Training rows, whatever their class.")
    sets: int = Field(
        default=5, ge=1, le=1000, description="How many sets are drawn: each makes one run, in the place of `seeds`."
    )


class FewShot(Technique):
    """Draws by the run's seed."""

    name = "few_shot"
    description = "Train on a few rows, each run on a sample of its own: {per_class: 16, sets: 5}."
    options = FewShotOptions
    short = "per_class"
    changes_rows = True
    runs = "sets"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        from ftcheck import tasks

        if (self.given["per_class"] is None) == (self.given["rows"] is None):
            yield (), "expected either per_class or rows"
        elif self.given["per_class"] is not None and tasks.get(facts.task).stratify_by(facts.task_options) is None:
            yield ("per_class",), f"rows of {facts.task} have no one class each; say rows: how many in all"

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """How many sets there are changes none of them."""
        return {name: value for name, value in self.given.items() if name != "sets"}

    def rows(self, rows: RoleRows, context: Context) -> RoleRows:
        """Raises TechniqueError where there are fewer rows than asked for; a smoke run takes what there is."""
        from ftcheck import tasks

        case, job = context.job.case, context.job
        column = tasks.get(case.task).stratify_by(case.task_options)
        wanted, found = self.given["rows"], {"": list(range(len(rows.hashes)))}
        if wanted is None:
            assert column is not None
            wanted, found = self.given["per_class"], drawing.groups(rows, column, context.meta)
        drawn: list[int] = []
        for name, some in found.items():
            if len(some) < wanted and job.limit is None:
                of = f" of each class, and {shown(name, 80)!r} has" if name else ", and there are"
                raise TechniqueError(f"few_shot wants {wanted:,} training rows{of} {len(some):,}")
            if some:
                drawn += drawing.draw(some, min(wanted, len(some)), "few_shot", job.seed, name)
        context.note(f"train: {len(drawn):,} of {len(rows.hashes):,} rows, each run its own sample")
        return rows.take(sorted(drawn))
