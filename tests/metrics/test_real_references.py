"""Parity with the reference libraries on real references, with predictions made by perturbing them."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck.metrics import Context, Lookup
from tests.metrics.test_answers import Squad2
from tests.metrics.test_classification import value
from tests.metrics.test_nltk_scores import nltk_bleu
from tests.metrics.test_rouge import NAMES as ROUGE
from tests.metrics.test_rouge import expected as rouge_score
from tests.metrics.test_rouge import found as rouge
from tests.metrics.test_sequence_labelling import AVERAGES, RATES, Tags, our_name, seqeval_value
from tests.metrics.test_translation import expected as sacrebleu

TAGS, ANSWERS = Lookup(inputs=frozenset({"tags"})), Lookup(inputs=frozenset({"answer"}))
TEXTS = Lookup(inputs=frozenset({"text"}))
ROOT = os.environ.get("FTCHECK_REAL_DATA")
pytestmark = pytest.mark.skipif(not ROOT, reason="FTCHECK_REAL_DATA names no folder of real data sets")


def wnut17() -> Tags:
    text = (Path(str(ROOT)) / "wnut17" / "emerging.test.annotated").read_text(encoding="utf-8")
    sentences: Tags = [[]]
    for line in text.splitlines():
        if not line.strip():
            sentences.append([])
        else:
            sentences[-1].append(line.rsplit("\t", 1)[1].strip())
    return [tags for tags in sentences if tags]


@pytest.mark.parametrize("scheme", [None, "IOB2"])
def test_wnut17_entities_equal_seqeval(scheme: str | None) -> None:
    references = wnut17()
    labels = tuple(sorted({tag for tags in references for tag in tags}))
    rng = np.random.default_rng(17)
    noise = [[tag if rng.random() < 0.93 else labels[rng.integers(len(labels))] for tag in tags] for tags in references]
    context = Context(labels=labels, options={"scheme": scheme})
    assert len(references) > 1_000
    for average in AVERAGES:
        for rate in RATES:
            metric = TAGS.build(our_name(rate, average, strict=scheme is not None), context)
            expected = seqeval_value(rate, average, noise, references, scheme)
            assert 0.1 < expected < 1
            assert value(metric, noise, references) == pytest.approx(expected, rel=4e-16, abs=0)
    per_type = seqeval_value("f1", None, noise, references, scheme)
    types = sorted({label[2:] for label in labels if label != "O"})
    for name, expected in zip(types, per_type, strict=True):
        metric = TAGS.build(f"{'strict_' if scheme else ''}entity_f1[{name}]", context)
        assert value(metric, noise, references) == pytest.approx(expected, rel=4e-16, abs=0)


@pytest.mark.parametrize("version", ["v1.1", "v2.0"])
def test_squad_answers_equal_the_official_scorer(version: str) -> None:
    source = json.loads((Path(str(ROOT)) / "squad" / f"validation-{version}.json").read_text(encoding="utf-8"))
    questions = [
        (paragraph["context"], [answer["text"] for answer in question["answers"]])
        for article in source["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    references = [answers for _, answers in questions]
    predictions = perturbed(questions)
    scores = [Squad2.raw_scores(*pair) for pair in zip(predictions, references, strict=True)]
    parts = {
        "": range(len(scores)),
        "[HasAns]": [row for row, answers in enumerate(references) if answers],
        "[NoAns]": [row for row, answers in enumerate(references) if not answers],
    }
    assert bool(parts["[NoAns]"]) == (version == "v2.0")
    for part, rows in parts.items():
        for which, name in enumerate(("exact_match", "answer_f1")):
            if rows:
                found = value(ANSWERS.build(name + part, Context()), predictions, references)
                official = 100.0 * sum(scores[row][which] for row in rows) / len(rows)
                assert 100 * found == pytest.approx(official, rel=1e-13, abs=0)


def perturbed(questions: list[tuple[str, list[str]]]) -> list[str]:
    """An accepted answer, words around it, another span of the context, or nothing."""
    rng = np.random.default_rng(11)
    predictions = []
    for context, answers in questions:
        words = context.split()
        start = int(rng.integers(len(words)))
        elsewhere = " ".join(words[start : start + int(rng.integers(1, 6))])
        answer = answers[int(rng.integers(len(answers)))] if answers else ""
        choices = [answer, f"The {answer}.", f"{answer} {elsewhere}", elsewhere, ""]
        predictions.append(choices[int(rng.choice(5, p=[0.4, 0.2, 0.15, 0.15, 0.1]))])
    return predictions


def json_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(str(ROOT)) / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("stem", [False, True], ids=["words", "stems"])
def test_scitldr_summaries_equal_rouge_score(stem: bool) -> None:
    """The first sentences of the source against one to four references; three lines for ROUGE-Lsum."""
    rows = json_lines("scitldr/test.jsonl")
    predictions, references = ["\n".join(row["source"][:3]) for row in rows], [row["target"] for row in rows]
    assert len({len(gold) for gold in references}) > 1
    ours, theirs = rouge(predictions, references, stem=stem), rouge_score(predictions, references, stem=stem)
    assert ours == theirs
    assert all(0.05 < np.mean(ours[name]) < 0.5 for name in ROUGE)


@pytest.mark.parametrize("name", ["bleu", "bleu[intl]", "chrf", "chrf_pp", "ter", "nltk_bleu"])
def test_ntrex_translations_equal_the_library(name: str) -> None:
    """German with words lost, and words of the next sentence, against German."""
    rng = np.random.default_rng(128)
    references = [row["translation"]["de"] for row in json_lines("ntrex128/test.jsonl")]
    predictions = [
        " ".join(word for word in first.split() if rng.random() < 0.8) + " " + " ".join(second.split()[:2])
        for first, second in zip(references, references[1:] + references[:1], strict=True)
    ]
    gold = [[reference] for reference in references]
    expected = (nltk_bleu if name == "nltk_bleu" else partial(sacrebleu, name))(predictions, gold)
    assert value(TEXTS.build(name, Context()), predictions, gold) == pytest.approx(expected, rel=1e-14, abs=0)
    assert expected > 0.1
