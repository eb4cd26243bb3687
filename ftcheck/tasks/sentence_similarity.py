"""sentence-similarity: two texts, each made an embedding of its own -> how alike they are, as their cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import CheckpointError, DataError, TrainingError, shown
from ftcheck.tasks import Task

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.results import WorstExample
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows
    from ftcheck.tasks.grouped import GroupCollator
    from ftcheck.tasks.problem_types import ProblemType

TEXTS = ("text", "text_pair")


class Options(BaseModel):
    """Settings of sentence-similarity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(
        default=None, ge=3, description="Cut each text at this many tokens; null: as many as the model takes."
    )
    scale: float = Field(
        default=1.0, gt=0, description="The score of two texts that say the same: their cosine is 1. Of STS-B, 5."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What the model makes of a batch."""

    embeddings: Any
    """(batch, 2, size)."""


class SentenceSimilarity(Task):
    """Records: index, prediction and reference (scores), input.

    A feature is a row: the tokens of both its texts, one after the other; `side` says which one each belongs to.
    """

    name = "sentence-similarity"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"text": True, "text_pair": True, "label": True}
    auto_class = "AutoModel"
    options = Options
    new_head = False
    needs_pooler = False

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"value"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("pearson", "spearman")

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return _regression().score_inputs(records)

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """Largest absolute error first; `score` is that error."""
        return _regression().worst(records, meta)

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks.features import texts

        for column in TEXTS:
            texts(rows, column, where)
        scale = options["scale"]
        for row, score in enumerate(_regression().targets(rows, meta, where).tolist()):
            if abs(score) > scale:
                raise DataError(
                    f"{where(row)}: column label is {score:g}, beyond task.scale, {scale:g}, the score of texts that "
                    f"say the same: write what that is in this data, e.g. scale: 5"
                )
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
        import numpy as np

        from ftcheck.tasks import features

        limits = features.room(tokenizer, options["max_length"])
        gathered = features.Gatherer()
        lost = 0
        for part in features.pieces(rows, *TEXTS):
            chunk = rows[part]
            both = [tokenizer(chunk[column], return_attention_mask=False, **limits) for column in TEXTS]
            lost += sum(features.cut(encoding, limits.get("max_length")) for encoding in both)
            names = features.input_names(both[0])
            joined = {
                name: [list(chain(*pair)) for pair in zip(*(one[name] for one in both), strict=True)] for name in names
            }
            lengths = zip(*(map(len, one["input_ids"]) for one in both), strict=True)
            gathered.add(joined, names, side=[np.repeat([0, 1], pair) for pair in lengths])
        targets = {}
        if "label" in rows.column_names:
            targets["labels"] = _regression().targets(rows, meta, where) / options["scale"]
        notes = [f"{lost:,} texts were cut at {limits['max_length']} tokens"] if lost else []
        return features.EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), targets=targets, notes=notes)

    def encodes_each_alone(self, options: Mapping[str, Any]) -> bool:
        return True

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> GroupCollator:
        from dataclasses import replace

        from ftcheck.tasks.features import collator
        from ftcheck.tasks.grouped import GroupCollator

        texts = collator(tokenizer, pad_to_multiple_of, token_targets=())
        return GroupCollator(texts=replace(texts, mask=True), by="side", targets=self.targets)

    def forward(self, model: Any, batch: Mapping[str, Any], targets: Mapping[str, Any]) -> Embedded:
        """Both texts of all rows go through the model together."""
        from ftcheck.tasks.grouped import flat

        given = flat(batch)
        hidden = getattr(model(**given), "last_hidden_state", None)
        if hidden is None:
            raise CheckpointError("the model gives no hidden states of tokens, of which an embedding could be made")
        return Embedded(embeddings=mean(hidden, given["attention_mask"]).view(len(batch["input_ids"]), 2, -1))

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        """Squared differences between cosines and scores, these as parts of `scale`."""
        from torch.nn.functional import mse_loss

        if label_smoothing:
            raise TrainingError(
                f"training.label_smoothing_factor {label_smoothing} is for classes, not for {self.name}: leave it out"
            )
        return mse_loss(_cosines(output), targets["labels"], reduction="sum")

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        """(rows,): cosines."""
        return (_cosines(output),)

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
        references = rows["label"][:] if "label" in rows.column_names else [None] * len(rows)
        pairs = zip(rows["text"][:], rows["text_pair"][:], references, outputs[0].tolist(), strict=True)
        return [
            {
                "index": index,
                "prediction": cosine * options["scale"],
                "reference": None if reference is None else float(reference),
                "input": f"{text} | {other}",
            }
            for index, (text, other, reference, cosine) in enumerate(pairs)
        ]

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        return [_row(one) for one in ([value] if self.is_one(value) else value)]

    def natural_output(self, record: Record, meta: Meta) -> float:
        return float(record["prediction"])


def mean(hidden: Any, mask: Any) -> Any:
    """(texts, tokens, size), (texts, tokens) -> (texts, size): the mean over the tokens that are no padding."""
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def _cosines(output: Embedded) -> Any:
    from torch.nn.functional import cosine_similarity

    one, other = output.embeddings.float().unbind(dim=1)
    return cosine_similarity(one, other)


def _regression() -> ProblemType:
    """Numbers as references: what text-classification has for them."""
    from ftcheck.tasks.problem_types import PROBLEM_TYPES

    return PROBLEM_TYPES["regression"]


def _row(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple) and len(value) == 2:
        value = dict(zip(TEXTS, value, strict=True))
    if (
        isinstance(value, Mapping)
        and set(value) == set(TEXTS)
        and all(isinstance(text, str) for text in value.values())
    ):
        return dict(value)
    raise DataError(
        f"predict takes a pair of texts or a dict with {' and '.join(TEXTS)}, or a list of these; got "
        f"{shown(repr(value))}"
    )
