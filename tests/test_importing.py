"""Blocks that import and read do without the collector and pytest's rewriting of asserts, and put both back."""

from __future__ import annotations

import gc
import sys

import pytest

from ftcheck.importing import plainly, uncollected


def rewriting() -> list[object]:
    return [finder for finder in sys.meta_path if type(finder).__module__ == "_pytest.assertion.rewrite"]


def test_the_collector_waits_and_goes_on() -> None:
    def fail() -> None:
        with uncollected():
            assert not gc.isenabled()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with uncollected(), uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_pytest_rewrites_asserts_again_afterwards() -> None:
    def fail() -> None:
        with plainly():
            with plainly():
                assert not rewriting()
            assert not rewriting()
            raise KeyError

    class Finder: ...

    first = Finder()
    sys.meta_path.insert(0, first)  # type: ignore[arg-type]
    try:
        before = list(sys.meta_path)
        assert rewriting()
        with pytest.raises(KeyError):
            fail()
        assert sys.meta_path == before
    finally:
        sys.meta_path.remove(first)  # type: ignore[arg-type]


def test_finders_that_come_within_the_block_stay() -> None:
    class Finder: ...

    finder, before = Finder(), list(sys.meta_path)
    try:
        with plainly():
            sys.meta_path.append(finder)  # type: ignore[arg-type]
        assert sys.meta_path == [*before, finder]
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]


def test_a_suites_own_modules_are_rewritten_and_ftchecks_are_not(pytester: pytest.Pytester) -> None:
    pytester.makefile(".ft.yaml", suite="cases: {}")
    pytester.makeconftest(
        """
        import sys
        def pytest_unconfigure(config):
            rewritten = [name for name, module in sys.modules.items()
                         if type(getattr(module, "__loader__", None)).__module__ == "_pytest.assertion.rewrite"]
            print("REWRITTEN", [name for name in rewritten if name.startswith("ftcheck.s")], "conftest" in rewritten)
        """
    )
    done = pytester.runpytest_subprocess("-s")
    assert "REWRITTEN [] True" in done.stdout.str()
