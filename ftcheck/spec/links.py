"""Cases that need each other's models: which one a technique names, and that nobody waits for himself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ftcheck.errors import Location, SuiteError, SuiteErrors, one_of, shown
from ftcheck.spec.case import Case
from ftcheck.spec.catalogue import Catalogue

_PREFIX = "case:"


def link(cases: Sequence[Case], catalogue: Catalogue) -> list[Case]:
    """The cases of one file, each with those whose models it needs (`parents`). These keep theirs, whatever their
    `keep_model` says: else each case that needs one would train it anew.

    Raises SuiteErrors for a name that no case has, for one that trains nothing, and for cycles.
    """
    by_id = {case.id: case for case in cases}
    done: dict[str, Case] = {}
    errors: list[SuiteError] = []

    def linked(case: Case, above: tuple[str, ...]) -> Case:
        if case.id in done:
            return done[case.id]
        way = (*above, case.id)
        parents: dict[str, Case] = {}
        for technique, id_ in _named(case, catalogue):
            problem = _problem(id_, by_id, way) or catalogue.technique(technique).parent_problem(case, by_id[id_])
            if problem:
                location = Location(path=str(case.suite), line=case.line, key=f"{case.id}.{technique}")
                errors.append(SuiteError(location, problem))
            else:
                parents[technique] = linked(by_id[id_], way)
        done[case.id] = replace(case, parents=parents) if parents else case
        return done[case.id]

    found = [linked(case, ()) for case in cases]
    if errors:
        raise SuiteErrors(sorted(errors, key=lambda error: error.location.line))
    needed = {parent.id for case in found for parent in case.parents.values()}
    return [replace(case, keep_model="all") if case.id in needed else case for case in found]


def _named(case: Case, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """(technique, case id) for each technique that names another case."""
    for technique, options in case.techniques.items():
        option = catalogue.technique(technique).parent
        if option is None:
            continue
        value = options.get(option)
        if isinstance(value, str) and value.startswith(_PREFIX):
            yield technique, value.removeprefix(_PREFIX)


def _problem(id_: str, by_id: Mapping[str, Case], way: Sequence[str]) -> str:
    if id_ in way:
        return f"cases need each other's models in a circle: {' → '.join((*way[way.index(id_) :], id_))}"
    if id_ not in by_id:
        return f"no case of this file has the id {shown(id_, 80)!r}; {one_of(id_, by_id)}"
    if by_id[id_].training is None:
        return f"{id_} trains nothing (`training: false`): name its checkpoint instead"
    return ""
