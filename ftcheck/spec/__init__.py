"""What a suite declares: declarations as they are written, and the cases that `expand` makes of them."""

from ftcheck.spec.case import (
    EVAL_SPLITS,
    READERS,
    ROLES,
    Bounds,
    Case,
    Checkpoint,
    Data,
    EarlyStopping,
    Gate,
    Margin,
    Mark,
    Precision,
    RemoteCode,
    Resources,
    Slices,
)
from ftcheck.spec.catalogue import Catalogue, Facts, TaskFacts, TechniqueFacts
from ftcheck.spec.declaration import Declaration, Source
from ftcheck.spec.expand import expand
from ftcheck.spec.fields import keys_of
from ftcheck.spec.links import link
from ftcheck.spec.matrix import case_id

__all__ = [
    "EVAL_SPLITS",
    "READERS",
    "ROLES",
    "Bounds",
    "Case",
    "Catalogue",
    "Checkpoint",
    "Data",
    "Declaration",
    "EarlyStopping",
    "Facts",
    "Gate",
    "Margin",
    "Mark",
    "Precision",
    "RemoteCode",
    "Resources",
    "Slices",
    "Source",
    "TaskFacts",
    "TechniqueFacts",
    "case_id",
    "expand",
    "keys_of",
    "link",
]
