"""Suite files -> pytest items. Both forms take one path: declarations, handed to `spec.expand`, give each item its
case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from ftcheck import catalogue, suitefile
from ftcheck.errors import Location, SuiteError, SuiteErrors
from ftcheck.importing import uncollected
from ftcheck.spec import Case, Declaration, expand, keys_of, link
from ftcheck.spec.matrix import combinations

if TYPE_CHECKING:
    from ftcheck.session import FtSession

VARIANT = "ftcheck_variant"


class SuiteFile(pytest.Module):
    """A `*.ft.yaml` file: a module with one function per case, so that pytest's own collection makes the items."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        with uncollected():
            return self._collected()

    def _collected(self) -> list[pytest.Item | pytest.Collector]:
        try:
            cases = link(expand(suitefile.read(self.path), catalogue.installed()), catalogue.installed())
        except SuiteErrors as error:
            raise self.CollectError(str(error)) from None
        module = ModuleType(self.path.name)
        module.__file__ = str(self.path)
        by_name: dict[str, list[Case]] = {}
        for case in cases:
            by_name.setdefault(case.name, []).append(case)
        for name, variants in by_name.items():
            setattr(module, name, _function(name, self.path, variants))
        self.obj = module
        return list(super().collect())


def _function(name: str, path: Path, variants: Sequence[Case]) -> Callable[[], None]:
    """The test function of a YAML case: an empty body that says it stands in the YAML file."""

    def measured_and_judged() -> None: ...

    code = measured_and_judged.__code__.replace(
        co_name=name, co_qualname=name, co_filename=str(path), co_firstlineno=variants[0].line
    )
    function = FunctionType(code, {"__name__": path.name}, name)
    function.__doc__ = variants[0].description or None
    function.__test__ = True  # type: ignore[attr-defined]
    function.__ftcheck__ = tuple(variants)  # type: ignore[attr-defined]
    if variants[0].parameters:
        pytest.mark.usefixtures(VARIANT)(function)
    return function


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give a function with a `matrix` one item per variant."""
    if VARIANT in metafunc.fixturenames:
        shown = _shown_variants(metafunc.function, metafunc.definition.path)
        metafunc.parametrize(VARIANT, range(len(shown)), ids=shown, indirect=True)


def attach_cases(session: FtSession, collector: pytest.Collector, report: pytest.CollectReport) -> None:
    """Give every item of a collected file its case; where one can't have any, the file fails with all errors at
    once."""
    items = [
        node for node in report.result if isinstance(node, pytest.Function) and "__ftcheck__" in vars(node.function)
    ]
    errors: list[SuiteError] = []
    if isinstance(collector, pytest.Module):
        errors = _attach(session, items)
    else:
        errors = [_error(item, "@ftcheck.case decorates functions of a module, not methods") for item in items]
    if errors:
        failed(report, "\n".join(dict.fromkeys(str(error) for error in errors)))


def failed(report: pytest.CollectReport, why: str) -> None:
    """Make a file that was collected one that couldn't be."""
    report.outcome = "failed"
    report.result = []
    report.longrepr = why


def _attach(session: FtSession, items: Sequence[pytest.Function]) -> list[SuiteError]:
    errors: list[SuiteError] = []
    found: list[tuple[pytest.Function, Case]] = []
    expanded: dict[tuple[Any, str], Sequence[Case]] = {}
    seen: dict[str, pytest.Function] = {}
    for item in items:
        params, shown = _overriding(item)
        try:
            if (item.function, shown) not in expanded:
                expanded[item.function, shown] = _expand(item, params, shown)
        except SuiteErrors as error:
            expanded[item.function, shown] = ()
            errors += error.errors
        variants = expanded[item.function, shown]
        index = _variant_index(item)
        if index < len(variants):
            case = variants[index]
            other = seen.setdefault(case.id.casefold(), item)
            if other is not item:
                errors.append(
                    _error(item, f"its case id {case.id!r} is also that of {other.name}; give `ids=` that differ")
                )
            found.append((item, case))
    if errors:
        return errors
    try:
        linked = link([case for _, case in found], catalogue.installed())
    except SuiteErrors as error:
        return list(error.errors)
    for (item, _), case in zip(found, linked, strict=True):
        session.adopt(item, case)
        for mark in case.marks:
            item.add_marker(getattr(pytest.mark, mark.name)(*mark.args, **mark.kwargs))
    return []


def _variant_index(item: pytest.Function) -> int:
    index = item.callspec.params.get(VARIANT, 0) if hasattr(item, "callspec") else 0
    # For a matrix that is wrong there are no variants, and pytest puts a token of its own here.
    return index if isinstance(index, int) else 0


def _overriding(item: pytest.Function) -> tuple[dict[str, Any], str]:
    """What `pytest.mark.parametrize` gives this item besides the matrix, and its part of the id."""
    if not hasattr(item, "callspec"):
        return {}, ""
    params = {name: value for name, value in item.callspec.params.items() if name != VARIANT}
    shown = item.callspec.id
    if VARIANT in item.callspec.params:
        variants = _shown_variants(item.function, item.path)
        # pytest asks plugins before its own marks, so the matrix's part comes first.
        shown = shown.removeprefix(variants[_variant_index(item)] if variants else "").removeprefix("-")
    return params, shown if params else ""


def _expand(item: pytest.Function, params: dict[str, Any], shown: str) -> Sequence[Case]:
    if not params:
        if isinstance(item.function.__ftcheck__, tuple) and isinstance(item.function.__ftcheck__[0], Case):
            return tuple(item.function.__ftcheck__)
        return expand([_declaration(item.function, item.path)], catalogue.installed())
    if isinstance(item.function.__ftcheck__[0], Case):
        raise SuiteErrors([_error(item, "a YAML case can't be parametrized from outside; use `matrix`")])
    fields = {name: value for name, value in params.items() if name in keys_of(catalogue.installed().techniques)}
    return expand([_declaration(item.function, item.path).override(fields, shown)], catalogue.installed())


def _error(item: pytest.Function, message: str) -> SuiteError:
    path, line, _ = item.reportinfo()
    return SuiteError(Location(path=str(path), line=(line or 0) + 1, key=item.name), message)


def _declaration(function: Any, path: Path) -> Declaration:
    fields, line = function.__ftcheck__
    return Declaration.of_function(function.__name__, path, line, fields)


def _shown_variants(function: Any, path: Path) -> list[str]:
    """How the entries of a function's matrix are shown. What is wrong with them is said when the items get their
    cases."""
    if isinstance(function.__ftcheck__[0], Case):
        return ["-".join(case.parameters) for case in function.__ftcheck__]
    fields, source = _declaration(function, path).merged()
    found = combinations(
        fields, source, path.parent, keys_of(catalogue.installed().techniques), lambda source, message: None
    )
    return ["-".join(setting.shown for setting in combination if setting.shown) for combination in found]
