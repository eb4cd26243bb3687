"""What the steps of a training lose. Whoever reads a number of an accelerator's waits until all is computed that was
begun before it, so that there it is read late, and many at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from ftcheck.finetune import together

TRACED_STEPS = 20
"""Steps whose losses are kept: two trainings that part from the start do so within them."""

UNREAD_STEPS = 50
"""As many steps' losses are read together at most: those after one that isn't finite were for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """The loss of a micro-batch."""

    step: int
    """The optimizer step that it belongs to, counted from 1."""
    epoch: float
    loss: Any
    """A tensor of one number."""


Refuse = Callable[[float, Unread, float | None], Exception]
"""(a loss that isn't finite, where it occurred, the loss of the step before) -> what is raised."""


@dataclass(slots=True)
class Losses:
    """Losses by optimizer step. Where the device computes while Python goes on (`waits`), only the first step's are
    read at once, while the weights are still what they were; others when they are wanted."""

    waits: bool
    refuse: Refuse
    last: float | None = None
    """Of the last step that was read; the mean over the processes that train together."""
    first: list[float] = field(default_factory=list)
    """Of the first TRACED_STEPS steps."""
    _unread: list[Unread] = field(default_factory=list)

    def add(self, step: int, epoch: float, loss: Any) -> None:
        """Take note of a micro-batch's loss. Raises what `refuse` makes of one that isn't finite."""
        found = Unread(step=step, epoch=epoch, loss=loss)
        if not self.waits or step == 1:
            self._check(float(loss), found)
        self._unread.append(found)

    def step_ended(self, *, wanted: bool) -> None:
        """All micro-batches of a step were added; `wanted`: somebody wants to know the losses. Raises what `refuse`
        makes of one that isn't finite."""
        if self._unread:
            first, last = self._unread[0].step, self._unread[-1].step
            if wanted or not self.waits or last == 1 or last - first >= UNREAD_STEPS - 1:
                self.read()

    def read(self) -> None:
        """Read what was not read yet. Raises what `refuse` makes of a loss that isn't finite."""
        if not self._unread:
            return
        import torch

        unread, self._unread = self._unread, []
        values = torch.stack([one.loss.detach().reshape(()) for one in unread]).tolist()
        for step, losses in groupby(zip(unread, values, strict=True), key=lambda pair: pair[0].step):
            total = 0.0
            for one, value in losses:
                self._check(value, one)
                total += value
            self.last = together.total(total) / together.size()
            if step <= TRACED_STEPS:
                self.first.append(self.last)

    def _check(self, value: float, where: Unread) -> None:
        if not math.isfinite(value):
            raise self.refuse(value, where, self.last)
