"""Metrics as example statistics with an aggregate. One module per metric family; adding one is adding a file and a line here.

A metric is a name and perhaps an argument: `macro_f1`, `f1[lost_or_stolen_card]`. `parse` splits the two, `build` makes
the metric. Heavy libraries are imported only inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

Input = Literal["label", "tags", "answer", "cost"]
"""What a metric is computed from. A task says which of these its records give (`Task.inputs`):

- `label`: predictions and references are int class ids (index into `Context.labels`).
- `tags`: one list of tag names per example.
- `answer`: predictions are strings, references are lists of accepted strings (empty list: unanswerable, predicted "").
- `cost`: not from examples at all, one number per run (train_seconds, ...).
"""

Scale = Literal["proportion", "perplexity", "unbounded"]
"""Which interval fits (STATISTICS.md (1)): within [0, 1], exp of a mean loss, or anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a metric may need to know about the case besides predictions and references."""

    labels: tuple[str, ...] = ()
    """Class names by id (`label`), or tag names (`tags`)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The case's task options, e.g. `scheme`, `positive_label`."""


class Metric(Protocol):
    """One number about a run, with the example statistics that determine it."""

    @property
    def name(self) -> str:
        """The name as a gate writes it: `macro_f1`, `f1[PER]`."""

    @property
    def greater_is_better(self) -> bool: ...

    @property
    def scale(self) -> Scale: ...

    @property
    def binary(self) -> bool:
        """Whether an example counts 0 or 1 and the metric is their mean (accuracy, exact match)."""

    @property
    def signature(self) -> str:
        """Definition, library and version. Two results with different signatures are not comparable."""

    def statistics(self, predictions: Sequence[Any], references: Sequence[Any]) -> FloatArray:
        """(examples, k): rows add up to what `aggregate` takes."""

    def aggregate(self, totals: FloatArray) -> FloatArray:
        """(..., k) -> (...). Vectorized over leading axes."""
