"""Entries where other machines find them: an object store, an SFTP server or a folder, by way of fsspec.

An entry is `STAGE/ab/cdef…/manifest.json`, as in the run store, but each of its files beside it is called by its hash.
So two machines that publish one key can't mix their files: whichever manifest stays names whole ones. The manifest is
written last; without it nothing of an entry is seen.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from ftcheck.errors import FtcheckError, MissingExtraError, StoreError, UsageError, shown
from ftcheck.keys.files import file_digest
from ftcheck.results import Json
from ftcheck.store.entry import (
    DIGEST,
    LARGE,
    MANIFEST,
    MANIFEST_LIMIT,
    DamageError,
    Entry,
    Stage,
    checked_manifest,
    refuse_code,
    write_manifest,
)
from ftcheck.store.together import Meter, together

T = TypeVar("T")
OnMoved = Callable[[int, int], None]
"""Told how many bytes of how many were moved so far."""

CHUNK: Final = 16 * 1024**2
THREADS: Final = 8
SLOWEST: Final = 500_000
"""Bytes a second below which a remote is too slow to be of use."""
_GRACE_SECONDS: Final = 1.0
"""Any request may take this long."""

_LIBRARIES: Final = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "gcs": ("gcsfs", "gs"),
    "sftp": ("sshfs", "sftp"),
    "ssh": ("sshfs", "sftp"),
}
"""Scheme -> the library that fsspec needs for it, and the extra that brings it."""
_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf", "memory"})
"""Schemes under which a file appears when all of it is there. Under others it grows under a name of its own first."""


class RemoteError(StoreError):
    """The remote can't be reached, refuses, or is too slow. It isn't asked again."""


class Remote:
    """Entries below a URL, for all threads of a process.

    It may cost `patience` seconds in all, beyond what its bytes take at SLOWEST; who asks it more gets RemoteError at
    once. No message holds what of the URL may be a secret.
    """

    def __init__(self, url: str, *, patience: float = 30.0) -> None:
        check(url)
        self.shown = redacted(url)
        self.broken = ""
        """Why it isn't asked any more; empty while it is."""
        self._url = url
        self.patience = patience
        self._left = patience
        self._opened: tuple[Any, str] | None = None

    def manifest(self, stage: Stage, digest: str) -> dict[str, Json] | None:
        """An entry's manifest; None where there is none. Raises DamageError, RemoteError."""
        return self._manifest(stage, digest)[0]

    def fetch(
        self, stage: Stage, digest: str, folder: Path, *, model: bool, on_moved: OnMoved = lambda done, total: None
    ) -> bool:
        """Bring an entry to `folder`, verified; without its model, it is as one whose model was taken out.

        False where there is none. Raises DamageError for one that isn't what was published, RemoteError, and StoreError
        where `folder` can't hold it.
        """
        manifest, content = self._manifest(stage, digest)
        if manifest is None:
            return False
        files = {name: record for name, record in manifest["files"].items() if model or not name.startswith(LARGE)}
        refuse_code(files)
        total = sum(record["size"] for record in files.values())
        with _local(folder):
            if total > _free(folder):
                raise StoreError(f"{total:,} bytes of {self.shown} don't fit on the disk of {shown(folder, 300)}")
            for name in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).touch()
        place = self._place(stage, digest)
        works = [
            partial(self._read, f"{place}/{record['blake3']}", folder / name, start, min(start + CHUNK, record["size"]))
            for name, record in files.items()
            for start in range(0, record["size"], CHUNK)
        ]
        try:
            self._ask(works, total, lambda moved: on_moved(moved, total))
        except FileNotFoundError:
            raise DamageError("a file is missing") from None
        with _local(folder):
            for name, record in sorted(files.items()):
                if file_digest(folder / name) != record["blake3"]:
                    raise DamageError(f"{shown(name)} fails its checksum")
            if len(files) == len(manifest["files"]):
                (folder / MANIFEST).write_bytes(content)
            else:
                write_manifest(folder, {**manifest, "files": files, "pruned": [LARGE]}, folder / f"{MANIFEST}.new")
        return True

    def push(
        self,
        entry: Entry,
        *,
        replace: bool = False,
        on_moved: OnMoved = lambda done, total: None,
    ) -> bool:
        """Publish an entry. False where the key is there already, whole: the first stays, unless `replace` is set, or
        only this one has a model. Raises RemoteError, and StoreError for an entry that is gone or damaged here."""
        stage, digest = entry.manifest["stage"], entry.manifest["key"]
        if not replace and self._has(stage, digest, model=entry.model_size > 0):
            return False
        place, folder = self._place(stage, digest), entry.verify()
        with _local(folder):
            content = (folder / MANIFEST).read_bytes()
        try:
            files = checked_manifest(content, stage, digest)["files"]
        except DamageError as damage:
            raise StoreError(f"{shown(folder, 300)} is damaged ({damage})") from None
        by_hash = {record["blake3"]: name for name, record in files.items()}
        total = sum(files[name]["size"] for name in by_hash.values())
        works = [partial(self._write, folder / name, f"{place}/{found}") for found, name in by_hash.items()]
        try:
            self._ask([partial(self._make_folder, place)])
            self._ask(works, total, lambda moved: on_moved(moved, total))
            self._ask([partial(self._write_whole, content, f"{place}/{MANIFEST}")])
        except FileNotFoundError as error:
            raise self._fail(error) from None
        return True

    def keys(self, stage: Stage) -> Iterator[str]:
        """The digests of all entries of a stage, sorted. Raises RemoteError."""

        def listed(_: Meter) -> list[str]:
            filesystem, root = self._filesystem()
            filesystem.invalidate_cache()
            return [str(path) for path in filesystem.find(f"{root}/{stage}")]

        try:
            ((paths),) = self._ask([listed])
        except FileNotFoundError:
            return
        for path in sorted(paths):
            *_, prefix, rest, name = f"//{path}".split("/")
            if name == MANIFEST and DIGEST.fullmatch(prefix + rest):
                yield prefix + rest

    def _manifest(self, stage: Stage, digest: str) -> tuple[dict[str, Json] | None, bytes]:
        path = f"{self._place(stage, digest)}/{MANIFEST}"

        def read(_: Meter) -> bytes:
            filesystem, root = self._filesystem()
            # No more than that, whatever the listing says: behind a link may be a device.
            with filesystem.open(f"{root}/{path}", "rb", cache_type="none") as file:
                content = bytes(file.read(MANIFEST_LIMIT + 1))
            if len(content) > MANIFEST_LIMIT:
                raise DamageError(f"{MANIFEST} is too large")
            return content

        try:
            (content,) = self._ask([read])
        except FileNotFoundError:
            return None, b""
        return checked_manifest(content, stage, digest), content

    def _has(self, stage: Stage, digest: str, *, model: bool) -> bool:
        """Whether an entry is there with all of its files (a model among them, where it must have one)."""
        try:
            manifest = self.manifest(stage, digest)
        except DamageError:
            return False
        if manifest is None or (model and not any(name.startswith(LARGE) for name in manifest["files"])):
            return False
        place = self._place(stage, digest)

        def sizes(_: Meter) -> dict[str, int]:
            filesystem, root = self._filesystem()
            filesystem.invalidate_cache()
            return {
                str(item["name"]).rpartition("/")[2]: item["size"]
                for item in filesystem.ls(f"{root}/{place}", detail=True)
            }

        try:
            (found,) = self._ask([sizes])
        except FileNotFoundError:
            return False
        return all(found.get(record["blake3"]) == record["size"] for record in manifest["files"].values())

    @staticmethod
    def _place(stage: Stage, digest: str) -> str:
        return f"{stage}/{digest[:2]}/{digest[2:]}"

    def _read(self, path: str, target: Path, start: int, end: int, meter: Meter) -> None:
        """Bytes `start` to `end` of a remote file, and never one more."""
        filesystem, root = self._filesystem()
        with filesystem.open(f"{root}/{path}", "rb", cache_type="none") as file:
            file.seek(start)
            while start < end:
                content = file.read(min(end - start, CHUNK))
                if not content or len(content) > end - start:
                    raise DamageError(f"a file has {start:,} bytes, and should have {end:,} at least")
                with _local(target), target.open("r+b") as local:
                    local.seek(start)
                    local.write(content)
                start += len(content)
                meter.add(len(content))

    def _write(self, source: Path, path: str, meter: Meter) -> None:
        from fsspec.callbacks import Callback

        class Counting(Callback):  # type: ignore[misc]
            def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
                meter.add(self.value - seen[0])
                seen[0] = self.value

        seen = [0]
        filesystem, _ = self._filesystem()
        with _local(source):
            size = source.stat().st_size

        def put(target: str) -> None:
            filesystem.put_file(str(source), target, callback=Counting())
            filesystem.invalidate_cache()
            if filesystem.info(target)["size"] != size:
                raise OSError(f"{size:,} bytes were written, and fewer are there")

        self._appear(put, path)

    def _write_whole(self, content: bytes, path: str, _: Meter) -> None:
        filesystem, _root = self._filesystem()
        self._appear(lambda target: filesystem.pipe_file(target, content), path)

    def _appear(self, write: Callable[[str], None], path: str) -> None:
        """Write a file that is not seen before it is whole."""
        filesystem, root = self._filesystem()
        if self._scheme in _WHOLE:
            write(f"{root}/{path}")
            return
        growing = f"{root}/{path}.{secrets.token_hex(8)}.part"
        write(growing)
        filesystem.mv(growing, f"{root}/{path}")

    def _make_folder(self, place: str, _: Meter) -> None:
        filesystem, root = self._filesystem()
        if self._scheme not in _WHOLE:  # under those there are no folders, and asked for one, s3fs makes a bucket
            filesystem.makedirs(f"{root}/{place}", exist_ok=True)

    @property
    def _scheme(self) -> str:
        return scheme(self._url)

    def _filesystem(self) -> tuple[Any, str]:
        """fsspec's file system, and the URL's path in it."""
        if self._opened is None:
            from fsspec import register_implementation
            from fsspec.core import url_to_fs

            options: dict[str, Any] = {}
            if self._scheme in ("sftp", "ssh"):
                # Not fsspec's own, which believes any host; so does sshfs, unless told to look at ~/.ssh/known_hosts:
                # `()` is asyncssh's word for that.
                register_implementation(self._scheme, "sshfs.SSHFileSystem", clobber=True)
                options["known_hosts"] = ()
            if self._scheme != "memory":
                options["skip_instance_cache"] = True
            filesystem, root = url_to_fs(self._url, **options)
            self._opened = filesystem, root.rstrip("/")
        return self._opened

    def _connect(self, _: Meter) -> None:
        try:
            self._filesystem()
        except FileNotFoundError as error:  # no entry that isn't there, but a key file, say
            raise ConnectionError(str(error)) from None

    def _ask(
        self,
        works: Sequence[Callable[[Meter], T]],
        size: int = 0,
        on_moved: Callable[[int], None] = lambda moved: None,
    ) -> list[T]:
        """What `works` return. Raises FileNotFoundError, our own errors as they come, and RemoteError for all others.

        What fails is done once more over a new connection: a server ends those that were idle while a model was
        trained.
        """
        began = time.monotonic()
        expected = _GRACE_SECONDS + size / SLOWEST
        for attempt in (1, 2):
            if self.broken:
                raise RemoteError(self.broken)
            left = self._left + expected - (time.monotonic() - began)
            try:
                if self._opened is None:
                    together([self._connect], left, threads=1)
                    left = self._left + expected - (time.monotonic() - began)
                done = together(works, left, threads=THREADS, on_moved=on_moved)
            except (FileNotFoundError, FtcheckError):
                raise
            except TimeoutError:
                raise self._fail(None) from None
            except Exception as error:  # noqa: BLE001  each protocol's library raises its own families
                if attempt == 2:
                    raise self._fail(error) from None
                self._opened = None
                continue
            self._left -= max(0.0, time.monotonic() - began - expected)
            return done
        raise AssertionError("the second attempt returns or raises")

    def _fail(self, error: Exception | None) -> RemoteError:
        """It isn't asked again."""
        why = f"it is too slow (more than {self.patience:g} s were lost)"
        if error is not None:
            why = f"{type(error).__name__}: {shown(self._scrubbed(str(error)), 300)}"
        self.broken = f"the remote {self.shown} can't be used: {why}"
        return RemoteError(self.broken)

    def _scrubbed(self, text: str) -> str:
        for secret in sorted(_secrets(self._url), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def check(url: str) -> None:
    """Raise UsageError for what is no URL, MissingExtraError where the library for it isn't installed."""
    from importlib.util import find_spec

    if "://" not in url:
        raise UsageError(
            f"the remote {redacted(url)} is no URL: write s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, "
            "sftp://HOST/FOLDER or file:///FOLDER"
        )
    library, extra = _LIBRARIES.get(scheme(url), ("", ""))
    if library and find_spec(library) is None:
        raise MissingExtraError(f"a remote of {scheme(url)}://", library, extra)


def scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def redacted(url: str) -> str:
    """`url` as it may be printed: without user, password, query and fragment; where they can't be told apart from the
    rest, its scheme only."""
    kind, separator, rest = url.partition("://")
    if not separator:
        return shown(url) if "@" not in url else "…"
    authority, slash, path = rest.partition("/")
    path = path.partition("?")[0].partition("#")[0]
    host = authority.rpartition("@")[2].partition("?")[0].partition("#")[0]
    if "@" in path or authority.count("@") > 1:
        return f"{shown(kind)}://…"
    return shown(f"{kind}://{host}{slash}{path}", 300)


def _secrets(url: str) -> set[str]:
    """Whatever of a URL may be one, as it stands there and decoded."""
    rest = url.partition("://")[2]
    user = rest.rpartition("@")[0]
    found = {user, user.partition(":")[2], rest.partition("?")[2], rest.partition("#")[2]}
    return {text for secret in found for text in (secret, unquote(secret)) if text}


def _free(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free


@contextmanager
def _local(path: Path) -> Iterator[None]:
    """What fails on this machine is a StoreError, not the remote's fault."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(f"{shown(path, 300)} can't be read or written: {why}") from None
