"""Readers of single files. One module per family; adding a reader is adding a file and a line in `READERS`.

A reader is a pair: `Options`, a frozen pydantic model of what `data.options` may hold, and
`read(file, options, wanted) -> ReadFile`; where rows can be had one after the other there is also
`stream(file, options, wanted)`, which yields the same rows, some at a time. Rows come straight from the file each time:
nothing is cached, so nothing can be stale. Importing this package imports no pyarrow or datasets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from ftcheck.errors import DataError, one_of, shown

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ftcheck.finetune.data.files import File, ReadFile

MODULES: Mapping[str, str] = {
    "csv": "delimited",
    "tsv": "delimited",
    "json": "json_rows",
    "jsonl": "json_rows",
    "parquet": "parquet",
    "text": "text",
    "conll": "conll",
    "squad": "squad",
}
"""Reader -> its module in this package."""

SUFFIXES: Mapping[str, str] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".conll": "conll",
}
"""Suffix of a file -> the reader that is meant."""


def for_suffix(path: str) -> str | None:
    """The reader that a file's name asks for, compression suffix aside; None where it asks for none."""
    from pathlib import PurePath

    from ftcheck.finetune.data.files import COMPRESSIONS

    name = PurePath(path)
    if name.suffix.lower() in COMPRESSIONS:
        name = name.with_suffix("")
    return SUFFIXES.get(name.suffix.lower())


def options(reader: str, given: Mapping[str, Any]) -> BaseModel:
    """`given` as the checked options of `reader`. Raises DataError for an unknown option or a wrong value."""
    from pydantic import ValidationError

    model: type[BaseModel] = import_module(f"{__name__}.{MODULES[reader]}").Options
    try:
        return model.model_validate({**_preset(reader, model), **given})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = one_of(key, model.model_fields) if model.model_fields else "it has none"
            what = f"the {reader} reader has no such option; {known}"
        else:
            what = f"{first['msg']}, not {shown(repr(first['input']))}"
        raise DataError(f"data.options.{key}: {what}") from None


def read(reader: str, file: File, given: Mapping[str, Any], wanted: Collection[str] | None) -> ReadFile:
    """The rows of `file`; of its columns only those in `wanted` (None: all). Raises DataError."""
    return cast("ReadFile", import_module(f"{__name__}.{MODULES[reader]}").read(file, options(reader, given), wanted))


def stream(reader: str, file: File, given: Mapping[str, Any], wanted: Collection[str] | None) -> Iterator[ReadFile]:
    """The same rows some at a time, in order; a file whose format can't be read so comes in one piece."""
    module, checked = import_module(f"{__name__}.{MODULES[reader]}"), options(reader, given)
    if hasattr(module, "stream"):
        yield from module.stream(file, checked, wanted)
    else:
        yield module.read(file, checked, wanted)


def _preset(reader: str, model: type[BaseModel]) -> dict[str, Any]:
    """What the reader's name says by itself: `tsv` is `csv` with tabs, `jsonl` is `json` a line."""
    presets: dict[str, dict[str, Any]] = {"tsv": {"delimiter": "\t"}, "jsonl": {"lines": True}}
    preset = presets.get(reader, {})
    return {name: value for name, value in preset.items() if name in model.model_fields}
