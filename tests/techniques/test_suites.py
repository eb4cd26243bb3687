"""The suites of techniques that ship are valid; those that take a while to run are run by their techniques' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck import catalogue, suitefile
from ftcheck.spec import expand
from tests.techniques.trainings import SUITES


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.ft.yaml")), ids=lambda path: path.name.partition(".")[0])
def test_a_shipped_suite_is_valid_and_names_a_technique(path: Path) -> None:
    cases = expand(suitefile.read(path), catalogue.installed())
    assert any(case.techniques for case in cases)
