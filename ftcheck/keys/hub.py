"""Which commit a name on the Hugging Face Hub stands for."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal
from uuid import uuid4

from blake3 import blake3

from ftcheck.errors import CheckpointError, DataError, FtcheckError, shown
from ftcheck.writing import appear

RepoType = Literal["model", "dataset"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_ERRORS: Final[dict[RepoType, type[FtcheckError]]] = {"model": CheckpointError, "dataset": DataError}
_TIMEOUT_SECONDS: Final = 30.0


def offline_by_environment() -> bool:
    """Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids going to the network, as huggingface_hub reads them."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def cache_dir() -> Path:
    """Where huggingface_hub keeps repositories, found as its `constants` module finds it, without importing it."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    place = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expanduser(os.path.expandvars(place)))


def resolve(repo_id: str, repo_type: RepoType, revision: str | None, *, offline: bool) -> str:
    """The commit (40 hex digits) that `revision` (default: main) of a repository stands for now.

    A revision that is a commit is taken at its word. Offline, the answer is what the local Hub cache holds.
    Raises CheckpointError for a model and DataError for a data set, where the commit can't be had.
    """
    if revision and _COMMIT.fullmatch(revision):
        return revision
    if offline or offline_by_environment():
        return _cached(repo_id, repo_type, revision or "main")
    return _asked(repo_id, repo_type, revision)


def resolve_once(folder: Path, repo_id: str, repo_type: RepoType, revision: str | None, *, offline: bool) -> str:
    """What `resolve` says to whichever process that shares `folder` asks first: the others mean the same commit. Raises
    as `resolve` does."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    name = blake3(f"{repo_type} {repo_id}@{revision}".encode()).hexdigest()[:32]
    known = folder / name
    with FileLock(folder / f"{name}.lock"):
        if not known.exists():
            appear(known, resolve(repo_id, repo_type, revision, offline=offline))
    return known.read_text("ascii")


def snapshot(repo_id: str, commit: str) -> Path:
    """Where the local Hub cache has a model's files at a commit, as far as they were fetched."""
    return _repository(repo_id, "model") / "snapshots" / commit


def remember(repo_id: str, repo_type: RepoType, revision: str | None, commit: str) -> None:
    """Note in the local Hub cache that `revision` (default: main) stands for `commit`, whose files were fetched.

    huggingface_hub does so for what it fetches by the name of a branch; ftcheck fetches by commit. Without the note an
    offline run has the files and doesn't know that they are those of `main`.
    """
    ref = _repository(repo_id, repo_type) / "refs" / (revision or "main")
    if revision == commit or (ref.is_file() and ref.read_text("ascii", errors="replace") == commit):
        return
    temporary = ref.with_name(f"{ref.name}.{uuid4().hex[:8]}.tmp")
    # A cache that can only be read is none that an offline run could have relied on.
    with suppress(OSError):
        ref.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(commit, "ascii")
        temporary.replace(ref)


def _repository(repo_id: str, repo_type: RepoType) -> Path:
    return cache_dir() / "--".join([f"{repo_type}s", *repo_id.split("/")])


def _cached(repo_id: str, repo_type: RepoType, revision: str) -> str:
    repository = _repository(repo_id, repo_type)
    ref = repository / "refs" / revision
    commit = ""
    if ref.resolve().is_relative_to((repository / "refs").resolve()) and ref.is_file():
        commit = ref.read_text("ascii", errors="replace").strip()
    if not _COMMIT.fullmatch(commit) or not (repository / "snapshots" / commit).is_dir():
        raise _ERRORS[repo_type](
            f"{_named(repo_id, repo_type)} (revision {shown(revision)}) is not in the local Hub cache {cache_dir()} "
            "and this run goes to no network (--ft-offline, --ft-vendor or HF_HUB_OFFLINE): run once online, or give "
            "the path of a copy"
        )
    return commit


def _asked(repo_id: str, repo_type: RepoType, revision: str | None) -> str:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    failed = _ERRORS[repo_type]
    named = _named(repo_id, repo_type)
    try:
        info = huggingface_hub.HfApi().repo_info(
            repo_id, repo_type=repo_type, revision=revision, timeout=_TIMEOUT_SECONDS
        )
    except GatedRepoError:
        raise failed(
            f"{named} is gated: accept its terms on its page, then log in with `hf auth login` or set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise failed(
            f"{named} has no revision {shown(revision)}: give a branch, a tag or a commit that it has"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        kind = "folder" if repo_type == "model" else "file or folder"
        raise failed(
            f"{named} is not on the Hub: check the spelling, log in with `hf auth login` if it is private, "
            f"or give the path of a local {kind}"
        ) from None
    except Exception as error:  # noqa: BLE001  the HTTP library (httpx, and what is below it) raises its own families
        raise failed(
            f"the Hub could not be asked which commit {named} is at ({type(error).__name__}: {shown(error, 200)}); "
            "try again, pin `revision` to a commit, or use the local Hub cache with --ft-offline"
        ) from None
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise failed(f"the Hub gave no commit for {named}: pin `revision` to a commit")
    return info.sha


def _named(repo_id: str, repo_type: RepoType) -> str:
    return f"the {'checkpoint' if repo_type == 'model' else 'data set'} {shown(repo_id)}"
