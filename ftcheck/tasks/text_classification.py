"""text-classification: one text or a pair of texts -> a class, a set of classes, or a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.tasks import Task, problem_types
from ftcheck.tasks.problem_types import ProblemType

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.results import Confusion, WorstExample
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows


class Options(BaseModel):
    """Settings of text-classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem_type: problem_types.Name = Field(
        default="single_label_classification",
        description="What a text has: one class, a set of classes (a list in each row), or a number.",
    )
    max_length: int | None = Field(
        default=None, ge=3, description="Cut texts at this many tokens; null: as many as the model takes."
    )
    labels: tuple[str, ...] | None = Field(
        default=None,
        min_length=2,
        description="Class names in the order of their ids; null: the data's ClassLabel names, "
        "or what the training rows have, sorted.",
    )
    positive_label: str | None = Field(
        default=None, description="The class that precision, recall and f1 speak of; null: the second of two."
    )
    threshold: Literal["auto"] | float = Field(
        default="auto",
        description="Of sets of classes: a class is in the set from this probability; "
        "auto: tuned on the tune split for micro-F1, 0.5 without one.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse settings that this problem type has no use for."""
        of_classes = {"labels": self.labels, "positive_label": self.positive_label}
        useless = {
            "single_label_classification": [] if self.threshold == "auto" else ["threshold"],
            "multi_label_classification": [] if self.positive_label is None else ["positive_label"],
            "regression": [
                *(name for name, value in of_classes.items() if value is not None),
                *([] if self.threshold == "auto" else ["threshold"]),
            ],
        }[self.problem_type]
        if useless:
            raise PydanticCustomError(
                "complete",
                "problem_type {problem_type} has no use for {useless}: leave it out",
                {"problem_type": self.problem_type, "useless": " and ".join(useless)},
            )
        if self.threshold != "auto" and not 0 < self.threshold < 1:
            raise PydanticCustomError("complete", "threshold must lie between 0 and 1")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What `finetuned.predict` returns for one text."""

    label: str
    score: float
    """Probability of `label`."""
    scores: Mapping[str, float]
    """Probability of every class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSet:
    """What `finetuned.predict` returns for one text that may have several classes."""

    labels: tuple[str, ...]
    scores: Mapping[str, float]
    """Probability of every class."""


class TextClassification(Task):
    """Records: index, prediction and reference (see `problem_types`; the reference may be None), scores, input."""

    name = "text-classification"
    version = 2
    columns: ClassVar[Mapping[str, bool]] = {"text": True, "text_pair": False, "label": True}
    auto_class = "AutoModelForSequenceClassification"
    options = Options
    decoding_options = frozenset({"threshold"})

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return _kind(options).inputs

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return _kind(options).default_metrics

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return _kind(options).score_inputs(records)

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        return _kind(meta).confusions(records, meta)

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        return _kind(options).worst(records, meta)

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        kind = _kind(options)
        return {"problem_type": options["problem_type"], **kind.learn(train, model_config, options, where)}

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks.features import texts

        texts(rows, "text", where)
        if "text_pair" in rows.column_names:
            texts(rows, "text_pair", where)
        kind = _kind(options)
        classes = len(meta.get("labels", ()))
        absent = classes - kind.present(kind.targets(rows, meta, where), meta)
        if role != "train" or not absent:
            return []
        return [f"{absent} of {classes} classes have no training row"]

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        return {**_kind(meta).model_kwargs(meta), "problem_type": meta["problem_type"]}

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
        from ftcheck.tasks import features

        limits = features.room(tokenizer, options["max_length"])
        gathered = features.Gatherer()
        lost = 0
        for part in features.chunks(len(rows)):
            chunk = rows[part]
            encoding = tokenizer(chunk["text"], chunk.get("text_pair"), return_attention_mask=False, **limits)
            gathered.add(encoding, features.input_names(encoding))
            lost += features.cut(encoding, limits.get("max_length"))
        targets = {}
        if "label" in rows.column_names:
            targets["labels"] = _kind(options).targets(rows, meta, where)
        notes = [f"{lost:,} of {len(rows):,} texts were cut at {limits['max_length']} tokens"] if lost else []
        return features.EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), targets=targets, notes=notes)

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        labels = targets["labels"]
        return problem_types.of_targets(labels).loss(output.logits.float(), labels, label_smoothing)

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        if getattr(output, "logits", None) is None or output.logits.ndim != 2:
            raise CheckpointError("the model gives no logits per text: it is no sequence classifier")
        return (output.logits,)

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
        threshold = options["threshold"]
        answers = _kind(options).answers(outputs[0], tuned.get("threshold", 0.5) if threshold == "auto" else threshold)
        references = _plain(features.targets["labels"]) if "labels" in features.targets else [None] * len(rows)
        inputs = rows["text"][:]
        if "text_pair" in rows.column_names:
            inputs = [f"{text} | {pair}" for text, pair in zip(inputs, rows["text_pair"][:], strict=True)]
        return [
            {"index": index, **answer, "reference": reference, "input": text}
            for index, (answer, reference, text) in enumerate(zip(answers, references, inputs, strict=True))
        ]

    def tunes(self, rows: Rows, options: Mapping[str, Any]) -> bool:
        return (options["problem_type"], options["threshold"]) == ("multi_label_classification", "auto")

    def tune(
        self, outputs: Sequence[np.ndarray], features: EncodedRows, rows: Rows, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """`{"threshold": t}`: the one with the best micro-F1 on these rows."""
        probabilities = problem_types.sigmoid(outputs[0])
        return {"threshold": problem_types.best_threshold(probabilities, features.targets["labels"])}

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        rows = [_row(one) for one in ([value] if self.is_one(value) else value)]
        if len({len(row) for row in rows}) > 1:
            raise DataError("predict takes texts or pairs of texts, not both at once")
        return rows

    def natural_output(self, record: Record, meta: Meta) -> Classified | LabelSet | float:
        """A class, a set of classes, or the number itself."""
        best = record["prediction"]
        if meta["problem_type"] == "regression":
            return float(best)
        labels = meta["labels"]
        scores = dict(zip(labels, record["scores"], strict=True))
        if meta["problem_type"] == "multi_label_classification":
            chosen = tuple(label for label, member in zip(labels, best, strict=True) if member)
            return LabelSet(labels=chosen, scores=scores)
        return Classified(label=labels[best], score=record["scores"][best], scores=scores)


def _kind(said: Mapping[str, Any]) -> ProblemType:
    """The strategy that options or a meta name."""
    return problem_types.BY_NAME[said["problem_type"]]


def _plain(targets: np.ndarray) -> list[Any]:
    """Class ids, sets of 0 and 1, or numbers as builtins."""
    return list((targets.astype(int) if targets.ndim == 2 else targets).tolist())


def _row(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, tuple) and len(value) == 2:
        value = {"text": value[0], "text_pair": value[1]}
    if isinstance(value, Mapping) and "text" in value and set(value) <= {"text", "text_pair"}:
        row = {name: text for name, text in value.items() if name == "text" or text is not None}
        if all(isinstance(text, str) for text in row.values()):
            return row
    raise DataError(
        "predict takes a text, a pair (text, text_pair) or a dict with text and text_pair, or a list of these; "
        f"got {shown(repr(value))}"
    )
