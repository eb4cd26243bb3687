"""Changes to documents that leave them documents: what a reader that only expects broken bytes doesn't expect."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import yaml

from tests.fuzzing.targets import SEPARATOR

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**400, 1e308, float("inf"), float("nan"), 0.5, -0.0),
    *("", "a", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "\u202e", "nan", "1e999", "x" * 5000, "{", "2%"),
    *([], {}, [[]], {"": {}}, [None], [0] * 300, {"a": {"b": [1, {"c": None}]}}, "os:system", "runs"),
)
"""What is put in the place of a value."""


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of each value in a document."""
    waiting = [value]
    while waiting:
        container = waiting.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            yield container, key
            if isinstance(container[key], dict | list):
                waiting.append(container[key])


def changed(document: Any, random: Random) -> Any:
    """`document` with one to three values replaced, removed, moved, nested or added."""
    document = copy.deepcopy(document)
    for _ in range(random.randint(1, 3)):
        found = list(places(document)) if isinstance(document, dict | list) else []
        if not found:
            return random.choice(VALUES)
        container, key = random.choice(found)
        match random.randrange(6):
            case 0 | 1:
                container[key] = copy.deepcopy(random.choice(VALUES))
            case 2:
                del container[key]
            case 3:  # another of its values
                other, place = random.choice(found)
                container[key] = copy.deepcopy(other[place])
            case 4:
                container[key] = nested(container[key], random.choice((1, 2, 40, 150)), random)
            case 5 if isinstance(container, dict):
                container[random.choice(("", "x", "\0", str(key) + "s"))] = container[key]
            case _:
                container.append(container[key]) if isinstance(container, list) else None
    return document


def nested(value: Any, levels: int, random: Random) -> Any:
    for _ in range(levels):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def mutated(content: bytes, random: Random, *, text: str) -> bytes:
    """`content` as another document; `text`: whether it is `json` or `yaml`. As it is where it is neither."""
    head, separator, tail = content.partition(SEPARATOR)
    try:
        found = json.loads(head) if text == "json" else yaml.load(head, Loader=LOADER)
        return json.dumps(changed(found, random)).encode() + separator + tail
    except (ValueError, TypeError, RecursionError, yaml.YAMLError, OverflowError, AttributeError):
        return content
