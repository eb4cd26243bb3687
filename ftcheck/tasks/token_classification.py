"""token-classification: a list of words -> one tag per word (named entities, parts of speech)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import DataError, shown
from ftcheck.results import Confusion, WorstExample

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Context, Input
    from ftcheck.tasks import Meta, Record, Rows
    from ftcheck.tasks.features import Collator, EncodedRows


class Options(BaseModel):
    """Settings of token-classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(default=None, ge=3, description="Cut sentences at this many tokens; null: as many as the model takes.")
    labels: tuple[str, ...] | None = Field(
        default=None,
        min_length=2,
        description="Tag names in the order of their ids; null: the data's ClassLabel names, or what the training rows have, sorted.",
    )
    label_subwords: Literal["first", "all"] = Field(
        default="first", description="Which sub-words of a word are trained on; its prediction is always that of the first."
    )
    scheme: Literal["IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU"] | None = Field(
        default=None, description="Read entities strictly by this scheme; null: as conlleval does (seqeval's default mode)."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One entity found by `finetuned.predict`."""

    text: str
    type: str
    start: int
    """Its first word."""
    end: int
    """One beyond its last word."""
    score: float
    """Mean probability of its words' tags."""


class TokenClassification:
    """See `ftcheck.tasks.Task`. Records: index, tokens, predictions and references (tag names; None without), scores."""

    name = "token-classification"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"tokens": True, "tags": True}
    auto_class = "AutoModelForTokenClassification"
    inputs: frozenset[Input] = frozenset({"tags"})
    default_metrics = ("entity_f1", "entity_precision", "entity_recall")
    options = Options
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    tokenizer_kwargs: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}
    needs_offsets = True
    targets = ("labels",)
    per_token = True
