"""A store with an entry in it, as the tests of this room need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftcheck.keys import Key
from ftcheck.store import Entry, Stage, Store

FILES = {"model/model.safetensors": b"weights" * 100, "model/config.json": b"{}", "statistics.npz": b"numbers" * 50}
CONTENT = {"costs": {"train_seconds": 41.0}, "notes": ["12 rows were cut"]}


def key(**components: Any) -> Key:
    return Key.of({"stage": "train", "seed": 42, **components})


def publish(
    store: Store, made: Key, *, stage: Stage = "runs", files: dict[str, bytes] | None = None, **how: Any
) -> Entry:
    """Publish an entry and open it."""
    with store.publish(stage, made, **how) as publication:
        for name, content in (FILES if files is None else files).items():
            path = publication.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        publication.content = CONTENT
    entry = store.get(stage, made.digest)
    assert entry is not None
    return entry


def left_over(root: Path) -> list[str]:
    """What lies in the store's scratch folder."""
    return sorted(path.name for path in (root / "tmp").iterdir())
