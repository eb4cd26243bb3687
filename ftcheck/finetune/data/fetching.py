"""What comes from the Hub: the snapshot of a commit, its list of files, a file that is read while it is fetched.

The Hub client's exceptions become one sentence each.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ftcheck.errors import DataError, shown


def snapshot(repo: str, revision: str | None, offline: bool, patterns: Sequence[str]) -> str:
    """The local folder of a commit, with the files that match `patterns`. Raises DataError in one sentence."""
    from huggingface_hub import snapshot_download

    with translated(repo, revision, offline):
        return str(
            snapshot_download(
                repo, repo_type="dataset", revision=revision, allow_patterns=list(patterns), local_files_only=offline
            )
        )


def opened(repo: str, commit: str, file: str) -> BinaryIO:
    """A file of a Hub repository, fetched in blocks as it is read. Raises DataError, then and now."""
    from huggingface_hub import HfFileSystem

    with translated(repo, commit, False):
        # Not the instance that the library keeps: it would belong to the Hub that it was made for.
        remote = HfFileSystem(skip_instance_cache=True).open(f"datasets/{repo}@{commit}/{file}", "rb")
        return io.BufferedReader(_Remote(remote, repo, commit))


class _Remote(io.RawIOBase):
    """What is fetched while it is read, with the client's exceptions translated."""

    def __init__(self, remote: Any, repo: str, commit: str) -> None:
        self._remote = remote
        self._where = repo, commit, False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with translated(*self._where):
            return int(self._remote.readinto(buffer))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._remote.seek(offset, whence))

    def tell(self) -> int:
        return int(self._remote.tell())

    def close(self) -> None:
        self._remote.close()
        super().close()


def listing(repo: str, folder: Path) -> list[str]:
    """All files of the commit: what the Hub told, kept beside the snapshot; else those that are here."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        tree = huggingface_hub.get_cached_repo_tree(repo, repo_type="dataset", revision=folder.name)
    except errors.CachedRepoTreeNotFoundError:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [file.path for file in tree]


@contextmanager
def translated(repo: str, revision: str | None, offline: bool) -> Iterator[None]:
    """The Hub client's exceptions as one sentence each."""
    from huggingface_hub import errors

    where = f"data.path: {shown(repo)}" + (f" at {shown(revision)}" if revision else "")
    try:
        yield
    except errors.GatedRepoError:
        what = "is gated: accept its terms on its page and give a token (hf auth login, or HF_TOKEN)"
    except errors.RevisionNotFoundError:
        what = "isn't there: the data set has no such revision"
    except errors.RepositoryNotFoundError:
        what = "isn't on the Hub, or is private and needs a token (hf auth login, or HF_TOKEN)"
    except errors.LocalEntryNotFoundError as error:
        if offline or isinstance(error.__cause__, errors.OfflineModeIsEnabled):
            what = "isn't in the local cache, and this run is offline; run once online to fetch it"
        else:
            what = f"can't be fetched: the Hub doesn't answer: {shown(error.__cause__ or error, 200)}"
    except errors.HFValidationError as error:
        what = f"is no Hub id: {shown(error, 200)}"
    except (errors.HfHubHTTPError, OSError) as error:
        what = f"can't be fetched: {shown(error, 200)}"
    except Exception as error:
        if not _of_http(error):
            raise
        what = f"can't be fetched: the Hub doesn't answer: {shown(error, 200)}"
    else:
        return
    raise DataError(f"{where} {what}") from None


def _of_http(error: Exception) -> bool:
    """Whether the Hub client's HTTP library raised it: httpx2, and httpx in older versions, which let it through."""
    return any(kind.__module__.partition(".")[0] in ("httpx", "httpx2") for kind in type(error).__mro__)
