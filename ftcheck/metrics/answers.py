"""Exact match and answer F1, as the official scorer of SQuAD v2.0 computes them (here in [0, 1], there in percent).

The scorer of v1.1 differs in one corner only, answers of nothing but articles and punctuation: v2.0 leaves such a
reference out, and where none is left treats the question as unanswerable; v1.1 keeps it and gives F1 0 even to itself.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from ftcheck.errors import MetricError, shown
from ftcheck.metrics import Context, Definition, counts

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale

Part = Literal["HasAns", "NoAns"]
PARTS: tuple[Part, ...] = ("HasAns", "NoAns")

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=1 << 15)
def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation, articles and surplus white space (in this order, as the scorer does)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """1 where the normalized texts are equal, else 0."""
    return float(normalize(prediction) == normalize(reference))


def answer_f1(prediction: str, reference: str) -> float:
    """F1 over the normalized words, repeated ones counted; where either has none, 1 if both have none, else 0."""
    predicted, gold = normalize(prediction).split(), normalize(reference).split()
    if not predicted or not gold:
        return float(predicted == gold)
    common = (Counter(predicted) & Counter(gold)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScore:
    """The mean over questions of the best score against any accepted answer, perhaps of a part of the questions."""

    name: str
    signature: str
    score: Callable[[str, str], float]
    part: Part | None
    binary: bool
    greater_is_better: bool = True
    scale: Scale = "proportion"

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(examples, 2): [score, 1]; zeros for questions outside the part."""
        import numpy as np

        if len(predictions) != len(references):
            raise MetricError(f"{self.name}: {len(predictions)} predictions for {len(references)} references")
        statistics = np.zeros((len(references), 2))
        for row, (prediction, accepted) in enumerate(zip(predictions, references, strict=True)):
            if not isinstance(prediction, str) or isinstance(accepted, str):
                raise MetricError(
                    f"{self.name}: example {row} needs a string and a list of accepted strings, "
                    f"got {shown(repr(prediction))} and {shown(repr(accepted))}"
                )
            if self.part is None or (self.part == "HasAns") == bool(len(accepted)):
                answers = [answer for answer in accepted if normalize(answer)] or [""]
                statistics[row] = max(self.score(prediction, answer) for answer in answers), 1
        return statistics

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.mean(totals)


def _definition(score: Callable[[str, str], float], summary: str, *, binary: bool) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> AnswerScore:
        part = next((part for part in PARTS if part == argument), None)
        return AnswerScore(
            name=known.name if part is None else f"{known.name}[{part}]",
            signature="|".join([known.signature, "SQuAD v2.0", *([part] if part else [])]),
            score=score,
            part=part,
            binary=binary,
        )

    return Definition(
        name=score.__name__, input="answer", takes_argument=True, choices=PARTS, summary=summary, make=make
    )


METRICS = (
    _definition(exact_match, "share of answers equal to an accepted one after normalization", binary=True),
    _definition(answer_f1, "mean word overlap (F1) with the best accepted answer", binary=False),
)
