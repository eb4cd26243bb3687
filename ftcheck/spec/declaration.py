"""What a suite says, before it is checked: partial, with the place where each value is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

Key = str | int
KeyPath = tuple[Key, ...]


class Source(NamedTuple):
    """Where a value and its parts are written: a tree beside the values. An unknown part has its parent's line."""

    line: int
    """Counts from 1."""
    key: str
    """The dotted path that the reader finds in the file: `cases.mnli.training.learning_rate`."""
    text: str | None = None
    """A YAML scalar as written (`1e-4`), where there is one."""
    children: Mapping[Key, Source] = MappingProxyType({})

    def at(self, path: Iterable[Key]) -> Source:
        """The place of the value at `path`, or the nearest one around it, named by the whole path."""
        found = self
        for part in path:
            found = found.children.get(part) or Source(found.line, dotted(found.key, part))
        return found


def dotted(key: str, part: Key) -> str:
    """`key` with one more part, as it is shown: `a.b`, `a[0]`."""
    if isinstance(part, int):
        return f"{key}[{part}]"
    return f"{key}.{part}" if key else part


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One case as a suite file gives it, or the decorator's arguments. `spec.expand` makes cases of it."""

    name: str
    path: Path
    """The suite file, as it is to be shown; relative paths in the fields start at its folder."""
    fields: Mapping[str, Any]
    source: Source
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What the file says for all its cases; deep-merged under `fields`."""
    defaults_source: Source | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Top-level fields that parametrize replaces."""
    parameters: tuple[str, ...] = ()
    """How parametrize shows its values."""

    @classmethod
    def of_function(cls, name: str, path: Path, line: int, fields: Mapping[str, Any]) -> Declaration:
        """What `@ftcheck.case(**fields)` above the function `name` says; `line` is the decorator's."""
        return cls(name=name, path=path, fields=plain(fields), source=Source(line, name))

    def override(self, fields: Mapping[str, Any], *parameters: str) -> Declaration:
        """This declaration with top-level fields replaced whole (parametrize); `parameters` show them in the id."""
        return replace(self, overrides={**self.overrides, **plain(fields)}, parameters=(*self.parameters, *parameters))

    def merged(self) -> tuple[dict[str, Any], Source]:
        """The fields over the defaults, and the overrides over both, with their sources."""
        values, source = dict(self.fields), self.source
        if self.defaults and self.defaults_source is not None:
            values, source = merge(self.defaults, self.defaults_source, self.fields, self.source)
        if self.overrides:
            kept = {key: child for key, child in source.children.items() if key not in self.overrides}
            values, source = {**values, **self.overrides}, source._replace(children=kept)
        return values, source


def merge(
    under: Mapping[str, Any], under_source: Source, over: Mapping[str, Any], over_source: Source
) -> tuple[dict[str, Any], Source]:
    """`over` laid over `under`: two mappings merge key by key, anything else replaces what was there."""
    values = dict(under)
    children: dict[Key, Source] = {key: under_source.at((key,)) for key in under}
    for key, value in over.items():
        source = over_source.at((key,))
        below = values.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            values[key], children[key] = merge(below, children[key], value, source)
        else:
            values[key], children[key] = value, source
    return values, over_source._replace(children=children)


def plain(value: Any) -> Any:
    """A Python value as YAML would have given it: tuples and ranges as lists, paths as text, enum members as values."""
    match value:
        case Enum():
            return plain(value.value)
        case os.PathLike():
            return os.fspath(value)
        case Mapping():
            return {(key.value if isinstance(key, Enum) else key): plain(item) for key, item in value.items()}
        case list() | tuple() | range():
            return [plain(item) for item in value]
    return value
