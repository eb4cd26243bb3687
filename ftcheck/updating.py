"""Rules of a whole session on baselines: who may update them, and which are unused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import baselines
from ftcheck.errors import UsageError

if TYPE_CHECKING:
    from ftcheck.settings import Settings
    from ftcheck.spec import Case


def check(settings: Settings) -> None:
    """Refuse an update that can't be one. Raises UsageError."""
    if settings.reason is not None and not settings.updates:
        raise UsageError("--ft-reason says why a baseline is loosened: it goes with --ft-update")
    if not settings.updates:
        return
    if in_ci() and not settings.allow_ci_update:
        raise UsageError(
            "--ft-update writes baselines, which somebody must review, and CI is set: update them on a machine of "
            "yours and commit them, or give --ft-allow-ci-update"
        )
    if settings.limit is not None:
        raise UsageError("--ft-limit is a smoke run, which is no baseline: leave it or --ft-update out")


def in_ci() -> bool:
    """Whether nobody reviews what is written here."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def unused(cases: Mapping[tuple[Path, str], Case], root: Path, *, besides: Iterable[Path] = ()) -> Iterator[str]:
    """Baselines beside the collected suites that no case has, relative to `root`; `besides` are more folders of
    baselines to look in, whose suites may all be gone."""
    used = (baselines.place(suite, name) for suite, name in cases)
    suites = {suite for suite, _ in cases}
    folders = {suite.parent / baselines.FOLDER for suite in suites} | set(besides)
    stems = {(suite.parent / baselines.FOLDER, suite.stem) for suite in suites}
    for path in baselines.unused(folders, used):
        folder, stem = path.parent.parent, path.parent.name
        # Those of a suite that was not collected this time may well be used.
        if (folder, stem) in stems or not any(
            (folder.parent / f"{stem}{s}").is_file() for s in (".py", ".yaml", ".yml")
        ):
            yield os.path.relpath(path, root)
