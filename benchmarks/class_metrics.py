"""Scoring 10,000 examples with our metrics of classes, probabilities, sets, numbers and tags, and with scikit-learn,
SciPy and seqeval, in turn: `python benchmarks/class_metrics.py`.

Both sides get the same lists, as they come out of a run's predictions, and give the same scores (checked). Ours give
what every example adds to the score besides, which intervals are made of.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from measure import against_reference, machine
from scipy import stats
from seqeval import metrics as seqeval
from sklearn import metrics as sklearn

from ftcheck import statistics
from ftcheck.metrics import Context, Lookup

Pair = tuple[list[Any], list[Any]]
"""(predictions, references)."""
CLASSES = 10
LABELS = range(CLASSES)
TYPES = ("PER", "LOC", "ORG", "MISC")
TAGS = ("O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI"))
CONTEXTS = {"tags": Context(labels=TAGS)}


def made(examples: int) -> dict[str, Pair]:
    """Input -> predictions and references, four fifths of them right."""
    rng = np.random.default_rng(0)
    gold = rng.integers(CLASSES, size=examples)
    logits = rng.normal(size=(examples, CLASSES)) + 2.5 * np.eye(CLASSES)[gold]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sets = rng.random((examples, CLASSES)) < 0.3
    values = rng.normal(size=examples)
    tags = [rng.choice(TAGS, size=size, p=[0.6, *[0.05] * 8]) for size in rng.integers(5, 40, size=examples)]
    told = [np.where(rng.random(len(row)) < 0.9, row, rng.choice(TAGS, size=len(row))) for row in tags]
    return {
        "label": (probabilities.argmax(axis=1).tolist(), gold.tolist()),
        "scores": (probabilities.tolist(), gold.tolist()),
        "labels": ((sets ^ (rng.random(sets.shape) < 0.05)).astype(int).tolist(), sets.astype(int).tolist()),
        "value": ((values + rng.normal(scale=0.5, size=examples)).tolist(), values.tolist()),
        "tags": ([row.tolist() for row in told], [row.tolist() for row in tags]),
    }


def averaged(score: Callable[..., Any], average: str) -> Callable[[list[Any], list[Any]], float]:
    return partial(score, average=average, zero_division=0)


REFERENCES: dict[str, dict[str, Callable[[list[Any], list[Any]], Any]]] = {
    # (gold, predicted) -> the score, as scikit-learn has it
    "label": {
        "accuracy": sklearn.accuracy_score,
        "macro_f1": averaged(sklearn.f1_score, "macro"),
        "weighted_f1": averaged(sklearn.f1_score, "weighted"),
        "mcc": sklearn.matthews_corrcoef,
        "cohen_kappa": sklearn.cohen_kappa_score,
        "balanced_accuracy": sklearn.balanced_accuracy_score,
    },
    "scores": {
        "roc_auc": partial(sklearn.roc_auc_score, multi_class="ovr"),
        "average_precision": lambda gold, scores: sklearn.average_precision_score(np.eye(CLASSES)[gold], scores),
        "log_loss": partial(sklearn.log_loss, labels=LABELS),
        "brier_score": partial(sklearn.brier_score_loss, labels=LABELS, scale_by_half=False),
    },
    "labels": {
        "micro_f1": averaged(sklearn.f1_score, "micro"),
        "macro_f1": averaged(sklearn.f1_score, "macro"),
        "samples_f1": averaged(sklearn.f1_score, "samples"),
        "subset_accuracy": sklearn.accuracy_score,
        "hamming_loss": sklearn.hamming_loss,
    },
    "value": {
        "pearson": lambda gold, told: stats.pearsonr(told, gold).statistic,
        "spearman": lambda gold, told: stats.spearmanr(told, gold).statistic,
        "mse": sklearn.mean_squared_error,
        "mae": sklearn.mean_absolute_error,
        "r2": sklearn.r2_score,
    },
    "tags": {
        "entity_f1": seqeval.f1_score,
        "entity_macro_f1": partial(seqeval.f1_score, average="macro"),
        "token_accuracy": seqeval.accuracy_score,
    },
}


def ours(lookup: Lookup, name: str, context: Context, pair: Pair) -> Sequence[float]:
    metric = lookup.build(name, context)
    return [statistics.value(metric.statistics(*pair), metric.aggregate)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--examples", type=int, default=10_000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(machine())
    print(f"{given.examples} examples; {CLASSES} classes; tags of {len(TYPES)} types")
    names = tuple(f"c{label}" for label in LABELS)
    for source, pair in made(given.examples).items():
        lookup, context = Lookup(inputs=frozenset({source})), CONTEXTS.get(source, Context(labels=names))
        for name, score in REFERENCES[source].items():
            mine, theirs = partial(ours, lookup, name, context, pair), partial(_called, score, pair)
            mine(), theirs()  # imports, and what is made once
            against_reference(f"{name} of {source}", mine, theirs, given.runs)


def _called(score: Callable[[list[Any], list[Any]], Any], pair: Pair) -> Sequence[float]:
    predictions, references = pair
    return [float(score(references, predictions))]


if __name__ == "__main__":
    main()
