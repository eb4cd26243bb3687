"""The rows of all roles of a job."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ftcheck import tasks
from ftcheck.errors import DataError
from ftcheck.finetune import Job, techniques
from ftcheck.finetune.data.opening import open_source
from ftcheck.finetune.data.selection import Fold, RoleRows, Selector
from ftcheck.finetune.data.stream import Stream
from ftcheck.spec import ROLES

if TYPE_CHECKING:
    import datasets

__all__ = ["Loaded", "RoleRows", "Stream", "load", "quiet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What `load` found, by role. A role that the case doesn't have is absent."""

    roles: Mapping[str, RoleRows]
    """Where training rows are streamed, `train` has the first of them."""
    notes: tuple[str, ...]
    """Said to the reader: what was carved out, limited, shared between roles."""
    judged_notes: tuple[str, ...] = ()
    """Those of `notes` that speak of the judged rows: another evaluation split of the same training has others."""
    judged_at: Sequence[int] | None = None
    """Of a job that judges a fold: the judged rows' positions among all that are judged."""
    stream: Stream | None = None
    """The training rows of a case that streams them."""

    @property
    def train(self) -> datasets.Dataset | None:
        return self._dataset("train")

    @property
    def tune(self) -> datasets.Dataset | None:
        return self._dataset("tune")

    @property
    def eval(self) -> datasets.Dataset | None:
        return self._dataset("eval")

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Role -> {"count": rows, "hashes": digest of the rows' own hashes}, as `Trained.rows` records it."""
        whole: dict[str, dict[str, Any]] = {
            role: {"count": len(r.hashes), "hashes": r.digest} for role, r in self.roles.items()
        }
        if self.judged_at is not None:
            whole["eval"]["index"] = list(self.judged_at)
        return whole if self.stream is None else {**whole, "train": self.stream.rows}

    @property
    def streamed_notes(self) -> tuple[str, ...]:
        """What is known of the judged rows once the stream was trained on."""
        return tuple(_common(self.roles["eval"].hashes, self.stream.met, "trained on")) if self.stream else ()

    def _dataset(self, role: str) -> datasets.Dataset | None:
        return self.roles[role].dataset if role in self.roles else None


def load(job: Job) -> Loaded:
    """The rows of all roles that the case has (`training: false` has no train, and not every case a tune).

    Raises DataError: what can't be read, a split or column that isn't there, a null, a slice past the end, a role
    without rows.
    """
    roles = [role for role in ROLES if role != "train" or job.case.training is not None]
    with quiet(), ExitStack() as stack:
        source = open_source(job.case.data, revision=job.data_revision, offline=job.offline, stack=stack)
        task = tasks.get(job.case.task)
        classes = task.stratify_by(job.case.task_options)
        beside = {
            "train": techniques.columns(job.case),
            "eval": dict.fromkeys(job.case.columns_beside, "`cluster` or `slices`"),
        }
        selector = Selector(
            job.case.data,
            source,
            task.columns,
            limit=job.limit,
            stratify_by=classes,
            beside=beside,
            fold=_fold(job),
        )
        streams = job.case.data.streaming and "train" in roles
        whole = [role for role in roles if role != "train" or not streams]
        found = {role: picked for role in whole if (picked := selector.role(role)) is not None}
        shared, stream = tuple(_shared(found)), None
        if streams:
            stream = Stream(selector, seed=job.seed, judged=found["eval"].hashes)
            selector.notes.append(("train", stream.note))
            found = {"train": stream.head, **found}
        _refuse_unlike_classes(found)
        told = (*selector.notes, *(("eval", text) for text in shared))
        return Loaded(
            roles=found,
            notes=tuple(text for _, text in told),
            judged_notes=tuple(text for role, text in told if role == "eval"),
            stream=stream,
            judged_at=None if job.fold is None else selector.judged_at,
        )


def _fold(job: Job) -> Fold | None:
    """How the training rows are split for a job that judges some of them."""
    folding = techniques.folding(job.case)
    if folding is None or job.fold is None:
        return None
    return Fold(split=partial(folding.split, job.fold, job.seed), group=folding.group, shown=f"fold {job.fold + 1}")


def _refuse_unlike_classes(found: Mapping[str, RoleRows]) -> None:
    """An id must mean the same class in every role. Raises DataError where the class names differ."""
    from ftcheck.tasks.labels import declared_names

    by_column: dict[str, tuple[str, Any]] = {}
    for role, picked in found.items():
        for column in picked.dataset.column_names:
            names = declared_names(picked.dataset, column)
            if names is None:
                continue
            first, known = by_column.setdefault(column, (role, names))
            if names != known:
                raise DataError(
                    f"column {column}: the class names of {role} aren't those of {first}; ids can't be compared"
                )


def _shared(found: Mapping[str, RoleRows]) -> Iterator[str]:
    """Say which judged rows the training has seen."""
    if "eval" not in found:
        return
    judged = found["eval"].hashes
    for role, what in (("train", "trained on"), ("tune", "used for tuning")):
        if role in found:
            known = set(found[role].hashes)
            yield from _common(judged, known, what)


def _common(judged: Sequence[str], known: Collection[str], what: str) -> Iterator[str]:
    common = sum(row in known for row in judged)
    if common:
        yield f"{common:,} of {len(judged):,} judged rows are also {what}, word for word"


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of `datasets` and the Hub client, and none of their warnings; as it was before afterwards."""
    import datasets
    from huggingface_hub import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown, hub_shown = not datasets.are_progress_bars_disabled(), not are_progress_bars_disabled()
    level, hub_level = datasets.logging.get_verbosity(), hub_logging.get_verbosity()
    datasets.disable_progress_bars()
    disable_progress_bars()
    datasets.logging.set_verbosity(logging.ERROR)
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if shown:
            datasets.enable_progress_bars()
        if hub_shown:
            enable_progress_bars()
