"""ROUGE as Google's rouge_score computes it (Lin 2004; F-measure, best of several references).

Texts are tokenized by rouge_score's own function. Overlaps are counted here, since its longest common subsequences fill
a table cell by cell in Python. Here a row of that table is one integer, a bit per cell (Hyyrö 2004, "Bit-parallel
LCS-length computation revisited"): the same lengths and, read backwards, the same choice among equally long ones.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain

from ftcheck.metrics import Context, Definition
from ftcheck.metrics.texts import MeanScore, stemmer

Tokens = tuple[str, ...]
Sentences = tuple[Tokens, ...]
Measure = Callable[[Sentences, Sentences], float]
"""(prediction, reference) -> F-measure."""


@lru_cache(maxsize=1 << 15)
def sentences(text: str, *, stem: bool) -> Sentences:
    """The tokens of each line that has any: for rouge_score a line is a sentence.

    Cached, since the four metrics ask for the same texts; tokens are interned, which keeps the cache small.
    """
    from rouge_score.tokenize import tokenize

    porter = stemmer() if stem else None
    lines = (tuple(map(sys.intern, tokenize(line, porter))) for line in text.split("\n") if line)
    return tuple(line for line in lines if line)


def f_measure(hits: int, predicted: int, gold: int) -> float:
    """2PR / (P + R) for `hits` among `predicted` and `gold`, computed in rouge_score's order; 0 without hits."""
    if not hits:
        return 0.0
    precision, recall = hits / predicted, hits / gold
    return 2 * precision * recall / (precision + recall)


def rouge_n(prediction: Sentences, reference: Sentences, *, n: int) -> float:
    """F-measure over n-grams, repeated ones counted, across line ends."""
    predicted, gold = (_ngrams(tuple(chain.from_iterable(text)), n) for text in (prediction, reference))
    hits = sum(min(count, gold[ngram]) for ngram, count in predicted.items() if ngram in gold)
    return f_measure(hits, sum(predicted.values()), sum(gold.values()))


def rouge_l(prediction: Sentences, reference: Sentences) -> float:
    """F-measure over the longest common subsequence of the whole texts."""
    predicted, gold = (tuple(chain.from_iterable(text)) for text in (prediction, reference))
    rows = _table(gold, _positions(predicted), len(predicted))
    return f_measure(len(predicted) - rows[-1].bit_count(), len(predicted), len(gold))


def rouge_lsum(prediction: Sentences, reference: Sentences) -> float:
    """F-measure over the union, for each reference sentence, of its longest common subsequences with every predicted
    sentence (Lin 2004, section 3.2), where no token counts more often than either text has it."""
    left_predicted, left_gold = (Counter(chain.from_iterable(text)) for text in (prediction, reference))
    predicted, gold = left_predicted.total(), left_gold.total()
    candidates = [(sentence, _positions(sentence)) for sentence in prediction]
    hits = 0
    for sentence in reference:
        found = set().union(*(common(sentence, *candidate) for candidate in candidates))
        for token in (sentence[index] for index in sorted(found)):
            if left_predicted[token] > 0 and left_gold[token] > 0:
                hits += 1
                left_predicted[token] -= 1
                left_gold[token] -= 1
    return f_measure(hits, predicted, gold)


def common(gold: Tokens, predicted: Tokens, positions: Mapping[str, int]) -> set[int]:
    """Indices into `gold` of the longest common subsequence that rouge_score reads out of its table.

    From the table's last corner it goes diagonally where tokens match, else left where only that keeps the length, else
    up. A set bit of a row says that the length is the same one column to the left.
    """
    rows = _table(gold, positions, len(predicted))
    i, j = len(gold), len(predicted)
    length = j - rows[-1].bit_count()
    found = set()
    while length:
        if gold[i - 1] == predicted[j - 1]:
            found.add(i - 1)
            i, j, length = i - 1, j - 1, length - 1
        elif rows[i] >> (j - 1) & 1 and j - (rows[i - 1] & ((1 << j) - 1)).bit_count() < length:
            j -= 1
        else:
            i -= 1
    return found


def _positions(tokens: Tokens) -> dict[str, int]:
    """Token -> where it stands, as set bits."""
    positions: dict[str, int] = {}
    for index, token in enumerate(tokens):
        positions[token] = positions.get(token, 0) | 1 << index
    return positions


def _table(gold: Tokens, positions: Mapping[str, int], width: int) -> list[int]:
    """The len(gold) + 1 rows of the table of lengths: bit j is 0 where the length grows from column j to j + 1."""
    full = (1 << width) - 1
    row = full
    rows = [row]
    for token in gold:
        matches = row & positions.get(token, 0)
        if matches:
            row = ((row + matches) | (row - matches)) & full
        rows.append(row)
    return rows


def _ngrams(tokens: Tokens, n: int) -> Counter[Hashable]:
    return Counter(tokens if n == 1 else zip(*(tokens[start:] for start in range(n)), strict=False))


def _best(prediction: str, references: Sequence[str], *, measure: Measure, stem: bool) -> float:
    predicted = sentences(prediction, stem=stem)
    return max(measure(predicted, sentences(reference, stem=stem)) for reference in references)


def _definition(name: str, measure: Measure, summary: str) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> MeanScore:
        from importlib.metadata import version

        meaning = [known.signature, f"rouge_score {version('rouge_score')}"]
        return MeanScore(
            name=known.name if argument is None else f"{known.name}[{argument}]",
            signature="|".join(meaning if argument is None else [*meaning, f"stem nltk {version('nltk')}"]),
            score=partial(_best, measure=measure, stem=argument is not None),
        )

    return Definition(
        name=name,
        input="text",
        takes_argument=True,
        choices=("stem",),
        summary=f"mean F-measure over {summary}, best reference",
        make=make,
    )


METRICS = (
    _definition("rouge1", partial(rouge_n, n=1), "words"),
    _definition("rouge2", partial(rouge_n, n=2), "pairs of words"),
    _definition("rougeL", rouge_l, "the longest common subsequence"),
    _definition("rougeLsum", rouge_lsum, "the longest common subsequences line by line"),
)
