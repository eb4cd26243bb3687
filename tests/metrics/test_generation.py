"""What predictions are like by themselves, and how long, against definitions written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ftcheck.metrics import Context, Lookup
from ftcheck.statistics import estimate
from tests.metrics.test_classification import value
from tests.metrics.texts import CORPORA, LOOKUP, References, random_corpus


def score(name: str, predictions: list[str], references: References | None = None) -> float:
    return value(LOOKUP.build(name, Context()), predictions, references or [["x"]] * len(predictions))


def distinct(predictions: list[str], n: int) -> float:
    """Written out: n-grams of all texts as strings of words."""
    found = [
        " ".join(words[start : start + n])
        for words in (text.split() for text in predictions)
        for start in range(len(words) - n + 1)
    ]
    return len(set(found)) / len(found) if found else 0.0


@pytest.mark.parametrize(
    ("name", "predictions", "expected"),
    [
        pytest.param("distinct_1", ["a b c", "a b d"], 4 / 6, id="distinct-words-of-all-texts"),
        pytest.param("distinct_2", ["a b c", "a b d"], 3 / 4, id="distinct-pairs-stay-in-a-text"),
        pytest.param("distinct_1", ["same same same"], 1 / 3, id="one-example"),
        pytest.param("distinct_2", ["one", "word"], 0, id="no-pairs"),
        pytest.param("distinct_1", ["", " "], 0, id="nothing-said"),
        pytest.param("distinct_1", ["吾輩 は 猫", "猫 👍 猫"], 4 / 6, id="other-scripts"),
        pytest.param("repetition", ["a b c d e f"], 0, id="no-repetition"),
        pytest.param("repetition", ["a b c d a b c d"], 1 / 5, id="one-of-five-repeats"),
        pytest.param("repetition", ["x x x x x x x x"], 4 / 5, id="stuck"),
        pytest.param("repetition", ["a b c d a b c d", "a b c"], 1 / 10, id="mean-over-texts"),
        pytest.param("repetition", [""], 0, id="empty"),
        pytest.param("repetition", ["w " * 5_000], 1 - 1 / 4_997, id="very-long"),
    ],
)
def test_predictions_alone(name: str, predictions: list[str], expected: float) -> None:
    assert score(name, predictions) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(("predictions", "references"), CORPORA)
def test_distinct_counts_ngrams_of_the_corpus(n: int, predictions: list[str], references: References) -> None:
    assert score(f"distinct_{n}", predictions, references) == pytest.approx(distinct(predictions, n), rel=1e-15)


@pytest.mark.parametrize("n", [1, 2])
def test_influences_of_distinct_are_those_of_leaving_out(n: int) -> None:
    predictions, references = random_corpus(3, examples=12)
    rows = LOOKUP.build(f"distinct_{n}", Context()).statistics(predictions, references)
    whole, k = distinct(predictions, n), len(predictions)
    without = np.array([distinct(predictions[:row] + predictions[row + 1 :], n) for row in range(k)])
    jackknife = (k - 1) / k * ((whole - without) - (whole - without).mean())
    assert (rows[:, 0] - whole) / k == pytest.approx(jackknife, abs=1e-14)


@pytest.mark.parametrize(
    ("predictions", "references", "expected"),
    [
        pytest.param(["a b c"], [["a b"]], 1.5, id="longer"),
        pytest.param(["a b", "c"], [["a b c d"], ["c d"]], 0.5, id="summed-not-averaged"),
        pytest.param(["a b c"], [["a", "a b c d"]], 0.75, id="closest-reference"),
        pytest.param(["a b c"], [["a b", "a b c d"]], 1.5, id="the-shorter-of-two-as-close"),
        pytest.param(["", ""], [["a"], ["b"]], 0, id="empty-predictions"),
        pytest.param(["a"], [[""]], math.nan, id="empty-reference"),
    ],
)
def test_length_ratio(predictions: list[str], references: References, expected: float) -> None:
    assert score("length_ratio", predictions, references) == pytest.approx(expected, nan_ok=True)


def test_length_ratio_equals_sacrebleus_on_plain_words() -> None:
    from sacrebleu.metrics.bleu import BLEU

    predictions, references = ["a b c d e", "f g", "h"], [["a b c", "a b c d"], ["f g h i", "f"], ["h", "i"]]
    theirs = BLEU().corpus_score(predictions, list(zip(*references, strict=True)))
    assert score("length_ratio", predictions, references) == theirs.ratio


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        pytest.param(" Paris\n", ["Rome", "Paris "], 1, id="white-space-aside"),
        pytest.param("paris", ["Paris"], 0, id="case-counts"),
        pytest.param("the cat", ["cat"], 0, id="no-squad-normalization"),
        pytest.param("", [" "], 1, id="both-empty"),
        pytest.param("猫👍", ["犬", "猫👍"], 1, id="other-scripts"),
    ],
)
def test_exact_match(prediction: str, references: list[str], expected: float) -> None:
    assert score("exact_match", [prediction], [references]) == expected


def test_exact_match_is_a_mean_of_zeros_and_ones() -> None:
    assert LOOKUP.build("exact_match", Context()).binary


def test_each_input_has_its_own_exact_match() -> None:
    answers = Lookup(inputs=frozenset({"answer"})).describe("exact_match")
    assert LOOKUP.describe("exact_match").summary != answers.summary


@pytest.mark.parametrize(
    "name", ["distinct_1", "distinct_2", "repetition", "rouge1", "rougeLsum", "bleu", "chrf", "ter"]
)
def test_every_kind_has_an_interval_around_its_value(name: str) -> None:
    metric = LOOKUP.build(name, Context())
    predictions, references = random_corpus(4, examples=20)
    rows = metric.statistics(["the the the the the", *predictions], [["the end"], *references])
    found = estimate([rows], metric.aggregate, scale=metric.scale, binary=metric.binary, fixed=False)
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high
