"""summarization: a document -> its summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ftcheck.tasks.sequence_to_sequence import SequenceToSequence


class Summarization(SequenceToSequence):
    """See `SequenceToSequence`."""

    name = "summarization"
    columns: ClassVar[Mapping[str, bool]] = {"document": True, "summary": True}
    source = "document"
    target = "summary"
    in_parts = True
    read_once = True

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("rouge1", "rouge2", "rougeL", "rougeLsum")
