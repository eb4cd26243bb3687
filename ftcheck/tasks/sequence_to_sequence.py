"""What summarization and translation share: an encoder-decoder (T5, BART, Marian) reads a source, writes a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.results import WorstExample
from ftcheck.tasks import Task, likelihood
from ftcheck.tasks.generation import MAX_NEW_TOKENS, Generation, arguments

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows

SHOWN = 1000
"""Characters of a source that a record keeps: it is there to be looked at, and a document may be a book."""


class Options(BaseModel):
    """Settings of every task from one text to another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = Field(default="", description='Put before every source, as T5 wants it: "summarize: ".')
    max_source_length: int | None = Field(
        default=None, ge=3, description="Cut sources at this many tokens; null: as many as the model takes."
    )
    max_target_length: int | None = Field(
        default=None, ge=3, description="Cut targets at this many tokens; null: as many as the model takes."
    )
    generation: Generation = Field(default=Generation(), description="How texts are generated.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What `finetuned.predict` returns for one source."""

    text: str


class SequenceToSequence(Task):
    """Records: index, input (the source's beginning), prediction, references (None without any); where there are
    references also nll (of the first one's tokens, in nats), right (how many of them were likeliest, given those before
    them), tokens and bytes (its length)."""

    version = 1
    auto_class = "AutoModelForSeq2SeqLM"
    options: ClassVar[type[Options]] = Options
    decoding_options = frozenset({"generation"})
    new_head = False
    source: ClassVar[str]
    """The column that is read."""
    target: ClassVar[str]
    """The column to be written: a text, or a list of texts any of which would do."""

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"text", "tokens"})

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {
            "text": ([r["prediction"] for r in records], [r["references"] for r in records]),
            "tokens": ([[r["nll"], r["right"]] for r in records], [[r["tokens"], r["bytes"]] for r in records]),
        }

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """Those that share least words with a reference; `score` is that overlap, an F1 as question answering's."""
        from ftcheck.metrics.answers import answer_f1

        overlaps = [max(answer_f1(r["prediction"], text) for text in r["references"]) for r in records]
        ranked = sorted(zip(overlaps, records, strict=True), key=lambda item: (item[0], item[1]["index"]))
        return [
            WorstExample(
                index=r["index"],
                input=r["input"],
                gold=" / ".join(dict.fromkeys(r["references"])),
                predicted=r["prediction"],
                score=overlap,
            )
            for overlap, r in ranked[:10]
            if overlap < 1
        ]

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        blank = {
            self.source: sum(not text.strip() for text in self._sources(rows, where)),
            self.target: sum(not texts[0].strip() for texts in self._references(rows, where)),
        }
        return [
            f"{count:,} of {len(rows):,} {role} rows have an empty {name}" for name, count in blank.items() if count
        ]

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
        """`ragged["labels"]`: the first reference's tokens; `aside["bytes"]`: the UTF-8 bytes that they make up."""
        import numpy as np

        from ftcheck.tasks import features

        encoded = self.prompts(rows, tokenizer, meta, options, where=where)
        if self.target not in rows.column_names:
            return encoded
        limits = features.room(tokenizer, options["max_target_length"])
        references = self._references(rows, where)
        labels: list[np.ndarray] = []
        sizes = []
        lost = 0
        for part in features.pieces(rows, self.target):
            targets = [texts[0] for texts in islice(references, part.stop - part.start)]
            encoding = tokenizer(text_target=targets, return_attention_mask=False, **limits)
            labels.extend(np.array(tokens, dtype=np.int32) for tokens in encoding["input_ids"])
            lost += features.cut(encoding, limits.get("max_length"))
            for text, tokens in zip(targets, encoding["input_ids"], strict=True):
                whole = len(tokens) < limits.get("max_length", features.NO_LIMIT)
                kept = text if whole else tokenizer.decode(tokens, skip_special_tokens=True)
                sizes.append(len(kept.encode(errors="surrogatepass")))
        notes = [*encoded.notes]
        if lost:
            notes.append(f"{lost:,} of {len(rows):,} targets were cut at {limits['max_length']} tokens")
        return replace(
            encoded, ragged={"labels": features.Ragged.of(labels)}, aside={"bytes": np.array(sizes)}, notes=notes
        )

    def prompts(
        self,
        rows: Rows,
        tokenizer: Any,
        meta: Meta,
        options: Mapping[str, Any],
        *,
        where: Where = "row {}".format,
    ) -> EncodedRows:
        """The sources, each after the prefix."""
        from ftcheck.tasks import features

        self.prepare(tokenizer, options)
        limits = features.room(tokenizer, options["max_source_length"])
        sources = self._sources(rows, where)
        gathered = features.Gatherer()
        lost = 0
        for part in features.pieces(rows, self.source):
            texts = [options["prefix"] + text for text in islice(sources, part.stop - part.start)]
            encoding = tokenizer(texts, return_attention_mask=False, **limits)
            # Token types, which some tokenizers make, are nothing that an encoder-decoder takes.
            gathered.add(encoding, ["input_ids"])
            lost += features.cut(encoding, limits.get("max_length"))
        notes = [f"{lost:,} of {len(rows):,} sources were cut at {limits['max_length']} tokens"] if lost else []
        return features.EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), notes=notes)

    def prepare(self, tokenizer: Any, options: Mapping[str, Any]) -> None:
        """Tell the tokenizer what it must know before it encodes."""

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> Any:
        """Padded on the right, the labels too: a decoder counts its positions from the left."""
        return replace(super().collator(tokenizer, pad_to_multiple_of), left=False)

    def forward(self, model: Any, batch: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
        """The decoder reads the labels shifted by one; the model itself knows what it starts with."""
        shifted = getattr(model, "prepare_decoder_input_ids_from_labels", None)
        if shifted is None:  # M2M-100 and a few more shift only labels that they make a loss of
            return model(**batch, **targets, use_cache=False)
        return model(**batch, decoder_input_ids=shifted(labels=targets["labels"]), use_cache=False)

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        import torch
        from torch.nn.functional import cross_entropy

        if not torch.is_grad_enabled():
            return likelihood.summed(output.logits, targets["labels"], label_smoothing)
        return cross_entropy(  # in one sum, whose rounding is what kept trainings have
            output.logits.float().flatten(0, 1),
            targets["labels"].flatten(),
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    def items(self, targets: Mapping[str, Any]) -> Any:
        return (targets["labels"] != -100).sum()

    def runs_model(self, features: EncodedRows) -> bool:
        return "labels" in features.ragged

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        """(batch, 2): the negative log likelihood of each target, and how many of its tokens were likeliest."""
        import torch

        if getattr(output, "logits", None) is None or output.logits.ndim != 3:
            raise CheckpointError("the model gives no logits per token: it is no encoder-decoder that writes text")
        nll, right = (values.sum(dim=1) for values in likelihood.by_token(output.logits, targets["labels"]))
        return (torch.stack([nll, right.to(nll.dtype)], dim=1),)

    def places(self, features: EncodedRows) -> np.ndarray:
        return features.ragged["labels"].lengths

    def generation(self, tokenizer: Any, meta: Meta, options: Mapping[str, Any]) -> dict[str, Any]:
        longest = options["max_target_length"] or min(MAX_NEW_TOKENS, tokenizer.model_max_length)
        return arguments(options["generation"], longest)

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
        if texts is None:
            raise RuntimeError(f"{self.name} reads generated texts")
        records: list[Record] = [
            {"index": index, "input": _beginning(source), "prediction": text, "references": None}
            for index, (source, text) in enumerate(zip(self._sources(rows, "row {}".format), texts, strict=True))
        ]
        if not outputs:
            return records
        lengths, sizes = features.ragged["labels"].lengths.tolist(), features.aside["bytes"].tolist()
        references = self._references(rows, "row {}".format)
        columns = zip(records, references, outputs[0].tolist(), lengths, sizes, strict=True)
        for record, accepted, (nll, right), tokens, size in columns:
            record |= {"references": accepted, "nll": nll, "right": int(right), "tokens": tokens, "bytes": size}
        return records

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        return [self._row(one) for one in ([value] if self.is_one(value) else value)]

    def natural_output(self, record: Record, meta: Meta) -> Generated:
        return Generated(text=record["prediction"])

    def _row(self, value: Any) -> dict[str, Any]:
        if isinstance(value, str):
            return {self.source: value}
        if isinstance(value, Mapping) and set(value) == {self.source} and isinstance(value[self.source], str):
            return dict(value)
        raise DataError(
            f"predict takes a text or a dict with {self.source}, or a list of these; got {shown(repr(value))}"
        )

    def _sources(self, rows: Rows, where: Where) -> Iterator[str]:
        """Each row's source; a list of sentences is joined by spaces. Raises DataError for anything but text."""
        return (" ".join(texts) for texts in _texts(rows, self.source, where))

    def _references(self, rows: Rows, where: Where) -> Iterator[list[str]]:
        """Each row's targets: one or more. Raises DataError for none, and for anything but text."""
        for row, texts in enumerate(_texts(rows, self.target, where)):
            if not texts:
                raise DataError(f"{where(row)}: column {self.target} is an empty list; it needs at least one text")
            yield texts


def _beginning(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _texts(rows: Rows, column: str, where: Where) -> Iterator[list[str]]:
    """Each row's text or texts. Raises DataError for anything else."""
    from ftcheck.tasks.features import chunks

    for part in chunks(len(rows)):
        for row, value in enumerate(rows[part][column], part.start):
            texts = value if isinstance(value, list) else [value]
            if not all(isinstance(text, str) for text in texts):
                raise DataError(
                    f"{where(row)}: column {column} must be text or a list of texts, got {shown(repr(value))}"
                )
            yield texts
