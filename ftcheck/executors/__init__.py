"""Where a fine-tuning happens, never what. An executor leaves its results in the run store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ftcheck.finetune import Job, OnProgress
    from ftcheck.keys import Key
    from ftcheck.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchWork:
    """A search that the runs of a case share."""

    job: Job
    """What the search's own runs are like."""
    key: Key
    redo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run to bring into the store: train unless it is there, then predict unless that is there."""

    job: Job
    train: Key
    predict: Key
    refuse_changed: Callable[[], None]
    """To be called just before a stage is published: raises where an input is no longer what the keys say."""
    redo: bool = False
    """`--ft-cache=refresh`: make both again, whatever the store has, and replace what it had."""
    search: SearchWork | None = None
    """What has to be found before the training."""


class Executor(Protocol):
    """Brings runs into the store."""

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        """Afterwards the store has both stages. Returns those made just now (`train`, `predict`); the others were
        found.

        Raises whatever kept a stage from being made; nothing half-made is published.
        """
