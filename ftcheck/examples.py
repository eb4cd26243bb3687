"""Prediction records as the bytes of a Parquet file, and back. What the store keeps of every judged example."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = "examples.parquet"


def write(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write one row per record. Raises MetricError where records don't agree in their types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ftcheck.errors import MetricError

    try:
        table = pa.Table.from_pylist(list(records))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise MetricError(f"the task's records can't be stored as a table: {error}") from None
    pq.write_table(table, path, compression="zstd")


def read(content: bytes) -> list[dict[str, Any]]:
    """The records in the order they were written. Raises StoreError for bytes that are no such table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ftcheck.errors import StoreError

    try:
        records: list[dict[str, Any]] = pq.read_table(pa.BufferReader(content)).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{FILE} can't be read: {error}") from None
    return records
