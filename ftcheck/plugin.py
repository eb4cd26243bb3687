"""pytest hooks: a guard and one call each. Imports nothing but pytest and the standard library until a suite is
found."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ftcheck import options

if TYPE_CHECKING:
    from ftcheck.finetuned import Finetuned
    from ftcheck.session import FtSession

UPDATING = ("FTCHECK_UPDATE", "FTCHECK_UPDATE_NEW", "FTCHECK_REASON")
SESSION = pytest.StashKey["FtSession"]()
"""The session's state; there only once a suite was found or an --ft option was given."""


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_to(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    if config.getoption("ft_plan"):
        stay_in_this_process(config)  # which answers a plan; workers would each print their own


def stay_in_this_process(config: pytest.Config) -> None:
    """Take back what pytest-xdist was asked for."""
    for name, value in (("numprocesses", None), ("dist", "no"), ("tx", [])):
        if hasattr(config.option, name):
            setattr(config.option, name, value)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        _share_cores(config.workerinput["workercount"])
    # Here and not at the first suite: a test file uses its marks while it is imported.
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    config.pluginmanager.register(Intake(config), "ftcheck-intake")
    given = any(config.getoption(f"ft_{option.name}") is not None for option in options.OPTIONS)
    if given or any(name in os.environ for name in UPDATING):  # what can't be followed is said before collection
        ensure_session(config).check_usage()


def _share_cores(workers: int) -> None:
    """Give this one of pytest-xdist's workers its part of the cores: torch would start a thread for each core in every
    worker, and they'd wait for each other many times longer than they work."""
    from ftcheck import machine

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(machine.cores()) // workers)))


def ensure_session(config: pytest.Config) -> FtSession:
    """This process's session, made when first needed. Raises pytest.UsageError for settings that can't be followed."""
    if SESSION not in config.stash:
        from ftcheck.importing import plainly

        with plainly():
            from ftcheck.session import FtSession
            from ftcheck.terminating import Termination

        # Of torch about itself, wherever torchao is installed: transformers imports that.
        config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
        config.stash[SESSION] = FtSession.start(config)
        config.pluginmanager.register(config.stash[SESSION], "ftcheck-session")
        Termination.install(config)
    return config.stash[SESSION]


MARKS = (
    "slow: a case that takes long",
    "gpu: a case that needs a GPU: skipped where ftcheck's device is the CPU",
    "hub: a case whose checkpoint or data come from the Hugging Face Hub",
)


class Intake:
    """Takes results off the reports that carry one: from this process's items, or from those of xdist's workers, where
    this process has no items and so no session until the first result comes."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "ft") and not hasattr(self.config, "workerinput"):
            ensure_session(self.config).take(report)
        if hasattr(report, "ft_progress") and hasattr(report, "node"):  # in the process that has the terminal
            ensure_session(self.config).take_progress(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell one of xdist's workers which folder it shares with the others and with this process, and how often to
        tell of progress."""
        from ftcheck import shared
        from ftcheck.report import tty

        node.workerinput |= options.handed_over(self.config)
        node.workerinput["ft_transient"] = tty.is_transient(self.config)
        shared.share(self.config, node.workerinput)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        from ftcheck import shared

        cases = shared.cases_of(self.config)
        if cases:
            ensure_session(self.config).expect(cases)
        notes = shared.notes_of(self.config, node.workerinput)
        terminal: pytest.TerminalReporter | None = self.config.pluginmanager.getplugin("terminalreporter")
        if notes and terminal is not None:
            terminal.ensure_newline()
            for note in notes:
                terminal.write_line(note)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> None:
        """What one of xdist's workers died of is that case's error."""
        from ftcheck import shared

        cases = shared.cases_of(self.config)
        if crashitem in cases:
            ensure_session(self.config).crashed(report, cases, sched.mark_test_pending)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_testnodedown(self, node: Any) -> None:
        if SESSION in self.config.stash:
            self.config.stash[SESSION].live.erase()
        output = getattr(node, "workeroutput", {})
        if output.get("ft_unused"):
            ensure_session(self.config).unused.update(output["ft_unused"])
        if output.get("ft_notes"):
            ensure_session(self.config).notes.update(dict.fromkeys(output["ft_notes"]))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name.endswith((".ft.yaml", ".ft.yml")):
        from ftcheck.importing import plainly

        with plainly():
            from ftcheck.collect import SuiteFile

        suite: pytest.Collector = SuiteFile.from_parent(parent, path=file_path)
        return suite
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "__ftcheck__" in vars(metafunc.function):
        from ftcheck.collect import parametrize

        parametrize(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if isinstance(collector, pytest.Module | pytest.Class) and any(
        isinstance(node, pytest.Function) and "__ftcheck__" in vars(node.function) for node in report.result or ()
    ):
        from ftcheck.importing import plainly

        with plainly():
            from ftcheck.collect import attach_cases, failed
        try:
            session = ensure_session(collector.config)
        except pytest.UsageError as error:
            if not hasattr(collector.config, "workerinput"):
                raise
            failed(report, str(error))  # one of pytest-xdist's workers that ends tells nobody why
        else:
            attach_cases(session, collector, report)
    return report


@pytest.fixture
def finetuned(request: pytest.FixtureRequest) -> Finetuned:
    """The fine-tuned model of this case: `metrics`, `predict`, `examples`, `model`, `tokenizer`."""
    if SESSION not in request.config.stash or not request.config.stash[SESSION].owns(request.node):
        pytest.fail(
            "the fixture `finetuned` belongs to a case: decorate this test with @ftcheck.case(...)", pytrace=False
        )
    return request.config.stash[SESSION].finetuned(request.node)


@pytest.fixture
def ftcheck_variant(request: pytest.FixtureRequest) -> Any:
    """Which entry of a case's `matrix` this item is."""
    return request.param
