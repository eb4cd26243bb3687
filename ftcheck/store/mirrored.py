"""A run store with a remote behind it: what isn't here is looked for there, what is made here is published there."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from ftcheck.errors import StoreError
from ftcheck.sizes import in_words
from ftcheck.store.entry import LARGE, DamageError, Entry, Stage
from ftcheck.store.remote import SLOWEST, Remote, RemoteError
from ftcheck.store.runs import Store, named


class MirroredStore(Store):
    """The store below `root`, which reads through to `remote` and writes back to it.

    The remote never decides anything: where it doesn't answer, is slow, or has something that isn't what was published,
    `warnings` gets one line and the stage is done here. Models are fetched only where they are asked for. What was
    published is uploaded by a thread of its own once `write_back` is called, never where the remote is `readonly`;
    `replace` lets it take the place of what the remote has (`--ft-cache=refresh`).
    """

    def __init__(self, root: Path, remote: Remote, *, readonly: bool = False, replace: bool = False) -> None:
        super().__init__(root)
        self.remote = remote
        self._readonly = readonly
        self._replace = replace
        self._absent: set[tuple[str, bool]] = set()
        self._refused: set[str] = set()
        self._made: list[tuple[Stage, str]] = []
        self._waiting: list[tuple[Stage, str]] = []
        self._guard = threading.Condition()
        self._thread: threading.Thread | None = None
        self._told = False

    def get(self, stage: Stage, digest: str, *, used: bool = True, model: bool = False) -> Entry | None:
        entry = super().get(stage, digest, used=used)
        model = model and stage == "runs"
        if entry is not None and not (model and not entry.model_size):
            return entry
        if self.remote.broken or (digest, model) in self._absent:
            return entry
        from filelock import Timeout

        try:
            with self.lock(stage, digest, wait=False):
                return self._fetched(stage, digest, model=model) or entry
        except Timeout:
            return entry  # its holder is making it, and whoever wants it waits for that
        except RemoteError as error:
            self._warn(error)
        except StoreError as error:
            self.warnings.append(f"{named(stage, digest)} was not fetched from {self.remote.shown}: {error}")
            self._absent.add((digest, model))
        return entry

    def offers_model(self, entry: Entry) -> bool:
        if super().offers_model(entry):
            return True
        digest = entry.manifest["key"]
        if self.remote.broken or (digest, True) in self._absent:
            return False
        try:
            there = self.remote.manifest("runs", digest)
        except DamageError:
            return False
        except RemoteError as error:
            self._warn(error)
            return False
        return there is not None and any(name.startswith(LARGE) for name in there["files"])

    def published(self, stage: Stage, digest: str) -> None:
        self._made.append((stage, digest))

    def write_back(self) -> None:
        """Begin to upload what was noted since the last call."""
        made, self._made = self._made, []
        if self._readonly:
            return
        with self._guard:
            self._waiting += made
            if self._waiting and self._thread is None and not self.remote.broken:
                self._thread = threading.Thread(target=self._upload, name="ftcheck-upload", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Upload what is left, for at most the remote's patience beyond what its bytes take at SLOWEST."""
        self.write_back()
        with self._guard:
            waiting = list(self._waiting)
        entries = (super(MirroredStore, self).get(stage, digest, used=False) for stage, digest in waiting)
        size = sum(entry.size for entry in entries if entry is not None)
        end = time.monotonic() + self.remote.patience + size / SLOWEST
        with self._guard:
            self._guard.wait_for(lambda: self._thread is None, timeout=max(0.0, end - time.monotonic()))
            left = len(self._waiting)
        if left:
            slow = "" if self.remote.broken else ", which is too slow"
            self.warnings.append(
                f"{left:,} results were not uploaded to {self.remote.shown}{slow}: `ftcheck cache push` does it later"
            )

    def _fetched(self, stage: Stage, digest: str, *, model: bool) -> Entry | None:
        """The entry with what the remote has of it. The caller holds the key. Raises StoreError."""
        entry = super().get(stage, digest)
        if entry is not None and not (model and not entry.model_size):
            return entry  # somebody else brought it meanwhile
        name = named(stage, digest)

        def told(done: int, total: int) -> None:
            self.on_fetch(f"fetching {name}: {in_words(done)} of {in_words(total)}")

        with self._temporary() as path:
            folder = path / "entry"
            folder.mkdir()
            try:
                found = self.remote.fetch(stage, digest, folder, model=model, on_moved=told)
            except DamageError as damage:
                self._refused.add(digest)
                self._absent.add((digest, model))
                self.warnings.append(
                    f"{name} of {self.remote.shown} is damaged ({damage}) and is not used; it is made again when needed"
                )
                return None
            if not found:
                self._absent.add((digest, model))
                return None
            self._install(folder, stage, digest, replace=entry is not None)
        if model:
            self._absent.add((digest, True))  # whether the model came with it or not: all that is there was fetched
        return super().get(stage, digest)

    def _upload(self) -> None:
        """What the thread does, until nothing waits."""
        while True:
            with self._guard:
                if not self._waiting:
                    self._thread = None
                    self._guard.notify_all()
                    return
                stage, digest = self._waiting[0]
            try:
                entry = super().get(stage, digest, used=False)
                if entry is not None:
                    self.remote.push(entry, replace=self._replace or digest in self._refused)
            except RemoteError as error:
                self._warn(error)
                with self._guard:
                    self._thread = None
                    self._guard.notify_all()
                return
            except StoreError as error:
                self.warnings.append(f"{named(stage, digest)} was not uploaded: {error}")
            with self._guard:
                self._waiting.pop(0)

    def _warn(self, why: RemoteError) -> None:
        """Say what is wrong with the remote, once."""
        if not self._told:
            self._told = True
            self.warnings.append(f"{why}; the session goes on without it")
