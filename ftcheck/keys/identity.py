"""Identities of a session's inputs: checkpoints, tokenizers, data, libraries and code. Needs no torch or datasets."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.errors import CheckpointError, IdentityError, shown
from ftcheck.keys import code, hub, own_code
from ftcheck.keys.checkpoints import checkpoint_files, tokenizer_files
from ftcheck.keys.data import Rows, called_rows, data_identity, local_rows
from ftcheck.keys.files import FileHashes

if TYPE_CHECKING:
    from ftcheck.results import Json
    from ftcheck.spec import Case, Checkpoint, Data


class Identifier:
    """Finds what inputs are, once a session: one per process.

    A Hub name is resolved once and means the same commit for the whole session, in all processes that are given the
    same folder to `share`. A local file is hashed again when `stat` says that it changed, so a key made once more after
    a training shows whether its inputs were left alone. `commits` may be handed to another machine, so that it means
    the same ones.
    """

    def __init__(
        self,
        memo_dir: Path,
        offline: bool = False,
        share: Path | None = None,
        commits: Mapping[str, str] | None = None,
    ) -> None:
        self.commits: dict[str, str] = dict(commits or {})
        """What was resolved so far: "model NAME@REVISION" -> commit."""
        self._share = share
        self._offline = offline
        self._hashes = FileHashes(memo_dir)
        self._called: dict[object, Rows] = {}
        self._code: dict[object, dict[str, str]] = {}
        self._versions: dict[str, dict[str, str]] = {}
        self._looks = threading.local()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this block every input is looked at once: for keys that are made together, such as those of seeds. Of
        other threads each looks for itself."""
        if self._seen is not None:
            yield
            return
        self._looks.seen = {}
        try:
            yield
        finally:
            self._looks.seen = None

    @property
    def _seen(self) -> dict[tuple[object, ...], tuple[object, dict[str, Json]]] | None:
        return getattr(self._looks, "seen", None)

    def _once(self, kind: str, subject: object, roles: tuple[str, ...], look: Callable[[], dict[str, Json]]) -> Any:
        seen = self._seen
        if seen is None:
            return look()
        asked = (kind, id(subject) if kind == "data" else subject, roles)
        if asked not in seen:
            # The subject is kept beside its identity, so that its id() stays its own.
            seen[asked] = subject, look()
        return seen[asked][1]

    def checkpoint(self, checkpoint: Checkpoint) -> dict[str, Json]:
        """The model: its files' hashes, or its commit on the Hub. Raises CheckpointError."""
        found: dict[str, Json] = self._once("checkpoint", checkpoint, (), lambda: self._checkpoint(checkpoint))
        return found

    def _checkpoint(self, checkpoint: Checkpoint) -> dict[str, Json]:
        if not checkpoint.local:
            return {**self._on_hub(checkpoint.path, checkpoint.revision), **_code(checkpoint)}
        folder = Path(checkpoint.path)
        return {"files": self._hashed(folder, checkpoint_files(folder).model), **_code(checkpoint)}

    def tokenizer(self, checkpoint: Checkpoint) -> dict[str, Json]:
        """The tokenizer, apart from the model: a changed key tells which of them changed. Raises CheckpointError."""
        found: dict[str, Json] = self._once("tokenizer", checkpoint, (), lambda: self._tokenizer(checkpoint))
        return found

    def _tokenizer(self, checkpoint: Checkpoint) -> dict[str, Json]:
        place, local, revision = _tokenizer_place(checkpoint)
        if not local:
            return self._on_hub(place, revision)
        folder = Path(place)
        names = tokenizer_files(folder)
        if place != checkpoint.path and (folder / "config.json").is_file():
            # A tokenizer whose own settings name no class is of the class that config.json implies.
            names = (*names, "config.json")
        return {"files": self._hashed(folder, names)}

    def data(self, data: Data, roles: Collection[str]) -> dict[str, Json]:
        """What the rows of `roles` depend on. Raises DataError, IdentityError.

        A callable is run, once a session; its rows are what it is.
        """
        found: dict[str, Json] = self._once(
            "data", data, tuple(sorted(roles)), lambda: data_identity(data, roles, self._rows(data))
        )
        return found

    def versions(self, training: Mapping[str, Any] | None = None, libraries: tuple[str, ...] = ()) -> dict[str, str]:
        """Installed versions of the libraries that take part in a training with these arguments, and of `libraries`."""
        arguments = training or {}
        asked = repr([(name, arguments.get(name)) for name in ("optim", "use_liger_kernel", "deepspeed")] + [libraries])
        if asked not in self._versions:
            self._versions[asked] = code.versions(arguments, libraries)
        return self._versions[asked]

    def training_code(self, task: object, *, scored: bool, techniques: tuple[str, ...] = ()) -> dict[str, str]:
        """ftcheck's own sources that take part, by content. Constant in a process: what was imported stays."""
        asked = (type(task), scored, techniques)
        if asked not in self._code:
            self._code[asked] = code.training_code(task, self._hashes.digest, scored=scored, techniques=techniques)
        return self._code[asked]

    def file(self, path: Path) -> str:
        """blake3 of a local file. Raises IdentityError where it can't be read."""
        try:
            return self._hashes.digest(path)
        except OSError as error:
            raise IdentityError(f"{shown(path, 300)} can't be read: {error.strerror}") from None

    def revisions(self, case: Case) -> dict[str, Any]:
        """The commits to load of what `case` names on the Hub, as `finetune.Job` takes them; None for local inputs."""
        from ftcheck.finetune import techniques

        checkpoint, data = case.checkpoint, case.data
        place, local, revision = _tokenizer_place(checkpoint)
        return {
            "checkpoint_revision": None
            if checkpoint.local
            else self._commit("model", checkpoint.path, checkpoint.revision),
            "tokenizer_revision": None if local else self._commit("model", place, revision),
            "data_revision": self._commit("dataset", data.path, data.revision) if data.kind == "hub" else None,
            "revisions": {
                other.path: self._commit("model", other.path, other.revision)
                for technique in techniques.of(case)
                for other in technique.checkpoints(case)
                if not other.local
            },
        }

    def _rows(self, data: Data) -> Rows:
        if data.kind == "hub":
            return Rows({"hub": data.path, "commit": self._commit("dataset", data.path, data.revision)})
        if data.kind != "callable":
            return local_rows(data, self._hashes.digest)
        if data.factory not in self._called:
            self._called[data.factory] = called_rows(data)
        return self._called[data.factory]

    def _on_hub(self, repo_id: str, revision: str | None) -> dict[str, Json]:
        return {"hub": repo_id, "commit": self._commit("model", repo_id, revision)}

    def _commit(self, repo_type: hub.RepoType, repo_id: str, revision: str | None) -> str:
        name = f"{repo_type} {repo_id}@{revision or 'main'}"
        if name not in self.commits:
            ask = hub.resolve if self._share is None else partial(hub.resolve_once, self._share)
            self.commits[name] = ask(repo_id, repo_type, revision, offline=self._offline)
        return self.commits[name]

    def _hashed(self, folder: Path, names: Collection[str]) -> dict[str, Json]:
        try:
            return {name: self._hashes.digest(folder / name) for name in names}
        except OSError as error:
            raise CheckpointError(f"{shown(error.filename or folder)} can't be read: {error.strerror}") from None


def _code(checkpoint: Checkpoint) -> dict[str, Json]:
    """The checkpoint's own code that may run. Raises CheckpointError for a folder whose code isn't what is trusted."""
    code = checkpoint.remote_code
    if code is None:
        return {}
    if checkpoint.local and code.repository is None:
        own_code.check(Path(checkpoint.path), code.revision)
    return {"remote_code": {"revision": code.revision, "repository": code.repository}}


def _tokenizer_place(checkpoint: Checkpoint) -> tuple[str, bool, str | None]:
    """Where the tokenizer is: its path or Hub id, whether that is local, and which revision."""
    if checkpoint.tokenizer is None or checkpoint.tokenizer == checkpoint.path:
        return checkpoint.path, checkpoint.local, checkpoint.revision
    return checkpoint.tokenizer, os.path.isabs(checkpoint.tokenizer), None
