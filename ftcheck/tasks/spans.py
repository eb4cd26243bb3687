"""Question answering's arithmetic: windows with offsets, the best span over windows, the null threshold. NumPy only.

After the official example of transformers (`run_qa.py`, `postprocess_qa_predictions`) and the SQuAD v2.0 scorer
(`find_best_thresh`), vectorized over windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BLOCK = 256
"""Windows decoded at a time: bounds the (windows, n_best, n_best) scores to some megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Where the windows of all rows lie. Arrays have one entry a window, but `begins` and `ends`: one a token."""

    row: Ints
    first: Ints
    """The window's first context token, counted from the window's first token."""
    beyond: Ints
    """One beyond its last context token."""
    null: Ints
    """The token whose logits stand for no answer: [CLS]."""
    starts: Ints
    """(windows + 1,): where each begins among all tokens."""
    begins: Ints
    """First character of each token in its text."""
    ends: Ints
    """One beyond its last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best span of each row: scores are sums of a start and an end logit."""

    start: Ints
    """First character; -1 where no candidate was a span."""
    end: Ints
    score: Floats
    null: Floats
    """The least null score of the row's windows."""
    share: Floats
    """Softmax of the best span among the row's n best spans."""
    share_with_null: Floats
    """The same with no answer among the candidates."""
    share_of_null: Floats


def positions(windows: Windows, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """First and last token of the answer that covers characters begin..end of its context, window by window.

    `begin` and `end` have one entry a window; where end <= begin, or where the window doesn't hold the whole answer,
    both are the null token.
    """
    tokens = np.arange(len(windows.begins)) - np.repeat(windows.starts[:-1], np.diff(windows.starts))
    of = np.repeat(np.arange(len(windows.row)), np.diff(windows.starts))
    context = (tokens >= windows.first[of]) & (tokens < windows.beyond[of])
    not_after = np.bincount(of, weights=context & (windows.begins <= begin[of]), minlength=len(windows.row))
    before = np.bincount(of, weights=context & (windows.ends < end[of]), minlength=len(windows.row))
    start = windows.first + not_after.astype(np.int64) - 1
    last = windows.first + before.astype(np.int64)
    held = (windows.beyond > windows.first) & (end > begin) & (start >= windows.first) & (last < windows.beyond)
    return np.where(held, start, windows.null), np.where(held, last, windows.null)


def best_spans(
    start_logits: Floats, end_logits: Floats, windows: Windows, rows: int, *, n_best: int, max_answer_length: int
) -> Best:
    """The best span of each of `rows` rows, from logits by token (all windows, one after the other)."""
    scores, spans, null = _by_window(start_logits, end_logits, windows, n_best, max_answer_length)
    bounds = np.searchsorted(windows.row, np.arange(rows + 1))
    best = Best(
        start=np.full(rows, -1),
        end=np.full(rows, -1),
        score=np.full(rows, -np.inf),
        null=np.full(rows, np.inf),
        share=np.zeros(rows),
        share_with_null=np.zeros(rows),
        share_of_null=np.ones(rows),
    )
    for row in range(rows):
        part = slice(bounds[row], bounds[row + 1])
        best.null[row] = null[part].min()
        candidates = scores[part].ravel()
        order = np.argsort(-candidates, kind="stable")[:n_best]
        top = candidates[order]
        if not np.isfinite(top[0]):
            continue
        best.score[row] = top[0]
        best.start[row], best.end[row] = spans[part].reshape(-1, 2)[order[0]]
        ceiling = max(top[0], best.null[row])
        weights, weight_of_null = np.exp(top - ceiling), np.exp(best.null[row] - ceiling)
        best.share[row] = 1 / np.exp(top - top[0]).sum()
        best.share_with_null[row] = weights[0] / (weights.sum() + weight_of_null)
        best.share_of_null[row] = weight_of_null / (weights.sum() + weight_of_null)
    return best


def _by_window(
    start_logits: Floats, end_logits: Floats, windows: Windows, n_best: int, max_answer_length: int
) -> tuple[Floats, Ints, Floats]:
    """(windows, n_best) scores, (windows, n_best, 2) characters, (windows,) null scores."""
    count = len(windows.row)
    scores = np.full((count, n_best), -np.inf)
    spans = np.full((count, n_best, 2), -1)
    null = np.empty(count)
    for low in range(0, count, BLOCK):
        part = slice(low, min(low + BLOCK, count))
        base = windows.starts[part]
        lengths = np.diff(windows.starts[low : part.stop + 1])
        column = np.arange(lengths.max())
        inside = column < lengths[:, None]
        place = np.where(inside, base[:, None] + column, 0)
        starts = np.where(inside, start_logits[place], -np.inf)
        ends = np.where(inside, end_logits[place], -np.inf)
        line = np.arange(len(base))
        null[part] = starts[line, windows.null[part]] + ends[line, windows.null[part]]
        first, last = _largest(starts, n_best), _largest(ends, n_best)
        sums = np.take_along_axis(starts, first, 1)[:, :, None] + np.take_along_axis(ends, last, 1)[:, None, :]
        begins = windows.begins[base[:, None] + np.minimum(first, lengths[:, None] - 1)]
        stops = windows.ends[base[:, None] + np.minimum(last, lengths[:, None] - 1)]
        span = last[:, None, :] - first[:, :, None]
        allowed = (
            ((first >= windows.first[part, None]) & (first < windows.beyond[part, None]))[:, :, None]
            & ((last >= windows.first[part, None]) & (last < windows.beyond[part, None]))[:, None, :]
            & (span >= 0)
            & (span < max_answer_length)
            & (stops[:, None, :] > begins[:, :, None])
        )
        flat = np.where(allowed, sums, -np.inf).reshape(len(base), -1)
        chosen = np.argsort(-flat, axis=1, kind="stable")[:, :n_best]
        kept = chosen.shape[1]
        scores[part, :kept] = np.take_along_axis(flat, chosen, 1)
        width = last.shape[1]
        spans[part, :kept, 0] = np.take_along_axis(begins, chosen // width, 1)
        spans[part, :kept, 1] = np.take_along_axis(stops, chosen % width, 1)
    return scores, spans, null


def _largest(values: Floats, count: int) -> Ints:
    """Indices of the largest `count` of each line, largest first (ties: as the official example's argsort has them)."""
    return np.argsort(values, axis=1)[:, ::-1][:, :count]


def best_threshold(margins: Sequence[float], answered: Floats, silent: Floats) -> float:
    """The null threshold with the best total score: a question is answered unless its margin exceeds the threshold.

    `margins` are null scores less best answers' scores, `answered` and `silent` what each question scores when it is
    answered or not. Half way between two margins, so that float noise can't move a question across.
    """
    given = np.asarray(margins, dtype=np.float64)
    finite = given[np.isfinite(given)]
    given = np.minimum(given, finite.max() + 1 if len(finite) else 0.0)  # infinite where a row has no span at all
    order = np.argsort(-given, kind="stable")
    sorted_margins = given[order]
    totals = np.concatenate([[0.0], np.cumsum((np.asarray(silent) - np.asarray(answered))[order])])
    apart = np.concatenate([[True], sorted_margins[:-1] > sorted_margins[1:], [True]])
    silenced = int(np.argmax(np.where(apart, totals, -np.inf)))
    if silenced == 0:
        return float(sorted_margins[0])
    if silenced == len(order):
        return float(sorted_margins[-1] - 1)
    return float((sorted_margins[silenced - 1] + sorted_margins[silenced]) / 2)


def context_bounds(sequence_ids: Sequence[Any]) -> tuple[int, int]:
    """First context token and one beyond the last, from which text each token came (0 question, 1 context, None)."""
    if 1 not in sequence_ids:
        return len(sequence_ids), len(sequence_ids)
    return sequence_ids.index(1), len(sequence_ids) - sequence_ids[::-1].index(1)
