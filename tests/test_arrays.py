"""load_npz returns what was saved, unpickles nothing, and takes no memory for what a file only claims."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from ftcheck.arrays import load_npz, small
from ftcheck.errors import StoreError


def saved(compressed: bool = True, **arrays: Any) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_come_back_as_they_were(compressed: bool) -> None:
    arrays = {
        "accuracy": np.array([[1, 1], [0, 1]], dtype=np.uint8),
        "macro_f1": np.linspace(0, 1, 12).reshape(3, 4),
        "empty": np.zeros((0, 3)),
        "scalar": np.float64(2.5),
        "names": np.array(["a", "bc"]),
    }
    loaded = load_npz(saved(compressed, **arrays))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        pytest.param([0.0, 255.0], np.uint8, id="a-byte"),
        pytest.param([0.0, 256.0], np.int16, id="two"),
        pytest.param([-1.0, 0.0], np.int16, id="negative"),
        pytest.param([0.0, 2.0**31 - 1], np.int32, id="four"),
        pytest.param([0.0, 2.0**31], np.float64, id="more"),
        pytest.param([0.0, 0.5], np.float64, id="not-whole"),
        pytest.param([0.0, np.nan], np.float64, id="no-number"),
        pytest.param([0.0, np.inf], np.float64, id="infinite"),
        pytest.param(np.array([0, 300]), np.int16, id="of-integers"),
        pytest.param(np.array([0, 2**40]), np.int64, id="of-large-integers"),
        pytest.param([], np.uint8, id="none"),
    ],
)
def test_numbers_are_kept_in_the_smallest_type_that_holds_them(numbers: Any, kind: type[np.generic]) -> None:
    given = np.asarray(numbers)
    assert small(given).dtype == kind
    np.testing.assert_array_equal(small(given), given)


def claiming(shape: tuple[int, ...]) -> bytes:
    """An array of one number whose header claims `shape`."""
    header = repr({"descr": "<f8", "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8))
    return file.getvalue()


def encrypted() -> bytes:
    content = bytearray(saved(x=np.zeros(3)))
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


GOOD = saved(x=np.arange(100.0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(saved(x=np.array([{"a": 1}], dtype=object)), "Python objects", id="pickled objects"),
        pytest.param(claiming((10**12,)), "claims more values", id="a huge claim"),
        pytest.param(claiming((10**10, 10**10)), "claims more values", id="a claim that overflows"),
        pytest.param(claiming((2,)), "claims more values", id="one value too many"),
        pytest.param(b"", "no readable .npz", id="empty"),
        pytest.param(b"PK\x03\x04 not really", "no readable .npz", id="no archive"),
        pytest.param(GOOD[: len(GOOD) // 2], "no readable .npz", id="cut off"),
        pytest.param(encrypted(), "no readable .npz", id="encrypted"),
    ],
)
def test_what_is_no_good_file_is_one_clear_error(content: bytes, message: str) -> None:
    with pytest.raises(StoreError) as raised:
        load_npz(content)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_flipped_byte_is_an_error_or_harmless() -> None:
    """The store's checksum comes first; this is the second line: no traceback, no other numbers."""
    for at in range(len(GOOD)):
        content = bytearray(GOOD)
        content[at] ^= 0xFF
        try:
            loaded = load_npz(bytes(content))
        except StoreError:
            continue
        assert all(np.array_equal(array, np.arange(100.0)) for array in loaded.values())


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    content = saved(x=np.zeros(10**6))
    with pytest.raises(StoreError, match="more than 1,000 bytes"):
        load_npz(content, max_bytes=1000)
