"""`ftcheck validate`: a collection by pytest with a plugin that gathers cases and errors. Imports no torch, trains
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ftcheck.session import FtSession

if TYPE_CHECKING:
    from ftcheck.spec import Case


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
    # ftcheck is imported already, which pytest warns of: it can't rewrite its assertions. It has none to rewrite.
    ignored = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    quiet = ["--collect-only", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    # Nor are a project's addopts to choose among them (`-m "not hub"`, say).
    everything = ["-m", "", "-k", ""]
    # Not without pytest's terminal plugin: a project's addopts may hold its options.
    with redirect_stdout(StringIO()):
        gathered.exit_code = int(pytest.main([*quiet, *ignored, *everything, *paths], plugins=[gathered]))
    return gathered
