"""Which tokens a masked language model must guess: drawn anew for each training batch, fixed for judging."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ftcheck.errors import CheckpointError
from ftcheck.tasks import Rows
from ftcheck.tasks.features import Array, Collator, EncodedRows, Example, Gatherer, pieces

CHANCE = "chance"
"""Each token's chance to be masked in a training batch, in millionths; 0 for special tokens and padding."""
MILLION = 1_000_000

Choose = Callable[[str, Array], Array]
"""(text, (tokens,) which are special) -> (tokens,) which are chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EachMasked(EncodedRows):
    """Windows with one token masked at a time: a feature for each token that isn't special, made when it is asked for
    (a window of n tokens makes n features of n tokens)."""

    windows: EncodedRows
    window: Array
    """(features,)."""
    place: Array
    """(features,): where in its window the masked token is."""
    mask: int

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        ids = self.windows[int(self.window[index])]["input_ids"].copy()
        labels = np.full(len(ids), -100, dtype=ids.dtype)
        place = self.place[index]
        labels[place], ids[place] = ids[place], self.mask
        return {"input_ids": ids, "labels": labels}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToFill(EncodedRows):
    """Texts with masks, and what says which token an id is."""

    tokenizer: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingCollator:
    """Pads; and where features say how likely each token is to be masked, masks as BERT was trained: of the chosen
    tokens 80 % become the mask, 10 % any token, 10 % stay (Devlin et al. 2019). Draws from torch's random numbers,
    which the seed determines."""

    pad: Collator
    mask: int
    vocabulary: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        import torch

        batch = self.pad(examples)
        if CHANCE not in batch:
            return batch
        chance, ids = batch.pop(CHANCE) / MILLION, batch["input_ids"]
        chosen = torch.rand(ids.shape) < chance
        how, other = torch.rand(ids.shape), torch.randint(self.vocabulary, ids.shape)
        batch["labels"] = ids.where(chosen, -100)
        hidden = ids.masked_fill(chosen & (how < 0.8), self.mask)
        batch["input_ids"] = other.where(chosen & (how >= 0.9), hidden)
        return batch


def collator(tokenizer: Any, pad_to_multiple_of: int | None) -> MaskingCollator:
    """The collator of a masked language model."""
    from ftcheck.tasks import features

    plain = features.collator(tokenizer, pad_to_multiple_of)
    padded = replace(plain, padding={**plain.padding, CHANCE: 0})
    return MaskingCollator(pad=padded, mask=mask_token(tokenizer), vocabulary=len(tokenizer))


def mask_token(tokenizer: Any) -> int:
    """Its id. Raises CheckpointError for a tokenizer without one."""
    if tokenizer.mask_token_id is None:
        raise CheckpointError("the tokenizer has no mask token, so nothing can be masked: it isn't a masked model's")
    return int(tokenizer.mask_token_id)


def windows(rows: Rows, tokenizer: Any, max_length: int, choose: Choose) -> EncodedRows:
    """Texts in windows of at most `max_length` tokens that share none, each between the tokenizer's special tokens. A
    text without tokens has no window.

    Token array `chosen`: 1 for what `choose` says, 0 for the rest. `aside`: `row`, by window, and by row `own`, how
    many tokens are not special (nor unknown), and `guessed`, how many of these are chosen.
    """
    before, after = _frame(tokenizer)
    step = max_length - len(before) - len(after)
    gathered = Gatherer()
    of_row: list[int] = []
    own, guessed = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    for part in pieces(rows, "text"):
        texts = rows[part]["text"]
        encoding = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        for row, (text, line) in enumerate(zip(texts, encoding["input_ids"], strict=True), part.start):
            ids = np.array(line, dtype=np.int32)
            special = np.isin(ids, tokenizer.all_special_ids)
            chosen = choose(text, special)
            own[row], guessed[row] = (~special).sum(), chosen.sum()
            begins = range(0, len(ids), step)
            of_row.extend([row] * len(begins))
            if not begins:
                continue
            gathered.add(
                {"input_ids": [np.concatenate([before, ids[at : at + step], after]) for at in begins]},
                ["input_ids"],
                chosen=[np.concatenate([0 * before, chosen[at : at + step], 0 * after]) for at in begins],
            )
    aside = {"row": np.array(of_row, dtype=np.int64), "own": own, "guessed": guessed}
    return EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), aside=aside)


def every(text: str, special: Array) -> Array:
    """Choose all tokens that are not special."""
    return ~special


def to_train(found: EncodedRows, probability: float) -> EncodedRows:
    """Windows whose chosen tokens are masked by chance, batch by batch."""
    chance = found.tokens["chosen"] * round(probability * MILLION)
    return replace(found, tokens={"input_ids": found.tokens["input_ids"], CHANCE: chance})


def to_judge(found: EncodedRows, mask: int) -> EncodedRows:
    """Windows whose chosen tokens are masked, all at once."""
    ids, chosen = found.tokens["input_ids"], found.tokens["chosen"].astype(bool)
    return replace(found, tokens={"input_ids": np.where(chosen, mask, ids), "labels": np.where(chosen, ids, -100)})


def fixed(probability: float) -> Choose:
    """Choose tokens for judging: the same in each run, batch and model, since nothing but a text itself seeds the
    draw. At least one of a text, unless all are special."""

    def choose(text: str, special: Array) -> Array:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest())
        draws = np.where(special, 1.0, np.random.Generator(np.random.PCG64(seed)).random(len(special)))
        chosen = draws < probability
        if not chosen.any() and not special.all():
            chosen[draws.argmin()] = True
        return np.asarray(chosen)

    return choose


def each_masked(found: EncodedRows, mask: int) -> EachMasked:
    """A feature for each chosen token of these windows (Salazar et al. 2020: pseudo-perplexity)."""
    places = np.flatnonzero(found.tokens["chosen"])
    window = np.searchsorted(found.starts, places, side="right") - 1
    lengths = np.diff(found.starts)[window]
    return EachMasked(
        tokens={},
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        aside={**found.aside, "row": found.aside["row"][window]},
        windows=found,
        window=window,
        place=places - found.starts[window],
        mask=mask,
    )


def _frame(tokenizer: Any) -> tuple[Array, Array]:
    """What the tokenizer puts before and after a text."""
    bare = len(tokenizer("a", add_special_tokens=False)["input_ids"])
    encoding = tokenizer("a", return_special_tokens_mask=True)
    ids, flags = (np.array(encoding[name], dtype=np.int32) for name in ("input_ids", "special_tokens_mask"))
    first = int(np.argmin(flags))
    return ids[:first], ids[first + bare :]
