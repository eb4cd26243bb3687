"""Features of training rows as they come: what the Trainer takes for a data set without a length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.tasks.features import EncodedRows, Example


def features(stream: Iterable[RoleRows], encode: Callable[[RoleRows], EncodedRows]) -> Any:
    """A torch IterableDataset over the features of a stream's chunks, each encoded when it is its turn."""
    from torch.utils.data import IterableDataset

    class Features(IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Iterator[Example]:
            for chunk in stream:
                yield from encode(chunk)

    return Features()
