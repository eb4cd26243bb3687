"""Scoring 10,000 examples with our metrics and their reference libraries, in turn: `python benchmarks/text_metrics.py`.

Seconds are CPU time, which other work on the machine disturbs least; who goes first changes from run to run. Both sides
get the same texts, give the same scores (checked) and start without remembered texts. `--wordnet` times METEOR too,
which needs nltk's WordNet.
"""

from __future__ import annotations

import argparse
import itertools
import math
import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
from measure import against_reference, machine

from ftcheck.metrics import Context, Lookup, nltk_scores, rouge, texts

LOOKUP = Lookup(inputs=frozenset({"text"}))
ROUGE = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
Corpus = tuple[list[str], list[list[str]]]
Scores = list[float]


def corpus(examples: int, words: int, lines: int) -> Corpus:
    """Texts of Zipf-distributed words, over some lines, and one reference each with a third of the words changed."""
    rng = np.random.default_rng(0)
    vocabulary = np.array(
        ["".join(rng.choice(list("abcdefghijklmnopqrst"), size=rng.integers(2, 10))) for _ in range(8_000)]
    )

    def text(tokens: Sequence[str]) -> str:
        size = math.ceil(len(tokens) / lines)
        return "\n".join(" ".join(tokens[start : start + size]) + "." for start in range(0, len(tokens), size))

    predictions, references = [], []
    for _ in range(examples):
        tokens = vocabulary[rng.zipf(1.3, size=max(2, int(rng.normal(words, words / 5)))) % 8_000]
        other = vocabulary[rng.zipf(1.3, size=len(tokens)) % 8_000]
        predictions.append(text(tokens.tolist()))
        references.append([text(np.where(rng.random(len(tokens)) < 0.67, tokens, other).tolist())])
    return predictions, references


def ours(names: Sequence[str], data: Corpus) -> Scores:
    for function in (rouge.sentences, texts.stemmer, nltk_scores.wordnet):
        function.cache_clear()
    metrics = [LOOKUP.build(name, Context()) for name in names]
    return [float(metric.aggregate(metric.statistics(*data).sum(axis=0))) for metric in metrics]


def rouge_score(names: Sequence[str], data: Corpus) -> Scores:
    from rouge_score.rouge_scorer import RougeScorer

    types = [name.removesuffix("[stem]") for name in names]
    scorer = RougeScorer(types, use_stemmer=names[0].endswith("[stem]"))
    scores = [scorer.score_multi(gold, text) for text, gold in zip(*data, strict=True)]
    return [float(np.mean([score[name].fmeasure for score in scores])) for name in types]


def sacrebleu(names: Sequence[str], data: Corpus) -> Scores:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    make = {"bleu": BLEU, "chrf": CHRF, "chrf_pp": lambda: CHRF(word_order=2), "ter": TER}
    references = list(itertools.zip_longest(*data[1]))
    return [make[name]().corpus_score(data[0], references).score for name in names]


def nltk(names: Sequence[str], data: Corpus) -> Scores:
    from nltk.translate.bleu_score import corpus_bleu
    from nltk.translate.meteor_score import meteor_score

    predictions = [nltk_scores.words(text) for text in data[0]]
    references = [[nltk_scores.words(text) for text in gold] for gold in data[1]]
    if names == ["nltk_bleu"]:
        return [corpus_bleu(references, predictions)]
    return [float(np.mean([meteor_score(*pair) for pair in zip(references, predictions, strict=True)]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=25, help="mean length of a text")
    parser.add_argument("--lines", type=int, default=1, help="sentences of a text, each on its line")
    parser.add_argument("--only", default="", help="time only what has this in its title")
    parser.add_argument("--wordnet", action="store_true")
    given = parser.parse_args()
    data = corpus(given.examples, given.words, given.lines)
    stemmed = [f"{name}[stem]" for name in ROUGE]
    jobs = [
        *((name, [name], rouge_score) for name in ROUGE),
        ("ROUGE, all four", ROUGE, rouge_score),
        ("ROUGE, all four, stems", stemmed, rouge_score),
        *((name, [name], sacrebleu) for name in ("bleu", "chrf", "chrf_pp", "ter")),
        *((name, [name], nltk) for name in ("nltk_bleu", *(["meteor"] if given.wordnet else []))),
    ]
    print(machine())
    print(f"{given.examples} examples of about {given.words} words in {given.lines} line(s)")
    warnings.simplefilter("ignore")
    for title, names, reference in jobs:
        if given.only not in title:
            continue
        for function in (ours, reference):
            function(names, (data[0][:20], data[1][:20]))
        against_reference(title, partial(ours, names, data), partial(reference, names, data), given.runs)


if __name__ == "__main__":
    main()
