"""BLEU, chrF, chrF++ and TER equal sacrebleu's."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck import metrics
from ftcheck.errors import MetricError
from ftcheck.metrics import Context
from ftcheck.metrics.translation import AT_ONCE, TOKENIZERS
from tests.metrics.test_classification import value
from tests.metrics.texts import CORPORA, LOOKUP, References, long_corpus, random_corpus

NAMES = ["bleu", "bleu[none]", "bleu[intl]", "bleu[char]", "bleu[zh]", "chrf", "chrf_pp", "ter"]


def scorer(name: str) -> Any:
    """sacrebleu's metric for one of ours."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    base, argument = metrics.parse(name)
    if base == "bleu":
        return BLEU(tokenize=argument)
    return {"chrf": CHRF(), "chrf_pp": CHRF(word_order=2), "ter": TER()}[base]


def expected(name: str, predictions: list[str], references: References) -> float:
    return float(scorer(name).corpus_score(predictions, list(itertools.zip_longest(*references))).score)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("predictions", "references"), CORPORA)
def test_equals_sacrebleu_on_degenerate_input(name: str, predictions: list[str], references: References) -> None:
    found = value(LOOKUP.build(name, Context()), predictions, references)
    assert found == pytest.approx(expected(name, predictions, references), rel=1e-14, abs=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_equals_sacrebleu_on_random_texts(name: str, seed: int) -> None:
    corpus = random_corpus(seed, examples=15)
    found = value(LOOKUP.build(name, Context()), *corpus)
    assert found == pytest.approx(expected(name, *corpus), rel=1e-14, abs=0)
    assert found > 1


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf_pp"])
def test_equals_sacrebleu_on_five_thousand_words(name: str) -> None:
    corpus = long_corpus()
    found = value(LOOKUP.build(name, Context()), *corpus)
    assert found == pytest.approx(expected(name, *corpus), rel=1e-14, abs=0)


def test_edits_equal_sacrebleu_on_a_long_text() -> None:
    corpus = long_corpus(300)
    assert value(LOOKUP.build("ter", Context()), *corpus) == expected("ter", *corpus)


COUNTS = st.lists(st.integers(0, 6), min_size=4, max_size=4)


@settings(max_examples=300, deadline=None)
@given(found=COUNTS, more=COUNTS, lengths=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_bleu_of_any_counts_equals_sacrebleu(found: list[int], more: list[int], lengths: tuple[int, int]) -> None:
    """Smoothing, missing orders and the brevity penalty, in all combinations (also such as no text has)."""
    totals = [a + b for a, b in zip(found, more, strict=True)]
    theirs = scorer("bleu")._compute_score_from_stats([*lengths, *found, *totals]).score
    row = np.array([*lengths, *found, *totals, 1.0])
    ours = float(LOOKUP.build("bleu", Context()).aggregate(row))
    if lengths[0]:
        assert ours == pytest.approx(theirs, rel=1e-14, abs=0)
    else:
        assert any(found) or ours == theirs == 0


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf_pp", "ter"])
def test_leaving_examples_out_equals_computing_without_them(name: str) -> None:
    predictions, references = random_corpus(7, examples=8)
    metric = LOOKUP.build(name, Context())
    rows = metric.statistics(predictions, references)
    without = metric.aggregate(rows.sum(axis=0) - rows)
    again = [
        expected(name, predictions[:row] + predictions[row + 1 :], references[:row] + references[row + 1 :])
        for row in range(8)
    ]
    assert without.tolist() == pytest.approx(again, rel=1e-12)


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_examples_are_scored_alike_whoever_is_beside_them(name: str) -> None:
    predictions, references = random_corpus(3, examples=2 * AT_ONCE + 1)
    rows = LOOKUP.build(name, Context()).statistics(predictions, references)
    at_once = scorer(name)._extract_corpus_statistics(predictions, list(itertools.zip_longest(*references)))
    assert rows[:, :-1].tolist() == at_once


def test_the_n_grams_of_all_references_are_not_held() -> None:
    """sacrebleu's chrF of them takes 40 kB each."""
    predictions, references = random_corpus(3, examples=8 * AT_ONCE)
    metric, most = LOOKUP.build("chrf", Context()), []
    for examples in (2 * AT_ONCE, 8 * AT_ONCE):
        tracemalloc.start()
        try:
            metric.statistics(predictions[:examples], references[:examples])
            most.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert most[1] < 2 * most[0]


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        pytest.param("bleu", "bleu|1|sacrebleu case:mixed|eff:no|tok:13a|smooth:exp|version:", id="bleu"),
        pytest.param("bleu[char]", "bleu|1|sacrebleu case:mixed|eff:no|tok:char|smooth:exp|version:", id="tokenizer"),
        pytest.param("chrf", "chrf|1|sacrebleu case:mixed|eff:yes|nc:6|nw:0|space:no|version:", id="chrf"),
        pytest.param("chrf_pp", "chrf_pp|1|sacrebleu case:mixed|eff:yes|nc:6|nw:2|space:no|version:", id="chrf++"),
        pytest.param("ter", "ter|1|sacrebleu case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:", id="ter"),
    ],
)
def test_signature_is_sacrebleus(name: str, signature: str) -> None:
    assert LOOKUP.build(name, Context()).signature.startswith(signature)


def test_all_tokenizers_are_known_but_the_deprecated_ones() -> None:
    from sacrebleu.metrics.bleu import BLEU

    assert set(BLEU.TOKENIZERS) - set(TOKENIZERS) <= {"spm", "spBLEU-1K"}
    assert set(TOKENIZERS) <= set(BLEU.TOKENIZERS)


@pytest.mark.parametrize("tokenizer", ["ja-mecab", "ko-mecab"])
def test_a_tokenizer_without_its_library_says_what_to_install(tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sacrebleu.tokenizers import tokenizer_ja_mecab, tokenizer_ko_mecab

    monkeypatch.setattr(tokenizer_ja_mecab, "MeCab", None)
    monkeypatch.setattr(tokenizer_ko_mecab, "MeCab", None)
    with pytest.raises(MetricError, match=rf"bleu\[{tokenizer}\] needs a library: pip install 'sacrebleu\["):
        LOOKUP.build(f"bleu[{tokenizer}]", Context())


@pytest.mark.parametrize("tokenizer", ["flores101", "flores200"])
def test_a_tokenizer_that_would_be_downloaded_is_refused(
    tokenizer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    with pytest.raises(MetricError, match=rf"bleu\[{tokenizer}\] needs the model .*, which sacrebleu fetches: pip"):
        LOOKUP.build(f"bleu[{tokenizer}]", Context())


def test_an_unknown_tokenizer_is_refused() -> None:
    assert LOOKUP.check("bleu[13b]") == 'bleu: the argument can\'t be "13b"; did you mean 13a?'


def test_less_editing_is_better() -> None:
    assert not LOOKUP.describe("ter").greater_is_better
    assert LOOKUP.describe("ter").bounds == (0, math.inf)
