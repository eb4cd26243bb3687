"""What a model says of a batch: all at once, or its logits in parts where there is no room for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

from ftcheck.finetune import memory, spreading
from ftcheck.tasks import Task
from ftcheck.tasks.head import ASKED_WITH, Body, Parts, body


class Speaker:
    """A model that answers a task's batches; it is asked once, and only where need be, whether it can do so in
    parts."""

    def __init__(self, model: Any, task: Task) -> None:
        self.model = model
        self._task = task
        # Not inherited: see `Task.in_parts`. Of a model that is spread, no process has its whole head.
        self._in_parts = bool(vars(type(task)).get("in_parts")) and not spreading.is_spread(model)
        self._body: Body | None = None

    def output(self, batch: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
        """As `Task.forward`'s; `logits` may be `Parts`."""
        places, lines = self._places(targets)
        room = memory.LOGITS_AT_ONCE // (4 * memory.vocabulary(self.model)) if places else 0
        if not self._in_parts or places <= room or not self._can(batch, targets):
            return self._task.forward(self.model, batch, targets)
        assert self._body is not None
        at_once = memory.LOGITS_OF_A_PART // (4 * memory.vocabulary(self.model) * lines)
        return SimpleNamespace(logits=Parts(self._forward(batch, targets), self._body, max(1, at_once)))

    def _places(self, targets: Mapping[str, Any]) -> tuple[int, int]:
        """(places that have a label, padding included; lines that they are in), 0 without any."""
        labels = targets.get(self._task.targets[0])
        return (0, 0) if labels is None else (labels.numel(), labels.numel() // labels.shape[-1])

    def _forward(self, batch: Mapping[str, Any], targets: Mapping[str, Any]) -> Callable[[], Any]:
        return partial(self._task.forward, self.model, batch, targets)

    def _can(self, batch: Mapping[str, Any], targets: Mapping[str, Any]) -> bool:
        if self._in_parts and self._body is None:
            short = ({name: tensor[..., :ASKED_WITH] for name, tensor in each.items()} for each in (batch, targets))
            self._body = body(self.model, self._forward(*short))
            self._in_parts = self._body is not None
        return self._in_parts
