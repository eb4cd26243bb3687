"""Collections by pytest outside of a test run: for `ftcheck validate`, and for commands that work on one case.

Imports no torch, trains nothing by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import pytest

from ftcheck.errors import FtcheckError, UsageError, shown
from ftcheck.plugin import ensure_session
from ftcheck.session import CASE, FtSession

if TYPE_CHECKING:
    from ftcheck.spec import Case

T = TypeVar("T")


@dataclass(eq=False)  # pytest keeps plugins in sets
class Gathered:
    """What a collection found. Handed to pytest as a plugin."""

    cases: list[str] = field(default_factory=list)
    """Node ids."""
    collected: dict[tuple[Path, str], Case] = field(default_factory=dict)
    """(suite, id) -> every case of the files that were collected."""
    errors: list[str] = field(default_factory=list)
    exit_code: int = pytest.ExitCode.OK

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(str(report.longrepr))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.cases = [item.nodeid for item in session.items if FtSession.owns(item)]
        for plugin in session.config.pluginmanager.get_plugins():
            if isinstance(plugin, FtSession):
                self.collected |= plugin.cases


def gather(paths: Sequence[str]) -> Gathered:
    """Collect `paths` (files, folders or node ids; none: what pytest's configuration says)."""
    gathered = Gathered()
    gathered.exit_code = _collect(paths, gathered)
    return gathered


def with_case(nodeid: str, options: Sequence[str], work: Callable[[FtSession, Case], T]) -> T:
    """What `work` makes of the case that `nodeid` names, while pytest's session with these options lasts: what the
    project sets up for its tests is there.

    Raises UsageError where it isn't one case, FtcheckError for mistakes in its suite, and whatever `work` raises.
    """
    one: _Working[T] = _Working(work=lambda session, cases: work(session, cases[0]), single=True)
    made = _worked([*options, nodeid], one)
    if made:
        return made[0]
    several = f"{len(one.cases)} cases: name one of {', '.join(one.cases[:10])}" if one.cases else "no case"
    raise UsageError(f"{shown(nodeid)} is {several}")


def with_cases(paths: Sequence[str], options: Sequence[str], work: Callable[[FtSession, Sequence[Case]], T]) -> T:
    """The same with all cases of files, folders and node ids. Raises UsageError where there is none."""
    made = _worked([*options, *paths], _Working(work=work))
    if made:
        return made[0]
    raise UsageError(f"there is no case in {shown(', '.join(paths), 300)}")


def _worked(arguments: Sequence[str], some: _Working[T]) -> list[T]:
    """What came of the work: nothing, where its cases aren't there. Raises what kept it from being done."""
    code = _collect(arguments, some)
    if some.errors:
        raise FtcheckError("\n".join(some.errors))
    if some.raised is not None:
        raise some.raised
    if not some.made and code == pytest.ExitCode.USAGE_ERROR:
        raise SystemExit(code)  # pytest itself has said why, on stderr
    return some.made


@dataclass(eq=False)
class _Working(Gathered, Generic[T]):
    """Does its work once there are cases (a `single` one), and keeps what came of it: what a hook raises ends
    pytest."""

    work: Callable[[FtSession, Sequence[Case]], T] = field(kw_only=True)
    single: bool = False
    made: list[T] = field(default_factory=list)
    raised: BaseException | None = None

    @pytest.hookimpl(trylast=True)  # once the session knows its items
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        super().pytest_collection_finish(session)
        if self.errors or not self.cases or (self.single and len(self.cases) > 1):
            return
        cases = [item.stash[CASE] for item in session.items if FtSession.owns(item)]
        try:
            self.made.append(self.work(ensure_session(session.config), cases))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  `with_case` raises it again
            self.raised = error


def _collect(arguments: Sequence[str], plugin: Gathered) -> int:
    """Collect with pytest, quietly. Returns its exit code."""
    # ftcheck is imported already, which pytest warns of: it can't rewrite its assertions. It has none to rewrite.
    ignored = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    quiet = ["--collect-only", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    # Nor are a project's addopts to choose among them (`-m "not hub"`, say).
    everything = ["-m", "", "-k", ""]
    # Not without pytest's terminal plugin: a project's addopts may hold its options.
    with redirect_stdout(StringIO()):
        return int(pytest.main([*quiet, *ignored, *everything, *arguments], plugins=[plugin]))
