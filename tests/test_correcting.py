"""Cases that the processes of a session share out among themselves: a case is at one's hands, or at nobody's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftcheck.correcting import Outcome, begun_by, measured

MADE = Outcome(refreshed=("made",))


def dies(*arguments: object) -> Outcome:
    raise KeyboardInterrupt


def test_a_case_that_was_broken_off_is_measured_by_the_next(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        measured(["a"], dies, tmp_path, process="gw0")
    assert begun_by("gw0", tmp_path) is None
    assert measured(["a"], lambda nodeid: MADE, tmp_path, process="gw1") == {"a": MADE}


def test_a_process_that_is_gone_while_it_begins_has_begun_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others look all the while, and read no half-written file."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            measured(["a"], dies, tmp_path, process="gw0")
    assert begun_by("gw0", tmp_path) is None
    assert measured(["a"], lambda nodeid: MADE, tmp_path, process="gw1") == {"a": MADE}
