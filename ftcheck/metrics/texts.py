"""What metrics of generated text share: checked input, the mean of a score per example, stemming.

Predictions are strings; references are lists of one or more strings, of any number from example to example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from ftcheck.errors import MetricError, shown
from ftcheck.metrics import counts

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale

Score = Callable[[str, Sequence[str]], float]
"""(prediction, its references) -> a number in [0, 1]."""


def check(name: str, predictions: Sequence[Any], references: Sequence[Any]) -> None:
    """Raises MetricError unless there is a string and a list of one or more strings for every example."""
    if len(predictions) != len(references):
        raise MetricError(f"{name}: {len(predictions)} predictions for {len(references)} references")
    for row, (prediction, accepted) in enumerate(zip(predictions, references, strict=True)):
        if (
            not isinstance(prediction, str)
            or isinstance(accepted, str)
            or not isinstance(accepted, Sequence)
            or not accepted
            or not all(isinstance(text, str) for text in accepted)
        ):
            raise MetricError(
                f"{name}: example {row} needs a string and a list of one or more reference strings, "
                f"got {shown(repr(prediction))} and {shown(repr(accepted))}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanScore:
    """The mean over examples of a score in [0, 1]."""

    name: str
    signature: str
    score: Score
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = False

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(examples, 2): [score, 1]."""
        import numpy as np

        check(self.name, predictions, references)
        statistics = np.ones((len(references), 2))
        statistics[:, 0] = [self.score(*pair) for pair in zip(predictions, references, strict=True)]
        return statistics

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.mean(totals)


class Stemmer:
    """nltk's Porter stemmer, which takes some 20 microseconds a word, with a memory."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem = lru_cache(maxsize=1 << 16)(PorterStemmer().stem)


@cache
def stemmer() -> Stemmer:
    return Stemmer()
