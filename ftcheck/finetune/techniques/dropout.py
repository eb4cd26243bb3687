"""`dropout: fast`: on a CPU, dropout's masks are drawn four elements at a time, in several threads.

torch draws every element of a mask by itself and in one thread, unless its MKL runs on an Intel CPU: on an AMD EPYC a
quarter of MiniLM's training step in bf16. Here each 64-bit number gives four elements 16 bits each, which decide with a
probability rounded to 1/65,536. The masks are other ones, as if the seed were another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ftcheck.finetune.techniques import Options, Technique

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context

STEPS = 2**16
"""Probabilities are multiples of one by this."""

BLOCK = 2**19
"""Elements that are drawn from a generator of their own, so that a mask is the same however many threads draw it."""

Each = Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]
"""Calls a function for each of some numbers."""


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
    """Within, `Tensor.bernoulli_(p)` on a CPU, which all of torch's dropout there comes down to, is `draw`, in as many
    threads as torch has."""
    import torch

    library = torch.library.Library("aten", "IMPL")
    try:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that torch's own kernel is replaced is what is wanted
                library.impl("bernoulli_.float", partial(draw, each=pool.map), "CPU")
            yield
    finally:
        library._destroy()


def draw(mask: Any, p: float = 0.5, *, generator: Any = None, each: Each = map) -> Any:
    """Fill `mask`, of any shape and dtype, with ones of probability `p`, to the next 1/65,536, and zeros; return it.

    What is drawn follows from one number of torch's `generator` (None: its default one), by NumPy's SFC64. `each` does
    the blocks, in any order.
    """
    import numpy as np
    import torch

    ones, size = round(p * STEPS), mask.numel()
    if ones in (0, STEPS) or not size:
        return mask.fill_(int(ones > 0))
    if not mask.is_contiguous():
        return mask.copy_(draw(torch.empty(mask.shape, dtype=mask.dtype), p, generator=generator, each=each))
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
    # NumPy knows no bfloat16: the one is written as the integer that has its bits.
    integer = getattr(torch, f"uint{8 * mask.itemsize}")
    one = torch.ones(1, dtype=mask.dtype).view(integer).numpy()
    elements = mask.view(-1).view(integer).numpy()
    limit = np.int16(ones - STEPS // 2)

    def fill(low: int) -> None:
        block = elements[low : low + BLOCK]
        generator = np.random.Generator(np.random.SFC64([seed, low]))
        numbers = generator.integers(0, 2**64 - 1, -(-len(block) // 4), dtype=np.uint64, endpoint=True)
        np.multiply(np.less(numbers.view(np.int16)[: len(block)], limit), one, out=block)

    for _ in (each if size > BLOCK else map)(fill, range(0, size, BLOCK)):
        pass
    return mask
