"""The run store: content-addressed results of the stages, published in one step, verified whenever they are read."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Final, NoReturn

from ftcheck import timing
from ftcheck.errors import StoreError, shown
from ftcheck.keys.canonical import Key
from ftcheck.store import cases
from ftcheck.store.cases import CaseHistory
from ftcheck.store.entry import (
    DIGEST,
    LARGE,
    STAGES,
    DamageError,
    Entry,
    Stage,
    StoreCorruptionError,
    check_files,
    flush_folder,
    open_manifest,
    reading,
    refuse_code,
    seal,
)
from ftcheck.store.locking import Locks

OnWait = Callable[[str], None]

_DOING: Final[Mapping[Stage, str]] = {
    "searches": "searching",
    "answers": "asking a teacher",
    "runs": "training",
    "predictions": "evaluating",
    "scores": "scoring",
}
_PROBE_BYTES: Final = 64 * 1024
_TOUCH_SECONDS: Final = 3600.0
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED: Final = (
    *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EBUSY, errno.ESTALE, errno.EXDEV),  # of network file systems
    errno.ENOENT,  # the store was deleted under us
)
_TAG: Final = "Signature: 8a477f597d28d172789f06886806bc55\n# ftcheck's run store; see https://bford.info/cachedir/\n"


@dataclass
class Publication:
    """A result on its way into the store: write files below `path`, and JSON into `content`."""

    path: Path
    content: Mapping[str, object] = field(default_factory=dict)


class Store:
    """Results by stage and key, below `root`.

    An entry that isn't what was published is never handed out: it is moved to `quarantine/`, `warnings` gets a line for
    the reader, and the entry counts as not there, so that the caller does the stage again.
    A `read_only` store answers, but keeps nothing: it locks and sets aside nothing, and `publish` raises StoreError.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.root = root
        self.read_only = read_only
        self.warnings: list[str] = []
        self.on_fetch: Callable[[str], None] = lambda message: None
        """Told how far a transfer from elsewhere is that somebody waits for."""
        self.locks = Locks(root / "locks")
        self._cleaned = False

    @timing.phase("store")
    def get(self, stage: Stage, digest: str, *, used: bool = True, model: bool = False) -> Entry | None:
        """The entry of a key; None where there is none. Raises StoreError where the store can't be read.

        `model` says that the caller is going to load the model: a store with a remote fetches it only then.

        The manifest and every file outside `model/` are verified now, the model's when it is asked for
        (`Entry.verify("model/")`): hashing it is no slower than loading it, and most runs don't load it. An entry that
        is only looked at, not `used`, isn't kept from pruning by that.
        """
        path = self.place(stage, digest)
        try:
            entry = self._opened(path, stage, digest)
        except DamageError as damage:
            entry = self._set_aside(path, stage, digest, damage)
        if entry is not None and used:
            self._touch(path)
        return entry

    def offers_model(self, entry: Entry) -> bool:
        """Whether `get` with `model` would find the model of a run."""
        return entry.model_size > 0

    def place(self, stage: Stage, digest: str) -> Path:
        """Where the entry of a key is, or would be."""
        if stage not in STAGES or not DIGEST.fullmatch(digest):
            raise StoreError(f"{shown(stage)} {shown(digest)} is no key: expected 64 hex digits")
        return self.root / stage / digest[:2] / digest[2:]

    def keys(self, stage: Stage) -> Iterator[str]:
        """The digests of all entries of a stage, sorted; damaged ones too."""
        for prefix in _names(self.root / stage):
            for rest in _names(self.root / stage / prefix):
                if DIGEST.fullmatch(prefix + rest):
                    yield prefix + rest

    @contextmanager
    def lock(self, stage: Stage, digest: str, *, on_wait: OnWait | None = None, wait: bool = True) -> Iterator[None]:
        """Hold a key, so that one process at a time works on it. Entered again by its holder, it holds on.

        Where another process has it, `on_wait` is told once, and this one waits. The lock is the operating system's: it
        ends with its process, however that ends. Raises StoreError where no lock can be made, and filelock's Timeout
        where `wait` is False and another process has it.
        """
        if self.read_only:
            yield
            return

        def waits() -> None:
            if on_wait is not None:
                on_wait(f"waiting for another process that is {_DOING[stage]} the same (key {digest[:12]})")

        with self._locked(f"{stage}-{digest}", wait=wait, on_wait=waits):
            yield

    @contextmanager
    def publish(self, stage: Stage, key: Key, *, replace: bool = False) -> Iterator[Publication]:
        """Write an entry: all of it becomes visible at once, when the block ends well; nothing does when it raises.

        Where the entry is there already it stays, unless `replace` is set: two results of one key are equally good.
        Raises StoreError where the store can't be written (read-only, full).
        """
        with self._temporary() as path:
            publication = Publication(path)
            yield publication
            try:
                seal(path, stage, key, publication.content, datetime.now(UTC).isoformat(timespec="seconds"))
            except DamageError as damage:
                raise StoreError(f"a result can't be kept: {damage}") from None
            self._install(path, stage, key.digest, replace=replace)
        self.published(stage, key.digest)

    def take(self, stage: Stage, digest: str, fill: Callable[[Path], None]) -> None:
        """Make an entry that was published elsewhere one of this store: `fill` puts all of it, with its manifest, into
        the folder that it is given. Raises DamageError where any byte isn't what was published, StoreError."""
        with self._temporary() as path:
            folder = path / "entry"
            folder.mkdir()
            with self._translated():
                fill(folder)
            manifest = open_manifest(folder, stage, digest)
            refuse_code(manifest["files"])
            check_files(folder, manifest, hashed=lambda _: True)
            self._install(folder, stage, digest, replace=True)
        self.published(stage, digest)

    def published(self, stage: Stage, digest: str) -> None:
        """Take note that an entry was published here, by this store or by that of another process that works for this
        one."""

    def write_back(self) -> None:
        """Begin to publish what was noted since the last call wherever else it belongs: nowhere."""

    def close(self) -> None:
        """Wait for that, for a bounded time."""

    def unfinished(self, stage: Stage, digest: str) -> Path:
        """A folder for whoever holds a key, where what was begun for it lies until it is published: who is broken off
        leaves it behind, and the next one goes on with it."""
        return self._folder(f"unfinished/{stage}-{digest}")

    def record_case(self, suite: str, case_id: str, keys: Mapping[str, Key]) -> None:
        """Remember a case's keys by name, for `ftcheck cache why`, with the moment since when they are so.

        Where that can't be written, `warnings` says so.
        """
        if self.read_only:
            return
        name = cases.file_name(suite, case_id)
        if cases.ends_with(self.root / "cases" / name, keys):
            return  # as in most sessions: nothing to lock or to write
        run = cases.CaseRun(datetime.now(UTC).isoformat(timespec="seconds"), keys)
        try:
            path = self._folder("cases") / name
            with self._locked(f"case-{name}"), self._translated():
                known = cases.read(path) or cases.CaseHistory(suite, case_id, ())
                scratch = self._folder("tmp") / f"{secrets.token_hex(8)}.new"
                scratch.write_text(json.dumps(known.with_run(run).to_json()), encoding="ascii")
                scratch.replace(path)
        except StoreError as error:
            self.warnings.append(str(error))

    def case(self, suite: str, case_id: str) -> CaseHistory | None:
        """What is remembered of one case."""
        return cases.read(self.root / "cases" / cases.file_name(suite, case_id))

    def cases(self) -> Iterator[CaseHistory]:
        """What is remembered of each case, by suite and id."""
        known = (cases.read(self.root / "cases" / name) for name in _names(self.root / "cases"))
        yield from sorted((case for case in known if case is not None), key=str)

    def discard(self, path: Path) -> None:
        """Take a folder out of the store in one step, then delete it. Losing the race for it is success."""
        trash = self.root / "tmp" / f"{secrets.token_hex(8)}.trash"
        with suppress(FileNotFoundError):
            path.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)  # what is left of it goes with the next cleaning

    @property
    def writable(self) -> bool:
        """Whether results can be kept."""
        try:
            self.check_writable()
        except StoreError:
            return False
        return True

    def check_writable(self) -> None:
        """Raise StoreError, before anything is trained, where a result could not be kept."""
        if self.read_only:
            raise self._unwritable("it was opened read-only")
        with self._translated():
            temporary = self._folder("tmp")
            tag = self.root / "CACHEDIR.TAG"
            if not tag.exists():
                tag.write_text(_TAG, encoding="ascii")
            probe = temporary / f"{secrets.token_hex(8)}.probe"
            try:
                with probe.open("wb") as file:
                    file.write(b"\0" * _PROBE_BYTES)
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                probe.unlink(missing_ok=True)
            if not self._cleaned:
                self._clean(temporary)
                self._cleaned = True

    def _install(self, path: Path, stage: Stage, digest: str, *, replace: bool) -> None:
        """Make the finished folder `path` the entry of a key, in one step."""
        target = self.place(stage, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        while not self._renamed(path, target):
            if not replace and self._intact(target, stage, digest):
                return
            self.discard(target)
        flush_folder(target.parent)

    def _opened(self, path: Path, stage: Stage, digest: str) -> Entry | None:
        """Raises DamageError, StoreError."""
        with reading(path):
            if not path.is_symlink() and not path.exists():
                return None
            if path.is_symlink() or not path.is_dir():
                raise DamageError("it is no folder")
            manifest = open_manifest(path, stage, digest)
            check_files(path, manifest, hashed=lambda name: not name.startswith(LARGE))
        return Entry(path, manifest, self._damaged)

    def _intact(self, path: Path, stage: Stage, digest: str) -> bool:
        try:
            return self._opened(path, stage, digest) is not None
        except DamageError:
            return False

    def _damaged(self, entry: Entry, damage: DamageError) -> NoReturn:
        """An opened entry turned out to be damaged. Raises StoreCorruptionError, with the entry set aside."""
        stage, digest = entry.manifest["stage"], entry.manifest["key"]
        self._set_aside(entry.path, stage, digest, damage, everything=True)
        raise StoreCorruptionError(
            f"{named(stage, digest)} in {self.root} is damaged ({damage}): run again to make it anew"
        )

    def _set_aside(
        self, path: Path, stage: Stage, digest: str, damage: DamageError, *, everything: bool = False
    ) -> Entry | None:
        """Move a damaged entry to `quarantine/` and warn; the entry, where it only looked so while it was changed."""
        from filelock import Timeout

        what = named(stage, digest)
        with ExitStack() as stack:
            try:
                if self.read_only:
                    raise self._unwritable("it was opened read-only")
                stack.enter_context(self._locked(f"{stage}-{digest}", wait=False))
            except StoreError:
                self.warnings.append(
                    f"{what} is damaged ({damage}) and is not used; the store is read-only, so it stays"
                )
                return None
            except Timeout:
                return None  # its holder is replacing, pruning or setting it aside, and whoever wants it waits for that
            try:
                entry = self._opened(path, stage, digest)
                if entry is not None and everything:
                    with reading(path):
                        check_files(path, entry.manifest, hashed=lambda _: True)
                return entry
            except DamageError as confirmed:
                aside = self._folder("quarantine") / f"{stage}-{digest}-{secrets.token_hex(4)}"
                with self._translated():
                    path.rename(aside)
                self.warnings.append(
                    f"{what} was damaged ({confirmed}) and is set aside in {aside}; it is made again when needed"
                )
                return None

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold a lock of this store. Raises StoreError where none can be made, Timeout."""
        with ExitStack() as stack:
            with self._translated():
                stack.enter_context(self.locks.hold(name, wait=wait, on_wait=on_wait))
            yield

    def _folder(self, name: str) -> Path:
        path = self.root / name
        with self._translated():
            path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A folder beside the entries, held by a lock for as long as its process lives, and gone afterwards."""
        from filelock import FileLock

        self.check_writable()
        parent = self._folder("tmp")
        token = secrets.token_hex(8)
        path = parent / token
        lock = parent / f"{token}.lock"
        try:
            with self._translated(), FileLock(lock):
                try:
                    path.mkdir()
                    yield path
                finally:
                    shutil.rmtree(path, ignore_errors=True)  # renamed into place; else what stays is cleaned later
        finally:
            lock.unlink(missing_ok=True)

    def _clean(self, parent: Path) -> None:
        """Delete what processes left in `tmp/` that are gone: folders whose lock nobody holds, trash, scratch files; in
        `memo/`, too; and what is remembered of more cases than one may have."""
        from filelock import FileLock, Timeout

        cases.forget_oldest(self.root / "cases")
        for memo in (self.root / "memo").glob("*.tmp"):
            with suppress(FileNotFoundError):
                if time() - memo.lstat().st_mtime > _TOUCH_SECONDS:
                    memo.unlink()
        for name in _names(parent):
            path = parent / name
            if path.suffix == ".trash":
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix in (".probe", ".new"):
                with suppress(FileNotFoundError):
                    if time() - path.lstat().st_mtime > _TOUCH_SECONDS:
                        path.unlink()
            else:
                lock = path.with_suffix(".lock")
                with suppress(Timeout), FileLock(lock, timeout=0):
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)

    @staticmethod
    def _renamed(path: Path, target: Path) -> bool:
        """Whether `path` became `target`; it doesn't where `target` is there and isn't empty."""
        try:
            path.rename(target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EACCES) and target.exists():
                return False
            raise
        return True

    def _touch(self, path: Path) -> None:
        """Note that an entry was used (the manifest's mtime), for pruning by last use; at most once an hour."""
        if self.read_only:
            return
        manifest = path / "manifest.json"
        with suppress(OSError):  # only a hint: a store that can't be written answers all the same
            # A time in the future is of a clock that was set back.
            if abs(time() - manifest.stat().st_mtime) > _TOUCH_SECONDS:
                os.utime(manifest)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of a full or write-protected disk, in one sentence. Also safetensors' own, which are no OSErrors."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            place = None if error.filename is None else Path(os.fsdecode(error.filename))
            ours = place is not None and (place.is_relative_to(self.root) or self.root.is_relative_to(place))
            if error.errno in (*_FULL, errno.EROFS) or (ours and error.errno in _REFUSED):
                raise self._unwritable(error.strerror or str(error), error.errno) from error
            raise
        except Exception as error:
            if "os error 28" in str(error):
                raise self._unwritable("No space left on device", errno.ENOSPC) from error
            raise

    def _unwritable(self, why: str, number: int | None = None) -> StoreError:
        do = "free some space (`ftcheck cache prune`)" if number in _FULL else "make it writable"
        return StoreError(
            f"the run store {self.root} can't be written: {why}; {do} or choose another place with --ft-cache-dir"
        )


def named(stage: str, digest: str) -> str:
    """An entry as messages call it."""
    return f"the stored {stage.removesuffix('s')} {digest[:12]}"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
