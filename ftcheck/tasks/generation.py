"""How models generate text: the settings that a suite may give."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Generation(BaseModel):
    """Settings of `generate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new_tokens: int = Field(default=64, ge=1, description="Tokens generated at most.")
