"""BLEU and METEOR as nltk computes them, on words as its `word_tokenize` splits them.

Texts are not split into sentences first (`preserve_line=True`), for which nltk would need another corpus: in a text of
several sentences only the last full stop is a word of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Definition, counts
from ftcheck.metrics.texts import MeanScore, check, stemmer

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale

ORDER = 4


def words(text: str) -> list[str]:
    """The words of a text, punctuation marks among them."""
    from nltk.tokenize import word_tokenize

    return list(word_tokenize(text, preserve_line=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusBleu:
    """nltk's `corpus_bleu`: orders 1 to 4 weighed alike, without smoothing, in [0, 1]."""

    name: str
    signature: str
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = False

    def statistics(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
        """(examples, 11): [n-grams found for n = 1 to 4, n-grams predicted (1 where there is none, as in nltk),
        predicted words, closest reference words, 1]."""
        import numpy as np
        from nltk.translate.bleu_score import closest_ref_length, modified_precision

        check(self.name, predictions, references)
        statistics = np.ones((len(references), 2 * ORDER + 3))
        for row, (text, accepted) in enumerate(zip(predictions, references, strict=True)):
            predicted, gold = words(text), [words(reference) for reference in accepted]
            precisions = [modified_precision(gold, predicted, n) for n in range(1, ORDER + 1)]
            statistics[row, :-1] = (
                *(precision.numerator for precision in precisions),
                *(precision.denominator for precision in precisions),
                len(predicted),
                closest_ref_length(gold, len(predicted)),
            )
        return statistics

    def aggregate(self, totals: FloatArray) -> FloatArray:
        """0 without any word found; another order without any counts as the smallest float, as nltk has it."""
        import numpy as np

        found, predicted = totals[..., :ORDER], totals[..., ORDER : 2 * ORDER]
        length, reference = totals[..., 2 * ORDER], totals[..., 2 * ORDER + 1]
        precisions = np.where(found > 0, counts.ratio(found, predicted, empty=0.0), sys.float_info.min)
        brevity = np.exp(np.minimum(0.0, 1 - counts.ratio(reference, length, empty=1.0)))
        score = brevity * np.exp((np.log(precisions) / ORDER).sum(axis=-1))
        return np.where(totals[..., -1] > 0, np.where(found[..., 0] > 0, score, 0.0), np.nan)


class WordNet:
    """nltk's WordNet with a memory: METEOR asks for the same words again and again."""

    def __init__(self) -> None:
        from nltk.corpus import wordnet

        try:
            wordnet.ensure_loaded()
        except LookupError as error:
            raise MetricError(
                "meteor needs the corpus WordNet, which nltk doesn't find: run python -m nltk.downloader wordnet, "
                "or set NLTK_DATA to a folder that holds corpora/wordnet"
            ) from error
        self.synsets = lru_cache(maxsize=1 << 16)(wordnet.synsets)


@cache
def wordnet() -> WordNet:
    return WordNet()


def meteor(prediction: str, references: Sequence[str]) -> float:
    """nltk's `meteor_score` (Lavie and Agarwal 2007). Raises MetricError where WordNet is missing.

    nltk hands stems, not words, to the search for synonyms; so do we.
    """
    from nltk.translate.meteor_score import meteor_score

    gold = [words(reference) for reference in references]
    return float(meteor_score(gold, words(prediction), stemmer=stemmer(), wordnet=wordnet()))


def _signature(known: Definition) -> str:
    from importlib.metadata import version

    return f"{known.signature}|nltk {version('nltk')}"


def _bleu(known: Definition, argument: str | None, context: Context) -> CorpusBleu:
    return CorpusBleu(name=known.name, signature=_signature(known))


def _meteor(known: Definition, argument: str | None, context: Context) -> MeanScore:
    return MeanScore(name=known.name, signature=_signature(known), score=meteor)


METRICS = (
    Definition(
        name="nltk_bleu",
        input="text",
        summary="nltk's corpus_bleu: n-grams found, with brevity penalty, not smoothed",
        make=_bleu,
    ),
    Definition(
        name="meteor",
        input="text",
        summary="mean of nltk's METEOR: words aligned by form, stem and synonym, best reference (needs WordNet)",
        make=_meteor,
    ),
)
