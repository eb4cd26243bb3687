"""Masks over weights while a model is trained, and which weights they leave."""

from __future__ import annotations

from typing import Any


class Masks:
    """torch's pruning of the `weight` of modules: `weight_orig` is trained, `weight_mask` says what of it counts.

    `whole`: shares are of all modules' weights together, not of each one's.
    """

    def __init__(self, modules: list[tuple[str, Any]], *, whole: bool) -> None:
        from torch.nn.utils import prune

        self._modules = [module for _, module in modules]
        self._whole = whole
        self._scores: dict[Any, Any] = {}
        self.pruned = 0.0
        """The part of the weights that is masked."""
        self._hooks: list[Any] = []
        for module in self._modules:
            prune.identity(module, "weight")

    def watch(self) -> None:
        """From now on, weights are chosen by how the loss moves them: each has a score that is optimized by Adam along
        w · ∂L/∂w, the derivative being by the masked weight, so that also a weight that is masked may return."""
        import torch

        self._scores = {module: torch.zeros_like(module.weight_orig) for module in self._modules}
        self._optimizer = torch.optim.Adam(self._scores.values())

        def remember(module: Any, inputs: Any) -> None:
            if torch.is_grad_enabled():
                module.weight.register_hook(lambda gradient: self._add(module, gradient))

        # After torch's own, which multiplies the weight with its mask.
        self._hooks = [module.register_forward_pre_hook(remember) for module in self._modules]

    def _add(self, module: Any, gradient: Any) -> None:
        found = gradient * module.weight_orig.detach()
        score = self._scores[module]
        score.grad = found if score.grad is None else score.grad + found

    def learn(self) -> None:
        """After an optimizer step: the scores make theirs."""
        if self._scores:
            self._optimizer.step()
            self._optimizer.zero_grad()

    def prune(self, amount: float) -> None:
        """Mask the part `amount` of the weights: those with the lowest scores. By size, what is masked stays so."""
        import torch

        with torch.no_grad():
            scores = [self._score(module).flatten() for module in self._modules]
            for flat in [torch.cat(scores)] if self._whole else scores:
                # In place: the pieces are laid over the masks below.
                lowest = flat.topk(round(amount * flat.numel()), largest=False, sorted=False).indices
                flat.fill_(1).index_fill_(0, lowest, 0)
                if self._whole:
                    scores = list(flat.split([one.numel() for one in scores]))
            for module, mask in zip(self._modules, scores, strict=True):
                module.weight_mask.copy_(mask.view_as(module.weight_mask))
        self.pruned = amount

    def _score(self, module: Any) -> Any:
        """How much a weight is worth, in a tensor of its own."""
        if self._scores:
            return self._scores[module].clone()
        return (module.weight_orig * module.weight_mask).abs()

    def bake(self) -> None:
        """Plain weights again, zero where they were masked."""
        from torch.nn.utils import prune

        for hook in self._hooks:
            hook.remove()
        for module in self._modules:
            prune.remove(module, "weight")


def gradually(masks: Masks, *, amount: float, begin: float, until: float, updates: int) -> Any:
    """A TrainerCallback that masks more and more from the part `begin` of the steps to `until`: amount · (1 - (1 - t)³)
    at the part t between the two. What is masked then is masked for good."""
    from transformers import TrainerCallback

    class Gradually(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if masks.pruned >= amount:
                return
            masks.learn()
            first, last = begin * state.max_steps, until * state.max_steps
            every = max(1, round((last - first) / updates))
            step = state.global_step
            if step > first and (step - int(first)) % every == 0:
                masks.prune(amount * (1 - (1 - min(1.0, (step - first) / (last - first))) ** 3))

    return Gradually()
