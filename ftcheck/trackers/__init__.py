"""Experiment trackers that people already use. None of them decides anything: what fails here is told, no more."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ftcheck.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from ftcheck.settings import Settings


def check(settings: Settings) -> None:
    """Raise UsageError for a tracker that was asked for and isn't installed."""
    for given, flag, library in (
        (settings.tensorboard, "--ft-tensorboard", "tensorboard"),
        (settings.mlflow, "--ft-mlflow", "mlflow"),
    ):
        if given is not None and find_spec(library) is None:
            raise UsageError(str(MissingExtraError(flag, library, library)))
