"""question-answering: a question and a context -> the span that answers it, or none (SQuAD v1.1 and v2.0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.results import Confusion, WorstExample

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Context, Input
    from ftcheck.tasks import Meta, Record, Rows
    from ftcheck.tasks.features import Collator, EncodedRows


class Options(BaseModel):
    """Settings of question-answering."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(default=None, ge=8, description="Tokens of a window; null: 384, or as many as the model takes.")
    doc_stride: int | None = Field(
        default=None, ge=0, description="Tokens that neighbouring windows share; null: a third of max_length (128 of 384)."
    )
    n_best: int = Field(default=20, ge=1, le=100, description="How many starts and ends of each window are combined.")
    max_answer_length: int = Field(default=30, ge=1, description="Tokens of the longest answer that is considered.")
    null_threshold: Literal["auto"] | float = Field(
        default="auto",
        description="Answer nothing where the null score exceeds the best answer's by more than this; auto: tuned on the tune split.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What `finetuned.predict` returns for one question."""

    answer: str
    """Empty where the model holds the question to be unanswerable."""
    score: float
    """The answer's share among the n best candidates (no answer included, where that is one)."""
    start: int | None
    """Its first character in the context; None without an answer."""
    end: int | None
    """One beyond its last character."""


class QuestionAnswering:
    """See `ftcheck.tasks.Task`. Records: index, id, question, prediction, references, score, start, end, best, margin."""

    name = "question-answering"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"id": False, "context": True, "question": True, "answers": True}
    auto_class = "AutoModelForQuestionAnswering"
    inputs: frozenset[Input] = frozenset({"answer"})
    default_metrics = ("exact_match", "answer_f1")
    options = Options
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    tokenizer_kwargs: ClassVar[Mapping[str, Any]] = {}
    needs_offsets = True
    targets = ("start_positions", "end_positions")
    per_token = True
