"""What one pytest process holds: settings, the pipeline, results; the hooks that measure items and write reports."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ftcheck import baselines, options, proposals, updating
from ftcheck.errors import BaselineError, FtcheckError, MissingExtraError, UsageError, shown
from ftcheck.results import CaseResult

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.finetuned import Finetuned
    from ftcheck.pipeline import Pipeline
    from ftcheck.report.live import Live
    from ftcheck.runs import Measured
    from ftcheck.settings import Settings
    from ftcheck.spec import Case
    from ftcheck.store import Store

CASE = pytest.StashKey["Case"]()
STATE = pytest.StashKey["ItemState"]()


@dataclass(slots=True)
class ItemState:
    """What happened to one item so far."""

    finetuned: Finetuned | None = None
    result: CaseResult | None = None
    measured: Measured | FtcheckError | None = None
    """Made before its turn, where all cases are measured before the first is judged."""
    unmeasured: bool = False
    """Measuring raised: an xfail mark must not hide it."""


@dataclass(eq=False)  # pytest keeps plugins in sets
class FtSession:
    """The state of ftcheck in this process. Registered as a plugin once there is a suite."""

    config: pytest.Config
    settings: Settings
    results: dict[str, CaseResult] = field(default_factory=dict)
    """Node id -> the finished result; a rerun replaces it."""
    items: list[pytest.Item] = field(default_factory=list)
    cases: dict[tuple[Path, str], Case] = field(default_factory=dict)
    """(suite, id) -> every case of the files that were collected, selected or not."""
    unused: set[str] = field(default_factory=set)
    """Baselines that no case has, as xdist's workers found them."""
    notes: dict[str, None] = field(default_factory=dict)
    """What xdist's workers had to say after their last case, each once."""

    @classmethod
    def start(cls, config: pytest.Config) -> FtSession:
        """Read the settings. Raises pytest.UsageError for one that can't be followed."""
        try:
            settings = options.read(config)
            updating.check(settings)
            if settings.remote is not None:
                from ftcheck.store import remote

                remote.check(settings.remote)
        except (UsageError, MissingExtraError) as error:
            raise pytest.UsageError(str(error)) from None
        return cls(config, settings)

    def check_usage(self) -> None:
        """Refuse what can't be followed before anything is collected. Raises pytest.UsageError."""
        if self.worker:
            return
        try:
            self.device  # noqa: B018  resolved on access
            if self.settings.correction == "holm" and getattr(self.config.option, "numprocesses", None):
                raise UsageError("--ft-correction=holm needs all results in one process: leave -n out")
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None

    @property
    def worker(self) -> bool:
        """Whether this process is one of xdist's workers: it measures, the controller reports."""
        return hasattr(self.config, "workerinput")

    @cached_property
    def device(self) -> Device:
        """The device that --ft-device means here. Raises UsageError where it isn't there."""
        from ftcheck.devices import resolve

        return resolve(self.settings.device)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline with its store, made when the first case needs it."""
        from ftcheck.executors.inline import InlineExecutor
        from ftcheck.keys import Identifier
        from ftcheck.pipeline import Pipeline
        from ftcheck.store import default_cache_dir

        settings = self.settings
        root = Path(self.settings.cache_dir) if self.settings.cache_dir else default_cache_dir()
        if self.settings.cache == "off":
            from tempfile import TemporaryDirectory

            temporary = TemporaryDirectory(prefix="ftcheck-")
            self.config.add_cleanup(temporary.cleanup)
            root = Path(temporary.name)
        if settings.vendor is not None:
            from ftcheck import vendoring

            vendoring.use(Path(settings.vendor), root / "memo")
            settings = replace(settings, offline=True)
        return Pipeline(
            settings=settings,
            store=self._store(root),
            identifier=Identifier(root / "memo", offline=settings.offline),
            device=self.device,
            executor=InlineExecutor(),
        )

    def _store(self, root: Path) -> Store:
        from ftcheck.store import MirroredStore, Remote, Store

        settings = self.settings
        if settings.remote is None or settings.cache == "off":
            return Store(root)
        store = MirroredStore(
            root,
            Remote(settings.remote, patience=settings.remote_patience),
            readonly=settings.remote_readonly,
            replace=settings.cache == "refresh",
        )
        store.on_fetch = self.live.fetching
        return store

    @cached_property
    def live(self) -> Live:
        """Where training progress is shown."""
        from ftcheck.report.live import Live

        return Live(self.config)

    def adopt(self, item: pytest.Item, case: Case) -> None:
        """Make `item` the one that measures `case`. `-k` knows it by its id too, as reports show it."""
        item.extra_keyword_matches.add(case.id)
        item.stash[CASE] = case
        item.stash[STATE] = ItemState()
        self.cases[case.suite, case.id] = case

    @staticmethod
    def owns(item: pytest.Item) -> bool:
        """Whether `item` is a case."""
        return CASE in item.stash

    def finetuned(self, item: pytest.Item) -> Finetuned:
        """Measure the item's case, once. Raises pytest.fail.Exception with one text for whatever kept it from
        being measured."""
        state = item.stash[STATE]
        if state.finetuned is None:
            from ftcheck.finetuned import Finetuned

            case = item.stash[CASE]
            if self.settings.correction == "holm":
                self._measure_all()
            try:
                measured = self._measured(item)
            except FtcheckError as error:
                state.unmeasured = True
                state.result = self._unmeasured(item, str(error))
                raise pytest.fail.Exception(f"{case.id}: {error}", pytrace=False) from None
            except Exception as error:
                state.unmeasured = True
                state.result = self._unmeasured(item, f"{type(error).__name__}: {error}")
                raise
            state.finetuned = Finetuned(measured, self.pipeline.store)
            state.result = measured.result
            if measured.result.verdict == "incomparable":
                from ftcheck.report.terminal import incomparable

                state.unmeasured = True
                raise pytest.fail.Exception(incomparable(measured.result), pytrace=False) from None
        return state.finetuned

    def _measured(self, item: pytest.Item) -> Measured:
        """Measure and judge the item's case. Raises FtcheckError."""
        state, case = item.stash[STATE], item.stash[CASE]
        if isinstance(state.measured, FtcheckError):
            raise state.measured
        if state.measured is not None:
            return state.measured

        def peer(name: str) -> Case | None:
            return self.cases.get((case.suite, name))

        with self.live.showing(case.id) as live:
            return self.pipeline.measure(case, item.nodeid, live.progress, live.waiting, peers=peer)

    def _measure_all(self) -> None:
        """Measure all cases before the first is judged, since each verdict depends on how many margins there are."""
        states = [(item, item.stash[STATE]) for item in self.items]
        if any(state.measured is not None for _, state in states):
            return
        for item, state in states:
            try:
                state.measured = self._measured(item)
            except FtcheckError as error:
                state.measured = error
        updating.correct([(item.stash[CASE], state) for item, state in states])

    def _unmeasured(self, item: pytest.Item, error: str) -> CaseResult:
        case = item.stash[CASE]
        return CaseResult(
            suite=str(case.suite),
            case_id=case.id,
            nodeid=item.nodeid,
            task=case.task,
            checkpoint=case.checkpoint.path,
            verdict="error",
            device=self.settings.device,
            error=shown(error, 4000),
            # There is no pipeline where the device isn't there.
            notes=self.pipeline.warnings() if "pipeline" in vars(self) else (),
            limited=self.settings.limit,
        )

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = [item for item in session.items if self.owns(item)]

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """Margins that can't be proven, where a baseline knows it. Told under xdist by the results alone: there the
        process with the terminal collects nothing."""
        if self.settings.compare is not None or self.settings.seeds is not None or self.settings.limit is not None:
            return []
        cases = [item.stash[CASE] for item in items if self.owns(item)]
        return [f"note: {told}" for told in updating.unprovable(cases, lambda: self.device.kind)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if not self.settings.plan:
            return None
        if session.testsfailed and not self.config.getoption("continue_on_collection_errors"):
            return None  # pytest's own loop says that collection failed
        self._say_plan(session)
        return True

    def _say_plan(self, session: pytest.Session) -> None:
        from ftcheck.report import plan

        terminal: pytest.TerminalReporter | None = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is None:
            raise pytest.UsageError("--ft-plan is shown by pytest's terminal plugin: leave `-p no:terminal` out")
        planned = []
        terminal.ensure_newline()
        with ExitStack() as stack:
            if self.items:
                stack.enter_context(self.pipeline.identifier.at_once())
            for case in [item.stash[CASE] for item in self.items]:
                try:
                    planned.append(self.pipeline.plan(case))
                    terminal.write_line(plan.line(case.id, planned[-1]))
                except FtcheckError as error:
                    session.testsfailed += 1
                    terminal.write_line(f"{case.id}: error: {error}", red=True)
        for warning in self.pipeline.warnings() if self.items else ():
            terminal.write_line(f"note: {warning}", yellow=True)
        terminal.write_line(plan.total(planned), bold=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            if self.owns(item):
                self._release(item)

    def _release(self, item: pytest.Item) -> None:
        state = item.stash[STATE]
        if state.finetuned is not None:
            measured = state.finetuned.close()
            state.finetuned = None
            if measured is not None:
                self.pipeline.drop_models(measured, item.stash[CASE])
                self.pipeline.store.write_back()

    @pytest.hookimpl(wrapper=True, trylast=True)  # within pytest's capture: what libraries print is part of the report
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        if self.owns(item) and item.get_closest_marker("gpu") and self.device.kind == "cpu":
            pytest.skip("marked gpu, and this session's device is the CPU")
        yield
        if self.owns(item):
            self.finetuned(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        if not self.owns(pyfuncitem):
            return None
        result = pyfuncitem.stash[STATE].result
        assert result is not None, "setup measured this item"
        if result.verdict == "smoke":
            # A model trained on a handful of rows can't be held to what the body asserts.
            return True
        if result.verdict == "fail" or (self.settings.strict and result.verdict in ("inconclusive", "new")):
            from ftcheck.report.terminal import failure

            text = failure(result, self.config.invocation_params.dir, self.config.rootpath)
            raise pytest.fail.Exception(text, pytrace=False) from None
        return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if not self.owns(item):
            return report
        state = item.stash[STATE]
        if state.unmeasured and call.when == "setup":
            report.outcome = "failed"
            if hasattr(report, "wasxfail"):
                del report.wasxfail
        if state.result is not None and (call.when == "call" or (call.when == "setup" and not report.passed)):
            body_failed = call.when == "call" and call.excinfo is not None and state.result.verdict in _BODY_RUNS
            if body_failed and not (self.settings.strict and state.result.verdict != "pass"):
                assert call.excinfo is not None
                state.result = replace(
                    state.result,
                    verdict="fail",
                    notes=(*state.result.notes, f"the test's body failed: {call.excinfo.exconly()}"),
                )
            self._propose(item, held=call.when == "call" and call.excinfo is None)
            report.ft = state.result.to_json()  # type: ignore[attr-defined]
            # JUnit is written from the teardown's report, which takes the item's.
            item.user_properties += _properties(state.result)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        if report.when == "call" and report.passed:
            return _STATUS.get(str(getattr(report, "ft", {}).get("verdict")))
        return None

    def _propose(self, item: pytest.Item, *, held: bool) -> None:
        """Hand the item's proposal for a baseline to whoever writes it, if all of the test held."""
        state = item.stash[STATE]
        measured = state.finetuned._measured if state.finetuned is not None else None
        if measured is None or measured.proposal is None or state.result is None:
            return
        if held:
            proposals.save(measured.proposal, self.proposals)
        else:
            state.result = replace(state.result, update="not written: the test failed")

    @cached_property
    def proposals(self) -> Path:
        """The folder that all processes of the session leave their proposals in."""
        if self.worker:
            return Path(self.config.workerinput["ft_proposals"])  # type: ignore[attr-defined]
        from tempfile import TemporaryDirectory

        temporary = TemporaryDirectory(prefix="ftcheck-")
        self.config.add_cleanup(temporary.cleanup)
        return Path(temporary.name)

    def take(self, report: pytest.TestReport) -> None:
        """Keep the result that `report` carries; a rerun's replaces it."""
        result = CaseResult.from_json(report.ft)
        self.results[result.nodeid] = result

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if nodeid in self.results and not self.worker:
            self.live.line(self.results[nodeid])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.results:
            from ftcheck.report.terminal import table

            width = terminalreporter._tw.fullwidth
            terminalreporter.section("fine-tuned models")
            for line in table(list(self.results.values()), width=width, details=self.settings.details):
                terminalreporter.write_line(line.text, **line.markup)
        for warning in (*self.notes, *(self.pipeline.warnings() if "pipeline" in vars(self) else ())):
            terminalreporter.write_line(f"note: {warning}", yellow=True)
        for path in sorted(self.unused):
            terminalreporter.write_line(
                f"note: no case has the baseline {path} (`ftcheck baseline prune` removes it)", yellow=True
            )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if "pipeline" in vars(self) and exitstatus != pytest.ExitCode.INTERRUPTED:
            self.pipeline.store.close()
        self.unused |= set(updating.unused(self.cases, self.config.rootpath))
        if self.worker:
            self.config.workeroutput["ft_unused"] = sorted(self.unused)  # type: ignore[attr-defined]
            said = self.pipeline.warnings() if "pipeline" in vars(self) else ()
            self.config.workeroutput["ft_notes"] = list(said)  # type: ignore[attr-defined]
        elif self.settings.updates:
            for proposal in proposals.collect(self.proposals):
                try:
                    baselines.write(proposal.path, proposal.entry, proposal.statistics)
                except BaselineError as error:
                    self._say_error(str(error))
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.settings.json and not self.worker and not self.settings.plan:
            from ftcheck.report.jsonfile import write

            try:
                write(self.settings.json, list(self.results.values()), complete=int(exitstatus) in (0, 1))
            except UsageError as error:
                self._say_error(str(error))
                session.exitstatus = pytest.ExitCode.USAGE_ERROR

        if not self.worker and self.results and not self.settings.plan:
            self._summarize(complete=int(exitstatus) in (0, 1))

    def _summarize(self, *, complete: bool) -> None:
        """In a job of GitHub Actions, put the results on its page."""
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if not path:
            return
        from ftcheck.report.markdown import page

        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(page(list(self.results.values()), complete=complete))
        except OSError as error:
            self._say(f"note: the job's summary ({shown(path)}) can't be written: {error.strerror}", yellow=True)

    def _say_error(self, text: str) -> None:
        self._say(f"ERROR: {text}", red=True, bold=True)

    def _say(self, text: str, **markup: bool) -> None:
        terminal: pytest.TerminalReporter | None = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(text, **markup)


_BODY_RUNS = ("pass", "inconclusive", "new")
_STATUS = {
    "smoke": ("smoke", "s", "SMOKE"),
    "inconclusive": ("inconclusive", "I", "INCONCLUSIVE"),
    "new": ("new", "N", "NEW"),
}
"""Verdict of a test that didn't fail -> pytest's (category, letter, word)."""


def _properties(result: CaseResult) -> Iterator[tuple[str, object]]:
    """Flat numbers for JUnit."""
    yield "ft_case", result.case_id
    yield "ft_verdict", result.verdict
    for metric in result.metrics:
        yield f"ft_{metric.name}", metric.value
        if metric.interval is not None:
            yield f"ft_{metric.name}_low", metric.interval.low
            yield f"ft_{metric.name}_high", metric.interval.high
    for gate in result.gates:
        if gate.comparison is not None and gate.bound == "max_regression" and not gate.part:
            yield f"ft_{gate.metric}_worse", gate.comparison.difference
            yield f"ft_{gate.metric}_worse_low", gate.comparison.low
            yield f"ft_{gate.metric}_worse_high", gate.comparison.high
