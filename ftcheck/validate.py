"""pytest's sessions outside of a test run: for `ftcheck validate`, and for commands that work on one case.

Imports no torch, trains nothing by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pytest

from ftcheck import options as ft_options
from ftcheck.errors import FtcheckError, UsageError, shown
from ftcheck.plugin import ensure_session, stay_in_this_process
from ftcheck.results import CaseResult
from ftcheck.session import CASE, STATE, FtSession

if TYPE_CHECKING:
    from ftcheck.runs import Measured
    from ftcheck.settings import Settings
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

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.option.xmlpath = None  # a project's addopts may ask for JUnit of its tests; these are none

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(str(report.longrepr))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.cases = [item.nodeid for item in session.items if FtSession.owns(item)]
        for plugin in session.config.pluginmanager.get_plugins():
            if isinstance(plugin, FtSession):
                self.collected |= plugin.cases

    def pytest_plugin_registered(self, plugin: object) -> None:
        if isinstance(plugin, FtSession):  # from the start: a results file is begun as soon as its cases are known
            plugin.settings = _without_reports(plugin.settings)


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

    def collected(items: Sequence[pytest.Item]) -> T:
        (item,) = items
        return work(ensure_session(item.config), item.stash[CASE])

    one = _One(work=collected)
    return one.outcome(_collect([*options, nodeid], one), nodeid)


def with_cases(paths: Sequence[str], options: Sequence[str], work: Callable[[FtSession, Sequence[Case]], T]) -> T:
    """The same with all cases of files, folders and node ids. Raises UsageError where there is none."""

    def collected(items: Sequence[pytest.Item]) -> T:
        return work(ensure_session(items[0].config), [item.stash[CASE] for item in items])

    some = _Some(work=collected)
    return some.outcome(_collect([*options, *paths], some), ", ".join(paths))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A case whose test has run."""

    case: Case
    result: CaseResult
    """Finished: what the test's body came to is in it."""
    measured: Measured | None
    """None where it could not be measured; `result` says why."""
    root: Path
    """pytest's root directory."""


def with_judged(nodeid: str, options: Sequence[str], work: Callable[[Judged], T]) -> T:
    """What `work` makes of the case that `nodeid` names, once its test has run: measuring, gates, and its body.

    The session writes no report and no baseline. Raises as `with_case` does, and UsageError where the test came to no
    result (it was skipped, say).
    """
    one = _Ran(work=lambda items: work(one.judged(items[0])))
    return one.outcome(_pytest([*options, nodeid], one), nodeid)


@dataclass(eq=False)
class _Some(Gathered, Generic[T]):
    """Does its work once there are cases, and keeps what came of it: what a hook raises ends pytest."""

    work: Callable[[Sequence[pytest.Item]], T] = field(kw_only=True)
    made: list[T] = field(default_factory=list)
    raised: BaseException | None = None

    @pytest.hookimpl(trylast=True)  # once the session knows its items
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        super().pytest_collection_finish(session)
        session.items[:] = [item for item in session.items if FtSession.owns(item)]
        if not self.errors and not self.refusal(""):
            self.chosen(session.items)
        else:
            session.items.clear()

    def chosen(self, items: Sequence[pytest.Item]) -> None:
        """These are the cases."""
        self.do(items)

    def do(self, items: Sequence[pytest.Item]) -> None:
        try:
            self.made.append(self.work(items))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  `outcome` raises it again
            self.raised = error

    def outcome(self, code: int, given: str) -> T:
        """What came of it, in a session that ended with `code`. Raises what kept anything from coming of it."""
        if self.errors:
            raise FtcheckError("\n".join(self.errors))
        if self.raised is not None:
            raise self.raised
        if self.made:
            return self.made[0]
        if code == pytest.ExitCode.USAGE_ERROR:
            raise SystemExit(code)  # pytest itself has said why, on stderr
        raise UsageError(
            self.refusal(shown(given, 300))
            or f"{shown(given, 300)} came to no result: its test was skipped, or broke off"
        )

    def refusal(self, given: str) -> str:
        """What is wrong with the cases that were found, if anything."""
        return "" if self.cases else f"there is no case in {given}"


@dataclass(eq=False)
class _One(_Some[T]):
    """The same with exactly one."""

    def refusal(self, given: str) -> str:
        if len(self.cases) > 1:
            return f"{given} is {len(self.cases)} cases: name one of {', '.join(self.cases[:10])}"
        return "" if self.cases else f"{given} is no case"


@dataclass(eq=False)
class _Ran(_One[T]):
    """Does its work once the one test is over and torn down, while its runs are still at hand."""

    item: pytest.Item | None = None
    result: CaseResult | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> None:
        stay_in_this_process(config)

    def chosen(self, items: Sequence[pytest.Item]) -> None:
        (self.item,) = items
        session = ensure_session(self.item.config)
        session.settings = replace(session.settings, update=False, update_new=False, plan=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "ft"):
            self.result = CaseResult.from_json(report.ft)
        if report.when == "teardown" and report.passed and self.result is not None and self.item is not None:
            self.do([self.item])

    def judged(self, item: pytest.Item) -> Judged:
        assert self.result is not None, "the item's report carried it"
        finetuned = item.stash[STATE].finetuned
        return Judged(
            case=item.stash[CASE],
            result=self.result,
            measured=finetuned.measured if finetuned is not None else None,
            root=item.config.rootpath,
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.item is not None:
            ensure_session(session.config).results.clear()


def _without_reports(settings: Settings) -> Settings:
    """The same, but nothing that a session writes: a results file of the user's is not to be replaced by this one's."""
    outputs: dict[str, Any] = {
        option.name: None
        for option in ft_options.OPTIONS
        if option.kind == "path" and option.name not in ("cache_dir", "vendor")
    }
    return replace(settings, **outputs)


def _collect(arguments: Sequence[str], plugin: Gathered) -> int:
    """Collect with pytest, quietly. Returns its exit code."""
    return _pytest(["--collect-only", "--continue-on-collection-errors", *arguments], plugin)


def _pytest(arguments: Sequence[str], plugin: Gathered) -> int:
    """Run pytest, quietly. Returns its exit code."""
    # ftcheck is imported already, which pytest warns of: it can't rewrite its assertions. It has none to rewrite.
    ignored = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    # Nor are a project's addopts to choose among them (`-m "not hub"`, say).
    everything = ["-m", "", "-k", ""]
    # Not without pytest's terminal plugin: a project's addopts may hold its options.
    with redirect_stdout(StringIO()):
        return int(pytest.main(["-p", "no:cacheprovider", *ignored, *everything, *arguments], plugins=[plugin]))
