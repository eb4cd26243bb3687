"""Perplexity, bits per byte and accuracy from token likelihoods: sums over all tokens of all examples, never means of
batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.errors import MetricError, shown
from ftcheck.metrics import Context, Definition, counts

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMetric:
    """A function of summed [negative log likelihood, tokens right, tokens, bytes]."""

    name: str
    signature: str
    value: Callable[[FloatArray], FloatArray]
    """(..., 4) -> (...)."""
    greater_is_better: bool
    scale: Scale
    binary: bool = False

    def statistics(
        self, predictions: Sequence[tuple[float, float]], references: Sequence[tuple[float, float]]
    ) -> FloatArray:
        """(examples, 4): [negative log likelihood in nats, tokens right, tokens, UTF-8 bytes]."""
        import numpy as np

        if len(predictions) != len(references):
            raise MetricError(f"{self.name}: {len(predictions)} predictions for {len(references)} references")
        for row, pair in enumerate(zip(predictions, references, strict=True)):
            if not all(_are_two_numbers(part) for part in pair):
                raise MetricError(
                    f"{self.name}: example {row} needs [negative log likelihood, tokens right] and [tokens, bytes], "
                    f"got {shown(repr(pair[0]))} and {shown(repr(pair[1]))}"
                )
        return np.hstack(
            [np.asarray(part, dtype=np.float64).reshape(len(part), 2) for part in (predictions, references)]
        )

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return self.value(totals)


def _are_two_numbers(value: object) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(isinstance(number, int | float) for number in value)


def perplexity(totals: FloatArray) -> FloatArray:
    """exp(negative log likelihood / tokens), infinite beyond the largest float; NaN without tokens."""
    import numpy as np

    with np.errstate(over="ignore"):
        return np.exp(counts.ratio(totals[..., 0], totals[..., 2], empty=float("nan")))


def bits_per_byte(totals: FloatArray) -> FloatArray:
    """Negative log likelihood in bits / bytes; NaN without bytes."""
    return counts.ratio(totals[..., 0] / math.log(2), totals[..., 3], empty=float("nan"))


def token_accuracy(totals: FloatArray) -> FloatArray:
    """Tokens right / tokens; NaN without tokens."""
    return counts.ratio(totals[..., 1], totals[..., 2], empty=float("nan"))


def _definition(
    value: Callable[[FloatArray], FloatArray],
    summary: str,
    *,
    scale: Scale,
    greater_is_better: bool,
    bounds: tuple[float, float],
) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> TokenMetric:
        return TokenMetric(
            name=known.name,
            signature=known.signature,
            value=value,
            greater_is_better=known.greater_is_better,
            scale=scale,
        )

    return Definition(
        name=value.__name__,
        input="tokens",
        greater_is_better=greater_is_better,
        bounds=bounds,
        summary=summary,
        make=make,
    )


METRICS = (
    _definition(
        perplexity,
        "exp of the mean negative log likelihood of a token",
        scale="perplexity",
        greater_is_better=False,
        bounds=(1.0, math.inf),
    ),
    _definition(
        bits_per_byte,
        "negative log likelihood in bits per UTF-8 byte of text",
        scale="unbounded",
        greater_is_better=False,
        bounds=(0.0, math.inf),
    ),
    _definition(
        token_accuracy,
        "share of tokens predicted right, each given those before it",
        scale="proportion",
        greater_is_better=True,
        bounds=(0.0, 1.0),
    ),
)
