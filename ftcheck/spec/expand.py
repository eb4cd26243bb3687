"""Declarations -> cases, or all errors at once. Both forms of a suite come through here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ftcheck.errors import Location, SuiteError, SuiteErrors, one_of, shown
from ftcheck.spec.build import Builder
from ftcheck.spec.case import Case, Resources
from ftcheck.spec.catalogue import Catalogue
from ftcheck.spec.declaration import Declaration, KeyPath, Source
from ftcheck.spec.fields import CaseFields, keys_of
from ftcheck.spec.matrix import apply, case_id, combinations, id_problem
from ftcheck.spec.mistakes import problems


def expand(declarations: Sequence[Declaration], catalogue: Catalogue) -> list[Case]:
    """The cases of one suite file, in its order. Raises SuiteErrors with all that is wrong, by line."""
    found = _Problems()
    cases: list[Case] = []
    ids: dict[str, tuple[str, int]] = {}
    for declaration in declarations:
        for id_, parameters, case in _Expansion(declaration, catalogue, found).cases():
            line = declaration.source.line
            if (taken := ids.get(id_.casefold())) is not None:
                other = f"{taken[0]!r} on line {taken[1]}" if taken[1] != line else f"{taken[0]!r} of the same case"
                found.add(
                    declaration, declaration.source, f"the case id {id_!r} is taken by {other}" + _distinct(parameters)
                )
            ids.setdefault(id_.casefold(), (id_, line))
            if case is not None:
                cases.append(case)
    found.raise_all()
    return cases


def _distinct(parameters: tuple[str, ...]) -> str:
    if parameters:
        return "; give the values distinct `ids`"
    return " (ids are file names, so upper and lower case are one)"


_LONGEST = 2000
"""Characters of a message: the list of a task's metrics fits, a data file as a value does not."""


class _Problems:
    """What is wrong, each once: a mistake in `defaults` would else be reported for every case."""

    def __init__(self) -> None:
        self._found: dict[tuple[Location, str], SuiteError] = {}

    def add(self, declaration: Declaration, source: Source, message: str) -> None:
        location = Location(path=str(declaration.path), line=source.line, key=shown(source.key, 200))
        self._found.setdefault((location, message), SuiteError(location, shown(message, _LONGEST)))

    def raise_all(self) -> None:
        if self._found:
            raise SuiteErrors(
                sorted(self._found.values(), key=lambda error: (error.location.path, error.location.line))
            )


class _Expansion:
    """One declaration on its way to cases."""

    def __init__(self, declaration: Declaration, catalogue: Catalogue, found: _Problems) -> None:
        self.declaration = declaration
        self.catalogue = catalogue
        absolute = os.path.abspath(declaration.path)
        self.suite = declaration.path if str(declaration.path) == absolute else Path(absolute)
        self.known = keys_of(catalogue.techniques)
        self._found = found

    def report(self, source: Source, message: str) -> None:
        self._found.add(self.declaration, source, message)

    def cases(self) -> Iterator[tuple[str, tuple[str, ...], Case | None]]:
        """(id, shown parameters, case or None where it is wrong) for each combination of the matrix."""
        fields, source = self.declaration.merged()
        self._check_overrides(fields, source)
        for combination in combinations(fields, source, self.suite.parent, self.known, self.report):
            parameters = (*(setting.shown for setting in combination if setting.shown), *self.declaration.parameters)
            id_ = case_id(self.declaration.name, parameters)
            if problem := id_problem(id_):
                self.report(self.declaration.source, problem)
            values, places = apply(fields, source, combination, self.report)
            yield id_, parameters, self._case(id_, parameters, values, places)

    def _check_overrides(self, fields: Mapping[str, Any], source: Source) -> None:
        """parametrize and matrix may not set one field, and values without a text of their own need ids."""
        matrix = fields.get("matrix")
        axes = list(matrix) if isinstance(matrix, dict) else []
        for name, value in self.declaration.overrides.items():
            for path in axes:
                if path.partition(".")[0] == name:
                    message = f"{name} is set by both `matrix` and parametrize; use one of them"
                    self.report(source.at(("matrix", path)), message)
            positional = re.compile(rf"(?:.*-)?{name}\d+(?:-.*)?")
            if not isinstance(value, str | int | float | None) and any(
                map(positional.fullmatch, self.declaration.parameters)
            ):
                message = f"parametrize gives {name} a positional id; give `ids`, or a baseline could attach elsewhere"
                self.report(self.declaration.source, message)

    def _case(self, id_: str, parameters: tuple[str, ...], values: Mapping[str, Any], places: Source) -> Case | None:
        """The case that `values` make, or None where its data can't be told. Reports all that is wrong with them."""
        of_techniques = {
            key: value for key, value in values.items() if key in self.catalogue.techniques and value is not None
        }
        given = {key: value for key, value in values.items() if key not in of_techniques and value is not None}
        fields, wrong, left_out = _parsed(given, self.catalogue)
        for path, message in wrong:
            self.report(places.at(path), message)

        def report(path: KeyPath, message: str) -> None:
            if not any(path[: len(part)] == part for part in left_out):
                self.report(places.at(path), message)

        incomplete = frozenset(str(path[0]) for path in left_out)
        judges_train = any(self.catalogue.technique(name).judges_train for name in of_techniques)
        build = Builder(fields, self.suite.parent, self.catalogue, report, judges_train, incomplete)
        checkpoint, data, metrics = build.checkpoint(), build.data(), build.metrics()
        build.check_tuning(metrics)
        build.check_streaming()
        build.check_processes()
        build.check_on_oom()
        options, training, gates, marks = build.task_options, build.training(), build.gates(), build.marks()
        techniques = build.techniques(of_techniques, metrics)
        gates = build.demanded(gates, techniques)
        metrics = tuple(dict.fromkeys([*metrics, *(gate.metric for gate in gates)]))
        seeds, max_seeds = build.seeds(techniques)
        if data is None:
            return None
        return Case(
            id=id_,
            name=self.declaration.name,
            parameters=parameters,
            suite=self.suite,
            line=self.declaration.source.line,
            checkpoint=checkpoint,
            task=fields.task.name,
            task_options=options,
            data=data,
            training=training,
            early_stopping=build.early_stopping(),
            techniques=techniques,
            precision=fields.precision,
            seeds=seeds,
            max_seeds=max_seeds,
            collapsed=fields.collapsed,
            vs=fields.vs,
            cluster=fields.cluster,
            metrics=metrics,
            gates=gates,
            resources=Resources(**fields.resources.model_dump()),
            on_oom=fields.on_oom,
            timeout=fields.timeout,
            keep_model=fields.keep_model,
            marks=marks,
            description=fields.description,
        )


_REQUIRED = {
    ("checkpoint", "path"),
    ("checkpoint", "trust_remote_code", "revision"),
    ("task", "name"),
    ("data", "path"),
    ("early_stopping", "patience"),
}
_STAND_INS: Mapping[str, Any] = {"checkpoint": ".", "task": "", "data": list}
"""For a required field that is wrong itself, so that the others can still be checked; nothing more is said of it."""


def _parsed(given: dict[str, Any], catalogue: Catalogue) -> tuple[CaseFields, list[tuple[KeyPath, str]], list[KeyPath]]:
    """The fields, what is wrong with them, and which paths were left out for it, so that the rest can be checked."""
    try:
        return CaseFields.model_validate(given), [], []
    except ValidationError as error:
        wrong = [(path, _with_hint(path, message, catalogue)) for path, message in problems(error, given)]
    right: Mapping[str, Any] = given
    left_out = [_part_of(path, given) for path, _ in wrong]
    for part in left_out:
        right = _without(right, part)
    stand_ins = {key: value for key, value in _STAND_INS.items() if key not in right}
    return CaseFields.model_validate({**stand_ins, **right}), wrong, left_out


def _part_of(path: KeyPath, values: Mapping[str, Any]) -> KeyPath:
    """The smallest part around `path` that `values` can do without: a key of nested mappings that isn't required."""
    part: KeyPath = ()
    value: Any = values
    for key in path[: 2 if path[0] == "gates" else 3]:
        if not isinstance(value, Mapping) or (*part, key) in _REQUIRED or (part and key not in value):
            break
        part = (*part, key)
        value = value.get(key)
    return part


def _without(values: Mapping[str, Any], path: KeyPath) -> Mapping[str, Any]:
    first, *rest = path
    if not rest or str(first) not in values:
        return {key: value for key, value in values.items() if key != first}
    return {**values, str(first): _without(values[str(first)], tuple(rest))}


def _with_hint(path: KeyPath, message: str, catalogue: Catalogue) -> str:
    """The message, or for a TrainingArguments field among the case's own that it belongs elsewhere."""
    name = str(path[0])
    if len(path) == 1 and name not in CaseFields.model_fields:
        if name in catalogue.training_fields:
            return f"a TrainingArguments field: write training.{name}"
        return f"no such key; {one_of(name, keys_of(catalogue.techniques))}"
    return message
