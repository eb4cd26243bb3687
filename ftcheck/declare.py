"""`@ftcheck.case`: a test function that declares a case. It records what was written and where; nothing is checked
yet."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, Never, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def case(*unnamed: Never, **fields: Any) -> Callable[[Function], Function]:
    """Declare that a test function fine-tunes a model and judges it before its body runs.

    Takes a suite's fields by name: `checkpoint`, `task`, `data`, `training`, `seeds`, `metrics`, `gates`, `matrix`, ...
    (docs/suites.md). Stacks with pytest's marks in any order. The function may take the fixture `finetuned`, and as
    arguments fields that `pytest.mark.parametrize` overrides.
    """
    line = sys._getframe(1).f_lineno
    if unnamed:
        raise _error(
            f"line {line}: @ftcheck.case takes fields by name: @ftcheck.case(checkpoint=..., task=..., data=...)"
        )

    def declare(function: Function) -> Function:
        if not isinstance(function, FunctionType):
            raise _error(f"line {line}: @ftcheck.case decorates a function, not {type(function).__name__} {function!r}")
        if "." in function.__qualname__.rpartition("<locals>.")[2]:
            raise _error(
                f"line {line}: @ftcheck.case decorates functions of a module, not methods: {function.__qualname__}"
            )
        if "__ftcheck__" in vars(function):
            raise _error(
                f"line {line}: {function.__name__} has @ftcheck.case twice; use `matrix` for several variants of a case"
            )
        function.__ftcheck__ = (fields, line)  # type: ignore[attr-defined]
        function.__test__ = True  # type: ignore[attr-defined]
        if "matrix" in fields:
            import pytest

            pytest.mark.usefixtures("ftcheck_variant")(function)
        return function

    return declare


def _error(message: str) -> Exception:
    """What pytest shows of a file without a traceback."""
    import pytest  # not before: `ftcheck.evaluate` takes declared functions, and does without it

    return pytest.Collector.CollectError(message)
