"""Parquet, with the features (class names) that `datasets` writes into it."""

from __future__ import annotations

from collections.abc import Collection
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

    import pyarrow as pa
    import pyarrow.parquet as pq

    source: Any = io.BytesIO(files.content(file))
    try:
        parquet = pq.ParquetFile(source)
        names = parquet.schema_arrow.names
        table = parquet.read(columns=[name for name in names if wanted is None or name in wanted])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.shown}: no readable Parquet file: {shown(error)}") from None
    return files.ReadFile(table=table, names=tuple(names), shown=file.shown)
