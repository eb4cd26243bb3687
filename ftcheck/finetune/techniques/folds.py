"""`folds: 5`: cross-validation, where rows are too few to keep some apart for judging.

Each fold of the training rows is judged by a model trained on the others; all rows are judged once per seed, and the
verdict is over all of them. Splits are scikit-learn's, drawn anew by each seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ftcheck.errors import DataError
from ftcheck.finetune.techniques import Options, Problem, Technique

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Facts

    Positions = npt.NDArray[np.int64]


class FoldsOptions(Options):
    n: int = Field(ge=2, le=1000, description="How many folds, each judged by a model trained on the others.")
    by: Literal["stratified", "grouped", "plain"] | None = Field(
        default=None,
        description="stratified: classes in proportion (default for tasks with classes); grouped: rows that share "
        "`group` stay together, classes in proportion where there are any; plain: at random.",
    )
    group: str | None = Field(default=None, description="With by: grouped, the column of the data.")
    repeats: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="How many partitions, each of a seed, in the place of `seeds`; null: as many as seeds.",
    )


class Folds(Technique):
    """A model for each fold; their predictions together are the run's."""

    name = "folds"
    description = "Cross-validation: every training row is judged once, by a model that wasn't trained on it."
    options = FoldsOptions
    short = "n"
    runs = "repeats"
    changes_rows = True
    libraries = ("scikit-learn",)
    excludes: ClassVar[Mapping[str, str]] = {
        "search": "its trials would need rows of their own in each fold; keep rows apart to be judged instead"
    }
    judges_train = True

    @property
    def folds(self) -> int:
        count: int = self.given["n"]
        return count

    @property
    def group(self) -> str | None:
        column: str | None = self.given["group"]
        return column

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """How many partitions there are changes none of them."""
        return {name: value for name, value in self.given.items() if name != "repeats"}

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if facts.judges:
            yield (), "judges the training rows: leave out data.splits.eval, data.holdout.eval and data.limit.eval"
        if (self.given["by"] == "grouped") != (self.given["group"] is not None):
            yield ("group",), "goes with by: grouped, which needs it: the column whose rows stay together"

    def split(
        self, fold: int, seed: int, labels: Positions | None, groups: Sequence[Any] | None, size: int
    ) -> tuple[Positions, Positions]:
        """See `Technique.split`. `labels`: a class a row, where rows have one. Raises DataError for too few rows."""
        import numpy as np
        from sklearn import model_selection

        by = self.given["by"] or ("stratified" if labels is not None else "plain")
        self._check(by, labels, groups, size)
        kinds = {
            "plain": model_selection.KFold,
            "stratified": model_selection.StratifiedKFold,
            "grouped": model_selection.GroupKFold if labels is None else model_selection.StratifiedGroupKFold,
        }
        splitter = kinds[by](n_splits=self.folds, shuffle=True, random_state=seed)
        rows = np.zeros(size)
        coded = None if groups is None else np.unique([str(group) for group in groups], return_inverse=True)[1]
        train, judged = list(splitter.split(rows, labels, coded))[fold]
        return np.sort(train).astype(np.int64), np.sort(judged).astype(np.int64)

    def _check(self, by: str, labels: Positions | None, groups: Sequence[Any] | None, size: int) -> None:
        import numpy as np

        if by == "stratified" and labels is None:
            raise DataError("folds: stratified needs rows with one class each; write by: plain or grouped")
        if size < self.folds:
            raise DataError(f"folds: {size:,} training rows can't make {self.folds:,} folds")
        if by == "stratified" and labels is not None and (rare := int(np.bincount(labels).min())) < self.folds:
            raise DataError(
                f"folds: the rarest class has {rare:,} training rows, fewer than {self.folds:,} folds: some models "
                "would be trained without it; make fewer folds, or write by: plain"
            )
        if groups is not None and len(set(map(str, groups))) < self.folds:
            raise DataError(
                f"folds: the column {self.given['group']} has {len(set(map(str, groups))):,} groups, fewer than "
                f"{self.folds:,} folds"
            )
