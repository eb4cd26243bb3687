"""Parquet, with the features (class names) that `datasets` writes into it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import files


class Options(BaseModel):
    """What `data.options` may hold: nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def read(file: files.File, options: Options, wanted: Collection[str] | None) -> files.ReadFile:
    """The wanted columns; only they are read. Raises DataError where the file is no Parquet or is damaged."""
    import io

    with _opened(io.BytesIO(files.content(file)), file) as parquet:
        names = parquet.schema_arrow.names
        table = parquet.read(columns=_among(names, wanted))
    return files.ReadFile(table=table, names=tuple(names), shown=file.shown)


def stream(file: files.File, options: Options, wanted: Collection[str] | None) -> Iterator[files.ReadFile]:
    """The same, a number of rows at a time."""
    import pyarrow as pa

    with files.opened(file) as source, _opened(source, file) as parquet:
        names, start = parquet.schema_arrow.names, 0
        for batch in parquet.iter_batches(files.CHUNK, columns=_among(names, wanted)):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(parquet.schema_arrow.metadata)
            yield files.ReadFile(table=table, names=tuple(names), shown=file.shown, start=start)
            start += len(table)


@contextmanager
def _opened(source: Any, file: files.File) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield pq.ParquetFile(source)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.shown}: no readable Parquet file: {shown(error)}") from None


def _among(names: Collection[str], wanted: Collection[str] | None) -> list[str]:
    return [name for name in names if wanted is None or name in wanted]
