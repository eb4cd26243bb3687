"""`*.ft.yaml` -> declarations, with the line of every key.

Built from libyaml's events: numbers and words are YAML 1.2's (`1e-4` is a number, `no` is text, 012 is twelve), scalars
keep their source text, and what makes YAML surprising is refused: tags, merge keys, duplicate keys, several documents,
aliases that blow up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from ftcheck import plainfiles
from ftcheck.errors import Location, SuiteError, SuiteErrors, one_of, shown
from ftcheck.spec.declaration import Declaration, Source, dotted

SUFFIX = ".ft.yaml"
MAX_BYTES = 4 * 1024**2
"""Of a suite file. Ten thousand cases need a third of it, and it is read at every start of pytest."""
MAX_DEPTH = 32
MAX_ALIASED = 100_000
"""The most values that aliases may add to a file. They are shared, not copied, but walks meet each one."""

_NOT_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WORDS: Mapping[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((sign + word for sign in ("", "+") for word in (".inf", ".Inf", ".INF")), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]+)|0o(?P<octal>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser, or the same in Python (eight times slower) where PyYAML was built without it."""
_MAX_DIGITS = 300
"""Past this an integer is no number that anything could use, and turning it into one takes quadratic time."""


def read(path: Path) -> list[Declaration]:
    """The declarations of a suite file, in its order. Raises SuiteErrors; what they say is not checked yet."""
    try:
        content = plainfiles.read(path, limit=MAX_BYTES)
    except OSError as error:
        raise SuiteErrors([SuiteError(Location(path=str(path)), f"can't be read: {error.strerror or error}")]) from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> list[Declaration]:
    """The declarations in `content`, the bytes of the suite file at `path`. Raises SuiteErrors."""
    try:
        document = _Document(_decoded(content, path), path)
        value, source = document.read()
    except SuiteError as error:
        raise SuiteErrors([error]) from None
    problems = document.problems
    declarations = _declarations(value, source, path, problems)
    if problems:
        raise SuiteErrors(problems)
    return declarations


def scalar(text: str) -> Any:
    """What an unquoted word is in YAML 1.2's core schema: None, a bool, a number, or itself. Raises ValueError for an
    integer of absurd length."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    if match.lastgroup == "float":
        return float(text)
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    bases = {"int": 10, "octal": 8, "hex": 16}
    return int(match[match.lastgroup or 0], bases[match.lastgroup or "int"])


def _decoded(content: bytes, path: Path) -> str:
    """`content` as text without a byte order mark; refuses what is no UTF-8 and characters that YAML doesn't allow."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SuiteError(
            Location(path=str(path), line=line),
            f"not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}; save the file as UTF-8",
        ) from None
    if bad := _NOT_YAML.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise SuiteError(Location(path=str(path), line=line), f"the character {shown(bad[0])} is not allowed in YAML")
    return text


def _declarations(value: Any, source: Source, path: Path, problems: list[SuiteError]) -> list[Declaration]:
    """The top level: `cases`, and what holds for all of them under `defaults`. Adds to `problems`."""

    def refuse(place: Source, message: str) -> None:
        problems.append(SuiteError(Location(path=str(path), line=place.line, key=shown(place.key, 200)), message))

    if not isinstance(value, dict):
        refuse(source, f"expected a mapping with `cases`, got {_kind(value)}")
        return []
    for key in value:
        if key not in ("cases", "defaults"):
            hint = one_of(key, ("cases", "defaults"))
            refuse(source.at((key,)), f"no such key at the top of a suite file; {hint}")
    defaults = value.get("defaults") or {}
    if not isinstance(defaults, dict):
        refuse(source.at(("defaults",)), f"expected a mapping of a case's fields, got {_kind(defaults)}")
    cases = value.get("cases")
    if not isinstance(cases, dict) or not cases:
        place = source.at(("cases",)) if "cases" in value else source
        refuse(place, f"expected `cases`, a mapping of at least one case by its name, got {_kind(cases)}")
        return []
    for name, fields in cases.items():
        if not isinstance(fields, dict | None):
            refuse(source.at(("cases", name)), f"expected a mapping of the case's fields, got {_kind(fields)}")
    if problems:
        return []
    return [
        Declaration(
            name=name,
            path=path,
            fields=fields or {},
            source=source.at(("cases", name)),
            defaults=defaults,
            defaults_source=source.at(("defaults",)),
        )
        for name, fields in cases.items()
    ]


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "an empty mapping" if not value else "a mapping"
        case list():
            return "a list"
    return f"{shown(value, 40)!r}"


class _Document:
    """One YAML document, turned from events into values and their sources."""

    def __init__(self, text: str, path: Path) -> None:
        self.problems: list[SuiteError] = []
        """Mistakes that don't keep the rest from being read."""
        self._path = path
        self._text = text
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, tuple[Any, Source, int] | None] = {}
        """By name: value, source, how many values it holds; None while it is being read."""
        self._values = 0
        self._aliased = 0

    def read(self) -> tuple[Any, Source]:
        """The document's value and source. Raises SuiteError for what makes the rest unreadable."""
        try:
            for event in self._events:
                if isinstance(event, StreamEndEvent):
                    raise self._error(1, "", "the file is empty; expected a mapping with `cases`")
                if isinstance(event, DocumentStartEvent):
                    break
            result = self._node(next(self._events), Source(1, ""), 0)
            second = next((event for event in self._events if isinstance(event, DocumentStartEvent)), None)
            if second is not None:
                line = 1 + (second.start_mark.line if second.start_mark else 0)
                raise self._error(line, "", "a second document: one suite to a file")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(part for part in (error.context, error.problem) if part)
            if mark and self._text[mark.index : mark.index + 1] == "\t":
                what = "a tab where there can be none; indent with spaces"
            raise self._error(mark.line + 1 if mark else 0, "", f"not YAML: {shown(what)}") from None
        except yaml.YAMLError as error:
            raise self._error(0, "", f"not YAML: {shown(error)}") from None
        return result

    def _refuse(self, line: int, key: str, message: str) -> None:
        self.problems.append(self._error(line, key, message))

    def _error(self, line: int, key: str, message: str) -> SuiteError:
        return SuiteError(Location(path=str(self._path), line=line, key=shown(key, 200)), message)

    def _node(self, event: Any, place: Source, depth: int) -> tuple[Any, Source]:
        """The value that starts with `event`. `place` is where its key stands; an alias's parts keep their anchor's."""
        if isinstance(event, AliasEvent):
            return self._alias(event, place)
        line = event.start_mark.line + 1
        if event.tag is not None:
            self._refuse(line, place.key, f"the tag {shown(event.tag)} is not used in suite files; leave it out")
        if depth > MAX_DEPTH:
            raise self._error(line, place.key, f"nested deeper than {MAX_DEPTH} levels")
        anchor, before = event.anchor, self._values
        if anchor is not None:
            self._anchors[anchor] = None
        self._values += 1
        if isinstance(event, ScalarEvent):
            result = self._scalar(event, place)
        elif isinstance(event, MappingStartEvent):
            result = self._mapping(place, depth)
        else:
            result = self._sequence(place, depth)
        if anchor is not None:
            self._anchors[anchor] = (*result, self._values - before)
        return result

    def _scalar(self, event: Any, place: Source) -> tuple[Any, Source]:
        text = event.value
        if not event.implicit[0]:
            return text, place._replace(text=text)
        try:
            return scalar(text), place._replace(text=text)
        except ValueError as error:
            self._refuse(place.line, place.key, f"{error} is no number that a suite can use")
            return text, place

    def _alias(self, event: Any, place: Source) -> tuple[Any, Source]:
        line = event.start_mark.line + 1
        name = event.anchor
        if name not in self._anchors:
            raise self._error(line, place.key, f"*{shown(name)} has no anchor &{shown(name)} before it")
        anchored = self._anchors[name]
        if anchored is None:
            raise self._error(line, place.key, f"*{shown(name)} contains itself")
        value, source, size = anchored
        self._aliased += size
        self._values += size
        if self._aliased > MAX_ALIASED:
            raise self._error(line, place.key, f"aliases stand for more than {MAX_ALIASED:,} values")
        return value, source

    def _mapping(self, place: Source, depth: int) -> tuple[dict[str, Any], Source]:
        values: dict[str, Any] = {}
        sources: dict[str | int, Source] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, ScalarEvent) or event.tag is not None:
                raise self._error(line, place.key, "a key is a plain or quoted word, not a list, mapping, alias or tag")
            key = event.value
            source = Source(line, dotted(place.key, key))
            if key == "<<" and event.implicit[0]:
                self._refuse(line, source.key, "merge keys are not part of YAML 1.2; use `defaults` or an alias")
            elif key in values:
                first = sources[key].line
                self._refuse(line, source.key, f"duplicate key; it is already on line {first}")
            elif not key:
                self._refuse(line, place.key, "an empty key")
            values[key], sources[key] = self._node(next(self._events), source, depth + 1)
        return values, place._replace(children=sources)

    def _sequence(self, place: Source, depth: int) -> tuple[list[Any], Source]:
        values: list[Any] = []
        sources: dict[str | int, Source] = {}
        while not isinstance(event := next(self._events), SequenceEndEvent):
            index = len(values)
            item = Source(event.start_mark.line + 1, dotted(place.key, index))
            value, sources[index] = self._node(event, item, depth + 1)
            values.append(value)
        return values, place._replace(children=sources)


__all__ = ["SUFFIX", "parse", "read", "scalar"]
