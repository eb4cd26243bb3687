"""What one pytest process holds: settings, the pipeline, items; the hooks that measure them. What becomes of their
results is `reporting`."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ftcheck import baselines, correcting, options, privacy, proposals, shared, trackers, updating
from ftcheck.containing import contained
from ftcheck.errors import BaselineError, FtcheckError, MissingExtraError, UsageError, shown
from ftcheck.foreseeing import Foresight
from ftcheck.importing import keep, plainly
from ftcheck.report import junit
from ftcheck.reporting import Reporting
from ftcheck.results import CaseResult

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.finetune import Progress
    from ftcheck.finetuned import Finetuned
    from ftcheck.pipeline import Pipeline
    from ftcheck.runs import Measured
    from ftcheck.settings import Settings
    from ftcheck.spec import Case

CASE = pytest.StashKey["Case"]()
STATE = pytest.StashKey["ItemState"]()


@dataclass(slots=True)
class ItemState:
    """What happened to one item so far."""

    finetuned: Finetuned | None = None
    result: CaseResult | None = None
    error: Exception | None = None
    """Why it couldn't be measured before its turn, where all cases are measured before the first is judged."""
    unmeasured: bool = False
    """Measuring raised: an xfail mark must not hide it."""
    crashed: bool = False
    """What it raised is no error of ftcheck's; its traceback keeps a model, or processes, until the test is over."""


@dataclass(eq=False)  # pytest keeps plugins in sets
class FtSession(Reporting):
    """The state of ftcheck in this process. Registered as a plugin once there is a suite."""

    items: list[pytest.Item] = field(default_factory=list)
    turn: pytest.Item | None = None
    """The item that runs now; what it measures may be another's case."""
    alone: bool = False
    """Whether the session runs nothing but cases."""
    begun: bool = False
    """Whether the executor knows of the session's cases."""
    cases: dict[tuple[Path, str], Case] = field(default_factory=dict)
    """(suite, id) -> every case of the files that were collected, selected or not."""

    @classmethod
    def start(cls, config: pytest.Config) -> FtSession:
        """Read the settings. Raises pytest.UsageError for one that can't be followed."""
        privacy.begin()
        try:
            settings = options.read(config)
            _check_workers(config, settings)
            updating.check(settings)
            trackers.check(settings)
            if settings.verify is not None:
                from ftcheck import verifying

                verifying.check(settings)
            if settings.remote is not None:
                from ftcheck.store import remote

                remote.check(settings.remote)
        except (UsageError, MissingExtraError) as error:
            raise pytest.UsageError(privacy.hidden(str(error))) from None
        return cls(config, settings)

    def check_usage(self) -> None:
        """Refuse what can't be followed before anything is collected. Raises pytest.UsageError."""
        if self.worker:
            return
        try:
            self.device  # noqa: B018  resolved on access
            if self.settings.executor == "ray":
                from ftcheck.executors import ray_cluster

                ray_cluster.check()
        except (MissingExtraError, UsageError) as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def device(self) -> Device:
        """The device that --ft-device means here. Raises UsageError where it isn't there."""
        with plainly():
            from ftcheck.devices import resolve

        return resolve(self.settings.device)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline with its store, made when the first case needs it."""
        from ftcheck.evaluating import pipeline_in
        from ftcheck.store import default_cache_dir

        root = Path(self.settings.cache_dir) if self.settings.cache_dir else default_cache_dir()
        if self.settings.cache == "off":
            root = shared.folder(self.config) / "store"
        share = shared.folder(self.config) / "commits" if self.worker else None
        made = pipeline_in(root, self.settings, self.device, share)
        made.store.on_fetch = self.live.fetching
        self.config.add_cleanup(made.executor.close)
        return made

    def warnings(self) -> tuple[str, ...]:
        """What the store has to tell the reader since it was asked last; nothing where there was no need of it."""
        return self.pipeline.warnings() if "pipeline" in vars(self) else ()

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
            with plainly():
                from ftcheck.finetuned import Finetuned

            case = item.stash[CASE]
            try:
                measured = self._corrected(item) if self.settings.correction == "holm" else self._measured(item)
            except FtcheckError as error:
                state.unmeasured = True
                state.result = self._unmeasured(item, str(error))
                raise pytest.fail.Exception(f"{case.id}: {error}", pytrace=False) from None
            except Exception as error:
                state.unmeasured = state.crashed = True
                state.result = self._unmeasured(item, f"{type(error).__name__}: {error}")
                raise
            state.finetuned = Finetuned(measured, self.pipeline.store)
            state.result = measured.result
            if measured.result.verdict in ("incomparable", "error"):
                from ftcheck.report.terminal import unjudged

                state.unmeasured = True
                raise pytest.fail.Exception(unjudged(measured.result), pytrace=False) from None
        return state.finetuned

    def _measured(self, item: pytest.Item) -> Measured:
        """Measure and judge the item's case. Raises FtcheckError."""
        case = item.stash[CASE]

        def peer(name: str) -> Case | None:
            return self.cases.get((case.suite, name))

        self._begin()
        with self.progress.showing(case.id, self.turn or item) as told, contained():

            def on_progress(seed: int, progress: Progress) -> None:
                told.progress(seed, progress)
                if self.file is not None:
                    self.file.tick()

            return self.pipeline.measure(case, item.nodeid, on_progress, told.waiting, peers=peer)

    def _begin(self) -> None:
        """Before the first case is measured, tell the executor of all of them."""
        if self.begun:
            return
        self.begun = True
        with plainly():
            from ftcheck import judging, references  # noqa: F401  what every case needs

            self.pipeline  # noqa: B018  made on access
        if self.alone:
            keep()
        with self.pipeline.identifier.at_once():
            if self.settings.verify is not None:
                from ftcheck import verifying

                cases = (item.stash[CASE] for item in self.items)
                chosen = verifying.choice(self.pipeline, cases, self.settings.verify, shared.folder(self.config))
                self.pipeline.chosen.update(chosen.predict)
            for item in self.items:
                if not any(map(item.get_closest_marker, _MAYBE_NOT)):
                    with suppress(FtcheckError):  # told when its turn comes
                        self.pipeline.begin(item.stash[CASE])

    def _corrected(self, item: pytest.Item) -> Measured:
        """The item's case as it is judged among all cases of the session. Raises FtcheckError."""
        state, result = item.stash[STATE], self._final.get(item.nodeid)
        if state.error is not None:
            raise state.error
        mine = self._measured(item)
        return mine if result is None else correcting.settled(mine, result)

    @cached_property
    def _final(self) -> dict[str, CaseResult]:
        """Node id -> the final result of every case of the session that could be measured."""
        items = {item.nodeid: item for item in self.items if not self._skipped(item)}
        outcomes = correcting.measured(
            list(items),
            lambda nodeid: self._outcome(items[nodeid]),
            shared.folder(self.config) / "outcomes",
            process=self.config.workerinput["workerid"] if self.worker else "",  # type: ignore[attr-defined]
        )
        for nodeid, outcome in outcomes.items():
            self.pipeline.refreshed.update(outcome.refreshed)
            if outcome.error:
                items[nodeid].stash[STATE].error = FtcheckError(outcome.error)
        return correcting.corrected(outcomes)

    def _lacks_gpu(self, item: pytest.Item) -> bool:
        return item.get_closest_marker("gpu") is not None and self.device.kind == "cpu"

    def _skipped(self, item: pytest.Item) -> bool:
        """Whether it is known beforehand that the item won't run."""
        conditions = [c for mark in item.iter_markers("skipif") for c in (*mark.args, mark.kwargs.get("condition"))]
        return self._lacks_gpu(item) or item.get_closest_marker("skip") is not None or True in conditions

    def _outcome(self, item: pytest.Item) -> correcting.Outcome:
        """What measuring the item's case comes to. At its turn it comes out of the store: statistics of all cases at
        once are much to hold."""
        state = item.stash[STATE]
        try:
            result = self._measured(item).result
        except FtcheckError as error:
            return correcting.Outcome(error=str(error))
        except Exception as error:  # noqa: BLE001  raised at its own turn
            state.error = error
            return correcting.Outcome()
        return correcting.Outcome(result=result, refreshed=tuple(sorted(self.pipeline.refreshed)))

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
            notes=self.warnings(),
            update="not written: it was not measured" if self.settings.updates else "",
            limited=self.settings.limit,
        )

    @pytest.hookimpl(tryfirst=True)  # before xdist's worker says that it is done
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = [item for item in session.items if self.owns(item)]
        self.alone = len(self.items) == len(session.items)
        self.planned = dict.fromkeys(item.nodeid for item in self.items)
        self.begin_file()
        if self.worker:
            shared.leave_cases(self.config, lambda: {i.nodeid: self._unmeasured(i, "").to_json() for i in self.items})
            shared.leave_notes(self.config, lambda: self._foreseen(self.items))

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """Told here by the process that has both the items and the terminal; xdist's workers have their notes shown."""
        return self._foreseen([item for item in items if self.owns(item)])

    def _foreseen(self, items: Sequence[pytest.Item]) -> list[str]:
        """Margins that can't be proven."""
        foresight = Foresight(
            settings=self.settings, device=lambda: self.device.kind, store=lambda: self.pipeline.store
        )
        return [f"note: {told}" for told in foresight.told(item.stash[CASE] for item in items)]

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
        for warning in self.warnings():
            terminal.write_line(f"note: {warning}", yellow=True)
        terminal.write_line(plan.total(planned), bold=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.turn = item
        try:
            return (yield)
        finally:
            if self.owns(item):
                self._release(item)

    def _release(self, item: pytest.Item) -> None:
        state = item.stash[STATE]
        state.result = None  # it was told
        if state.finetuned is not None:
            measured = state.finetuned.close()
            state.finetuned = None
            if measured is not None:
                self.pipeline.drop_models(measured, item.stash[CASE])
                self.pipeline.store.write_back()
        if state.crashed and "torch" in sys.modules:
            from ftcheck.finetune.environment import give_back

            give_back(str(self.device))

    @pytest.hookimpl(wrapper=True, trylast=True)  # within pytest's capture: what libraries print is part of the report
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        if self.owns(item) and self._lacks_gpu(item):
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
        _hide_secrets(report)
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
                    notes=(*state.result.notes, f"the test's body failed: {privacy.hidden(call.excinfo.exconly())}"),
                )
            self._propose(item, held=call.when == "call" and call.excinfo is None)
            report.ft = state.result.to_json()  # type: ignore[attr-defined]
            # JUnit is written from the teardown's report, which takes the item's.
            item.user_properties += junit.properties(state.result)
        return report

    def _propose(self, item: pytest.Item, *, held: bool) -> None:
        """Hand the item's proposal for a baseline to whoever writes it, if all of the test held."""
        state = item.stash[STATE]
        measured = state.finetuned.measured if state.finetuned is not None else None
        if measured is None or measured.proposal is None or state.result is None:
            return
        if held:
            proposals.save(measured.proposal, self.proposals)
        else:
            state.result = replace(state.result, update="not written: the test failed")

    @property
    def proposals(self) -> Path:
        """The folder that all processes of the session leave their proposals in."""
        return shared.folder(self.config) / "proposals"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self.live.erase()
        if "pipeline" in vars(self) and exitstatus != pytest.ExitCode.INTERRUPTED:
            self.pipeline.store.close()
        self.unused |= set(updating.unused(self.cases, self.config.rootpath))
        if self.worker:
            self.config.workeroutput["ft_unused"] = sorted(self.unused)  # type: ignore[attr-defined]
            self.config.workeroutput["ft_notes"] = list(self.warnings())  # type: ignore[attr-defined]
        elif self.settings.updates:
            for proposal in proposals.collect(self.proposals, self.results.values()):
                try:
                    baselines.write(proposal.path, proposal.entry, proposal.statistics)
                except BaselineError as error:
                    self.say(f"ERROR: {error}", red=True, bold=True)
                    session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if not self.worker and not self.settings.plan:
            over = int(exitstatus) in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
            try:
                self.report(complete=over and not self.missing)
            except UsageError as error:
                self.say(f"ERROR: {error}", red=True, bold=True)
                session.exitstatus = pytest.ExitCode.USAGE_ERROR


def _check_workers(config: pytest.Config, settings: Settings) -> None:
    """Raise UsageError where pytest-xdist has workers, and each would have some of its own."""
    workers = hasattr(config, "workerinput") or getattr(config.option, "dist", "no") != "no"
    if workers and (settings.executor != "inline" or (settings.jobs or 1) > 1):
        raise UsageError(
            "pytest-xdist's workers (-n, --tx) and --ft-jobs or --ft-executor both train several at once: leave one of "
            "them out"
        )


def _hide_secrets(report: pytest.TestReport) -> None:
    """Of what libraries and tests printed and raised: locals of a traceback (`--showlocals`), say."""
    report.sections = [(name, privacy.hidden(content)) for name, content in report.sections]
    if report.failed and privacy.hidden(text := report.longreprtext) != text:
        report.longrepr = privacy.hidden(text)


_MAYBE_NOT = ("skip", "skipif", "gpu")
"""Marks of items that may never be measured."""
_BODY_RUNS = ("pass", "inconclusive", "new")
