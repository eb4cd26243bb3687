"""What a session tells nobody: libraries that report home don't, and secrets are in no text that is shown or kept."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

TELEMETRY: Final[Mapping[str, str]] = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and TRL by way of it
    "HF_UPDATE_DOWNLOAD_COUNTS": "false",  # evaluate
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "DO_NOT_TRACK": "true",  # in MLflow's spelling, which others take too
}
SHORTEST: Final = 8
"""Characters that a secret has at least: anything shorter would be found in every other word."""
HIDDEN: Final = "***"

_SECRET: Final = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|PRIVATE_KEY)(?:_|$)", re.IGNORECASE
)
_PLACE: Final = re.compile(r"_(?:FILE|PATH|DIR|ID|NAME)$", re.IGNORECASE)
"""What ends so says where a secret is, or whose."""
_PATTERNS: Final = (
    (re.compile(r"(?<=://)[^\s/@'\"<>]{1,1000}@"), f"{HIDDEN}@"),
    (
        re.compile(
            r"([?&#;][\w-]{0,40}(?:token|secret|passw|signature|credential|api[_-]?key|(?<=[?&#;])sig|(?<=[?&#;])key)[\w-]{0,40}=)"
            r"[^\s&#'\"<>]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(authorization\W{1,6}(?:bearer|basic|token)\s+)[^\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:hf|gh[pousr])_[A-Za-z0-9]{20,}"), HIDDEN),
)
"""What URLs, headers, and the Hub's and GitHub's own tokens look like."""
_values: tuple[str, ...] = ()


def begin() -> None:
    """Turn telemetry off in this process and those that it starts, and learn which secrets its environment holds.

    To be called before a library is imported that reports home.
    """
    global _values  # noqa: PLW0603  of the process, as its environment is
    os.environ.update(TELEMETRY)
    constants: Any = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # it reads its environment once
        constants.HF_HUB_DISABLE_TELEMETRY = True
    found = {
        value.strip()
        for name, value in os.environ.items()
        if len(value.strip()) >= SHORTEST and _SECRET.search(name) and not _PLACE.search(name)
    }
    _values = tuple(sorted(found, key=len, reverse=True))


def hidden(text: str) -> str:
    """`text` without the environment's secrets, users and passwords of URLs, and what else looks like a token."""
    for value in _values:
        if value in text:
            text = text.replace(value, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
