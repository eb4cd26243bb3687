"""How long something may take, as suites and options say it: `90`, `90s`, `30min`, `1.5h`, `2d`."""

from __future__ import annotations

import re
import sys

from ftcheck.errors import shown

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ONE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|m|h|d|)")


def seconds(said: str | float) -> float:
    """The seconds of a duration; a number alone is seconds. Raises ValueError in one sentence."""
    found = _ONE.fullmatch(said.strip()) if isinstance(said, str) else None
    number = float(found[1]) * _UNITS[found[2]] if found else said
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= sys.float_info.max:
        raise ValueError(f"expected a duration, such as 90s, 30min or 2h, got {shown(repr(said), 40)}")
    return float(number)
