"""translation: a text -> the same in another language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ftcheck.errors import CheckpointError, one_of, shown
from ftcheck.tasks import sequence_to_sequence
from ftcheck.tasks.sequence_to_sequence import SequenceToSequence

if TYPE_CHECKING:
    from ftcheck.tasks import Meta

_CODE = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}")
"""A language as NLLB and mBART call it: fra_Latn, fr_XX."""


class Options(sequence_to_sequence.Options):
    """Settings of translation."""

    source_language: str | None = Field(
        default=None, description="With a multilingual tokenizer: the source's language, as the tokenizer calls it."
    )
    target_language: str | None = Field(
        default=None, description="With a multilingual tokenizer: the language to write, as the tokenizer calls it."
    )


class Translation(SequenceToSequence):
    """See `SequenceToSequence`."""

    name = "translation"
    columns: ClassVar[Mapping[str, bool]] = {"source": True, "target": True}
    options = Options
    source = "source"
    target = "target"
    in_parts = True
    read_once = True

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("bleu", "chrf")

    def prepare(self, tokenizer: Any, options: Mapping[str, Any]) -> None:
        """Set the tokenizer's languages. Raises CheckpointError for one that it doesn't know."""
        for option, attribute in (("source_language", "src_lang"), ("target_language", "tgt_lang")):
            if options[option] is not None:
                _language(tokenizer, option, options[option])
                setattr(tokenizer, attribute, options[option])

    def generation(self, tokenizer: Any, meta: Meta, options: Mapping[str, Any]) -> dict[str, Any]:
        """With a target language, what is written begins with its token."""
        given = super().generation(tokenizer, meta, options)
        if options["target_language"] is None:
            return given
        self.prepare(tokenizer, options)
        language = _language(tokenizer, "target_language", options["target_language"])
        # A target is framed by the tokenizer as [language, text, end], as NLLB and M2M-100 write it after a start token
        # of their own; mBART's is [text, end, language], and the language itself is what its decoder starts with.
        first = tokenizer(text_target="")["input_ids"][0]
        return given | {"forced_bos_token_id" if first == language else "decoder_start_token_id": language}


def _language(tokenizer: Any, option: str, name: str) -> int:
    """The token of a language. Raises CheckpointError, with near names, for one that the tokenizer doesn't know."""
    known = _languages(tokenizer)
    if name in known:
        return known[name]
    if not known:
        raise CheckpointError(
            f"task.{option}: a {type(tokenizer).__name__} has no languages to choose from: leave it out; "
            "a model that is told in its text what to do takes task.prefix"
        )
    raise CheckpointError(f"task.{option}: this tokenizer knows no language {shown(repr(name))}; {one_of(name, known)}")


def _languages(tokenizer: Any) -> Mapping[str, int]:
    """Name -> token id."""
    named: Mapping[str, int] | None = getattr(tokenizer, "lang_code_to_id", None)
    if named:
        return named
    if not hasattr(tokenizer, "src_lang"):
        return {}
    return {
        token: tokenizer.convert_tokens_to_ids(token)
        for token in tokenizer.all_special_tokens
        if _CODE.fullmatch(token)
    }
