"""CoNLL columns: a token and its tags a line, sentences apart by a blank line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import files


class Options(BaseModel):
    """What `data.options` may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    token_column: int = 0
    tag_column: int = -1
    """Columns count from 0, from the end where negative."""
    separator: str | None = None
    """What stands between columns; None: a tab in a line that has one, else runs of spaces."""
    comment: str | None = None
    """Lines that start with it are skipped (CoNLL-U: `#`)."""
    encoding: str = "utf-8"


def read(file: files.File, options: Options, wanted: Collection[str] | None) -> files.ReadFile:
    """Rows of `tokens`, `tags` and `id` (the sentence's number in the file, from 0). Raises DataError."""
    import pyarrow as pa

    sentences = list(_sentences(file, options))
    lines = [line for line, _, _ in sentences]
    columns: dict[str, list[Any]] = {
        "id": [str(number) for number in range(len(sentences))],
        "tokens": [tokens for _, tokens, _ in sentences],
        "tags": [tags for _, _, tags in sentences],
    }
    words = pa.list_(pa.string())
    return files.ReadFile(
        table=files.table(
            columns,
            wanted,
            lambda row: f"{file.shown}:{lines[row]}",
            {"id": pa.string(), "tokens": words, "tags": words},
        ),
        names=tuple(columns),
        shown=file.shown,
        lines=lines,
    )


def _sentences(file: files.File, options: Options) -> Iterator[tuple[int, list[str], list[str]]]:
    """(line of the first token, tokens, tags) of each sentence."""
    start, tokens, tags = 0, list[str](), list[str]()
    for number, raw in enumerate(files.text(file, options.encoding).split("\n"), start=1):
        line = raw.removesuffix("\r")
        if not line.strip():  # some files separate sentences by a lone tab
            if tokens:
                yield start, tokens, tags
            tokens, tags = [], []
            continue
        if line.startswith("-DOCSTART-") or (options.comment and line.startswith(options.comment)):
            continue
        token, tag = _columns(line, number, file, options)
        start = start if tokens else number
        tokens.append(token)
        tags.append(tag)
    if tokens:
        yield start, tokens, tags


def _columns(line: str, number: int, file: files.File, options: Options) -> tuple[str, str]:
    # not str.split(): a no-break space is part of a token
    separator = options.separator or ("\t" if "\t" in line else " ")
    fields = line.split(separator)
    if separator == " ":
        fields = [field for field in fields if field]
    needed = max(index + 1 if index >= 0 else -index for index in (options.token_column, options.tag_column))
    if len(fields) < max(needed, 2):
        raise DataError(
            f"{file.shown}:{number}: {len(fields)} column{'s' if len(fields) != 1 else ''} in {shown(repr(line), 60)}, "
            f"at least {max(needed, 2)} needed (data.options: token_column, tag_column, separator)"
        )
    token, tag = fields[options.token_column], fields[options.tag_column]
    if not token or not tag:
        raise DataError(f"{file.shown}:{number}: an empty {'tag' if token else 'token'} in {shown(repr(line), 60)}")
    return token, tag
