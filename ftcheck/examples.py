"""What the store keeps of examples: prediction records as a Parquet file, and the training rows' hashes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.importing import uncollected

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

AT_ONCE = 1_000
"""Lists of floats that are copied at a time."""

FILE = "examples.parquet"
TRAIN_ROWS = "train_rows.npz"


def write(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write one row per record. Raises MetricError where records don't agree in their types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ftcheck.errors import MetricError

    names = records[0] if records else ()
    try:
        table = pa.table({name: _column([record.get(name) for record in records]) for name in names})
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise MetricError(f"the task's records can't be stored as a table: {error}") from None
    pq.write_table(table, path, compression="zstd")


@uncollected()
def read(content: bytes) -> list[dict[str, Any]]:
    """The records in the order they were written; lists of floats are `array("d")`, a fifth of the size. Raises
    StoreError for bytes that are no such table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ftcheck.errors import StoreError

    try:
        table = pq.read_table(pa.BufferReader(content))
        values = [_values(column.combine_chunks()) for column in table.columns]
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{FILE} can't be read: {error}") from None
    names = table.column_names
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _column(values: list[Any]) -> Any:
    """A pyarrow array of these."""
    import pyarrow as pa

    if not (values and all(isinstance(value, array) and value.typecode == "d" for value in values)):
        return pa.array([value.tolist() if isinstance(value, array) else value for value in values])
    ends = accumulate(map(len, values), initial=0)
    numbers = b"".join(values)
    flat = pa.Array.from_buffers(pa.float64(), len(numbers) // 8, [None, pa.py_buffer(numbers)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat)


def _values(column: Any) -> Iterable[Any]:
    import pyarrow as pa

    if column.type != pa.list_(pa.float64()) or column.null_count or column.flatten().null_count:
        found: list[Any] = column.to_pylist()
        return found
    return _arrays(numbers(column.flatten()), numbers(column.offsets))


def _arrays(flat: npt.NDArray[np.float64], ends: npt.NDArray[np.int32]) -> Iterator[array[float]]:
    """The lists that lie in `flat` between two of the `ends`, which may begin anywhere."""
    places = (ends - ends[0]).tolist()
    for low in range(0, len(places) - 1, AT_ONCE):
        some = places[low : low + AT_ONCE + 1]
        part = array("d", flat[some[0] : some[-1]].tobytes())  # slices of this take a fifth of the time
        for start, end in pairwise(some):
            yield part[start - some[0] : end - some[0]]


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
