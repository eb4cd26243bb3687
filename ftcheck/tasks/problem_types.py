"""What text-classification learns of a text: one class, a set of classes, or a number.

One strategy each, called by the name that transformers' configs have for it (`problem_type`): what labels look like,
the head, the loss, and what logits mean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ftcheck.errors import CheckpointError, DataError, TrainingError, shown
from ftcheck.results import Confusion, WorstExample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.metrics import Input
    from ftcheck.tasks import Meta, Record, Rows, Where

    Array = npt.NDArray[Any]

Name = Literal["single_label_classification", "multi_label_classification", "regression"]
Answer = dict[str, Any]
"""Of one text: `prediction`, and `scores` (probabilities by class; none for a number)."""


class SingleLabel:
    """One class a text: softmax and cross-entropy. Predictions and references are class ids."""

    inputs: ClassVar[frozenset[Input]] = frozenset({"label", "scores"})
    default_metrics = ("accuracy", "macro_f1")

    def learn(self, train: Rows | None, config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        from ftcheck.tasks import labels

        self._refuse_lists(train, where)
        meta = labels.learn(train, "label", config, options["labels"], where)
        positive = options["positive_label"]
        if positive is not None and positive not in meta["labels"]:
            raise DataError(
                f'positive_label "{shown(positive)}" is no class; there are: {shown(", ".join(meta["labels"]), 400)}'
            )
        return meta

    def targets(self, rows: Rows, meta: Meta, where: Where) -> Array:
        """(rows,) class ids."""
        import numpy as np

        from ftcheck.tasks import labels

        self._refuse_lists(rows, where)
        return np.array(labels.ids(rows, "label", meta, where), dtype=np.int64)

    def present(self, targets: Array, meta: Meta) -> int:
        """How many classes have a row."""
        import numpy as np

        return len(np.unique(targets))

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        from ftcheck.tasks import labels

        return labels.config_kwargs(meta)

    def loss(self, logits: Any, targets: Any, label_smoothing: float) -> Any:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)

    def answers(self, logits: Array, threshold: float) -> list[Answer]:
        from ftcheck.tasks.features import softmax

        probabilities = softmax(logits)
        best = probabilities.argmax(axis=-1).tolist()
        return [{"prediction": one, "scores": s} for one, s in zip(best, probabilities.tolist(), strict=True)]

    def score_inputs(self, records: Sequence[Record]) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        references = [r["reference"] for r in records]
        return {
            "label": ([r["prediction"] for r in records], references),
            "scores": ([r["scores"] for r in records], references),
        }

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        labels = meta["labels"]
        pairs = Counter((r["reference"], r["prediction"]) for r in records if r["reference"] != r["prediction"])
        ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        return [
            Confusion(gold=labels[gold], predicted=labels[predicted], count=count)
            for (gold, predicted), count in ranked[:10]
        ]

    def worst(self, records: Sequence[Record], meta: Meta) -> list[WorstExample]:
        """Wrong ones, least probability for the right class first; `score` is that probability."""
        labels = meta["labels"]
        wrong = [r for r in records if r["prediction"] != r["reference"]]
        wrong.sort(key=lambda r: (r["scores"][r["reference"]], r["index"]))
        return [
            _worst(r, labels[r["reference"]], labels[r["prediction"]], r["scores"][r["reference"]]) for r in wrong[:10]
        ]

    @staticmethod
    def _refuse_lists(rows: Rows | None, where: Where) -> None:
        if rows is not None and len(rows) and isinstance(rows[0]["label"], list):
            raise DataError(
                f"{where(0)}: column label holds a list: for several classes a text set "
                "task: {name: text-classification, problem_type: multi_label_classification}"
            )


class MultiLabel:
    """A set of classes a text: a sigmoid and a binary cross-entropy for each. Predictions and references are one list
    of 0 and 1 per text, by class."""

    inputs: ClassVar[frozenset[Input]] = frozenset({"labels"})
    default_metrics = ("micro_f1", "macro_f1", "subset_accuracy")

    def learn(self, train: Rows | None, config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        from ftcheck.tasks import labels

        self._need_lists(train, where)
        return labels.learn(train, "label", config, options["labels"], where)

    def targets(self, rows: Rows, meta: Meta, where: Where) -> Array:
        """(rows, classes) floats 0 or 1: what torch's binary cross-entropy takes."""
        import numpy as np

        from ftcheck.tasks import labels

        self._need_lists(rows, where)
        sets = np.zeros((len(rows), len(meta["labels"])), dtype=np.float32)
        for row, members in enumerate(labels.ids(rows, "label", meta, where) if len(rows) else ()):
            sets[row, members] = 1
        return sets

    def present(self, targets: Array, meta: Meta) -> int:
        return int(targets.any(axis=0).sum())

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        from ftcheck.tasks import labels

        return labels.config_kwargs(meta)

    def loss(self, logits: Any, targets: Any, label_smoothing: float) -> Any:
        """The mean over classes, summed over texts: divided by the texts it is what torch's BCEWithLogitsLoss gives."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        smooth = targets * (1 - label_smoothing) + label_smoothing / 2
        return binary_cross_entropy_with_logits(logits, smooth, reduction="sum") / targets.shape[1]

    def answers(self, logits: Array, threshold: float) -> list[Answer]:
        probabilities = sigmoid(logits)
        chosen = (probabilities >= threshold).astype(int).tolist()
        return [{"prediction": one, "scores": s} for one, s in zip(chosen, probabilities.tolist(), strict=True)]

    def score_inputs(self, records: Sequence[Record]) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {"labels": ([r["prediction"] for r in records], [r["reference"] for r in records])}

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        return []

    def worst(self, records: Sequence[Record], meta: Meta) -> list[WorstExample]:
        """Most wrong decisions first; `score` is the share of right ones."""
        labels = meta["labels"]

        def wrong(record: Record) -> int:
            return sum(a != b for a, b in zip(record["prediction"], record["reference"], strict=True))

        ranked = sorted(((wrong(r), r) for r in records), key=lambda item: (-item[0], item[1]["index"]))
        return [
            _worst(r, _names(r["reference"], labels), _names(r["prediction"], labels), 1 - count / len(labels))
            for count, r in ranked[:10]
            if count
        ]

    @staticmethod
    def _need_lists(rows: Rows | None, where: Where) -> None:
        for row, value in enumerate(rows["label"][:] if rows is not None else ()):
            if not isinstance(value, list):
                raise DataError(
                    f"{where(row)}: column label must be a list of classes (an empty one for none), as problem_type is "
                    f"multi_label_classification; got {shown(repr(value))}"
                )


class Regression:
    """A number a text: one logit and the squared error. Predictions and references are numbers."""

    inputs: ClassVar[frozenset[Input]] = frozenset({"value"})
    default_metrics = ("pearson", "spearman", "mse")

    def learn(self, train: Rows | None, config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        if train is None and getattr(config, "num_labels", 1) != 1:
            raise CheckpointError(
                f"the checkpoint was trained for {config.num_labels} classes: it gives no number, as problem_type "
                "regression asks"
            )
        return {}

    def targets(self, rows: Rows, meta: Meta, where: Where) -> Array:
        """(rows,) floats."""
        import numpy as np

        values = rows["label"][:]
        for row, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise DataError(
                    f"{where(row)}: column label must be a finite number, as problem_type is regression; "
                    f"got {shown(repr(value))}"
                )
        return np.array(values, dtype=np.float32)

    def present(self, targets: Array, meta: Meta) -> int:
        return 0

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        return {"num_labels": 1}

    def loss(self, logits: Any, targets: Any, label_smoothing: float) -> Any:
        from torch.nn.functional import mse_loss

        if label_smoothing:
            raise TrainingError("training.label_smoothing_factor is for classes, and problem_type is regression")
        return mse_loss(logits.squeeze(-1), targets, reduction="sum")

    def answers(self, logits: Array, threshold: float) -> list[Answer]:
        return [{"prediction": float(value), "scores": []} for value in logits[:, 0]]

    def score_inputs(self, records: Sequence[Record]) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {"value": ([r["prediction"] for r in records], [r["reference"] for r in records])}

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        return []

    def worst(self, records: Sequence[Record], meta: Meta) -> list[WorstExample]:
        """Furthest off first; `score` is the error."""
        ranked = sorted(records, key=lambda r: (-abs(r["prediction"] - r["reference"]), r["index"]))
        return [
            _worst(r, f"{r['reference']:g}", f"{r['prediction']:.4g}", abs(r["prediction"] - r["reference"]))
            for r in ranked[:10]
        ]


ProblemType = SingleLabel | MultiLabel | Regression
BY_NAME: Mapping[Name, ProblemType] = {
    "single_label_classification": SingleLabel(),
    "multi_label_classification": MultiLabel(),
    "regression": Regression(),
}


def of_targets(targets: Any) -> ProblemType:
    """The strategy that a batch's labels belong to: ids are whole, sets have a line per text."""
    if not targets.is_floating_point():
        return BY_NAME["single_label_classification"]
    return BY_NAME["multi_label_classification" if targets.ndim == 2 else "regression"]


def best_threshold(probabilities: Array, sets: Array) -> float:
    """The one with the best micro-F1, half-way between neighbouring probabilities; of equals the one nearest to 0.5."""
    import numpy as np

    order = np.argsort(-probabilities, axis=None)
    falling, hits = probabilities.ravel()[order], np.cumsum(sets.ravel()[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + sets.sum())
    following = np.append(falling[1:], 0.0)
    between = (falling + following) / 2
    usable = np.flatnonzero(falling > following)
    best = usable[np.isclose(f1[usable], f1[usable].max(), rtol=0, atol=1e-12)]
    return float(between[best[np.argmin(np.abs(between[best] - 0.5))]])


def sigmoid(logits: Array) -> npt.NDArray[np.float64]:
    """Probabilities one by one, in double precision."""
    from scipy.special import expit

    probabilities: npt.NDArray[np.float64] = expit(logits.astype("float64"))
    return probabilities


def _names(members: Sequence[int], labels: Sequence[str]) -> str:
    return ", ".join(label for label, chosen in zip(labels, members, strict=True) if chosen) or "(none)"


def _worst(record: Record, gold: str, predicted: str, score: float) -> WorstExample:
    return WorstExample(index=record["index"], input=record["input"], gold=gold, predicted=predicted, score=score)
