"""nltk_bleu and meteor equal nltk's."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, nltk_scores
from ftcheck.metrics.nltk_scores import words
from tests.metrics.test_classification import value
from tests.metrics.texts import CORPORA, LOOKUP, References, long_corpus, random_corpus

BLEU, METEOR = (LOOKUP.build(name, Context()) for name in ("nltk_bleu", "meteor"))
DEBIAN = Path(os.environ.get("FTCHECK_WORDNET", "/usr/share/wordnet"))
"""What Debian's package wordnet-base installs."""
OTHER_LANGUAGES = object()
"""A reader of other languages' WordNets, which nobody asks for."""


def split(predictions: list[str], references: References) -> tuple[list[list[str]], list[list[list[str]]]]:
    return [words(text) for text in predictions], [[words(text) for text in gold] for gold in references]


def nltk_bleu(predictions: list[str], references: References) -> float:
    from nltk.translate.bleu_score import corpus_bleu

    predicted, gold = split(predictions, references)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\nThe hypothesis contains 0 counts")
        return float(corpus_bleu(gold, predicted))


@pytest.mark.parametrize(("predictions", "references"), CORPORA)
def test_bleu_equals_nltk_on_degenerate_input(predictions: list[str], references: References) -> None:
    assert value(BLEU, predictions, references) == pytest.approx(nltk_bleu(predictions, references), rel=1e-12, abs=0)


@pytest.mark.parametrize("seed", range(3))
def test_bleu_equals_nltk_on_random_texts(seed: int) -> None:
    found = value(BLEU, *random_corpus(seed))
    assert found == pytest.approx(nltk_bleu(*random_corpus(seed)), rel=1e-14, abs=0)
    assert 0.01 < found < 1


def test_bleu_equals_nltk_on_five_thousand_words() -> None:
    assert value(BLEU, *long_corpus()) == pytest.approx(nltk_bleu(*long_corpus()), rel=1e-14, abs=0)


def test_leaving_examples_out_equals_computing_without_them() -> None:
    predictions, references = random_corpus(7, examples=8)
    rows = BLEU.statistics(predictions, references)
    again = [
        nltk_bleu(predictions[:row] + predictions[row + 1 :], references[:row] + references[row + 1 :])
        for row in range(8)
    ]
    assert BLEU.aggregate(rows.sum(axis=0) - rows).tolist() == pytest.approx(again, rel=1e-12)


SYNONYMS = {"car": "auto", "auto": "car", "big": "larg", "larg": "big"}
"""Of stems, since stems are what nltk looks up."""


class FakeWordNet:
    """Synonyms as nltk asks for them: synsets(word) -> lemmas() -> name()."""

    def synsets(self, word: str) -> list[SimpleNamespace]:
        lemmas = [SimpleNamespace(name=lambda: SYNONYMS[word])] if word in SYNONYMS else []
        return [SimpleNamespace(lemmas=lambda: lemmas)]


@pytest.fixture
def fake_wordnet(monkeypatch: pytest.MonkeyPatch) -> FakeWordNet:
    fake = FakeWordNet()
    monkeypatch.setattr(nltk_scores, "wordnet", lambda: fake)
    return fake


def meteor_scores(predictions: list[str], references: References, **reader: object) -> list[float]:
    from nltk.translate.meteor_score import meteor_score

    return [
        float(meteor_score(gold, text, **reader)) for text, gold in zip(*split(predictions, references), strict=True)
    ]


@pytest.mark.parametrize(("predictions", "references"), [*CORPORA, pytest.param(*random_corpus(1), id="random")])
def test_meteor_equals_nltk(predictions: list[str], references: References, fake_wordnet: FakeWordNet) -> None:
    found = METEOR.statistics(predictions, references)[:, 0].tolist()
    assert found == meteor_scores(predictions, references, wordnet=fake_wordnet)


def test_meteor_knows_synonyms_of_stems(fake_wordnet: FakeWordNet) -> None:
    assert value(METEOR, ["a big car"], [["a large auto"]]) > 0.9 > value(METEOR, ["a big car"], [["a blue bus"]])


@pytest.fixture
def nltk_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """nltk's folder of WordNet, empty, and the only one where it looks."""
    from nltk import data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    monkeypatch.setattr(data, "path", [str(tmp_path)])
    monkeypatch.setattr("nltk.corpus.wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, OTHER_LANGUAGES))
    nltk_scores.wordnet.cache_clear()
    yield tmp_path / "corpora" / "wordnet"
    nltk_scores.wordnet.cache_clear()


def test_meteor_without_its_corpus_says_how_to_get_it(nltk_data: Path) -> None:
    with pytest.raises(
        MetricError, match=r"meteor needs the corpus WordNet.*python -m nltk.downloader wordnet"
    ) as error:
        METEOR.statistics(["a cat"], [["the cat"]])
    assert "\n" not in str(error.value)


@pytest.mark.skipif(
    not (DEBIAN / "data.noun").exists(), reason=f"no WordNet at {DEBIAN}: install wordnet-base or set FTCHECK_WORDNET"
)
def test_meteor_equals_nltk_with_the_real_wordnet(nltk_data: Path) -> None:
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    nltk_data.mkdir(parents=True)
    for path in filter(Path.is_file, DEBIAN.iterdir()):
        shutil.copy(path.resolve(), nltk_data / path.name)
    # Debian leaves these two out; METEOR needs them to be there only.
    (nltk_data / "lexnames").write_text("".join(f"{index:02}\tname{index}\t1\n" for index in range(45)))
    (nltk_data / "index.sense").touch()
    predictions = ["the physician is very big", "it ensures obedience", "", "dogs and cats bark"]
    references = [["the doctor is very big", "a doc"], ["it insures obedience"], ["something"], ["cats and dogs"]]
    found = METEOR.statistics(predictions, references)[:, 0].tolist()
    reader = WordNetCorpusReader(str(nltk_data), OTHER_LANGUAGES)
    assert found == meteor_scores(predictions, references, wordnet=reader)
    assert value(METEOR, ["the doc"], [["the doctor"]]) > value(METEOR, ["the bus"], [["the doctor"]])


def test_signature_names_nltk_and_its_version() -> None:
    for metric in (BLEU, METEOR):
        assert metric.signature.startswith(f"{metric.name}|1|nltk 3.")
