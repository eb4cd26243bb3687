"""Entries of the run store brought to a remote or from one, all of them or those of some cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ftcheck import keys
from ftcheck.finetune import techniques
from ftcheck.store import STAGES, MirroredStore, Remote, Stage, Store, StoreCorruptionError
from ftcheck.store.together import Meter, together

if TYPE_CHECKING:
    from ftcheck.pipeline import Pipeline
    from ftcheck.runs import Run
    from ftcheck.spec import Case

Names = Sequence[tuple[Stage, str]]
"""Entries by stage and digest."""

AT_ONCE = 4
"""Entries under way at a time; the files of each go side by side too."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transfer came to: entries and bytes that were moved, entries that were there already."""

    entries: int
    size: int
    there: int


def names_of(pipeline: Pipeline, cases: Iterable[Case]) -> Names:
    """The entries that measuring `cases` would use, but for scores, whose keys follow from the predictions."""
    found: dict[tuple[Stage, str], None] = {}
    for case in cases:
        found.update(dict.fromkeys(_of_case(pipeline, case)))
    return list(found)


def _of_case(pipeline: Pipeline, case: Case, seeds: Sequence[int] | None = None) -> Iterator[tuple[Stage, str]]:
    searching = techniques.searching(case)
    if searching is not None:
        (search,) = pipeline.runs(case, [searching.search_seed])
        yield "searches", keys.search_key(search.train).digest
    for run in pipeline.runs(case, seeds):
        yield from _of_run(run)
        for parent in case.parents.values():
            yield from _of_case(pipeline, parent, [keys.parent_seed(parent, run.job.seed)])


def _of_run(run: Run) -> Iterator[tuple[Stage, str]]:
    yield "runs", run.train.digest
    yield "predictions", run.predict.digest
    for part in run.parts:
        yield from _of_run(part)


def push(store: Store, remote: Remote, names: Names | None, on_moved: Callable[[int], None]) -> Moved:
    """Publish entries of the store; without `names` all of them, with them the scores of their predictions too. Raises
    RemoteError; an entry that is damaged here is set aside, and said in the store's warnings."""

    def one(stage: Stage, digest: str, meter: Meter) -> tuple[bool, int] | None:
        entry = store.get(stage, digest, used=False)
        if entry is None:
            return None
        try:
            moved = remote.push(entry)
        except StoreCorruptionError:
            return None  # the store has said so
        meter.add(entry.size if moved else 0)
        return moved, entry.size

    everything = [(stage, digest) for stage in STAGES for digest in store.keys(stage)]
    if names is not None:
        wanted = set(names)
        predictions = {digest for stage, digest in names if stage == "predictions"}
        everything = [
            (stage, digest)
            for stage, digest in everything
            if (stage, digest) in wanted or (stage == "scores" and _predictions(store, digest) in predictions)
        ]
    return _counted([partial(one, *name) for name in everything], on_moved)


def pull(store: MirroredStore, names: Names | None, on_moved: Callable[[int], None], *, models: bool = True) -> Moved:
    """Bring entries to the store; without `names` all that the remote has. Raises RemoteError for a remote that can't
    be listed; what else goes wrong is in the store's warnings."""

    def one(stage: Stage, digest: str, meter: Meter) -> tuple[bool, int] | None:
        before = Store.get(store, stage, digest, used=False)
        after = store.get(stage, digest, used=False, model=models)
        if after is None:
            return None
        moved = before is None or before.size != after.size
        meter.add(after.size if moved else 0)
        return moved, after.size

    if names is None:
        names = [(stage, digest) for stage in STAGES for digest in store.remote.keys(stage)]
    return _counted([partial(one, *name) for name in names], on_moved)


def _predictions(store: Store, scores: str) -> str | None:
    """The predictions that scores were made from."""
    entry = store.get("scores", scores, used=False)
    return None if entry is None else str(entry.components.get("predict"))


def _counted(works: Sequence[Callable[[Meter], tuple[bool, int] | None]], on_moved: Callable[[int], None]) -> Moved:
    done = [made for made in together(works, math.inf, threads=AT_ONCE, on_moved=on_moved) if made is not None]
    return Moved(
        entries=sum(moved for moved, _ in done),
        size=sum(size for moved, size in done if moved),
        there=sum(not moved for moved, _ in done),
    )
