"""Where rows come from: a case's data as one `datasets.Dataset` per role, in memory, under the task's column names.

`load` is the way in. Rows are read from their source each time; no cache of `datasets` is used or left behind, so a
file that changed is never served as it was. Importing this package imports no torch, transformers, datasets or pyarrow,
and what reads rows only when it is asked for: keys need its `splits` alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcheck.finetune.data.loading import Loaded, load, quiet
    from ftcheck.finetune.data.selection import RoleRows
    from ftcheck.finetune.data.stream import Stream

__all__ = ["Loaded", "RoleRows", "Stream", "load", "quiet"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.loading"), name)
