"""NumPy arrays as the bytes of an .npz file, small and without pickles; and back, out of bytes that may be anything."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ftcheck.errors import StoreError, shown

if TYPE_CHECKING:
    import numpy as np

MAX_BYTES: Final = 4 * 1024**3


def small(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same numbers in the smallest type that holds them exactly: statistics are mostly small counts."""
    import numpy as np

    low, high = (rows.min(), rows.max()) if rows.size else (0, 0)
    for kind in (np.uint8, np.int16, np.int32):
        if low >= np.iinfo(kind).min and high <= np.iinfo(kind).max:
            whole = rows.dtype.kind in "iu" or (rows == np.rint(rows)).all()
            return rows.astype(kind, copy=False) if whole else rows
    return rows


def dump_npz(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """An .npz file of these arrays, the same bytes for the same arrays."""
    import numpy as np

    content = io.BytesIO()
    np.savez_compressed(content, **dict(arrays))  # type: ignore[arg-type]  # the stub takes allow_pickle for one of them
    return content.getvalue()


def load_npz(content: bytes, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an .npz file. Nothing is unpickled, and no memory is taken for sizes that the file only claims.

    Raises StoreError where it is no such file, holds Python objects, or its arrays need more than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            if len(names) < len(members) or not all(name.endswith(".npy") for name in names):
                raise StoreError("it holds something else than arrays, or one twice")
            if sum(member.file_size for member in members) > max_bytes:
                raise StoreError(f"the arrays need more than {max_bytes:,} bytes")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        NotImplementedError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise StoreError(f"this is no readable .npz file: {type(error).__name__}: {shown(error)}") from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    """One array. One whose header claims more than the file holds is refused: NumPy takes the memory before it
    reads."""
    import numpy as np
    from numpy.lib import format as npy

    with archive.open(member) as file:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"array format {version} of {member.filename}")
        shape, by_columns, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        # Values of no bytes would be as many as the header says, and walking them would not end.
        count = math.prod(shape)
        if min(shape, default=0) < 0 or count * max(1, dtype.itemsize) > member.file_size - file.tell():
            raise ValueError(f"{member.filename} claims more values than it holds, or none that there can be")
        values = np.frombuffer(file.read(), dtype, count)
        return values.reshape(shape, order="F" if by_columns else "C")
