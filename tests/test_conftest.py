"""What tests share does what it says."""

from __future__ import annotations

import sys

import pytest


def test_of_what_a_pytest_in_this_process_imports_libraries_stay(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    pytester.makepyfile(mine="", test_it="import colorsys, mine\ndef test(): pass\n")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert "colorsys" in sys.modules
    assert "mine" not in sys.modules


def test_files_that_train_come_first(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest("from tests.conftest import pytest_collection_modifyitems")
    pytester.makeini("[pytest]\nmarkers =\n  e2e: trains\n  real: trains long\n")
    body = "import pytest\ndef test_1(): pass\n@pytest.mark.{}\ndef test_2(): pass\n"
    pytester.makepyfile(
        test_a="def test_1(): pass", test_b=body.format("e2e"), test_c=body.format("real"), test_d=body.format("e2e")
    )
    result = pytester.runpytest_inprocess("--collect-only", "-q")
    found = [line for line in result.outlines if "::" in line]
    assert [line[5] for line in found] == [*"ccbbdda"]
