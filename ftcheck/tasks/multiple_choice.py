"""multiple-choice: a question, perhaps with a context, and some answers to choose from -> the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.tasks import Task

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Context, Input
    from ftcheck.results import WorstExample
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows
    from ftcheck.tasks.grouped import GroupCollator

MOST_CHOICES = 26
"""As many as there are letters to tick. A bound, since predictions of all rows stand in one array."""


class Options(BaseModel):
    """Settings of multiple-choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(
        default=None,
        ge=3,
        description="Cut context, question and choice together at this many tokens; null: as many as the model takes.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What `finetuned.predict` returns for one question."""

    choice: str
    index: int
    """The place of `choice` among the choices, from 0."""
    score: float
    """Probability of `choice`."""
    scores: tuple[float, ...]
    """Probability of every choice, in their order."""


class MultipleChoice(Task):
    """Records: index, prediction and reference (places among the choices, from 0), scores, input, choices.

    A feature is a row: the tokens of all its choices, one after the other; `choice` says which one each belongs to.
    """

    name = "multiple-choice"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"context": False, "question": True, "choices": True, "label": True}
    auto_class = "AutoModelForMultipleChoice"
    options = Options
    targets = ("labels", "choices")

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"label", "scores"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("accuracy",)

    def context(self, meta: Meta, options: Mapping[str, Any]) -> Context:
        """The classes are the choices' places."""
        from ftcheck.metrics import Context

        return Context(labels=tuple(map(str, range(MOST_CHOICES))), options=options)

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        """A choice that a question doesn't have is certain not to be chosen."""
        references = [r["reference"] for r in records]
        scores = [[*r["scores"], *[0.0] * (MOST_CHOICES - len(r["scores"]))] for r in records]
        return {"label": ([r["prediction"] for r in records], references), "scores": (scores, references)}

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """Wrong ones, least probability for the right choice first; `score` is that probability."""
        from ftcheck.tasks import labels

        return labels.surest_mistakes(records, lambda record, place: str(record["choices"][place]))

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks.features import texts

        texts(rows, "question", where)
        if "context" in rows.column_names:
            texts(rows, "context", where)
        for row, (choices, label) in enumerate(zip(rows["choices"][:], rows["label"][:], strict=True)):
            _check_choices(choices, where(row))
            _place(label, choices, where(row))
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
        """As SWAG's official example: the context, then question and choice joined by a space; without a context the
        question, then the choice."""
        import numpy as np

        from ftcheck.tasks import features

        limits = features.room(tokenizer, options["max_length"])
        gathered = features.Gatherer()
        lost = 0
        for part in features.pieces(rows, "context", "question", "choices"):
            chunk = rows[part]
            pairs = [pair for row in range(len(chunk["question"])) for pair in _pairs(chunk, row)]
            encoding = tokenizer(*map(list, zip(*pairs, strict=True)), return_attention_mask=False, **limits)
            lost += features.cut(encoding, limits.get("max_length"))
            ends = np.cumsum([0, *map(len, chunk["choices"])]).tolist()
            bounds = list(pairwise(ends))
            names = features.input_names(encoding)
            joined = {name: [list(chain(*encoding[name][low:high])) for low, high in bounds] for name in names}
            lengths = [[len(tokens) for tokens in encoding["input_ids"][low:high]] for low, high in bounds]
            gathered.add(joined, names, choice=[np.repeat(np.arange(len(row)), row) for row in lengths])
        every = rows["choices"][:]
        targets = {"choices": np.array([len(choices) for choices in every])}
        if "label" in rows.column_names:
            labelled = enumerate(zip(rows["label"][:], every, strict=True))
            targets["labels"] = np.array([_place(label, choices, where(row)) for row, (label, choices) in labelled])
        notes = [f"{lost:,} choices were cut at {limits['max_length']} tokens"] if lost else []
        return features.EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), targets=targets, notes=notes)

    def encodes_each_alone(self, options: Mapping[str, Any]) -> bool:
        return True

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> GroupCollator:
        from ftcheck.tasks.features import collator
        from ftcheck.tasks.grouped import GroupCollator

        texts = collator(tokenizer, pad_to_multiple_of, token_targets=())
        return GroupCollator(texts=texts, by="choice", targets=self.targets)

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        """Cross-entropy over the choices that a row has."""
        from ftcheck.tasks import likelihood

        return likelihood.among(_of_choices(output.logits, targets), targets["labels"], label_smoothing)

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        """(rows, MOST_CHOICES), as wide for every batch; -inf where a row has no such choice."""
        from torch.nn.functional import pad

        if getattr(output, "logits", None) is None or output.logits.ndim != 2:
            raise CheckpointError("the model gives no logits per choice: it is no multiple choice model")
        logits = _of_choices(output.logits, targets)
        return (pad(logits, (0, MOST_CHOICES - logits.shape[1]), value=float("-inf")),)

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
        from ftcheck.tasks.features import softmax

        references = features.targets["labels"].tolist() if "labels" in features.targets else [None] * len(rows)
        inputs = rows["question"][:]
        if "context" in rows.column_names:
            inputs = [f"{context} | {text}" for context, text in zip(rows["context"][:], inputs, strict=True)]
        records = []
        for index, choices in enumerate(rows["choices"][:]):
            scores = softmax(outputs[0][index, : len(choices)])
            records.append(
                {
                    "index": index,
                    "prediction": int(scores.argmax()),
                    "reference": references[index],
                    "scores": scores.tolist(),
                    "input": inputs[index],
                    "choices": choices,
                }
            )
        return records

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        rows = [_row(one) for one in ([value] if self.is_one(value) else value)]
        if len({len(row) for row in rows}) > 1:
            raise DataError("predict takes questions with or without a context, not both at once")
        return rows

    def natural_output(self, record: Record, meta: Meta) -> Chosen:
        best, scores = record["prediction"], record["scores"]
        return Chosen(choice=record["choices"][best], index=best, score=scores[best], scores=tuple(scores))


def _of_choices(logits: Any, targets: Mapping[str, Any]) -> Any:
    """(rows, batch's most choices), with -inf where a row has fewer."""
    import torch

    padded = torch.arange(logits.shape[1], device=logits.device) >= targets["choices"][:, None]
    return logits.masked_fill(padded, -torch.inf)


def _pairs(chunk: Mapping[str, Sequence[Any]], row: int) -> list[tuple[str, str]]:
    question, choices = chunk["question"][row], chunk["choices"][row]
    if "context" not in chunk:
        return [(question, choice) for choice in choices]
    return [(chunk["context"][row], f"{question} {choice}") for choice in choices]


def _check_choices(choices: Any, where: str) -> None:
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise DataError(f"{where}: column choices must be a list of texts, got {shown(repr(choices))}")
    if not 2 <= len(choices) <= MOST_CHOICES:
        raise DataError(f"{where}: column choices must have 2 to {MOST_CHOICES} texts, got {len(choices)}")


def _place(label: Any, choices: Sequence[str], where: str) -> int:
    """The right choice's place, from a label that is the place or the text."""
    if isinstance(label, int) and not isinstance(label, bool):
        if 0 <= label < len(choices):
            return label
        hint = " (is this split published without labels?)" if label == -1 else ""
        raise DataError(f"{where}: column label: there are choices 0 to {len(choices) - 1}, and no {label}{hint}")
    if isinstance(label, str) and choices.count(label) == 1:
        return choices.index(label)
    times = "is there more than once" if label in choices else "is not among them"
    raise DataError(
        f"{where}: column label must be the right choice's place, a whole number from 0, or its text, and "
        f"{shown(repr(label))} {times}: {shown(choices, 200)}"
    )


def _row(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple) and len(value) == 2:
        value = {"question": value[0], "choices": value[1]}
    if isinstance(value, Mapping) and {"question", "choices"} <= set(value) <= {"context", "question", "choices"}:
        row = {name: given for name, given in value.items() if name != "context" or given is not None}
        if all(isinstance(text, str) for name, text in row.items() if name != "choices"):
            row["choices"] = list(row["choices"]) if isinstance(row["choices"], tuple) else row["choices"]
            _check_choices(row["choices"], "predict")
            return row
    raise DataError(
        "predict takes a pair (question, choices) or a dict with question, choices and perhaps context, or a list of "
        f"these; got {shown(repr(value))}"
    )
