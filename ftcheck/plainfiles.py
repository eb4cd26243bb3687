"""Reading what anybody may have put there: no waiting for pipes, no memory beyond a limit, no nesting without end."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, Final

LARGEST: Final = 256 * 1024**2
"""Bytes that a file may have which is read as a whole."""
DEEPEST: Final = 100
"""Levels of lists and objects in JSON. What walks them afterwards may recurse."""


def opened(path: Path, *, links: bool = True) -> io.FileIO:
    """A plain file, to be read without a buffer. Raises OSError: also for folders, pipes and devices, and for links
    unless they may be followed (`links`)."""
    more = getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))  # no pipe is waited for
    if not links and path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link", str(path))
    file = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | more))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return file


def read(path: Path, *, limit: int = LARGEST, links: bool = True) -> bytes:
    """The bytes of a plain file of at most `limit`. Raises OSError as `opened` does, and for a larger file."""
    with opened(path, links=links) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
        content = b""
        while len(content) < size and (more := file.read(size - len(content))):  # no more than was there, if it grows
            content += more
        return content


def json_of(content: bytes | str, *, finite: bool = False) -> Any:
    """The value that is written in JSON. Raises ValueError; also for what is nested deeper than DEEPEST, and for
    numbers that are none, infinite or beyond 64 bits where all must be `finite`."""
    try:
        if finite:
            found = json.loads(content, parse_constant=_number, parse_float=_number, parse_int=_integer)
        else:
            found = json.loads(content)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    text = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    if text.count(b"[") + text.count(b"{") > DEEPEST and _deeper(found, DEEPEST):
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    return found


def _deeper(found: Any, most: int) -> bool:
    """Whether a value of JSON has more than `most` levels of lists and objects. Its types are exactly these two, and
    asking for them so is several times faster than `isinstance`: every manifest of a store comes by here."""
    level = [found]
    for _ in range(most):
        level = [
            item
            for value in level
            if (kind := type(value)) is dict or kind is list
            for item in (value.values() if kind is dict else value)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return False
    return True


def _number(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"{text[:20]} is no number that can stand here")
    return found


def _integer(text: str) -> int:
    found = int(text)
    if not -(2**63) <= found < 2**64:
        raise ValueError(f"{text[:20]} is no number that can stand here")
    return found
