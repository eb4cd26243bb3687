"""Canonical JSON, keys made of it, and what changed between two keys."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ftcheck.errors import IdentityError, shown
from ftcheck.results import Json

MISSING: Final = "(none)"
"""How an absent value is shown in a `Change`."""

_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Change:
    """One leaf that differs between two sets of components. `old` and `new` are shown as text; MISSING where absent."""

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path} {self.old} → {self.new}"


@dataclass(frozen=True, slots=True)
class Key:
    """What a stage's result depends on, by name, and the SHA-256 (hex) of its canonical JSON."""

    digest: str
    components: Mapping[str, Json]

    @classmethod
    def of(cls, components: Mapping[str, object]) -> Key:
        """The key of `components`. Raises IdentityError where one of them can't be written as canonical JSON."""
        plain = plain_json(components)
        return cls(digest=digest_of(plain), components=plain)


def digest_of(plain: Json) -> str:
    """The SHA-256 (hex) of components that `plain_json` made, or that were read from what it made. Raises IdentityError
    for a number that JSON has none for."""
    return hashlib.sha256(_dumped(plain)).hexdigest()


def canonical(value: object, name: str = "") -> bytes:
    """`value` as JSON that is the same for equal values: sorted keys, no spaces, ASCII, whole floats as integers.

    Tuples count as lists. Raises IdentityError for whatever JSON has no value for (NaN, sets, objects, ...), naming
    where in `value` it stands, below `name`: a guess such as `str(value)` could make two different inputs equal.
    """
    return _dumped(plain_json(value, name))


def plain_json(value: object, name: str = "") -> Json:
    """`value` as the builtins that `canonical` writes: subclasses reduced, `1.0` and `1` the same, `True` apart."""
    try:
        return _plain(value)
    except _UnfitError as unfit:
        path = ".".join([name] * bool(name) + [shown(part) for part in reversed(unfit.path)]).replace(".[", "[")
        raise IdentityError(f"{path or 'the value'} {unfit.why}") from None
    except RecursionError:
        raise IdentityError(f"{name or 'the value'} contains itself, so it can't be fingerprinted") from None


def diff(old: Mapping[str, Json], new: Mapping[str, Json]) -> tuple[Change, ...]:
    """What changed from `old` to `new` components, leaf by leaf, sorted by path.

    Library versions are named by the library alone ("transformers 5.17.0 → 5.23.0"), hashes are shortened.
    """
    return tuple(
        Change(_path(parts).removeprefix("versions."), _leaf(a), _leaf(b)) for parts, a, b in _differences((), old, new)
    )


def _dumped(plain: Json) -> bytes:
    try:
        return json.dumps(plain, sort_keys=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    except ValueError as error:  # an int of more digits than Python writes
        raise IdentityError(f"a value can't be fingerprinted: {error}") from None


class _UnfitError(Exception):
    """A value that JSON has none for. The path to it is put together on the way out, so that it costs nothing else."""

    def __init__(self, why: str) -> None:
        self.why = why
        self.path: list[str] = []


def _plain(value: object) -> Json:
    if type(value) is str or value is None or isinstance(value, bool):  # most are text, mostly hashes
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _UnfitError(f"is {value}, which can't be part of a key: give a finite number")
        return int(value) if value.is_integer() else float(value)
    if isinstance(value, Mapping):
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise _UnfitError(
                    f"has the {type(key).__name__} {shown(repr(key))} as a name: "
                    "names in a key's components must be text"
                )
            try:
                plain[str.__str__(key)] = _plain(item)
            except _UnfitError as unfit:
                unfit.path.append(key)
                raise
        return plain
    if isinstance(value, list | tuple):
        items = []
        for index, item in enumerate(value):
            try:
                items.append(_plain(item))
            except _UnfitError as unfit:
                unfit.path.append(f"[{index}]")
                raise
        return items
    raise _UnfitError(
        f"is a {type(value).__module__}.{type(value).__qualname__}, which has no fingerprint: "
        "give text, numbers, true, false, null, or lists and dicts of them"
    )


def _path(parts: tuple[str | int, ...]) -> str:
    """`a.b[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in parts).removeprefix(".")


_ABSENT: Final = object()


def _differences(
    parts: tuple[str | int, ...], old: object, new: object
) -> Iterator[tuple[tuple[str | int, ...], object, object]]:
    before, after = ({} if side is _ABSENT else side for side in (old, new))
    if isinstance(before, dict) and isinstance(after, dict) and (before or after):
        for name in sorted({*before, *after}):
            yield from _differences((*parts, name), before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif all(side is _ABSENT or isinstance(side, list) for side in (old, new)) and (_items(old) or _items(new)):
        for index in range(max(len(_items(old)), len(_items(new)))):
            pair = (items[index] if index < len(items) else _ABSENT for items in (_items(old), _items(new)))
            yield from _differences((*parts, index), *pair)
    elif type(old) is not type(new) or old != new:
        yield parts, old, new


def _items(side: object) -> list[object]:
    return side if isinstance(side, list) else []


def _leaf(value: object) -> str:
    if value is _ABSENT:
        return MISSING
    if isinstance(value, str):
        return value[:12] if _HEX.fullmatch(value) else shown(value)
    return shown(json.dumps(value))
