"""What several runs need and one of them makes: arrays, kept in the run store by what they depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ftcheck.errors import StoreError, shown
from ftcheck.finetune import Arrays, Share
from ftcheck.keys import Key
from ftcheck.store import Store

FILE = "arrays.safetensors"
FORMAT = 1
"""Raised when the meaning of a component changes."""


def sharing(store: Store, on_wait: Callable[[str], None]) -> Share:
    """Keeps arrays in `store`. Whoever comes while they are made waits for them."""

    def share(components: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        from safetensors import SafetensorError
        from safetensors.numpy import load, save_file

        key = Key.of({**components, "stage": "answers", "format": FORMAT})
        with store.lock("answers", key.digest, on_wait=on_wait):
            entry = store.get("answers", key.digest)
            if entry is not None:
                try:
                    found: Arrays = load(entry.read(FILE))
                except SafetensorError as error:
                    raise StoreError(
                        f"{entry.path / FILE} holds no arrays, though its checksum is right ({shown(error)}): "
                        "who wrote that? Delete the entry, and run again"
                    ) from None
                return found
            made = make()
            with store.publish("answers", key, replace=True) as publication:
                save_file(dict(made), publication.path / FILE)
            return made

    return share
