"""A case's matrix -> its combinations, and the ids that tell cases apart.

A matrix maps dotted paths to lists of values: `{checkpoint: [a, b], training.learning_rate: [1e-5, 5e-5]}` gives four
cases. `exclude` drops combinations that have all the values of one of its entries; `include` adds one combination per
entry, which may set any fields. A value without a short text (a mapping, a list) needs an id:
`{values: [...], ids: [...]}`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ftcheck.errors import one_of, shown
from ftcheck.spec.declaration import KeyPath, Source
from ftcheck.spec.mistakes import said

MAX_COMBINATIONS = 10_000
MAX_ID_BYTES = 200
SHORTHANDS = {"checkpoint": "path", "data": "path", "task": "name"}
"""Fields where plain text stands for a mapping with this key."""

Report = Callable[[Source, str], None]
"""(where, what is wrong): collects; never raises."""

_PATHS = frozenset({"checkpoint", "checkpoint.path", "checkpoint.tokenizer", "data", "data.path"})
_OUTSIDE_ID = re.compile(r"[^A-Za-z0-9._-]")
_WINDOWS_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(?:\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of one axis. `shown` is how ids write it."""

    path: str
    value: Any
    source: Source
    shown: str


Combination = tuple[Setting, ...]


def combinations(
    fields: Mapping[str, Any], source: Source, folder: Path, known: Collection[str], report: Report
) -> list[Combination]:
    """All combinations of `fields["matrix"]` in the order written (the last axis varies fastest); one empty one where
    there is no matrix, none where it is wrong. `known` are the fields that it may set; paths in it start at
    `folder`."""
    matrix = fields.get("matrix")
    source = source.at(("matrix",))
    if matrix is None:
        return [()]
    if not isinstance(matrix, Mapping) or not matrix:
        report(source, f"expected a mapping of dotted paths to lists of values, got {said(matrix)}")
        return []
    wrong: list[str] = []

    def collect(place: Source, message: str) -> None:
        wrong.append(message)
        report(place, message)

    axes = {
        path: _axis(path, values, source.at((path,)), folder, collect)
        for path, values in matrix.items()
        if path not in ("include", "exclude") and _settable(path, source.at((path,)), known, collect)
    }
    included = list(_included(matrix.get("include"), source.at(("include",)), folder, known, collect))
    count = math.prod(len(axis) for axis in axes.values()) if axes else 0
    if count + len(included) > MAX_COMBINATIONS:
        collect(source, f"{count + len(included):,} combinations; at most {MAX_COMBINATIONS:,} make sense in one case")
    if wrong:
        return []
    found = list(product(*axes.values())) if axes else []
    found = _without_excluded(found, axes, matrix.get("exclude"), source.at(("exclude",)), collect)
    if not found and not included and not wrong:
        collect(source, "no combination is left")
    return [] if wrong else [*found, *included]


def apply(
    fields: Mapping[str, Any], source: Source, combination: Combination, report: Report
) -> tuple[dict[str, Any], Source]:
    """`fields` without the matrix and with the combination's values in their places."""
    values = {key: value for key, value in fields.items() if key != "matrix"}
    for setting in combination:
        parts = tuple(setting.path.split("."))
        try:
            values, source = _set(values, source, parts, setting)
        except TypeError as error:
            report(setting.source, f"{setting.path} can't be set: {error}")
    return values, source


def _set(values: Any, source: Source, parts: KeyPath, setting: Setting, key: str = "") -> tuple[dict[str, Any], Source]:
    """A copy of `values` with the setting at `parts`. Raises TypeError where something on the way is no mapping."""
    if values is None:
        values = {}
    if key in SHORTHANDS and not isinstance(values, Mapping) and values is not False:
        values = {SHORTHANDS[key]: values}
    if not isinstance(values, Mapping):
        raise TypeError(f"`{key}` is {said(values)}, not a mapping")
    first, *rest = parts
    below, below_source = setting.value, setting.source
    if rest:
        below, below_source = _set(values.get(first), source.at((first,)), tuple(rest), setting, str(first))
    return {**values, first: below}, source._replace(children={**source.children, first: below_source})


def _axis(path: str, given: Any, source: Source, folder: Path, report: Report) -> list[Setting]:
    """The settings of one axis: a list of values, or {values, ids}."""

    values, ids, place = given, None, source
    if isinstance(given, Mapping):
        if given.keys() != {"values", "ids"}:
            report(source, "expected a list of values, or {values: [...], ids: [...]}")
            return []
        values, ids, place = given["values"], given["ids"], source.at(("values",))
    if not isinstance(values, list) or not values:
        report(place, f"expected a list of at least one value, got {said(values)}")
        return []
    if ids is not None and not (_is_ids(ids) and len(ids) == len(values)):
        report(source.at(("ids",)), f"expected a list of {len(values)} distinct texts, one for each value")
        return []
    settings = []
    for index, value in enumerate(values):
        at = place.at((index,))
        text = ids[index] if ids is not None else shown_value(path, value, at.text, folder)
        if text is None:
            report(at, f"{said(value)} has no short text for the case id: write {path}: {{values: [...], ids: [...]}}")
        settings.append(Setting(path, value, at, text or ""))
    return settings


def _is_ids(ids: Any) -> bool:
    return isinstance(ids, list) and all(isinstance(id_, str) and id_ for id_ in ids) and len(set(ids)) == len(ids)


def _settable(path: Any, source: Source, known: Collection[str], report: Report) -> bool:
    """Whether `path` starts with a field that a matrix may set."""
    first = str(path).partition(".")[0]
    if first not in known:
        report(source, f"a matrix sets fields of the case by dotted paths; {one_of(first, known)}")
        return False
    if "" in str(path).split("."):
        report(source, f"{shown(path)!r} is no dotted path")
        return False
    return True


def _entries(given: Any, source: Source, report: Report) -> Iterator[tuple[Mapping[str, Any], Source]]:
    """The mappings of an `include` or `exclude` list."""
    if given is None:
        return
    if not isinstance(given, list):
        report(source, f"expected a list of mappings from dotted paths to values, got {said(given)}")
        return
    for index, entry in enumerate(given):
        at = source.at((index,))
        if isinstance(entry, Mapping) and entry:
            yield entry, at
        else:
            report(at, f"expected a mapping from dotted paths to values, got {said(entry)}")


def _included(
    given: Any, source: Source, folder: Path, known: Collection[str], report: Report
) -> Iterator[Combination]:
    """One combination per entry; `id` in an entry replaces the texts of its values."""
    for entry, at in _entries(given, source, report):
        name = entry.get("id")
        if "id" in entry and not (isinstance(name, str) and name):
            report(at.at(("id",)), f"expected text, got {said(name)}")
        settings = []
        for path, value in entry.items():
            place = at.at((path,))
            if path == "id" or not _settable(path, place, known, report):
                continue
            text = "" if name else shown_value(path, value, place.text, folder)
            if text is None:
                report(place, f"{said(value)} has no short text for the case id: give the entry an `id`")
            settings.append(Setting(path, value, place, text or ""))
        if isinstance(name, str) and settings:
            first = settings[0]
            settings[0] = Setting(first.path, first.value, first.source, name)
        if settings:
            yield tuple(settings)
        else:
            report(at, "sets nothing")


def _without_excluded(
    found: list[Combination], axes: Mapping[str, Any], given: Any, source: Source, report: Report
) -> list[Combination]:
    """`found` without what an entry of `exclude` describes; each entry must describe something."""
    for entry, at in _entries(given, source, report):
        if unknown := [path for path in entry if path not in axes]:
            report(at.at((unknown[0],)), f"not an axis of this matrix; {one_of(unknown[0], axes) or 'it has none'}")
            continue
        excluded = [one for one in found if _has(one, entry)]
        if not excluded:
            report(at, "excludes nothing: no combination has these values")
        found = [one for one in found if not _has(one, entry)]
    return found


def _has(combination: Combination, entry: Mapping[str, Any]) -> bool:
    return all(
        setting.value == entry[setting.path] and type(setting.value) is type(entry[setting.path])
        for setting in combination
        if setting.path in entry
    )


def shown_value(path: str, value: Any, text: str | None, folder: Path) -> str | None:
    """How an id shows `value` of the field `path`: as written, a local path by its last component. None where it has no
    text that says what it is (a mapping, a list, a function without a name, empty text)."""
    if isinstance(value, str) and path in _PATHS and looks_local(value, folder):
        return Path(value).name or None
    if text:
        return text
    if value is None or isinstance(value, str | bool | int | float):
        return str(value) or None
    name = getattr(value, "__name__", "")
    return name if name.isidentifier() else None


def looks_local(text: str, folder: Path) -> bool:
    """Whether `text` means a path on this machine: it starts like one, or there is one, seen from `folder`."""
    return text.startswith((".", "/", "~")) or os.path.isabs(text) or os.path.exists(folder / text)


def case_id(name: str, parameters: tuple[str, ...]) -> str:
    """A case's name and shown values joined by `-`, with `-` for every character but [A-Za-z0-9._-]."""
    return _OUTSIDE_ID.sub("-", "-".join((name, *parameters)))


def id_problem(id_: str) -> str:
    """Why `id_` is no case id; empty where it is one. Baselines are files of that name on every platform."""
    if not id_[:1].isascii() or not id_[:1].isalnum():
        return f"the case id {shown(id_)!r} is no file name: it must start with a letter or digit (A-Z, a-z, 0-9)"
    if len(id_) > MAX_ID_BYTES:
        return f"the case id is no file name: {len(id_)} characters, at most {MAX_ID_BYTES}: {shown(id_, 60)}"
    if id_.endswith("."):
        return f"the case id {id_!r} is no file name: it ends with a dot"
    if _WINDOWS_DEVICE.fullmatch(id_):
        return f"the case id {id_!r} is no file name: Windows has a device of that name"
    return ""
