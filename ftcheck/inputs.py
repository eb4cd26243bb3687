"""Which local files a case is made from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck.keys.data import CARDS

if TYPE_CHECKING:
    from ftcheck.spec import Case


def places(case: Case) -> Iterator[Path]:
    """Where checkpoints, tokenizers and rows are read from. Nobody knows what a data function reads."""
    from ftcheck.finetune import techniques

    others = (other for technique in techniques.of(case) for other in technique.checkpoints(case))
    for checkpoint in (case.checkpoint, *others):
        yield from (Path(checkpoint.path),) if checkpoint.local else ()
        if checkpoint.tokenizer is not None and os.path.isabs(checkpoint.tokenizer):
            yield Path(checkpoint.tokenizer)
    yield from (Path(path) for paths in case.data.files.values() for path in paths)
    if case.data.kind == "local":
        path = Path(case.data.path)
        yield path
        yield from (path.parent / card for card in CARDS if path.is_file() and (path.parent / card).is_file())


def files(place: Path) -> Iterator[Path]:
    """The files of a file or folder; hidden ones and what Python made of its sources are passed over."""
    if place.is_file():
        yield place
        return
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        yield from (Path(folder, name) for name in names if not name.startswith(".") or name in CARDS)
