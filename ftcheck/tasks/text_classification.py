"""text-classification: one text or a pair of texts -> one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.results import Confusion, WorstExample

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Context, Input
    from ftcheck.tasks import Meta, Record, Rows
    from ftcheck.tasks.features import Collator, EncodedRows


class Options(BaseModel):
    """Settings of text-classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(default=None, ge=3, description="Cut texts at this many tokens; null: as many as the model takes.")
    labels: tuple[str, ...] | None = Field(
        default=None,
        min_length=2,
        description="Class names in the order of their ids; null: the data's ClassLabel names, or what the training rows have, sorted.",
    )
    positive_label: str | None = Field(default=None, description="The class that precision, recall and f1 speak of; null: the second of two.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What `finetuned.predict` returns for one text."""

    label: str
    score: float
    """Probability of `label`."""
    scores: Mapping[str, float]
    """Probability of every class."""


class TextClassification:
    """See `ftcheck.tasks.Task`. Records: index, prediction and reference (class ids; None without one), scores, input."""

    name = "text-classification"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"text": True, "text_pair": False, "label": True}
    auto_class = "AutoModelForSequenceClassification"
    inputs: frozenset[Input] = frozenset({"label"})
    default_metrics = ("accuracy", "macro_f1")
    options = Options
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    tokenizer_kwargs: ClassVar[Mapping[str, Any]] = {}
    needs_offsets = False
    targets = ("labels",)
    per_token = False
