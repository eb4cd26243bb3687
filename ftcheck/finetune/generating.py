"""Has a model write texts: as many at a time as have room, of like length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ftcheck import timing
from ftcheck.finetune import spreading, writing
from ftcheck.finetune.environment import give_back
from ftcheck.finetune.memory import unless_out_of_memory
from ftcheck.finetune.predict import OnBatch, autocast, no_numbers

if TYPE_CHECKING:
    from ftcheck.tasks.features import EncodedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What a model wrote."""

    texts: list[str]
    """One a prompt, in their order."""
    batch_size: int
    """How many prompts were answered at a time in the end."""
    notes: tuple[str, ...] = ()


class Writer:
    """What a model continues or answers each prompt with, special tokens left out.

    Batches hold prompts of like length, longest first; where memory runs out, they are halved from there on. A
    decoder's prompts are padded on the left and are not part of the answer. `arguments` are those of `model.generate`
    (`max_new_tokens` among them), and the `seed` of sampling: each batch starts from it and its own place, so that what
    is drawn depends on the batch size, but not on what became of other batches.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompts: EncodedRows,
        arguments: Mapping[str, Any],
        *,
        device: str,
        precision: str,
        batch_size: int,
        on_batch: OnBatch | None = None,
    ) -> None:
        from ftcheck.tasks import features as encoded

        self.model, self.tokenizer, self.prompts = model, tokenizer, prompts
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self._on_batch = on_batch
        self._alone = not model.config.is_encoder_decoder
        self._collate = replace(encoded.collator(tokenizer, None), left=self._alone)
        self._given = dict(arguments)
        self._seed = self._given.pop("seed", 0)
        self._sharing = _sharing(prompts, apart=bool(writing.settings(model, self._given).do_sample))
        self._order = sorted(self._sharing, key=lambda index: -len(prompts[index]["input_ids"]))
        self._texts = [""] * len(prompts)
        self._low = self._done = self._endless = 0
        self._read: dict[int, Any] = {}
        self._ready = 0

    def reads(self, features: EncodedRows) -> bool:
        """Whether these features are the prompts, and there is an encoder that reads them."""
        import numpy as np

        one, other = ({"starts": rows.starts, **rows.tokens} for rows in (features, self.prompts))
        same = one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
        return same and not self._alone

    def take(self, rows: Sequence[int], encodings: Any) -> None:
        """Write what has been read in the meantime, as soon as it fills a batch. `encodings` is (rows, places, width),
        what the encoder made of these rows, which come longest first; None: it isn't known."""
        for place, row in enumerate(rows):
            if row in self._sharing:
                self._ready += 1
                if encodings is not None:
                    self._read[row] = encodings[place, : len(self.prompts[row]["input_ids"])]
        while self._ready - self._low >= self.batch_size:
            self._write()

    def finish(self) -> Generated:
        """Write what is left, and tell all."""
        self.model.eval()
        with writing.weights_cast_once(self.model), autocast(self.device, self.precision):
            while self._low < len(self._order):
                self._write()
        if not self._endless:
            return Generated(texts=self._texts, batch_size=self.batch_size)
        limit = f"max_new_tokens ({self._given['max_new_tokens']})"
        note = f"{self._endless:,} of {len(self._texts):,} generated texts reached {limit} without an end of their own"
        return Generated(texts=self._texts, batch_size=self.batch_size, notes=(note,))

    @timing.phase("generate")
    def _write(self) -> None:
        """The next batch, or less where memory runs out."""
        import torch

        chosen = self._order[self._low : self._low + self.batch_size]
        collated = self._collate([self.prompts[index] for index in chosen])
        batch = {name: t.to(self.device) for name, t in collated.items()}
        torch.manual_seed(self._seed + self._low)
        watch = _NaNWatch()
        arguments = {**batch, **self._encoded(chosen, batch), **self._given, "logits_processor": [watch]}
        # Others would wait for this one, whose batches became others.
        last_try = len(chosen) == 1 or spreading.is_spread(self.model)
        tokens = unless_out_of_memory(partial(_written, self.model, arguments), last_try=last_try)
        if tokens is None:
            self.batch_size = len(chosen) // 2
            give_back(self.device)
            return
        watch.check()
        # A decoder's output begins with its prompt, an encoder-decoder's with the token that it starts with.
        tokens = tokens[:, batch["input_ids"].shape[1] if self._alone else 1 :]
        without = _endless(tokens, self.model.generation_config, self._given["max_new_tokens"])
        written = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        for index, text, has_none in zip(chosen, written, without, strict=True):
            rows = self._sharing[index]
            self._endless += has_none * len(rows)
            self._done += len(rows)
            for row in rows:
                self._texts[row] = text
            self._read.pop(index, None)
        self._low += len(chosen)
        if self._on_batch is not None:
            self._on_batch(self._done, len(self._texts))

    def _encoded(self, chosen: Sequence[int], batch: Mapping[str, Any]) -> dict[str, Any]:
        """What `generate` needn't have read again; nothing where a row's encoding isn't known."""
        import torch
        from torch.nn.functional import pad
        from transformers.modeling_outputs import BaseModelOutput

        if "attention_mask" not in batch or any(row not in self._read for row in chosen):
            return {}
        width = batch["input_ids"].shape[1]
        states = [pad(self._read[row], (0, 0, 0, width - len(self._read[row]))) for row in chosen]
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=torch.stack(states))}


def _sharing(prompts: EncodedRows, *, apart: bool) -> dict[int, list[int]]:
    """The first row with a prompt -> all rows with the same, which it is answered for; each alone where `apart`."""
    tokens, starts = prompts.tokens["input_ids"], prompts.starts
    rows: dict[Any, list[int]] = {}
    for row, (start, stop) in enumerate(pairwise(starts)):
        rows.setdefault(row if apart else tokens[start:stop].tobytes(), []).append(row)
    return {same[0]: same for same in rows.values()}


def _written(model: Any, arguments: dict[str, Any]) -> Any:
    """What `generate` makes of a batch."""
    with writing.finished_rows_leave(model, arguments):
        return model.generate(**arguments)


class _NaNWatch:
    """Looks at the scores that each token is chosen by: the largest of NaNs would be a token like any other."""

    def __init__(self) -> None:
        self._seen: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        found = scores.isnan().any()
        self._seen = found if self._seen is None else self._seen | found  # read at the end: a device needn't wait
        return scores

    def check(self) -> None:
        """Raises TrainingError."""
        if self._seen is not None and bool(self._seen):
            raise no_numbers("scores of tokens")


def _endless(tokens: Any, config: Any, limit: int) -> list[bool]:
    """Which of (batch, new tokens) have no end of their own within `limit` tokens: one that the model is forced to
    write in the last place is none."""
    import torch

    if tokens.shape[1] < limit:
        return [False] * len(tokens)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ends = torch.tensor([end for end in ends if end is not None], device=tokens.device, dtype=tokens.dtype)
    own = tokens[:, : limit - 1] if config.forced_eos_token_id is not None else tokens
    without: list[bool] = (~torch.isin(own, ends).any(dim=1)).tolist()
    return without
