"""Which of two answers a language model finds likelier, or came to find likelier in training: chosen or rejected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.errors import MetricError, shown
from ftcheck.metrics import Context, Definition, counts

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Input, Scale

BY_LENGTH = "per_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfMargins:
    """The mean of a function of margins: how much likelier the chosen answer is, in nats."""

    name: str
    signature: str
    of: Callable[[FloatArray], FloatArray]
    """(examples,) margins -> (examples,)."""
    per_token: bool
    scale: Scale
    binary: bool
    greater_is_better: bool = True

    def statistics(self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]) -> FloatArray:
        """(examples, 2): [value, 1]; an example whose log-probabilities are no numbers has NaN."""
        import numpy as np

        if len(predictions) != len(references):
            raise MetricError(f"{self.name}: {len(predictions)} predictions for {len(references)} references")
        for row, pair in enumerate(zip(predictions, references, strict=True)):
            if any(len(part) != 2 for part in pair):
                raise MetricError(
                    f"{self.name}: example {row} needs two log-probabilities and two numbers of tokens, got "
                    f"{shown(repr(pair))}"
                )
        found, tokens = (np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in (predictions, references))
        if self.per_token:
            found = found / np.maximum(tokens, 1)
        margins = found[:, 0] - found[:, 1]
        return np.stack([self.of(margins), np.ones(len(margins))], axis=1)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.ratio(totals[..., 0], totals[..., 1], empty=float("nan"))


def _right(margins: FloatArray) -> FloatArray:
    """1 where the chosen answer is likelier; equal ones are wrong, as TRL counts them."""
    import numpy as np

    return np.where(np.isnan(margins), np.nan, margins > 0)


def _as_they_are(margins: FloatArray) -> FloatArray:
    return margins


def _definition(name: str, input_: Input, summary: str, *, counted: bool) -> Definition:
    """`counted`: whether an example counts 0 or 1 rather than its margin."""

    def make(known: Definition, argument: str | None, context: Context) -> OfMargins:
        suffix = "" if argument is None else f"[{argument}]"
        return OfMargins(
            name=known.name + suffix,
            signature=known.signature + suffix,
            of=_right if counted else _as_they_are,
            per_token=argument == BY_LENGTH,
            scale="proportion" if counted else "unbounded",
            binary=counted,
        )

    return Definition(
        name=name,
        input=input_,
        summary=summary,
        make=make,
        takes_argument=True,
        choices=(BY_LENGTH,),
        bounds=(0.0, 1.0) if counted else (-math.inf, math.inf),
    )


METRICS = (
    _definition(
        "preference_accuracy",
        "preference",
        "share of rows whose chosen answer the model finds likelier than the rejected one",
        counted=True,
    ),
    _definition(
        "preference_margin",
        "preference",
        "by how many nats the chosen answer is likelier, on average",
        counted=False,
    ),
    _definition(
        "reward_accuracy",
        "reward",
        "share of rows whose chosen answer gained more by the training than the rejected one",
        counted=True,
    ),
    _definition(
        "reward_margin",
        "reward",
        "by how many nats the chosen answer gained more, on average",
        counted=False,
    ),
)
