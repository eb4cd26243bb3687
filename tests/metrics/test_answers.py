"""Exact match and answer F1 equal the official SQuAD scorers."""

from __future__ import annotations

import collections
import math
import re
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Lookup
from tests.metrics.test_classification import value

LOOKUP = Lookup(inputs=frozenset({"answer"}))


class Squad2:
    """The functions of the official evaluate-v2.0.py, for one question at a time."""

    @staticmethod
    def normalize_answer(s: str) -> str:
        def remove_articles(text: str) -> str:
            regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
            return re.sub(regex, " ", text)

        def white_space_fix(text: str) -> str:
            return " ".join(text.split())

        def remove_punc(text: str) -> str:
            exclude = set(string.punctuation)
            return "".join(ch for ch in text if ch not in exclude)

        return white_space_fix(remove_articles(remove_punc(s.lower())))

    @classmethod
    def get_tokens(cls, s: str) -> list[str]:
        if not s:
            return []
        return cls.normalize_answer(s).split()

    @classmethod
    def compute_exact(cls, a_gold: str, a_pred: str) -> int:
        return int(cls.normalize_answer(a_gold) == cls.normalize_answer(a_pred))

    @classmethod
    def compute_f1(cls, a_gold: str, a_pred: str) -> float:
        gold_toks = cls.get_tokens(a_gold)
        pred_toks = cls.get_tokens(a_pred)
        common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
        num_same = sum(common.values())
        if len(gold_toks) == 0 or len(pred_toks) == 0:
            return int(gold_toks == pred_toks)
        if num_same == 0:
            return 0
        precision = 1.0 * num_same / len(pred_toks)
        recall = 1.0 * num_same / len(gold_toks)
        return (2 * precision * recall) / (precision + recall)

    @classmethod
    def raw_scores(cls, a_pred: str, answers: list[str]) -> tuple[float, float]:
        gold_answers = [a for a in answers if cls.normalize_answer(a)]
        if not gold_answers:
            gold_answers = [""]
        return (
            max(cls.compute_exact(a, a_pred) for a in gold_answers),
            max(cls.compute_f1(a, a_pred) for a in gold_answers),
        )


def squad1_f1(prediction: str, ground_truth: str) -> float:
    """`f1_score` of the official evaluate-v1.1.py."""
    prediction_tokens = Squad2.normalize_answer(prediction).split()
    ground_truth_tokens = Squad2.normalize_answer(ground_truth).split()
    common = collections.Counter(prediction_tokens) & collections.Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall)


EXACT = LOOKUP.build("exact_match", Context())
F1 = LOOKUP.build("answer_f1", Context())

QUESTIONS = [
    pytest.param("Denver Broncos", ["the Denver Broncos!", "Denver"], id="articles-and-punctuation"),
    pytest.param("in Santa Clara, California", ["Santa Clara", "Levi's Stadium"], id="overlap"),
    pytest.param("the the cat", ["cat cat"], id="repeated-words"),
    pytest.param("", [], id="unanswerable-and-right"),
    pytest.param("something", [], id="unanswerable-and-wrong"),
    pytest.param("", ["an answer"], id="empty-prediction"),
    pytest.param("The", ["the"], id="articles-only"),
    pytest.param("the", ["a", "dog"], id="one-reference-of-articles-only"),
    pytest.param("?!", ["..."], id="punctuation-only"),
    pytest.param("", ["..."], id="reference-of-punctuation-only"),
    pytest.param("Zürich – Höngg", ["zürich höngg", "ZÜRICH–HÖNGG"], id="unicode"),
    pytest.param("«ein»\u00a0Haus", ["ein haus"], id="unicode-punctuation-and-space"),
    pytest.param("İstanbul", ["i̇stanbul"], id="lower-casing-that-lengthens"),
    pytest.param("1,000", ["1000"], id="punctuation-inside"),
]


@pytest.mark.parametrize(("prediction", "answers"), QUESTIONS)
def test_equals_the_official_scorer(prediction: str, answers: list[str]) -> None:
    expected = Squad2.raw_scores(prediction, answers)
    assert (value(EXACT, [prediction], [answers]), value(F1, [prediction], [answers])) == expected


WORDS = st.lists(st.sampled_from(["a", "An", "the", "Cat", "cat", "dog,", "…", "!", "é", "U.S.", ""]), max_size=5).map(
    " ".join
)


@settings(max_examples=200, deadline=None)
@given(prediction=WORDS | st.text(max_size=8), answers=st.lists(WORDS | st.text(max_size=8), max_size=3))
def test_equals_the_official_scorer_on_any_text(prediction: str, answers: list[str]) -> None:
    expected = Squad2.raw_scores(prediction, answers)
    assert (value(EXACT, [prediction], [answers]), value(F1, [prediction], [answers])) == expected


@settings(max_examples=100, deadline=None)
@given(
    prediction=WORDS,
    answers=st.lists(WORDS.filter(lambda text: bool(Squad2.normalize_answer(text))), min_size=1, max_size=3),
)
def test_equals_the_scorer_of_v1_where_references_hold_a_word(prediction: str, answers: list[str]) -> None:
    assert value(F1, [prediction], [answers]) == max(squad1_f1(prediction, answer) for answer in answers)


def test_parts_are_means_over_their_own_questions() -> None:
    predictions, references = ["cat", "a dog here", "", "x"], [["cat"], ["dog"], [], []]
    found = {
        name: value(LOOKUP.build(name, Context()), predictions, references)
        for name in (
            "exact_match",
            "exact_match[HasAns]",
            "exact_match[NoAns]",
            "answer_f1[HasAns]",
            "answer_f1[NoAns]",
        )
    }
    assert found == {
        "exact_match": 0.5,
        "exact_match[HasAns]": 0.5,
        "exact_match[NoAns]": 0.5,
        "answer_f1[HasAns]": pytest.approx((1 + 2 / 3) / 2),
        "answer_f1[NoAns]": 0.5,
    }


def test_a_part_without_questions_has_no_value() -> None:
    assert math.isnan(value(LOOKUP.build("exact_match[NoAns]", Context()), ["cat"], [["cat"]]))


def test_only_exact_match_is_a_mean_of_zeros_and_ones() -> None:
    assert EXACT.binary
    assert not F1.binary


@pytest.mark.parametrize(
    ("predictions", "references", "error"),
    [
        pytest.param(["a"], [], "1 predictions for 0 references", id="lengths"),
        pytest.param([None], [["a"]], "example 0 needs a string and a list of accepted strings, got None", id="none"),
        pytest.param(["a", "b"], [["a"], "b"], "example 1 needs a string and a list", id="reference-is-no-list"),
    ],
)
def test_what_is_no_answer_is_refused(predictions: list[Any], references: list[Any], error: str) -> None:
    with pytest.raises(MetricError, match=error):
        EXACT.statistics(predictions, references)
