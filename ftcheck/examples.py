"""What the store keeps of examples: prediction records as a Parquet file, and the training rows' hashes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FILE = "examples.parquet"
TRAIN_ROWS = "train_rows.npz"


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
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{FILE} can't be read: {error}") from None
    return records


def hash_bytes(hashes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Rows' hashes (32 hexadecimal digits each) as bytes: (n, 16)."""
    import numpy as np

    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(len(hashes), 16)


def write_hashes(hashes: Sequence[str], path: Path) -> None:
    """Keep the training rows' hashes, so that it can be told how many differ between two trainings."""
    from ftcheck.arrays import dump_npz

    path.write_bytes(dump_npz({"rows": hash_bytes(hashes)}))


def read_hashes(content: bytes) -> npt.NDArray[np.uint8]:
    """What `write_hashes` wrote, (n, 16). Raises StoreError."""
    from ftcheck.arrays import load_npz

    return load_npz(content)["rows"]


def columns(content: bytes, names: Sequence[str]) -> dict[str, Any]:
    """Those of the named columns that the records have, as pyarrow arrays; much faster than `read`. Raises
    StoreError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ftcheck.errors import StoreError

    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        there = [name for name in names if name in file.schema_arrow.names]
        table = file.read(columns=there, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{FILE} can't be read: {error}") from None
    return {name: table[name].combine_chunks() for name in there}


def numbers(column: Any) -> npt.NDArray[Any]:
    """A pyarrow array of numbers, none of them missing, as a NumPy array; its own `to_numpy` would load pandas."""
    import numpy as np

    return np.from_dlpack(column)
