"""Rules of a whole session: who may update baselines, which are unused, which margins can't be proven, what many
margins at once mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import baselines, gates, power
from ftcheck.errors import BaselineError, FtcheckError, UsageError

if TYPE_CHECKING:
    from ftcheck.session import ItemState
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
    used = {baselines.place(suite, name) for suite, name in cases}
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


def unprovable(cases: Iterable[Case], device: Callable[[], str]) -> Iterator[str]:
    """What the baselines of `cases` know of margins that can't be proven. Only told, so what can't be read isn't: the
    case itself will say it. `device` is asked for the kind of device once there is a baseline, since it may take
    long."""
    for case in cases:
        if case.vs != "baseline" or not any(gate.max_regression is not None for gate in case.gates):
            continue
        try:
            entries = baselines.read(baselines.place(case.suite, case.id)).entries
            entry = entries.get(device()) if entries else None
        except (BaselineError, UsageError):
            continue
        if entry is not None and (told := power.unprovable(case, entry)):
            yield told


def correct(measured: Iterable[tuple[Case, ItemState]]) -> None:
    """Holm's correction over all margins of a session."""
    states = [
        (case, state)
        for case, state in measured
        if state.measured is not None and not isinstance(state.measured, FtcheckError)
    ]
    results = [state.measured.result.gates for _, state in states]  # type: ignore[union-attr]
    for (_, state), found in zip(states, gates.corrected(results), strict=True):
        judged = state.measured
        assert judged is not None
        assert not isinstance(judged, FtcheckError)
        if found == judged.result.gates:
            continue
        result = replace(judged.result, gates=found, verdict=gates.verdict(found))
        state.measured = replace(judged, result=result)
