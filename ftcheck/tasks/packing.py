"""Sequences of tokens in blocks to train on, and in overlapping windows to judge.

Documents that share a block must not see each other. Models of transformers hide them where positions start anew with
each document and there is neither an attention mask nor a cache (`masking_utils.find_packed_sequence_indices`); other
models go on across the border without a word. So the model itself is asked (`keeps_apart`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcheck.tasks.features import Array, Collator, Example

POSITIONS = "position_ids"


def windows(length: int, size: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first scored, end) of the windows over a sequence, each token but the first being scored once, with at
    least `size - stride` tokens to its left where there are as many. Needs stride < size.

    https://huggingface.co/docs/transformers/perplexity
    """
    scored = 1  # nothing precedes the first token
    for begin in range(0, length, stride):
        end = min(begin + size, length)
        if scored < end:
            yield begin, scored, end
        if end == length:
            return
        scored = end


def blocks(lengths: Sequence[int], size: int, *, packed: bool) -> tuple[Array, Array]:
    """Cut sequences that lie one after the other into blocks of at most `size` tokens.

    Returns (blocks + 1,) where each block begins, and (all tokens,) positions, which start at 0 with each sequence and
    each block. `packed`: a block goes on with the next sequence, else it ends with its own.
    """
    import numpy as np

    begins = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    total = int(begins[-1])
    if packed:
        starts = np.arange(0, total, size)
    else:
        starts = np.concatenate([np.arange(a, b, size) for a, b in pairwise(begins)])
    restarts = np.union1d(starts, begins[:-1][np.asarray(lengths) > 0])
    places = np.arange(total)
    positions = places - restarts[np.searchsorted(restarts, places, side="right") - 1]
    return np.append(starts, total).astype(np.int64), positions.astype(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCollator:
    """Pads on the right, where a causal model doesn't see it; blocks with positions of their own go without mask and
    cache, which would let their documents see each other."""

    pad: Collator

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        if POSITIONS not in examples[0]:
            return self.pad(examples)
        return {**replace(self.pad, mask=False)(examples), "use_cache": False}


def collator(tokenizer: Any, pad_to_multiple_of: int | None) -> BlockCollator:
    """The collator for a causal model. Padding has position 0: each such token is a document of its own."""
    from ftcheck.tasks import features

    plain = features.collator(tokenizer, pad_to_multiple_of)
    return BlockCollator(pad=replace(plain, left=False, padding={**plain.padding, POSITIONS: 0}))


def keeps_apart(model: Any) -> bool:
    """Whether positions that start anew hide packed documents from each other: two made-up ones, packed, must get the
    logits that they get alone. Draws no random numbers."""
    import torch

    count = model.get_input_embeddings().num_embeddings
    ids = (torch.arange(1, 13, device=model.device) * 7 % count)[None]
    first = 5
    restarting = torch.cat([torch.arange(first), torch.arange(ids.shape[1] - first)])[None].to(model.device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = model(input_ids=ids[:, first:], use_cache=False).logits
            packed = model(input_ids=ids, position_ids=restarting, use_cache=False).logits[:, first:]
            crossing = model(input_ids=ids, use_cache=False).logits[:, first:]
    except (TypeError, ValueError):  # a forward without position_ids or use_cache
        return False
    finally:
        model.train(training)
    error, leak = (float((logits - alone).abs().max()) for logits in (packed, crossing))
    return error <= 0.01 * leak
