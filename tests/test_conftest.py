"""What tests share does what it says."""

from __future__ import annotations

import sys

import pytest

from ftcheck import store
from ftcheck.executors import forkserver
from tests.conftest import as_they_were


def test_of_what_a_pytest_in_this_process_imports_libraries_stay(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    pytester.makepyfile(mine="", test_it="import colorsys, mine\ndef test(): pass\n")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert "colorsys" in sys.modules
    assert "mine" not in sys.modules


def test_what_a_project_puts_in_the_place_of_ftchecks_own_is_taken_away(pytester: pytest.Pytester) -> None:
    removes, preloaded = store.remove_model, forkserver.PRELOADED
    pytester.makeconftest(
        "from ftcheck import store\n"
        "from ftcheck.executors import forkserver\n"
        "store.remove_model = lambda *given: None\n"
        "forkserver.PRELOADED = ('nothing',)\n"
    )
    with as_they_were():
        pytester.runpytest_inprocess("-p", "no:cacheprovider")
        assert forkserver.PRELOADED == ("nothing",)
    assert store.remove_model is removes
    assert forkserver.PRELOADED is preloaded


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
