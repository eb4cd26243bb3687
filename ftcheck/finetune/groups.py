"""Training batches of features of like length, in random order, so that there is little to pad.

Which batch comes when is drawn. transformers' `group_by_length` goes from the longest to the shortest through some 50
batches, again and again, which cost BANKING77 a point of accuracy; in random order they cost none
(docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.tasks.features import EncodedRows

WINDOW = 50
"""Of so many batches, drawn at random, features are sorted by length; of a fourth where there are few."""


@dataclass
class Groups:
    """A sampler: in each epoch the numbers of all features, `size` at a time of like length. The batch with the longest
    comes first, so that memory runs out at once or never; what is left over comes last, of any lengths."""

    lengths: npt.NDArray[np.int64]
    size: int
    generator: Any = None
    """Where numbers are drawn; None: from torch's own."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        import numpy as np
        import torch

        drawn = torch.randperm(len(self), generator=self.generator).numpy()
        batches = len(self) // self.size
        grouped, left = np.split(drawn, [batches * self.size])
        window = self.size * min(WINDOW, max(1, batches // 4))
        for low in range(0, len(grouped), window):
            part = grouped[low : low + window]
            grouped[low : low + window] = part[np.argsort(-self.lengths[part], kind="stable")]
        rows = grouped.reshape(batches, self.size)
        order = torch.randperm(batches, generator=self.generator).numpy()
        if batches:
            longest = int(self.lengths[rows].max(axis=1)[order].argmax())
            order[[0, longest]] = order[[longest, 0]]
        yield from rows[order].ravel().tolist()
        yield from left.tolist()


def of(features: EncodedRows, size: int) -> Groups:
    """Of what a model reads of each feature: the input, and what else has a length of its own (a decoder's labels)."""
    return Groups(sum((ragged.lengths for ragged in features.ragged.values()), features.lengths), size)
