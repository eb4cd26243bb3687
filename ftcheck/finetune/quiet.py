"""A stage's surroundings: nothing printed, warnings kept, global state of libraries as it was before."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger

from ftcheck.privacy import hidden

MOST = 20
"""Warnings kept of one stage."""

TALKERS = ("bitsandbytes", "torchao", "torch.utils._pytree")
"""Loggers that warn of the machine whenever these are imported, which transformers does wherever they are installed."""


@contextmanager
def quiet() -> Iterator[list[str]]:
    """No bars and log lines of transformers and datasets; warnings are collected in the yielded list as the block ends.

    Ours is a test run, often under `-W error`: a library's warning must not fail a training, and must not be lost.
    """
    from datasets import utils as datasets
    from transformers.utils import logging

    kept: list[str] = []
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    mapping_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    levels = {name: getLogger(name).level for name in TALKERS}
    for name in TALKERS:
        getLogger(name).setLevel(ERROR)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.resetwarnings()
            warnings.simplefilter("default")
            for internal in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", internal)
            yield kept
    finally:
        texts = dict.fromkeys(hidden(f"{warning.category.__name__}: {warning.message}") for warning in caught)
        kept.extend(list(texts)[:MOST])
        logging.set_verbosity(verbosity)
        for name, level in levels.items():
            getLogger(name).setLevel(level)
        if bars:
            logging.enable_progress_bar()
        if mapping_bars:
            datasets.enable_progress_bars()


@contextmanager
def own_environment(device: str) -> Iterator[None]:
    """accelerate's variables out of the way (ACCELERATE_MIXED_PRECISION would change the precision), then back."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("ACCELERATE_")}
    for name in kept:
        del os.environ[name]
    if device.startswith("cuda"):
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
            del os.environ[name]
        os.environ.update(kept)


@contextmanager
def own_randomness(device: str) -> Iterator[None]:
    """Whatever random numbers the block draws or seeds, the streams are as they were afterwards."""
    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
