"""Making the run store smaller: models first, whole entries by last use."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from time import time

from filelock import Timeout

from ftcheck.keys.files import forget_gone
from ftcheck.store.cases import forget_without
from ftcheck.store.entry import LARGE, MANIFEST, STAGES, Entry, Stage, write_manifest
from ftcheck.store.runs import Store


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry as `ls` shows it. Times are seconds since the epoch, sizes bytes."""

    stage: Stage
    digest: str
    entry: Entry
    used: float

    @property
    def idle(self) -> timedelta:
        """How long ago it was last used (known to the hour)."""
        return _since(self.used)


@dataclass(frozen=True, slots=True, order=True)
class _Known:
    """What pruning remembers of an entry: there may be hundreds of thousands, and a manifest is large."""

    used: float
    stage: Stage
    digest: str
    size: int
    model_size: int
    made_from: str
    """The key of the predictions that scores are of."""

    @classmethod
    def of(cls, item: Listed) -> _Known:
        entry, made_from = item.entry, str(item.entry.components.get("predict", ""))
        return cls(item.used, item.stage, item.digest, entry.size, entry.model_size, made_from)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was taken out, and how many entries were left because a process works on them, or a baseline names them."""

    entries: int = 0
    models: int = 0
    freed: int = 0
    busy: int = 0
    named: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(**{name: value + getattr(other, name) for name, value in asdict(self).items()})


def listed(store: Store) -> Iterator[Listed]:
    """All entries that are what was published; damaged ones are set aside on the way."""
    for stage in STAGES:
        for digest in store.keys(stage):
            place = store.place(stage, digest) / MANIFEST
            used = place.stat().st_mtime if place.is_file() else time()
            entry = store.get(stage, digest, used=False)
            if entry is not None:
                yield Listed(stage, digest, entry, used)


def prune(
    store: Store,
    *,
    models: bool = False,
    older_than: timedelta | None = None,
    max_size: int | None = None,
    named: Collection[str] = (),
    dry_run: bool = False,
) -> Pruned:
    """Take entries out, the least recently used first: those idle for `older_than`, and what exceeds `max_size` bytes.

    With `models`, only their models are taken (all of them, where no bound is given); predictions and statistics, which
    are all that a verdict needs, stay. What `named` (digests) names is left whole, and the scores of its predictions.
    Entries in quarantine are deleted in any case, what is remembered of files that are gone and of cases of which the
    store has nothing any more, and what nobody went on with for `older_than`. A `dry_run` changes nothing, and says
    what would be done. Raises StoreError.
    """
    if not dry_run:
        store.check_writable()
        store.locks.sweep()
    done = Pruned(freed=_emptied(store.root / "quarantine", dry_run=dry_run))
    done += Pruned(freed=forget_gone(store.root / "memo", dry_run=dry_run))
    if older_than is not None:
        done += Pruned(freed=_abandoned(store, older_than, dry_run=dry_run))
    found = sorted(map(_Known.of, listed(store)))
    total = sum(item.size for item in found)
    left = {item.digest for item in found}
    for item in found:
        freed = item.model_size if models else item.size
        too_old = older_than is not None and _since(item.used) > older_than
        too_much = max_size is not None and total > max_size
        everything = models and older_than is None and max_size is None
        if not (too_old or too_much or everything) or (models and not freed):
            continue
        if item.digest in named or item.made_from in named:
            done += Pruned(named=1)
            continue
        if dry_run:
            taken = Pruned(models=1, freed=freed) if models else Pruned(entries=1, freed=freed)
        else:
            taken = _take(store, item, models=models, freed=freed)
        total -= taken.freed
        done += taken
        if taken.entries:
            left.discard(item.digest)
    return done + Pruned(freed=forget_without(store.root / "cases", left, dry_run=dry_run))


def remove_model(store: Store, stage: Stage, digest: str) -> None:
    """Take an entry's model out and leave the rest, as the manifest then says. The caller holds the key."""
    entry = store.get(stage, digest, used=False)
    if entry is None or not entry.model_size:
        return
    files = {name: record for name, record in entry.manifest["files"].items() if not name.startswith(LARGE)}
    scratch = store.root / "tmp" / f"{secrets.token_hex(8)}.new"
    # First the manifest, which from then on passes over what lies in model/: cut off at any point, the entry is whole.
    write_manifest(entry.path, {**entry.manifest, "files": files, "pruned": [LARGE]}, scratch)
    store.discard(entry.path / LARGE)


def _since(moment: float) -> timedelta:
    return timedelta(seconds=max(0.0, time() - moment))


def _take(store: Store, item: _Known, *, models: bool, freed: int) -> Pruned:
    try:
        with store.lock(item.stage, item.digest, wait=False):
            if models:
                remove_model(store, item.stage, item.digest)
                return Pruned(models=1, freed=freed)
            store.discard(store.place(item.stage, item.digest))
            return Pruned(entries=1, freed=freed)
    except Timeout:
        return Pruned(busy=1)


def _abandoned(store: Store, older_than: timedelta, *, dry_run: bool) -> int:
    """Delete what was begun and not gone on with (`Store.unfinished`). Returns the bytes freed."""
    freed = 0
    for stage in STAGES:
        for folder in (store.root / "unfinished").glob(f"{stage}-*"):
            last = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
            with suppress(Timeout), store.lock(stage, folder.name.removeprefix(f"{stage}-"), wait=False):
                if time() - last > older_than.total_seconds():
                    freed += _emptied(folder, dry_run=dry_run)
    return freed


def _emptied(folder: Path, *, dry_run: bool) -> int:
    if not folder.is_dir():
        return 0
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    if not dry_run:
        shutil.rmtree(folder, ignore_errors=True)  # an entry that is being set aside meanwhile stays for the next time
    return size
