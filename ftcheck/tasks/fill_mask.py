"""fill-mask: a masked language model, trained further on texts of a domain, and judged by the tokens it must guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import DataError, shown
from ftcheck.results import WorstExample
from ftcheck.tasks import Task, likelihood

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows
    from ftcheck.tasks.masking import ToFill

FILL = "fill"
"""The column of a text that `predict` was given."""
CANDIDATES = 5
"""How many tokens `predict` returns for a mask."""


class Options(BaseModel):
    """Settings of fill-mask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(
        default=None, ge=4, description="Tokens of a window; null: 512, or as many as the model takes."
    )
    mlm_probability: float = Field(default=0.15, gt=0, lt=1, description="The share of tokens that is masked.")
    scoring: Literal["masked", "pseudo"] = Field(
        default="masked",
        description="What is judged: masked tokens of each text, or (pseudo-perplexity) each token, masked alone.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A token for a mask."""

    token: str
    score: float
    """Its probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What `finetuned.predict` returns for one text."""

    text: str
    """With the likeliest token in place of each mask."""
    masks: tuple[tuple[Candidate, ...], ...]
    """For each mask the likeliest tokens, best first."""

    @property
    def token(self) -> str:
        """The likeliest token for the first mask."""
        return self.masks[0][0].token

    @property
    def score(self) -> float:
        """Its probability."""
        return self.masks[0][0].score


class FillMask(Task):
    """Records: index, input (its beginning), nll (nats), right, tokens, bytes."""

    name = "fill-mask"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"text": True}
    auto_class = "AutoModelForMaskedLM"
    options = Options
    decoding_options = frozenset({"scoring"})
    training_defaults: ClassVar[Mapping[str, Any]] = {"per_device_eval_batch_size": likelihood.EVAL_BATCH_SIZE}
    per_token = True
    in_parts = True

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"tokens"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("perplexity", "token_accuracy")

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {"tokens": likelihood.score_inputs(records)}

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        return likelihood.worst(records)

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks.features import texts

        texts(rows, "text", where)
        return []

    def encode(
        self,
        rows: Rows,
        tokenizer: Any,
        meta: Meta,
        options: Mapping[str, Any],
        *,
        training: bool,
        where: Where = "row {}".format,
    ) -> EncodedRows:
        """`aside`: as in `masking.windows`, and of judged rows `bytes` by row: the guessed tokens' part of the text's
        UTF-8 bytes, each token's being the same (white space belongs to none of them)."""
        import numpy as np

        from ftcheck.tasks import masking

        mask = masking.mask_token(tokenizer)
        if FILL in rows.column_names:
            return _to_fill(rows, tokenizer, mask)
        length = options["max_length"] or int(min(512, tokenizer.model_max_length))
        probability = options["mlm_probability"]
        by_chance = not training and options["scoring"] == "masked"
        choose = masking.fixed(probability) if by_chance else masking.every
        found = masking.windows(rows, tokenizer, length, choose)
        if not found.aside["guessed"].any():
            raise DataError("no text has a token that can be masked")
        notes = _notes(found, len(rows), length)
        if training:
            return replace(masking.to_train(found, probability), notes=notes)
        sizes = np.array([len(text.encode()) for text in rows["text"][:]])
        share = found.aside["guessed"] / np.maximum(found.aside["own"], 1)
        judged = masking.to_judge(found, mask) if by_chance else masking.each_masked(found, mask)
        return replace(judged, notes=notes, aside={**judged.aside, "bytes": sizes * share})

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> Any:
        from ftcheck.tasks import masking

        return masking.collator(tokenizer, pad_to_multiple_of)

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        return likelihood.summed(output.logits, targets["labels"], label_smoothing)

    def items(self, targets: Mapping[str, Any]) -> Any:
        return (targets["labels"] != -100).sum()

    def places(self, features: EncodedRows) -> np.ndarray:
        return features.lengths

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        """By token: its negative log likelihood in nats, and whether it was the likeliest; 0 where it isn't masked. Of
        a text to fill: the likeliest tokens in its place, and their probabilities."""
        import torch

        likelihood.check(output, "masked language model")
        if targets:
            return likelihood.by_token(output.logits, targets["labels"])
        best = [line.float().softmax(dim=-1).topk(CANDIDATES) for line in output.logits]
        return torch.stack([one.indices for one in best]), torch.stack([one.values for one in best])

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: EncodedRows,
        rows: Rows,
        *,
        meta: Meta,
        options: Mapping[str, Any],
        tuned: Mapping[str, Any],
        texts: Sequence[str] | None = None,
    ) -> list[Record]:
        """Sums over a text's guessed tokens, whatever windows they are in."""
        import numpy as np

        from ftcheck.tasks import masking

        if isinstance(features, masking.ToFill):
            return [{"index": index, "filled": _filled(features, index, *outputs)} for index in range(len(features))]
        nll, right = (
            np.bincount(
                features.aside["row"],
                weights=np.add.reduceat(values, features.starts[:-1], dtype=np.float64),
                minlength=len(rows),
            )
            for values in outputs
        )
        return [
            {
                "index": index,
                "input": likelihood.preview(text),
                "nll": float(nll[index]),
                "right": int(right[index]),
                "tokens": int(features.aside["guessed"][index]),
                "bytes": float(features.aside["bytes"][index]),
            }
            for index, text in enumerate(rows["text"][:])
        ]

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if not isinstance(text, str):
                raise DataError(f"predict takes a text with a mask in it, or a list of these; got {shown(repr(text))}")
        return [{FILL: text} for text in texts]

    def natural_output(self, record: Record, meta: Meta) -> Filled:
        filled: Filled = record["filled"]
        return filled


def _to_fill(rows: Rows, tokenizer: Any, mask: int) -> EncodedRows:
    """Texts as `predict` is given them, whole. Raises DataError for one without a mask, or too long."""
    from ftcheck.tasks import features, masking

    gathered = features.Gatherer()
    for text in rows[FILL][:]:
        encoding = tokenizer([text], truncation=False, return_attention_mask=False, verbose=False)
        ids = encoding["input_ids"][0]
        if mask not in ids:
            raise DataError(f"there is no {tokenizer.mask_token} to fill in {shown(repr(text))}")
        if len(ids) > tokenizer.model_max_length:
            raise DataError(
                f"{shown(repr(text))} has {len(ids):,} tokens, the model takes {tokenizer.model_max_length:,}"
            )
        gathered.add(encoding, features.input_names(encoding))
    return masking.ToFill(tokens=gathered.tokens(), starts=gathered.starts(), tokenizer=tokenizer)


def _filled(features: ToFill, index: int, tokens: np.ndarray, scores: np.ndarray) -> Filled:
    tokenizer = features.tokenizer
    part = slice(features.starts[index], features.starts[index + 1])
    ids = features.tokens["input_ids"][part].copy()
    masked = ids == tokenizer.mask_token_id
    masks = tuple(
        tuple(
            Candidate(token=tokenizer.decode([token]).strip(), score=score)
            for token, score in zip(line, probabilities, strict=True)
        )
        for line, probabilities in zip(tokens[part][masked].tolist(), scores[part][masked].tolist(), strict=True)
    )
    ids[masked] = tokens[part][masked][:, 0]
    return Filled(text=tokenizer.decode(ids.tolist(), skip_special_tokens=True), masks=masks)


def _notes(found: EncodedRows, rows: int, length: int) -> list[str]:
    split = len({*found.aside["row"].tolist()})
    notes = []
    if len(found) > split:
        notes.append(f"{split:,} texts make {len(found):,} windows of up to {length} tokens")
    if split < rows:
        notes.append(f"{rows - split:,} of {rows:,} texts have no tokens")
    return notes
