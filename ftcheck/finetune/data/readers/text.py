"""Plain text: a row per line, paragraph or document, in the column `text`."""

from __future__ import annotations

import re
from collections.abc import Collection
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
