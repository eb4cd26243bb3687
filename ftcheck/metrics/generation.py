"""What generated texts are like, whatever library: exact matches, lengths, diversity and repetition.

Words are what white space separates. A text in a script that doesn't separate words (Japanese, Chinese, Thai) is a word
or a few: of those these metrics say little.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.metrics import Context, Definition, counts, leave_one_out
from ftcheck.metrics.texts import MeanScore, Score, check

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale

Ngram = tuple[str, ...]
REPETITION_ORDER = 4


def ngrams(text: str, n: int) -> list[Ngram]:
    """All n-grams of words in a text, in order."""
    words = text.split()
    return list(zip(*(words[start:] for start in range(n)), strict=False))


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 where the texts are equal but for white space around them, with any reference, else 0."""
    return float(prediction.strip() in {reference.strip() for reference in references})


def repetition(prediction: str, references: Sequence[str]) -> float:
    """1 - distinct 4-grams / 4-grams (seq-rep-4 of Welleck et al. 2020); 0 for a text of fewer than four words."""
    found = ngrams(prediction, REPETITION_ORDER)
    return 1 - len(set(found)) / len(found) if found else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """Distinct n-grams / n-grams of all predictions together (Li et al. 2016); 0 where there are none.

    Texts share n-grams, so it doesn't add up: statistics are made by leaving out each text.
    """

    name: str
    signature: str
    n: int
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = False

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(examples, 3), as `leave_one_out` makes them."""
        import numpy as np

        check(self.name, predictions, references)
        texts = [Counter(ngrams(prediction, self.n)) for prediction in predictions]
        holders = Counter(ngram for text in texts for ngram in text)
        total = np.array([text.total() for text in texts], dtype=np.float64)
        alone = np.array([sum(holders[ngram] == 1 for ngram in text) for text in texts], dtype=np.float64)
        without = counts.ratio(len(holders) - alone, total.sum() - total, empty=0.0)
        return leave_one_out.statistics(len(holders) / max(1.0, total.sum()), without)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return leave_one_out.aggregate(totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthRatio:
    """Predicted words / words of the reference that is closest in length (the shorter of two as close), as BLEU's
    brevity penalty counts them. NaN where no reference has a word."""

    name: str
    signature: str
    greater_is_better: bool = True
    scale: Scale = "unbounded"
    binary: bool = False

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(examples, 2): [predicted words, words of the closest reference]."""
        import numpy as np

        check(self.name, predictions, references)
        statistics = np.zeros((len(references), 2))
        for row, (prediction, accepted) in enumerate(zip(predictions, references, strict=True)):
            predicted = len(prediction.split())
            lengths = (len(reference.split()) for reference in accepted)
            statistics[row] = predicted, min(lengths, key=lambda length: (abs(length - predicted), length))
        return statistics

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.mean(totals)


def _mean(score: Score, summary: str, *, greater_is_better: bool = True, binary: bool = False) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> MeanScore:
        return MeanScore(
            name=known.name,
            signature=known.signature,
            score=score,
            greater_is_better=known.greater_is_better,
            binary=binary,
        )

    return Definition(
        name=score.__name__, input="text", summary=summary, make=make, greater_is_better=greater_is_better
    )


def _distinct(n: int, summary: str) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> Distinct:
        return Distinct(name=known.name, signature=known.signature, n=n)

    return Definition(name=f"distinct_{n}", input="text", summary=summary, make=make)


def _length_ratio(known: Definition, argument: str | None, context: Context) -> LengthRatio:
    return LengthRatio(name=known.name, signature=known.signature)


METRICS = (
    _mean(exact_match, "share of texts equal to a reference, white space around them aside", binary=True),
    Definition(
        name="length_ratio",
        input="text",
        summary="predicted words per word of the reference closest in length",
        bounds=(0.0, math.inf),
        make=_length_ratio,
    ),
    _distinct(1, "distinct words per word, of all predictions together"),
    _distinct(2, "distinct pairs of words per pair, of all predictions together"),
    _mean(repetition, "mean share of 4-grams that repeat an earlier one of the same text", greater_is_better=False),
)
