"""A training batch in parts, each padded to its own longest feature, so that short ones aren't padded to the longest.

The batch stays what it was: its parts' gradients add up to the batch's, since losses are sums over items, divided by
the items of the whole optimizer step. What changes is float rounding and which random numbers dropout draws: a run is
then like one of another seed.

Of 32 questions of BANKING77 (17 tokens on average) two thirds of a padded batch are padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.tasks.features import Example

PARTS = "parts"
"""The one key of a batch in parts."""

_OVERHEAD, _WIDTH, _LEAST = 400, 384, 64
"""Another pass of a model 384 wide costs what some hundred tokens cost, on a CPU (MiniLM); of wider ones less, since a
token costs as the square of the width, though no less than the last number."""

Batch = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCollator:
    """Collates a batch's examples in parts of like length: `{"parts": [batch, ...]}`."""

    collate: Callable[[Sequence[Example]], dict[str, Any]]
    overhead: int
    """What another part costs, in tokens."""

    def __call__(self, examples: Sequence[Example]) -> dict[str, list[dict[str, Any]]]:
        parts = divide([_length(example) for example in examples], self.overhead)
        return {PARTS: [self.collate([examples[index] for index in part]) for part in parts]}


def divide(lengths: Sequence[int], overhead: int) -> list[list[int]]:
    """Indices of `lengths`, sorted by length and divided where that costs least: a part costs `overhead`, and its
    number of features times the longest of them. By dynamic programming, O(n²)."""
    import numpy as np

    order = np.argsort(np.asarray(lengths), kind="stable")
    widths = np.asarray(lengths)[order]
    count = len(order)
    best = np.zeros(count + 1)
    begins = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        costs: np.ndarray = best[:end] + (end - np.arange(end)) * widths[end - 1] + overhead
        begins[end] = np.argmin(costs)
        best[end] = costs[begins[end]]
    parts: list[list[int]] = []
    end = count
    while end:
        begin = int(begins[end])
        parts.append(order[begin:end].tolist())
        end = begin
    return parts[::-1]


def of(batch: Batch) -> Sequence[Batch]:
    """The parts of a batch; itself where it has none."""
    parts: Sequence[Batch] = batch.get(PARTS, [batch])
    return parts


def overhead(model: Any) -> int:
    """What another pass through `model` costs on a CPU, in tokens."""
    width = getattr(model.config.get_text_config(), "hidden_size", None) or _WIDTH
    return max(_LEAST, round(_OVERHEAD * (_WIDTH / width) ** 2))


def _length(example: Example) -> int:
    """What a model reads of it: the input, and labels of a length of their own, which a decoder reads."""
    tokens, labels = len(example["input_ids"]), example.get("labels")
    return tokens if labels is None or labels.shape in ((), (tokens,)) else tokens + labels.size
