"""Whether a terminal can be drawn on. A module of its own, since every session of pytest-xdist asks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def is_transient(config: pytest.Config) -> bool:
    """Whether rows may be drawn and erased: on a terminal that can, which nobody reads as a log (CI) and nothing else
    writes to (-s)."""
    reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or not reporter.isatty or os.environ.get("TERM") == "dumb":
        return False
    return not os.environ.get("CI") and config.getoption("capture", "fd") != "no"
