"""Spans over windows equal the official example's, on random logits; the null threshold equals the SQuAD scorer's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ftcheck.tasks import spans

Offsets = list[tuple[int, int] | None]


def official(
    starts: list[Any], ends: list[Any], offsets: list[Offsets], context: str, *, n_best: int, longest: int
) -> tuple[str, float, float]:
    """One example of `postprocess_qa_predictions` of transformers' examples (utils_qa.py): text, score, null score."""
    null_score = None
    prelim: list[dict[str, Any]] = []
    for start_logits, end_logits, mapping in zip(starts, ends, offsets, strict=True):
        feature_null = start_logits[0] + end_logits[0]
        null_score = feature_null if null_score is None else min(null_score, feature_null)
        start_indexes = np.argsort(start_logits)[-1 : -n_best - 1 : -1].tolist()
        end_indexes = np.argsort(end_logits)[-1 : -n_best - 1 : -1].tolist()
        for start in start_indexes:
            for end in end_indexes:
                if start >= len(mapping) or end >= len(mapping) or mapping[start] is None or mapping[end] is None:
                    continue
                if end < start or end - start + 1 > longest:
                    continue
                prelim.append(
                    {"offsets": (mapping[start][0], mapping[end][1]), "score": start_logits[start] + end_logits[end]}
                )
    predictions = sorted(prelim, key=lambda one: one["score"], reverse=True)[:n_best]
    if not predictions:
        return "", -np.inf, float(null_score or 0.0)
    first, last = predictions[0]["offsets"]
    return context[first:last], float(predictions[0]["score"]), float(null_score or 0.0)


@pytest.mark.parametrize("n_best", [1, 5, 20])
@pytest.mark.parametrize("longest", [1, 3, 30])
def test_the_best_spans_are_the_official_examples(n_best: int, longest: int) -> None:
    random = np.random.default_rng(n_best * 100 + longest)
    context = "".join(chr(97 + place % 26) for place in range(200))
    rows, row_of, first, beyond = 60, [], [], []
    all_offsets: list[Offsets] = []
    logits: list[Any] = []
    for row in range(rows):
        for _ in range(random.integers(1, 4)):
            question, inside = random.integers(1, 6), random.integers(1, 40)
            begin = random.integers(0, 100)
            all_offsets.append(
                [None] * (question + 2)
                + [(int(begin + 2 * token), int(begin + 2 * token + 2)) for token in range(inside)]
                + [None]
            )
            row_of.append(row)
            first.append(question + 2)
            beyond.append(question + 2 + inside)
            logits.append(random.normal(size=(2, question + 3 + inside)))
    lengths = [len(offsets) for offsets in all_offsets]
    flat = [pair or (0, 0) for offsets in all_offsets for pair in offsets]
    windows = spans.Windows(
        row=np.array(row_of),
        first=np.array(first),
        beyond=np.array(beyond),
        null=np.zeros(len(row_of), dtype=np.int64),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        begins=np.array(flat)[:, 0],
        ends=np.array(flat)[:, 1],
    )
    best = spans.best_spans(
        np.concatenate([both[0] for both in logits]),
        np.concatenate([both[1] for both in logits]),
        windows,
        rows,
        n_best=n_best,
        max_answer_length=longest,
    )
    for row in range(rows):
        mine = [window for window, owner in enumerate(row_of) if owner == row]
        text, score, null = official(
            [logits[w][0] for w in mine],
            [logits[w][1] for w in mine],
            [all_offsets[w] for w in mine],
            context,
            n_best=n_best,
            longest=longest,
        )
        assert (context[max(best.start[row], 0) : max(best.end[row], 0)], best.score[row]) == (text, score)
        assert best.null[row] == null
        assert 0.0 <= best.share_with_null[row] <= best.share[row] <= 1.0


def official_threshold(margins: list[float], answered: list[float], silent: list[bool]) -> float:
    """The best total of `find_best_thresh` of the SQuAD v2.0 evaluation script."""
    total = best = float(sum(silent))
    for index in np.argsort(margins, kind="stable"):
        total += -1.0 if silent[index] and answered[index] == 0 else answered[index]
        best = max(best, total)
    return best


@pytest.mark.parametrize("seed", range(10))
def test_the_null_threshold_scores_what_the_squad_scorers_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    silent = random.random(200) < 0.4
    answered = np.where(silent, 0.0, random.choice([0.0, 0.5, 1.0], 200))
    margins = random.normal(size=200) + np.where(silent, 1.0, -1.0)
    threshold = spans.best_threshold(margins.tolist(), answered, silent.astype(float))
    score = np.where(margins > threshold, silent.astype(float), answered).sum()
    assert score == pytest.approx(official_threshold(margins.tolist(), answered.tolist(), silent.tolist()))


@pytest.mark.parametrize(
    ("margins", "answered", "silent", "says_nothing_to"),
    [
        pytest.param([1.0, 1.0, -1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0], set(), id="equal-margins-go-together"),
        pytest.param([2.0, 1.0, -1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0], {0}, id="one-apart"),
        pytest.param([2.0, 1.0], [0.0, 0.0], [1.0, 1.0], {0, 1}, id="all-unanswerable"),
        pytest.param([2.0, 1.0], [1.0, 1.0], [0.0, 0.0], set(), id="all-answerable"),
        pytest.param([np.inf, 1.0], [0.0, 1.0], [1.0, 0.0], {0}, id="no-span-at-all"),
    ],
)
def test_a_threshold_parts_the_questions(
    margins: list[float], answered: list[float], silent: list[float], says_nothing_to: set[int]
) -> None:
    threshold = spans.best_threshold(margins, np.array(answered), np.array(silent))
    assert {place for place, margin in enumerate(margins) if margin > threshold} == says_nothing_to
