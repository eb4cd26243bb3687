"""Rows that a model reads as several texts: a feature holds the tokens of all, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftcheck.tasks.features import Collator, Example, stacked


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCollator:
    """Makes (batch, texts, length) tensors, as long as the batch's longest text. A row with fewer texts than the
    batch's most is filled up with its first, which the loss leaves out: attention to nothing at all would be NaN."""

    texts: Collator
    by: str
    """The token array that says which of a row's texts each token belongs to."""
    targets: Sequence[str]
    """What a feature has once, not by token."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        split = [self._split(example) for example in examples]
        most = max(map(len, split))
        filled = [row[place] if place < len(row) else row[0] for row in split for place in range(most)]
        batch = {name: lines.view(len(split), most, -1) for name, lines in self.texts(filled).items()}
        targets = [name for name in self.targets if name in examples[0]]
        return {**batch, **{name: stacked([example[name] for example in examples]) for name in targets}}

    def _split(self, example: Example) -> list[Example]:
        """A row's tokens text by text."""
        bounds = np.flatnonzero(np.diff(example[self.by])) + 1
        names = [name for name in example if name not in (*self.targets, self.by)]
        parts = zip(*(np.split(example[name], bounds) for name in names), strict=True)
        return [dict(zip(names, part, strict=True)) for part in parts]


def flat(batch: Mapping[str, Any]) -> dict[str, Any]:
    """(batch, texts, length) tensors as (batch · texts, length), which a model takes that reads one text a line."""
    return {name: tensor.flatten(0, 1) for name, tensor in batch.items()}
