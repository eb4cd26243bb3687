"""`dropout: fast`: on a CPU, dropout's masks are drawn four elements at a time.

torch draws every element of a mask by itself and in one thread, unless its MKL runs on an Intel CPU: on an AMD EPYC a
quarter of MiniLM's training step in bf16. Here each 64-bit number of the same generator gives four elements 16 bits
each, which decide with a probability rounded to 1/65,536. The masks are other ones, as if the seed were another.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ftcheck.finetune.techniques import Options, Technique

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context

STEPS = 2**16
"""Probabilities are multiples of one by this."""


class DropoutOptions(Options):
    masks: Literal["torch", "fast"] = Field(
        description="How a CPU draws masks: as torch does, or four elements from each random number."
    )


class Dropout(Technique):
    name = "dropout"
    description = "How a CPU draws dropout's masks: as torch does (torch), or faster (fast)."
    options = DropoutOptions
    short = "masks"

    def during(self, context: Context) -> AbstractContextManager[None]:
        fast = self.given["masks"] == "fast" and context.job.device == "cpu"
        return fast_masks() if fast else nullcontext()


@contextmanager
def fast_masks() -> Iterator[None]:
    """Within, `Tensor.bernoulli_(p)` on a CPU, which all of torch's dropout there comes down to, is `draw`."""
    import torch

    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch's own kernel is replaced is what is wanted
            library.impl("bernoulli_.float", draw, "CPU")
        yield
    finally:
        library._destroy()


def draw(mask: Any, p: float = 0.5, *, generator: Any = None) -> Any:
    """Fill `mask`, of any shape and dtype, with ones of probability `p`, to the next 1/65,536, and zeros; return it."""
    import torch

    ones, size = round(p * STEPS), mask.numel()
    if ones in (0, STEPS):
        return mask.fill_(int(ones > 0))
    numbers = torch.empty((size + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = numbers.view(torch.int16)[:size].view(mask.shape)
    return torch.lt(bits, ones - STEPS // 2, out=mask)
