"""How many bytes something may take, as suites and options say it (`500MB`, `8GB`, `1.5TB`), and as messages do."""

from __future__ import annotations

import re

from ftcheck.errors import shown

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


def in_bytes(said: str | int, *, least: int = 1) -> int:
    """The bytes of a size, at least `least`; units are powers of 1,000 (`GB`), or of 1,024 where they say so (`GiB`); a
    number alone is bytes. Raises ValueError in one sentence."""
    found = _SIZE.fullmatch(said.strip()) if isinstance(said, str) else None
    if found:
        said = int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " "))
    if isinstance(said, bool) or not isinstance(said, int) or said < least:
        raise ValueError(f"expected a size, such as 500MB or 8GB, got {shown(repr(said), 40)}")
    return said


def in_words(count: float) -> str:
    """Bytes as a suite could say them, to three digits: `8GB`, `512MB`."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}B"
