"""text-classification: one text or a pair of texts -> one class, a set of classes, or a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.tasks import Task
from ftcheck.tasks.problem_types import PROBLEM_TYPES, UNTUNED, ProblemType, best_threshold, of_targets

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.results import Confusion, WorstExample
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows

_GOES_WITH: Mapping[str, tuple[str, ...]] = {
    "labels": ("single_label_classification", "multi_label_classification"),
    "positive_label": ("single_label_classification",),
    "threshold": ("multi_label_classification",),
}
"""Options that not every problem type has."""


class Options(BaseModel):
    """Settings of text-classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"] = Field(
        default="single_label_classification",
        description="Whether a text has one class, a set of classes, or a number.",
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
    threshold: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        default="auto",
        description="Of a set of classes, those whose probability reaches this; auto: tuned on the tune split for the "
        "best micro-F1, 0.5 without one.",
    )

    @field_validator("threshold", mode="before")
    @classmethod
    def _within_bounds(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != "auto" and not (number and 0 <= value <= 1):
            raise PydanticCustomError("threshold", "expected auto or a number from 0 to 1")
        return value

    @field_validator(*_GOES_WITH, mode="before")
    @classmethod
    def _fits_the_problem(cls, value: Any, info: ValidationInfo) -> Any:
        name, problem = str(info.field_name), info.data.get("problem_type")
        fitting = _GOES_WITH[name]
        if problem is not None and problem not in fitting and value != cls.model_fields[name].default:
            raise PydanticCustomError("complete", f"goes with problem_type {' or '.join(fitting)}, not with {problem}")
        return value


class TextClassification(Task):
    """Records: index, prediction and reference, scores, input.

    Prediction and reference are class ids; lists of 0 and 1, by class; or numbers. `scores` are probabilities by class,
    absent in regression.
    """

    name = "text-classification"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"text": True, "text_pair": False, "label": True}
    auto_class = "AutoModelForSequenceClassification"
    options = Options
    decoding_options = frozenset({"threshold"})

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return _problem(options).inputs

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return _problem(options).default_metrics

    def stratify_by(self, options: Mapping[str, Any]) -> str | None:
        return "label" if options["problem_type"] == "single_label_classification" else None

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return _problem(meta).score_inputs(records)

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        return _problem(meta).confusions(records, meta)

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """See the problem types: wrong classes, unlike sets, large errors."""
        return _problem(meta).worst(records, meta)

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        learned = _problem(options).learn(train, model_config, options, where)
        return {**learned, "problem_type": options["problem_type"]}

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks.features import texts

        texts(rows, "text", where)
        if "text_pair" in rows.column_names:
            texts(rows, "text_pair", where)
        targets = _problem(meta).targets(rows, meta, where)
        return _problem(meta).notes(targets, meta) if role == "train" else []

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        return {**_problem(meta).model_kwargs(meta), "problem_type": meta["problem_type"]}

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
        for part in features.pieces(rows, "text", "text_pair"):
            chunk = rows[part]
            encoding = tokenizer(chunk["text"], chunk.get("text_pair"), return_attention_mask=False, **limits)
            gathered.add(encoding, features.input_names(encoding))
            lost += features.cut(encoding, limits.get("max_length"))
        targets = {}
        if "label" in rows.column_names:
            targets["labels"] = _problem(meta).targets(rows, meta, where)
        notes = [f"{lost:,} of {len(rows):,} texts were cut at {limits['max_length']} tokens"] if lost else []
        return features.EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), targets=targets, notes=notes)

    def encodes_each_alone(self, options: Mapping[str, Any]) -> bool:
        return True

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> Any:
        from ftcheck.tasks.features import collator

        return collator(tokenizer, pad_to_multiple_of, token_targets=())

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        labels = targets["labels"]
        return of_targets(labels).loss(output.logits.float(), labels, label_smoothing)

    def items(self, targets: Mapping[str, Any]) -> Any:
        """Texts; or texts times classes, each a decision of its own, as in transformers' `BCEWithLogitsLoss`."""
        return targets["labels"].numel()

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
        problem = _problem(meta)
        answers = problem.answers(outputs[0], _threshold(options, tuned))
        references = problem.references(features.targets["labels"]) if features.targets else [None] * len(rows)
        inputs = rows["text"][:]
        if "text_pair" in rows.column_names:
            inputs = [f"{text} | {pair}" for text, pair in zip(inputs, rows["text_pair"][:], strict=True)]
        columns = {"index": range(len(rows)), **answers, "reference": references, "input": inputs}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def tunes(self, rows: Rows, options: Mapping[str, Any]) -> bool:
        """Where a text has a set of classes, unless the suite gives the threshold."""
        return (options["problem_type"], options["threshold"]) == ("multi_label_classification", "auto")

    def tune(
        self, outputs: Sequence[np.ndarray], features: EncodedRows, rows: Rows, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """`{"threshold": t}`: the one with the best micro-F1 on these rows."""
        from ftcheck.tasks.features import sigmoid

        return {"threshold": best_threshold(sigmoid(outputs[0]), features.targets["labels"])}

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        rows = [_row(one) for one in ([value] if self.is_one(value) else value)]
        if len({len(row) for row in rows}) > 1:
            raise DataError("predict takes texts or pairs of texts, not both at once")
        return rows

    def natural_output(self, record: Record, meta: Meta) -> Any:
        """`Classified`, `Labelled`, or a number."""
        return _problem(meta).natural_output(record, meta)


def _problem(told: Mapping[str, Any]) -> ProblemType:
    """Of options or of meta."""
    return PROBLEM_TYPES[told["problem_type"]]


def _threshold(options: Mapping[str, Any], tuned: Mapping[str, Any]) -> float:
    if options["threshold"] != "auto":
        return float(options["threshold"])
    return float(tuned.get("threshold", UNTUNED))


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
