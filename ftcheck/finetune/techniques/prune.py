"""`prune: {method: magnitude | movement, amount: 0.4}`: weights of the model's body that are set to zero, and stay so.

By size at the end, at the beginning, or more and more while training (Zhu and Gupta 2017, "To prune, or not to prune");
or by how training moves them (Sanh et al. 2020, "Movement Pruning").
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ftcheck.errors import TechniqueError, shown
from ftcheck.finetune.techniques import Options, Problem, Technique

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context
    from ftcheck.finetune.techniques.masks import Masks
    from ftcheck.spec import Facts


class PruneOptions(Options):
    amount: float = Field(gt=0, lt=1, description="The part of the weights that is zero in the end.")
    method: Literal["magnitude", "movement"] = Field(
        default="magnitude", description="The smallest weights, or those that training moves towards zero."
    )
    schedule: Literal["end", "start", "cubic"] | None = Field(
        default=None,
        description="When: after the training, before it, or more and more during it. null: end, of movement cubic.",
    )
    begin: float = Field(default=0.1, ge=0, lt=1, description="cubic: the part of the training after which it begins.")
    until: float = Field(default=0.7, gt=0, le=1, description="cubic: the part after which the amount is reached.")
    updates: int = Field(default=50, ge=1, description="cubic: in how many steps between the two.")
    scope: Literal["global", "layer"] = Field(
        default="global", description="Whether the amount is of all layers together, or of each."
    )
    modules: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Last parts of the names of layers, such as query; null: all linear layers of the body.",
    )


class Prune(Technique):
    """torch's pruning: while training, a mask beside each weight; in what is kept, plain weights with zeros."""

    name = "prune"
    description = "Set a part of the body's weights to zero: by magnitude or movement, at the end or while training."
    options = PruneOptions
    short = "amount"
    excludes = {  # noqa: RUF012  declared as a ClassVar in the base
        "peft": "adapters are trained beside weights that stay as they are",
        "quantization": "zeros of quantized weights are no smaller than other numbers",
    }

    @property
    def _schedule(self) -> str:
        chosen: str | None = self.given["schedule"]
        return chosen or ("cubic" if self.given["method"] == "movement" else "end")

    @property
    def resumes(self) -> bool:  # type: ignore[override]
        """Masks, and how far they are, are in no checkpoint."""
        return self._schedule == "end"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if self.given["method"] == "movement" and self._schedule != "cubic":
            yield ("schedule",), "movement is known only while training: cubic, or leave it out"
        if self._schedule == "end":
            return
        if self._schedule == "cubic" and self.given["begin"] >= self.given["until"]:
            yield ("until",), f"expected a part of the training above begin ({self.given['begin']:g})"
        if (facts.training or {}).get("load_best_model_at_end"):
            yield (
                ("schedule",),
                "the best checkpoint may be one from before weights were pruned; leave out "
                "training.load_best_model_at_end, or prune at the end",
            )
        if "lr_finder" in facts.techniques:
            yield ("schedule",), "lr_finder trains a copy of the model, which has no masks: prune at the end"

    @property
    def alone(self) -> str:
        return "each would choose weights by gradients of its own rows" if self.given["method"] == "movement" else ""

    @property
    def whole(self) -> str:
        return "" if self._schedule == "end" else "a mask is as large as the whole weight; prune at the end"

    def adapt(self, model: Any, context: Context) -> Any:
        if self.given["method"] == "movement" and context.job.precision == "fp16":
            raise TechniqueError("prune: fp16 scales gradients, which movement adds up; train in bf16 or fp32")
        if self._schedule == "end":
            prunable(model, self.given["modules"])  # what would fail after the training fails before it
            return model
        self._masks = self._over(model)
        if self._schedule == "start":
            self._masks.prune(self.given["amount"])
        return model

    def _over(self, model: Any) -> Masks:
        from ftcheck.finetune.techniques.masks import Masks

        return Masks(prunable(model, self.given["modules"]), whole=self.given["scope"] == "global")

    def callbacks(self, context: Context, model: Any) -> list[Any]:
        if self._schedule != "cubic":
            return []
        if self.given["method"] == "movement":  # now that the model is on its device
            self._masks.watch()
        from ftcheck.finetune.techniques.masks import gradually

        names = ("amount", "begin", "until", "updates")
        return [gradually(self._masks, **{name: self.given[name] for name in names})]

    def finish(self, model: Any, context: Context) -> Any:
        """With the whole amount pruned, also where the training stopped early."""
        masks = self._over(model) if self._schedule == "end" else self._masks
        if masks.pruned < self.given["amount"]:
            masks.prune(self.given["amount"])
        masks.bake()
        return model

    @property
    def measures(self) -> Collection[str]:
        return ("sparsity",)

    def costs(self, model: Any, context: Context) -> dict[str, float]:
        weights = [module.weight for _, module in prunable(model, self.given["modules"])]
        zeros = sum(int((weight == 0).sum()) for weight in weights)
        return {"sparsity": zeros / sum(weight.numel() for weight in weights)}


def prunable(model: Any, modules: list[str] | None) -> list[tuple[str, Any]]:
    """(name, module) of the linear layers of the body, without head, pooler and what shares an embedding's weights.

    Raises TechniqueError where there are none, or `modules` names some that there aren't.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    body = model.base_model
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    head = model.get_output_embeddings() if body is model else None
    found = [
        (name, module)
        for name, module in body.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and module is not head
        and id(module.weight) not in embedded
        and not f".{name}.".count(".pooler.")
    ]
    for wanted in modules or ():
        if not any(_ends(name, wanted) for name, _ in found):
            last = sorted({name.rpartition(".")[2] for name, _ in found})
            raise TechniqueError(
                f"prune.modules: no linear layer of the body ends in {shown(wanted, 60)}; there are: "
                f"{shown(', '.join(last), 300)}"
            )
    if modules is not None:
        found = [(name, module) for name, module in found if any(_ends(name, wanted) for wanted in modules)]
    if not found:
        raise TechniqueError(f"prune: {type(model).__name__} has no linear layers to prune")
    return found


def _ends(name: str, wanted: str) -> bool:
    return f".{name}".endswith(f".{wanted}")
