"""What a suite declares: declarations as they are written, and the cases that `expand` makes of them."""

from ftcheck.spec.case import (
    READERS,
    ROLES,
    Case,
    Checkpoint,
    Data,
    EarlyStopping,
    Gate,
    Mark,
    Precision,
)
from ftcheck.spec.declaration import Declaration, Source

__all__ = [
    "READERS",
    "ROLES",
    "Case",
    "Checkpoint",
    "Data",
    "Declaration",
    "EarlyStopping",
    "Gate",
    "Mark",
    "Precision",
    "Source",
]
