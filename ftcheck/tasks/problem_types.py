"""What text-classification may predict: one class, a set of classes, or a number; one strategy for each.

The names are those of transformers' `config.problem_type`, and so are the losses.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftcheck.errors import CheckpointError, DataError, TrainingError, shown
from ftcheck.results import Confusion, WorstExample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.metrics import Input
    from ftcheck.tasks import Meta, Record, Rows, Where

COLUMN = "label"
UNTUNED = 0.5
"""The threshold of a set of classes where there is nothing to tune it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What `finetuned.predict` returns for one text that has one class."""

    label: str
    score: float
    """Probability of `label`."""
    scores: Mapping[str, float]
    """Probability of every class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What `finetuned.predict` returns for one text that has a set of classes."""

    labels: tuple[str, ...]
    """The classes whose score reaches the threshold, by id; perhaps none."""
    scores: Mapping[str, float]
    """Probability of every class; they don't add up to 1."""


class ProblemType(ABC):
    """One kind of label: from a column's values to targets, loss, answers and metrics."""

    inputs: ClassVar[frozenset[Input]]
    default_metrics: ClassVar[tuple[str, ...]]

    @abstractmethod
    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        """See `Task.learn`; the caller adds `problem_type`."""

    @abstractmethod
    def targets(self, rows: Rows, meta: Meta, where: Where = "row {}".format) -> npt.NDArray[Any]:
        """(rows,) or (rows, classes): the label column as numbers. Raises DataError naming the first bad row."""

    def references(self, targets: npt.NDArray[Any]) -> list[Any]:
        """Targets as records have them."""
        return list(targets.tolist())

    def notes(self, targets: npt.NDArray[Any], meta: Meta) -> list[str]:
        """Said to the reader about the training rows."""
        return []

    @abstractmethod
    def model_kwargs(self, meta: Meta) -> dict[str, Any]: ...

    @abstractmethod
    def loss(self, logits: Any, targets: Any, label_smoothing: float) -> Any:
        """Summed over all elements of `targets`."""

    @abstractmethod
    def answers(self, logits: npt.NDArray[Any], threshold: float) -> dict[str, list[Any]]:
        """Fields of records, row by row: `prediction`, and `scores` where there are probabilities."""

    @abstractmethod
    def score_inputs(self, records: Sequence[Record]) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]: ...

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        return []

    @abstractmethod
    def worst(self, records: Sequence[Record], meta: Meta) -> list[WorstExample]:
        """See `Task.worst`."""

    @abstractmethod
    def natural_output(self, record: Record, meta: Meta) -> Any: ...


class SingleLabel(ProblemType):
    """Each text has one class: a softmax, cross-entropy."""

    inputs: ClassVar[frozenset[Input]] = frozenset({"label", "scores"})
    default_metrics = ("accuracy", "macro_f1")

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        from ftcheck.tasks import labels

        _refuse_lists(train, where)
        meta = labels.learn(train, COLUMN, model_config, options["labels"], where)
        positive = options["positive_label"]
        if positive is not None and positive not in meta["labels"]:
            raise DataError(
                f'positive_label "{shown(positive)}" is no class; there are: {shown(", ".join(meta["labels"]), 400)}'
            )
        return meta

    def targets(self, rows: Rows, meta: Meta, where: Where = "row {}".format) -> npt.NDArray[Any]:
        import numpy as np

        from ftcheck.tasks import labels

        _refuse_lists(rows, where)
        return np.array(labels.ids(rows, COLUMN, meta, where), dtype=np.int64)

    def notes(self, targets: npt.NDArray[Any], meta: Meta) -> list[str]:
        return _absent(len(set(targets.tolist())), meta)

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        from ftcheck.tasks import labels

        return labels.config_kwargs(meta)

    def loss(self, logits: Any, targets: Any, label_smoothing: float) -> Any:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)

    def answers(self, logits: npt.NDArray[Any], threshold: float) -> dict[str, list[Any]]:
        from ftcheck.tasks.features import chunks, softmax

        found: dict[str, list[Any]] = {"prediction": [], "scores": []}
        for part in chunks(len(logits)):
            probabilities = softmax(logits[part])
            found["prediction"].extend(probabilities.argmax(axis=-1).tolist())
            found["scores"].extend(array("d", row.tobytes()) for row in probabilities)
        return found

    def score_inputs(self, records: Sequence[Record]) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        references = [r["reference"] for r in records]
        return {
            "label": ([r["prediction"] for r in records], references),
            "scores": ([r["scores"] for r in records], references),
        }

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        from ftcheck.tasks import labels

        names = meta["labels"]
        return labels.confusions(Counter((names[r["reference"]], names[r["prediction"]]) for r in records))

    def worst(self, records: Sequence[Record], meta: Meta) -> list[WorstExample]:
        """Wrong ones, least probability for the right class first; `score` is that probability."""
        from ftcheck.tasks import labels

        return labels.surest_mistakes(records, lambda record, place: str(meta["labels"][place]))

    def natural_output(self, record: Record, meta: Meta) -> Classified:
        names, scores = meta["labels"], record["scores"]
        best = record["prediction"]
        return Classified(label=names[best], score=scores[best], scores=dict(zip(names, scores, strict=True)))


class MultiLabel(ProblemType):
    """Each text has a set of classes, perhaps none: a sigmoid for each class, binary cross-entropy."""

    inputs: ClassVar[frozenset[Input]] = frozenset({"labels"})
    default_metrics = ("micro_f1", "macro_f1", "subset_accuracy")

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        from ftcheck.tasks import labels

        return labels.learn_sets(train, COLUMN, model_config, options["labels"], where)

    def targets(self, rows: Rows, meta: Meta, where: Where = "row {}".format) -> npt.NDArray[Any]:
        """(rows, classes), 0.0 and 1.0."""
        from ftcheck.tasks import labels

        return labels.flags(rows, COLUMN, meta, where)

    def references(self, targets: npt.NDArray[Any]) -> list[Any]:
        return list(targets.astype(int).tolist())

    def notes(self, targets: npt.NDArray[Any], meta: Meta) -> list[str]:
        return _absent(int(targets.any(axis=0).sum()), meta)

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        from ftcheck.tasks import labels

        return labels.config_kwargs(meta)

    def loss(self, logits: Any, targets: Any, label_smoothing: float) -> Any:
        from torch.nn.functional import binary_cross_entropy_with_logits

        _refuse_smoothing(label_smoothing, "multi_label_classification")
        return binary_cross_entropy_with_logits(logits, targets, reduction="sum")

    def answers(self, logits: npt.NDArray[Any], threshold: float) -> dict[str, list[Any]]:
        from ftcheck.tasks.features import chunks, sigmoid

        found: dict[str, list[Any]] = {"prediction": [], "scores": []}
        for part in chunks(len(logits)):
            probabilities = sigmoid(logits[part])
            found["prediction"].extend((probabilities >= threshold).astype(int).tolist())
            found["scores"].extend(array("d", row.tobytes()) for row in probabilities)
        return found

    def score_inputs(self, records: Sequence[Record]) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {"labels": ([r["prediction"] for r in records], [r["reference"] for r in records])}

    def worst(self, records: Sequence[Record], meta: Meta) -> list[WorstExample]:
        """Least F1 of the two sets first; `score` is that F1."""
        scored = [(_set_f1(r["prediction"], r["reference"]), r) for r in records if r["prediction"] != r["reference"]]
        scored.sort(key=lambda item: (item[0], item[1]["index"]))
        return [
            WorstExample(
                index=r["index"],
                input=r["input"],
                gold=", ".join(_chosen(r["reference"], meta)) or "(no label)",
                predicted=", ".join(_chosen(r["prediction"], meta)) or "(no label)",
                score=f1,
            )
            for f1, r in scored[:10]
        ]

    def natural_output(self, record: Record, meta: Meta) -> Labelled:
        scores = dict(zip(meta["labels"], record["scores"], strict=True))
        return Labelled(labels=_chosen(record["prediction"], meta), scores=scores)


class Regression(ProblemType):
    """Each text has a number: one output, squared error."""

    inputs: ClassVar[frozenset[Input]] = frozenset({"value"})
    default_metrics = ("pearson", "spearman", "mse")

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        outputs = getattr(model_config, "num_labels", None)
        if train is None and outputs != 1:
            raise CheckpointError(
                f"problem_type regression needs a checkpoint with one output, and this one's config has "
                f"{shown(outputs)} (num_labels): name one that was trained for regression, or train"
            )
        return {}

    def targets(self, rows: Rows, meta: Meta, where: Where = "row {}".format) -> npt.NDArray[Any]:
        """(rows,), finite."""
        import numpy as np

        values = rows[COLUMN][:]
        for row, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | float):
                hint = "; a csv file's are text unless data.options.types says float" if isinstance(value, str) else ""
                raise DataError(f"{where(row)}: column {COLUMN} must be a number, got {shown(repr(value))}{hint}")
            if not math.isfinite(value):
                raise DataError(f"{where(row)}: column {COLUMN} must be a finite number, got {value}")
        return np.array(values, dtype=np.float64)

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        return {"num_labels": 1}

    def loss(self, logits: Any, targets: Any, label_smoothing: float) -> Any:
        from torch.nn.functional import mse_loss

        _refuse_smoothing(label_smoothing, "regression")
        return mse_loss(logits[:, 0], targets, reduction="sum")

    def answers(self, logits: npt.NDArray[Any], threshold: float) -> dict[str, list[Any]]:
        return {"prediction": logits[:, 0].astype(float).tolist()}

    def score_inputs(self, records: Sequence[Record]) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {"value": ([r["prediction"] for r in records], [r["reference"] for r in records])}

    def worst(self, records: Sequence[Record], meta: Meta) -> list[WorstExample]:
        """Largest absolute error first; `score` is that error."""
        scored = [(abs(r["prediction"] - r["reference"]), r) for r in records]
        scored.sort(key=lambda item: (-item[0], item[1]["index"]))
        return [
            WorstExample(
                index=r["index"],
                input=r["input"],
                gold=f"{r['reference']:.6g}",
                predicted=f"{r['prediction']:.6g}",
                score=error,
            )
            for error, r in scored[:10]
            if error
        ]

    def natural_output(self, record: Record, meta: Meta) -> float:
        return float(record["prediction"])


PROBLEM_TYPES: Mapping[str, ProblemType] = {
    "single_label_classification": SingleLabel(),
    "multi_label_classification": MultiLabel(),
    "regression": Regression(),
}


def of_targets(targets: Any) -> ProblemType:
    """The problem type that a batch of targets (a tensor) belongs to, told as transformers' heads tell it: whole
    numbers are classes; of floats, rows are sets of classes and scalars numbers."""
    if not targets.is_floating_point():
        return PROBLEM_TYPES["single_label_classification"]
    return PROBLEM_TYPES["multi_label_classification" if targets.ndim == 2 else "regression"]


def best_threshold(probabilities: npt.NDArray[np.float64], flags: npt.NDArray[Any]) -> float:
    """The threshold with the best micro-F1; both arrays are (rows, classes).

    Half way between two probabilities, so that float noise can't move one across; the highest of equally good ones.
    Where no row has any label, every threshold's F1 is 0: then it stays at 0.5.
    """
    import numpy as np

    if not flags.any():
        return UNTUNED
    given = probabilities.ravel()
    order = np.argsort(-given, kind="stable")
    falling = given[order]
    hits = np.cumsum(flags.ravel()[order])
    f1 = 2 * hits / (np.arange(1, len(falling) + 1) + flags.sum())
    below = np.append(falling[1:], 0.0)
    apart = np.append(falling[:-1] > falling[1:], True)
    last = int(np.argmax(np.where(apart, f1, -1.0)))
    return float((falling[last] + below[last]) / 2)


def _absent(present: int, meta: Meta) -> list[str]:
    classes = len(meta["labels"])
    return [f"{classes - present} of {classes} classes have no training row"] if present < classes else []


def _refuse_lists(rows: Rows | None, where: Where) -> None:
    if rows is not None and len(rows) and isinstance(rows[0][COLUMN], list):
        raise DataError(
            f"{where(0)}: column {COLUMN} is a list, {shown(rows[0][COLUMN], 60)}, and a text has one class here; for "
            "sets of classes say task: {problem_type: multi_label_classification}"
        )


def _refuse_smoothing(label_smoothing: float, problem_type: str) -> None:
    if label_smoothing:
        raise TrainingError(
            f"training.label_smoothing_factor {label_smoothing} is for one class per text, not for {problem_type}: "
            "leave it out"
        )


def _chosen(flags: Sequence[int], meta: Meta) -> tuple[str, ...]:
    return tuple(name for name, flag in zip(meta["labels"], flags, strict=True) if flag)


def _set_f1(prediction: Sequence[int], reference: Sequence[int]) -> float:
    both = sum(a and b for a, b in zip(prediction, reference, strict=True))
    return 2 * both / (sum(prediction) + sum(reference))
