"""Python code that a checkpoint brings along: run only where the suite pins its commit and the command line allows it.

transformers' own `trust_remote_code=True` is never used. It would run whatever `auto_map` names, in other repositories
too, and `custom_generate/` at the weights' commit; it believes what it finds in the cache of modules
(HF_MODULES_CACHE); and it writes the code beside every model that is saved. Here the class is looked up at the pinned
commit, through a cache of this process alone, and the rest of the loading trusts nothing.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Final

from filelock import FileLock, Timeout

from ftcheck.errors import CheckpointError, shown
from ftcheck.finetune import Job
from ftcheck.keys import own_code
from ftcheck.spec import Checkpoint
from ftcheck.spec.trust import COMMIT, FORM

REFERENCE: Final = re.compile(r"(?:(?P<repository>[\w.-]+(?:/[\w.-]+)?)--)?(?P<name>\w+(?:/\w+)*\.\w+)", re.ASCII)
"""What `auto_map` may say: `module.Class`, or `repository--module.Class`."""

OTHERS: Final = (
    "it brings its own Python code, which runs for the case's own checkpoint only: a technique needs a model of an "
    "architecture that transformers knows"
)
"""Why a model that a technique names (a teacher, a translator) isn't loaded."""

PREFIX: Final = "ftcheck-code-"
LOCK: Final = ".lock"
NEW_SECONDS: Final = 60.0
"""A folder that is newer may not have its lock yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The code that the suite pins, and whether the command line lets it run."""

    place: str
    """A Hub id, or a folder."""
    local: bool
    revision: str
    allowed: bool
    offline: bool

    @classmethod
    def of(cls, checkpoint: Checkpoint, job: Job) -> Code | None:
        """What the suite says of the checkpoint; None where it says nothing."""
        code = checkpoint.remote_code
        if code is None:
            return None
        return cls(
            place=code.repository or checkpoint.path,
            local=checkpoint.local and code.repository is None,
            revision=code.revision,
            allowed=job.allow_remote_code,
            offline=job.offline,
        )


def class_named(
    auto_map: Mapping[str, Any], kind: str, path: str, code: Code | None, *, kept: bool = False
) -> type[Any] | None:
    """The class that `auto_map`, found at `path` (a Hub id or folder), names for `kind`; None where the code is not
    trusted, or there is none for it. `kept`: `path` holds what was trained, and the code stays where the checkpoint is.

    Raises CheckpointError for code elsewhere than where the suite pins it, for such without --ft-allow-remote-code, and
    where it can't be run.
    """
    reference = auto_map.get(kind)
    if isinstance(reference, list | tuple):  # of tokenizers: slow, fast
        reference = next((one for one in reversed(reference) if one), None)
    if code is None or reference is None:
        return None
    found = REFERENCE.fullmatch(str(reference))
    if found is None:
        raise CheckpointError(f"auto_map names {shown(reference, 80)} for {kind}, which is no module.Class")
    place = found["repository"] or (code.place if kept else path)
    if place != code.place:
        raise CheckpointError(
            f"its code is in {shown(place)} ({shown(found['name'])}), and the suite trusts that of "
            f"{shown(code.place)}: after reading it, name it in trust_remote_code: {{repository: ..., revision: ...}}"
        )
    if not code.allowed:
        raise CheckpointError(
            f"it brings its own Python code ({shown(found['name'])}), which the suite trusts at {code.revision[:12]}: "
            "it runs only with --ft-allow-remote-code on the command line"
        )
    if code.local:
        own_code.check(Path(code.place), code.revision)
    return _imported(found["name"], code)


def refusal(path: str, commit: str | None) -> str:
    """Why a checkpoint's own code isn't run, and what would run it."""
    known = own_code.revision(Path(path)) if Path(path).is_dir() else commit or ""
    form = f"{{revision: {known}}}" if COMMIT.fullmatch(known) else FORM
    return (
        "it brings its own Python code, which runs only where the suite pins it and the command line allows it: after "
        f"reading it, write checkpoint: {{path: ..., trust_remote_code: {form}}} and give --ft-allow-remote-code"
    )


def _imported(name: str, code: Code) -> type[Any]:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    with _own_modules():
        try:
            found: type[Any] = get_class_from_dynamic_module(
                name, code.place, code_revision=None if code.local else code.revision, local_files_only=code.offline
            )
        except OSError:
            raise
        except Exception as error:  # whatever that code raises
            raise CheckpointError(
                f"its code ({shown(name)}) can't be run: {type(error).__name__}: {shown(error, 300)}"
            ) from error
    return found


@contextmanager
def _own_modules() -> Iterator[None]:
    """transformers' cache of modules within the block: it takes what it finds there for what was downloaded."""
    from transformers import dynamic_module_utils

    known = dynamic_module_utils.HF_MODULES_CACHE
    dynamic_module_utils.HF_MODULES_CACHE = _folder()
    try:
        yield
    finally:
        dynamic_module_utils.HF_MODULES_CACHE = known


@cache
def _folder() -> str:
    """A folder of this process, first where modules are looked for; gone when it ends, or with the next one's where it
    was killed."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = FileLock(folder / LOCK)
    lock.acquire()
    (folder / "__init__.py").touch()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(lock.release)
    sys.path.insert(0, str(folder))
    return str(folder)


def _sweep() -> None:
    """Delete the folders of this user's processes that are gone: nobody holds their locks."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            found = left.lstat()
            if found.st_uid == os.geteuid() and S_ISDIR(found.st_mode) and time.time() - found.st_mtime > NEW_SECONDS:
                with FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left)
