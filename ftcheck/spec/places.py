"""Paths, Hub ids and split expressions: what the text of a suite points at."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path

from ftcheck.errors import one_of, shown
from ftcheck.spec.matrix import looks_local

DATA_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ".conll", ".arrow"})
"""What a name ends with that can't be meant as a Hub id."""

_HUB_ID = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]*\w)?/)?[A-Za-z0-9](?:[\w.-]*\w)?", re.ASCII)
_SPLIT = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[\s*(?P<from>-?\d+%?)?\s*:\s*(?P<to>-?\d+%?)?\s*\])?")


def place(text: str, folder: Path, what: str) -> tuple[str, bool]:
    """(Hub id or absolute local path, whether it is local). A path that exists, seen from `folder`, wins over a Hub id.

    Raises ValueError with a sentence: no such path, or neither a path nor an id. `what` is what it should be.
    """
    if looks_local(text, folder):
        path = absolute(text, folder)
        if not os.path.exists(path):  # pathlib's raises for a name that is too long
            raise ValueError(missing(Path(path)))
        return path, True
    if is_hub_id(text) and Path(text).suffix not in DATA_SUFFIXES:
        return text, False
    path = absolute(text, folder)
    raise ValueError(f"neither {what} on the Hub (org/name) nor a local path: {missing(Path(path))}")


def is_hub_id(text: str) -> bool:
    """Whether `text` is written as the Hub's names are: `org/name`, or `name`."""
    return bool(_HUB_ID.fullmatch(text)) and ".." not in text and "--" not in text


def absolute(text: str, folder: Path) -> str:
    """`text` as an absolute path without `..`, seen from `folder`; `~` is the home folder."""
    return os.path.abspath(os.path.join(folder, os.path.expanduser(text)))


def missing(path: Path) -> str:
    """That `path` does not exist, and what is there that has a near name."""
    existing = path.parent
    while not os.path.exists(existing) and existing != existing.parent:
        existing = existing.parent
    wanted = path.relative_to(existing).parts[0]
    try:
        names = os.listdir(existing) if existing.is_dir() else []
    except OSError:
        names = []
    near = get_close_matches(wanted, names, n=3, cutoff=0.6)
    hint = f"; near it: {', '.join(shown(name, 60) for name in near)}" if near else ""
    if existing != path.parent:
        hint = f"; {shown(existing, 300)} has no {shown(wanted, 60)}{hint}"
    return f"{shown(path, 300)} does not exist{hint}"


def files(text: str, folder: Path) -> list[str]:
    """The absolute paths of the files that `text` names, seen from `folder`; a pattern's in sorted order.

    Raises ValueError with a sentence.
    """
    if "://" in text:
        raise ValueError("only files on this machine can be read; their content is part of a result's identity")
    path = absolute(text, folder)
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        raise ValueError(f"{shown(path, 300)} is a folder; name its files, e.g. {shown(text, 60)}/*")
    if not glob.has_magic(text):
        raise ValueError(missing(Path(path)))
    found = sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name))
    if not found:
        raise ValueError(f"no file matches {shown(path, 300)}")
    return found


def split_problem(expression: str, known: Collection[str] = ()) -> str:
    """What is wrong with a split expression such as `train[:2000]`, `train[10%:20%]` or `train+validation`; empty where
    nothing is. `known` are the names of the splits, where they are known without reading the data."""
    for part in expression.split("+"):
        match = _SPLIT.fullmatch(part.strip())
        if match is None:
            return (
                f"{shown(part.strip(), 60)!r} is no split: write a name and perhaps a slice, "
                "e.g. train, train[:2000], train[10%:20%], train+validation"
            )
        if known and match["name"] not in known:
            return f"no split is called {match['name']!r}; {one_of(match['name'], known)}"
        if problem := _slice_problem(match["from"], match["to"]):
            return f"{part.strip()}: {problem}"
    return ""


def _slice_problem(start: str | None, stop: str | None) -> str:
    bounds = [bound for bound in (start, stop) if bound is not None]
    percent = [bound.endswith("%") for bound in bounds]
    if len(set(percent)) > 1:
        return "both ends of a slice are rows, or both per cent"
    numbers = [int(bound.rstrip("%")) for bound in bounds]
    if any(percent) and any(abs(number) > 100 for number in numbers):
        return "per cent go from -100 to 100"
    if stop is not None and numbers[-1] == 0:
        return "the slice is empty"
    if len(numbers) == 2 and (numbers[0] < 0) == (numbers[1] < 0) and numbers[0] >= numbers[1]:
        return "the slice is empty"
    return ""
