"""Plain text: a row per line, paragraph or document, in the column `text`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ftcheck.finetune.data import files


class Options(BaseModel):
    """What `data.options` may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sample_by: Literal["line", "paragraph", "document"] = "line"
    encoding: str = "utf-8"


def read(file: files.File, options: Options, wanted: Collection[str] | None) -> files.ReadFile:
    """Rows without their line ends. Blank lines are rows of their own by line, and separate paragraphs."""
    content = files.text(file, options.encoding)
    rows, lines = _split(content, options.sample_by)
    return _table(rows, lines, file, wanted)


def stream(file: files.File, options: Options, wanted: Collection[str] | None) -> Iterator[files.ReadFile]:
    """The same, a number of rows at a time where a row is a line."""
    if options.sample_by != "line":
        yield read(file, options, wanted)
        return
    start, told = 1, files.lines(file, options.encoding)
    while part := list(islice(told, files.CHUNK)):
        rows = [line.removesuffix("\n").removesuffix("\r") for line in part]
        yield _table(rows, range(start, start + len(rows)), file, wanted)
        start += len(rows)


def _table(
    rows: Sequence[str], lines: Sequence[int], file: files.File, wanted: Collection[str] | None
) -> files.ReadFile:
    return files.ReadFile(
        table=files.table({"text": rows}, wanted, lambda row: f"{file.shown}:{lines[row]}"),
        names=("text",),
        shown=file.shown,
        lines=lines,
    )


def _split(content: str, sample_by: str) -> tuple[list[str], list[int]]:
    if sample_by == "document":
        return ([content], [1]) if content else ([], [])
    if sample_by == "paragraph":
        found = list(re.finditer(r"(?:[^\r\n]+\r?\n?)+", content))
        return [match[0].rstrip("\r\n") for match in found], [
            content.count("\n", 0, match.start()) + 1 for match in found
        ]
    # not str.splitlines: it also splits at form feeds and U+2028, which are characters of a line
    rows = [line.removesuffix("\r") for line in content.split("\n")]
    if rows[-1] == "":
        rows.pop()
    return rows, list(range(1, len(rows) + 1))
