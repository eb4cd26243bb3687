"""How a model writes: the options of generation that a suite may set, for every task whose models generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_NEW_TOKENS = 128
"""Where neither the suite nor the task knows how long a text may become."""


class Generation(BaseModel):
    """Arguments of `model.generate`. Where the suite is silent (null), the checkpoint's `generation_config` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_beams: int | None = Field(default=None, ge=1, description="Beams of beam search; 1: none.")
    max_new_tokens: int | None = Field(
        default=None, ge=1, description="Tokens of the longest text; null: as many as a target may have, or 128."
    )
    min_new_tokens: int | None = Field(default=None, ge=1, description="Tokens of the shortest text.")
    no_repeat_ngram_size: int | None = Field(
        default=None, ge=0, description="No sequence of as many tokens occurs twice in a text; 0: any may."
    )
    length_penalty: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Beam search: above 0 prefers longer texts, below 0 shorter ones.",
    )
    early_stopping: Literal[True, False, "never"] | None = Field(
        default=None, description="Beam search: whether to stop as soon as there are num_beams whole texts."
    )
    do_sample: bool | None = Field(default=None, description="Draw tokens by their probability.")
    temperature: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Sampling: below 1 sharpens the probabilities."
    )
    top_k: int | None = Field(
        default=None, ge=0, description="Sampling: from as many of the likeliest tokens only; 0: from all."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Sampling: from the likeliest tokens that together have this probability."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Sampling: what the random numbers start from.")

    @model_validator(mode="after")
    def _refuse_what_would_be_ignored(self) -> Self:
        """`generate` ignores these with a warning, or without one."""
        sampling = [name for name in ("temperature", "top_k", "top_p") if getattr(self, name) is not None]
        sampling += ["seed"] if self.seed else []
        if sampling and not self.do_sample:
            raise _refused(f"{sampling[0]} is for sampling: add do_sample: true, or leave it out")
        beams = [name for name in ("length_penalty", "early_stopping") if getattr(self, name) is not None]
        if beams and self.num_beams == 1:
            raise _refused(f"{beams[0]} is for beam search: raise num_beams, or leave it out")
        longest, least = self.max_new_tokens, self.min_new_tokens
        if longest is not None and least is not None and least > longest:
            raise _refused(f"min_new_tokens {least} is above max_new_tokens {longest}")
        return self


def _refused(sentence: str) -> PydanticCustomError:
    """An error that the suite's reader shows as it is."""
    return PydanticCustomError("complete", sentence)


def arguments(generation: Mapping[str, Any], max_new_tokens: int | None = None) -> dict[str, Any]:
    """What `Task.generation` returns for a dumped `Generation`: what the suite says, and `seed`.

    `max_new_tokens` is always there, so that no default of a library bounds a text: where the suite doesn't say, it is
    the parameter, or MAX_NEW_TOKENS.
    """
    given = {name: value for name, value in generation.items() if value is not None}
    return {"max_new_tokens": max_new_tokens or MAX_NEW_TOKENS, **given}
