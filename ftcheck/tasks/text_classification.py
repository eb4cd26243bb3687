"""text-classification: one text or a pair of texts -> one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.results import Confusion, WorstExample
from ftcheck.tasks import Task

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows


class Options(BaseModel):
    """Settings of text-classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What `finetuned.predict` returns for one text."""

    label: str
    score: float
    """Probability of `label`."""
    scores: Mapping[str, float]
    """Probability of every class."""


class TextClassification(Task):
    """Records: index, prediction and reference (class ids, or None), scores, input."""

    name = "text-classification"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"text": True, "text_pair": False, "label": True}
    auto_class = "AutoModelForSequenceClassification"
    options = Options

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"label"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("accuracy", "macro_f1")

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {"label": ([r["prediction"] for r in records], [r["reference"] for r in records])}

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        labels = meta["labels"]
        pairs = Counter((r["reference"], r["prediction"]) for r in records if r["reference"] != r["prediction"])
        ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        return [
            Confusion(gold=labels[gold], predicted=labels[predicted], count=count)
            for (gold, predicted), count in ranked[:10]
        ]

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """Wrong ones, least probability for the right class first; `score` is that probability."""
        labels = meta["labels"]
        wrong = [r for r in records if r["prediction"] != r["reference"]]
        wrong.sort(key=lambda r: (r["scores"][r["reference"]], r["index"]))
        return [
            WorstExample(
                index=r["index"],
                input=r["input"],
                gold=labels[r["reference"]],
                predicted=labels[r["prediction"]],
                score=r["scores"][r["reference"]],
            )
            for r in wrong[:10]
        ]

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        from ftcheck.tasks import labels

        meta = labels.learn(train, "label", model_config, options["labels"], where)
        positive = options["positive_label"]
        if positive is not None and positive not in meta["labels"]:
            raise DataError(
                f'positive_label "{shown(positive)}" is no class; there are: {shown(", ".join(meta["labels"]), 400)}'
            )
        return meta

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks import labels
        from ftcheck.tasks.features import texts

        texts(rows, "text", where)
        if "text_pair" in rows.column_names:
            texts(rows, "text_pair", where)
        present = set(labels.ids(rows, "label", meta, where))
        absent = len(meta["labels"]) - len(present)
        if role != "train" or not absent:
            return []
        return [f"{absent} of {len(meta['labels'])} classes have no training row"]

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        from ftcheck.tasks import labels

        return {**labels.config_kwargs(meta), "problem_type": "single_label_classification"}

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

        from ftcheck.tasks import features, labels

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
            targets["labels"] = np.array(labels.ids(rows, "label", meta, where), dtype=np.int64)
        notes = [f"{lost:,} of {len(rows):,} texts were cut at {limits['max_length']} tokens"] if lost else []
        return features.EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), targets=targets, notes=notes)

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        from torch.nn.functional import cross_entropy

        return cross_entropy(output.logits.float(), targets["labels"], reduction="sum", label_smoothing=label_smoothing)

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
        from ftcheck.tasks.features import softmax

        probabilities = softmax(outputs[0])
        predictions = probabilities.argmax(axis=-1).tolist()
        references = features.targets["labels"].tolist() if "labels" in features.targets else [None] * len(rows)
        inputs = rows["text"][:]
        if "text_pair" in rows.column_names:
            inputs = [f"{text} | {pair}" for text, pair in zip(inputs, rows["text_pair"][:], strict=True)]
        columns = zip(predictions, references, probabilities.tolist(), inputs, strict=True)
        return [
            {"index": index, "prediction": prediction, "reference": reference, "scores": scores, "input": text}
            for index, (prediction, reference, scores, text) in enumerate(columns)
        ]

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        rows = [_row(one) for one in ([value] if self.is_one(value) else value)]
        if len({len(row) for row in rows}) > 1:
            raise DataError("predict takes texts or pairs of texts, not both at once")
        return rows

    def natural_output(self, record: Record, meta: Meta) -> Classified:
        labels, scores = meta["labels"], record["scores"]
        best = record["prediction"]
        return Classified(label=labels[best], score=scores[best], scores=dict(zip(labels, scores, strict=True)))


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
