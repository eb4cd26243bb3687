"""How many bytes something may take, as suites and options say it (`500MB`, `8GB`, `1.5TB`), and how many of anything,
as messages and reports do."""

from __future__ import annotations

import math
import re

from ftcheck.errors import shown

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TOO_LARGE = 1 << 63
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


def in_bytes(said: str | int, *, least: int = 1) -> int:
    """The bytes of a size, at least `least`; units are powers of 1,000 (`GB`), or of 1,024 where they say so (`GiB`); a
    number alone is bytes. Raises ValueError in one sentence."""
    found = _SIZE.fullmatch(said.strip()) if isinstance(said, str) else None
    size: object = said
    if found:
        exact = float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ")
        size = int(min(exact, _TOO_LARGE))
    if isinstance(size, bool) or not isinstance(size, int) or not least <= size < _TOO_LARGE:
        raise ValueError(f"expected a size, such as 500MB or 8GB, got {shown(repr(said), 40)}")
    return size


def in_words(count: float) -> str:
    """Bytes as messages and reports say them: `8 GB`, `90.9 MB`, `12 B`."""
    return f"{scaled(count)}B"


def scaled(number: float) -> str:
    """Three significant digits with a decimal prefix: `22.7 M`, `1 k`, `312 `."""
    if not math.isfinite(number):
        return f"{number} "
    rounded = float(f"{number:.3g}")
    for size, prefix in _PREFIXES:
        if abs(rounded) >= size:
            return f"{rounded / size:.3g} {prefix}"
    return f"{rounded:.3g} "
