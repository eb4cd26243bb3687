"""Keys: the SHA-256 of everything that a stage's result depends on, and the identities that they are made of.

A stale hit must be impossible: whatever can change a result is in its key, and an input that can't be fingerprinted is
an error. Importing this package imports no torch, transformers, datasets, pyarrow, NumPy or huggingface_hub.
"""

from ftcheck.keys.canonical import MISSING, Change, Key, canonical, diff, plain_json
from ftcheck.keys.identity import Identifier
from ftcheck.keys.roles import base_splits
from ftcheck.keys.source import source_identity
from ftcheck.keys.stages import parent_seed, predict_key, score_key, search_key, train_key

__all__ = [
    "MISSING",
    "Change",
    "Identifier",
    "Key",
    "base_splits",
    "canonical",
    "diff",
    "parent_seed",
    "plain_json",
    "predict_key",
    "score_key",
    "search_key",
    "source_identity",
    "train_key",
]
