"""`class_weights` and `focal`: losses for classes that are rare.

Both are sums over items, as `Task.loss` is, and go together as the α-balanced focal loss of Lin et al. 2017, "Focal
Loss for Dense Object Detection". Evaluations during training report the plain loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ftcheck.errors import TechniqueError, one_of, shown
from ftcheck.finetune.techniques import Options, Problem, Technique

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.finetune.techniques import Context, Loss
    from ftcheck.spec import Facts
    from ftcheck.tasks.features import EncodedRows

BALANCED = "balanced"
IGNORED = -100
"""The label of tokens that no loss counts."""


def _weights(value: Any) -> Any:
    """The kinds that there are, said in one sentence where it is none of them."""
    given = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if value == BALANCED or (given and all(_is_weight(weight) for weight in given)):
        return value
    raise PydanticCustomError("weights", "expected balanced, or numbers above 0: a list of them by class, or {name: 2}")


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


_Weight = Annotated[float, Field(gt=0)]


class ClassWeightsOptions(Options):
    weights: Annotated[
        Literal["balanced"] | list[_Weight] | dict[str, _Weight],
        BeforeValidator(_weights, json_schema_input_type=Literal["balanced"] | list[_Weight] | dict[str, _Weight]),
        Field(description="balanced: rows / (classes × rows of the class); else a weight by class, or by its name."),
    ]


class FocalOptions(Options):
    gamma: float = Field(
        default=2.0, ge=0, description="How fast the weight of items falls that are known well; 0: cross-entropy."
    )


class ClassLoss(Technique):
    """A loss of its own for tasks whose items have classes."""

    tasks = ("text-classification", "token-classification")

    def problems(self, facts: Facts) -> Iterator[Problem]:
        problem_type = facts.task_options.get("problem_type")
        if problem_type == "regression":
            yield (), "goes with classes; problem_type regression has none"
        smoothing = (facts.training or {}).get("label_smoothing_factor")
        if smoothing and problem_type == "multi_label_classification":
            yield (), "training.label_smoothing_factor is for one class per text, not for sets of them; leave it out"

    def features(self, features: EncodedRows, rows: RoleRows, context: Context) -> EncodedRows:
        """As they are; but `balanced` weights are of exactly these items."""
        self._items = (features.targets.get("labels"), features.tokens.get("labels"))
        return features

    def weights(self, context: Context) -> list[float] | None:
        """What each item of a class counts, by class, or each positive one where items have sets of classes. None where
        the case names no weights."""
        options = context.job.case.techniques.get(ClassWeights.name)
        if options is None:
            return None
        if options["weights"] == BALANCED:
            labels = next(labels for labels in self._items if labels is not None)
            return _balanced(labels, len(context.meta["labels"]))
        return _named(options["weights"], context.meta["labels"])


class ClassWeights(ClassLoss):
    """torch's `weight` of cross-entropy, or `pos_weight` of binary cross-entropy."""

    name = "class_weights"
    description = "What an item of each class counts in the loss: balanced, a list of weights, or {name: weight}."
    options = ClassWeightsOptions

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """The value is the weights, a mapping too: any name may be a class."""
        return {"weights": value}

    @classmethod
    def schema(cls) -> dict[str, Any]:
        weights = cls.options.model_json_schema()["properties"]["weights"]
        return {**weights, "description": cls.description}

    def problems(self, facts: Facts) -> Iterator[Problem]:
        yield from super().problems(facts)
        weights, names = self.given["weights"], facts.task_options.get("labels")
        if weights == BALANCED and facts.streaming:
            yield (), "balanced counts all training rows at once; give weights, or leave out data.streaming"
        if weights == BALANCED and "sampling" in facts.techniques:
            yield (), "balanced can't be combined with sampling: both make up for the same imbalance"
        if weights != BALANCED and names:
            try:
                _named(weights, names)
            except TechniqueError as error:
                yield (), str(error).removeprefix("class_weights: ")

    def loss(self, loss: Loss, context: Context, model: Any) -> Loss:
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        weights = self.weights(context)
        smoothing = (context.job.case.training or {}).get("label_smoothing_factor", 0.0)

        def weighted(output: Any, targets: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
            logits, labels = _flat(output, targets)
            weight = logits.new_tensor(weights)
            if labels.is_floating_point():
                return binary_cross_entropy_with_logits(logits, labels, pos_weight=weight, reduction="sum")
            return cross_entropy(logits, labels, weight=weight, reduction="sum", label_smoothing=smoothing)

        return weighted


class Focal(ClassLoss):
    """-(1 - p)^γ log p, p being the probability of what is right; times the class's weight where there are weights."""

    name = "focal"
    description = "The focal loss: items that the model knows well count less."
    options = FocalOptions
    short = "gamma"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if (facts.training or {}).get("label_smoothing_factor"):
            yield (), "training.label_smoothing_factor has no meaning here: the loss looks at the right class alone"
            return
        yield from super().problems(facts)

    def loss(self, loss: Loss, context: Context, model: Any) -> Loss:
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        weights, gamma = self.weights(context), self.given["gamma"]

        def focal(output: Any, targets: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
            logits, labels = _flat(output, targets)
            weight = None if weights is None else logits.new_tensor(weights)
            if labels.is_floating_point():
                surprise = binary_cross_entropy_with_logits(logits, labels, reduction="none")
                counts = 1 if weight is None else 1 + (weight - 1) * labels
            else:
                surprise = cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
                counts = 1 if weight is None else weight[labels.clamp(min=0)]
            # Above 0, where the power's slope is finite: the product is 0 all the same.
            missing = (1 - (-surprise).exp()).clamp(min=1e-12)
            return (counts * missing**gamma * surprise).sum()

        return focal


def _flat(output: Any, targets: Mapping[str, Any]) -> tuple[Any, Any]:
    """Logits (items, classes) in float32, and labels: (items,) ids, or (items, classes) flags."""
    logits, labels = output.logits.float(), targets["labels"]
    return logits.reshape(-1, logits.shape[-1]), labels if labels.is_floating_point() else labels.reshape(-1)


def _balanced(labels: Any, classes: int) -> list[float]:
    """n / (k · n_c), as scikit-learn's `compute_class_weight`, whose mean over the items is 1; of sets of classes, the
    negatives for each positive. A class without any weighs 1."""
    import numpy as np

    if labels.ndim == 2:
        positives = labels.sum(axis=0)
        return [float((len(labels) - count) / count) if 0 < count < len(labels) else 1.0 for count in positives]
    counts = np.bincount(labels[labels != IGNORED], minlength=classes)
    share = counts.sum() / max(int((counts > 0).sum()), 1)
    return [float(share / count) if count else 1.0 for count in counts]


def _named(weights: Sequence[float] | Mapping[str, float], names: Sequence[str]) -> list[float]:
    """A weight for each of `names`; a class that a mapping doesn't name weighs 1. Raises TechniqueError."""
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                raise TechniqueError(f"class_weights: {shown(name, 60)!r} is no class; {one_of(name, names)}")
        return [float(weights.get(name, 1.0)) for name in names]
    if len(weights) != len(names):
        raise TechniqueError(
            f"class_weights: {len(weights)} weights for {len(names)} classes ({shown(', '.join(names), 300)})"
        )
    return [float(weight) for weight in weights]
