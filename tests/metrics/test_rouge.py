"""ROUGE equals rouge_score's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck.errors import MetricError
from ftcheck.metrics import Context
from ftcheck.metrics.rouge import rouge_lsum
from tests.metrics.texts import CORPORA, LOOKUP, References, long_corpus, random_corpus

NAMES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
STEMMED = pytest.mark.parametrize("stem", [False, True], ids=["words", "stems"])


def expected(predictions: list[str], references: References, *, stem: bool) -> dict[str, list[float]]:
    """rouge_score's F-measure for each type and example."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(NAMES, use_stemmer=stem)
    scores = [scorer.score_multi(gold, text) for text, gold in zip(predictions, references, strict=True)]
    return {name: [float(score[name].fmeasure) for score in scores] for name in NAMES}


def found(predictions: list[str], references: References, *, stem: bool) -> dict[str, list[float]]:
    """Ours, example by example."""
    metrics = {name: LOOKUP.build(f"{name}[stem]" if stem else name, Context()) for name in NAMES}
    return {name: metric.statistics(predictions, references)[:, 0].tolist() for name, metric in metrics.items()}


@STEMMED
@pytest.mark.parametrize(("predictions", "references"), CORPORA)
def test_equals_rouge_score_on_degenerate_input(predictions: list[str], references: References, stem: bool) -> None:
    assert found(predictions, references, stem=stem) == expected(predictions, references, stem=stem)


@STEMMED
@pytest.mark.parametrize("seed", range(5))
def test_equals_rouge_score_on_random_texts(seed: int, stem: bool) -> None:
    corpus = random_corpus(seed)
    ours = found(*corpus, stem=stem)
    assert ours == expected(*corpus, stem=stem)
    assert all(0 < sum(scores) < len(scores) for scores in ours.values())


LINES = st.lists(st.text("abc", min_size=1, max_size=1), max_size=14).map(" ".join)
TEXTS = st.lists(LINES, max_size=4).map("\n".join) | st.text(max_size=12)


@settings(max_examples=300, deadline=None)
@given(prediction=TEXTS, references=st.lists(TEXTS, min_size=1, max_size=2))
def test_equals_rouge_score_on_any_text(prediction: str, references: list[str]) -> None:
    assert found([prediction], [references], stem=False) == expected([prediction], [references], stem=False)


def test_equals_rouge_score_on_a_long_text() -> None:
    corpus = long_corpus(1_500)
    assert found(*corpus, stem=False) == expected(*corpus, stem=False)


def test_five_thousand_words_of_one_line_give_the_same_for_the_text_and_its_lines() -> None:
    """rouge_score takes minutes here: with one sentence each, ROUGE-L and ROUGE-Lsum are one number."""
    scores = found(*long_corpus(), stem=False)
    assert scores["rougeL"] == scores["rougeLsum"]
    assert 0.5 < scores["rougeL"][0] < scores["rouge1"][0] < 1


def test_a_token_counts_no_more_often_than_either_text_has_it() -> None:
    assert rouge_lsum((("a",), ("a",)), (("a", "b"), ("a",), ("a",))) == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_stems_and_words_are_not_comparable() -> None:
    plain, stemmed = (LOOKUP.build(name, Context()) for name in ("rouge1", "rouge1[stem]"))
    assert plain.signature.startswith("rouge1|1|rouge_score 0.")
    assert stemmed.signature.startswith(plain.signature + "|stem nltk 3.")
    assert stemmed.name == "rouge1[stem]"


@pytest.mark.parametrize(
    ("predictions", "references", "error"),
    [
        pytest.param(["a"], [], "rouge1: 1 predictions for 0 references", id="lengths"),
        pytest.param(["a"], [[]], "example 0 needs a string and a list of one or more", id="no-reference"),
        pytest.param(["a", "b"], [["a"], "b"], "example 1 needs .* got 'b' and 'b'", id="reference-is-no-list"),
        pytest.param(["a"], [[None]], r"example 0 needs .* got 'a' and \[None\]", id="reference-is-no-string"),
        pytest.param([None], [["a"]], "example 0 needs .* got None", id="prediction-is-no-string"),
        pytest.param([None], [[["\x1b"]]], r"got None and \[\['\\x1b'\]\]", id="escaped"),
    ],
)
@pytest.mark.parametrize("name", ["rouge1", "bleu", "nltk_bleu", "meteor", "distinct_1", "length_ratio", "exact_match"])
def test_what_is_no_text_is_refused(name: str, predictions: list[Any], references: list[Any], error: str) -> None:
    with pytest.raises(MetricError, match=error.replace("rouge1", name)):
        LOOKUP.build(name, Context()).statistics(predictions, references)


def test_an_unknown_argument_is_refused() -> None:
    assert LOOKUP.check("rouge1[stems]") == 'rouge1: the argument can\'t be "stems"; did you mean stem?'
