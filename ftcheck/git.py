"""What ftcheck asks git: who and where, for a baseline's record; and files as they were committed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ftcheck.errors import BaselineError, shown


def ask(folder: Path, *arguments: str) -> str:
    """What `git arguments` prints in `folder`, stripped; empty where it fails or there is no git."""
    try:
        run = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except OSError:
        return ""
    return run.stdout.decode("utf-8", "replace").strip() if run.returncode == 0 else ""


@dataclass(frozen=True, slots=True)
class State:
    """Where a working tree stands. All empty outside a repository."""

    commit: str = ""
    branch: str = ""
    """Empty where HEAD is detached."""
    dirty: bool = False
    """Whether tracked files differ from the commit."""


def state(folder: Path, *, besides: Sequence[str] = ()) -> State:
    """The state of the repository around `folder`; changes of files that match `besides` (git's glob patterns, from
    the repository's top) don't count."""
    left_out = [f":(top,exclude,glob){pattern}" for pattern in besides]
    found = ask(
        folder,
        "status",
        "--porcelain=v2",
        "--branch",
        "--untracked-files=no",
        "--ignore-submodules",
        "--",
        ":/",
        *left_out,
    )
    headers = dict(line[2:].split(" ", 1) for line in found.splitlines() if line.startswith("# branch."))
    commit, branch = headers.get("branch.oid", ""), headers.get("branch.head", "")
    return State(
        commit="" if commit == "(initial)" else commit,
        branch="" if branch == "(detached)" else branch,
        dirty=any(not line.startswith("#") for line in found.splitlines()),
    )


@dataclass(frozen=True, slots=True)
class Commit:
    """Files as they were at a commit, branch or tag: a `baselines.Source`."""

    ref: str
    folder: Path
    """Somewhere within the repository."""

    def check(self) -> None:
        """Raise BaselineError where the repository has no such commit."""
        if self.ref.startswith("-") or not ask(
            self.folder, "rev-parse", "--verify", "--quiet", f"{self.ref}^{{commit}}"
        ):
            raise BaselineError(
                f"{shown(self.ref)!r} is no commit, branch or tag of the git repository around {self.folder}"
            )

    def names(self) -> tuple[Path, ...]:
        """The files below `folder` as they were, absolute."""
        found = ask(self.folder, "ls-tree", "-r", "-z", "--name-only", self.ref, "--", ".")
        return tuple(self.folder / name for name in found.split("\0") if name)

    def read(self, path: Path) -> bytes | None:
        """The file as it was; None where there was none."""
        # `./name` is relative to -C, which need not exist any more in the working tree.
        folder = next(parent for parent in path.parents if parent.is_dir())
        name = f"{self.ref}:./{path.relative_to(folder).as_posix()}"
        try:
            run = subprocess.run(  # noqa: S603
                ["git", "-C", str(folder), "cat-file", "blob", name],  # noqa: S607
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise BaselineError(f"git can't be run: {error.strerror or error}") from None
        return run.stdout if run.returncode == 0 else None

    def shown(self, path: Path) -> str:
        return f"{os.path.relpath(path)} at {shown(self.ref)}"
