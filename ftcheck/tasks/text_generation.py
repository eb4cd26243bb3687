"""text-generation: a causal language model, trained and judged on text, on completions of prompts, or on chats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.results import WorstExample
from ftcheck.tasks import Task, likelihood
from ftcheck.tasks.generation import Generation

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows

SHAPES: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text"}),
    "prompt and completion": frozenset({"prompt", "completion"}),
    "messages": frozenset({"messages"}),
}
"""What the data may hold, exactly one of these."""


class Options(BaseModel):
    """Settings of text-generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(
        default=None,
        ge=2,
        description="Tokens of a block, a window, or a prompt with its completion; null: 1024, or as many as the model "
        "takes.",
    )
    stride: int | None = Field(
        default=None, ge=1, description="Tokens between the beginnings of windows; null: half of max_length."
    )
    join: str | None = Field(
        default=None, description="Of text: read the rows as one document, with this between them; null: one each."
    )
    packing: Literal["auto", True, False] = Field(
        default="auto",
        description="Of text: whether documents share blocks in training; auto: where the model keeps them apart.",
    )
    generation: Generation | None = Field(
        default=None,
        description="How completions are generated to be judged; null: they are judged by likelihood only.",
    )

    @model_validator(mode="after")
    def _windows_overlap(self) -> Self:
        if self.max_length is not None and self.stride is not None and self.stride >= self.max_length:
            raise PydanticCustomError(
                "complete",
                f"stride {self.stride} must be below max_length {self.max_length}: the first token of each window has "
                "nothing to be predicted from",
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What `finetuned.predict` returns for one prompt."""

    text: str
    """What the model continues it with."""


class TextGeneration(Task):
    """Records: index, input (its beginning), nll (nats), right, tokens, bytes; prediction and references (of generated
    text, or None)."""

    name = "text-generation"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"text": False, "prompt": False, "completion": False, "messages": False}
    auto_class = "AutoModelForCausalLM"
    options = Options
    decoding_options = frozenset({"stride", "generation"})
    training_defaults: ClassVar[Mapping[str, Any]] = {"per_device_eval_batch_size": likelihood.EVAL_BATCH_SIZE}
    needs_offsets = True
    per_token = True
    in_parts = True

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"tokens"} if options["generation"] is None else {"tokens", "text"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("perplexity", "token_accuracy")

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        found: dict[Input, tuple[Sequence[Any], Sequence[Any]]] = {"tokens": likelihood.score_inputs(records)}
        if options["generation"] is not None:
            found["text"] = [r["prediction"] for r in records], [r["references"] for r in records]
        return found

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        return likelihood.worst(records)

    def probe(self, model: Any, meta: Meta, options: Mapping[str, Any]) -> Meta:
        """`apart`: whether the model keeps packed documents apart."""
        from ftcheck.tasks import packing

        return {"apart": options["packing"] is not False and packing.keeps_apart(model)}

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks import completions
        from ftcheck.tasks.features import texts

        shape = _shape(rows.column_names)
        if shape != "text":
            if options["join"] is not None:
                raise DataError(f"task.join joins the rows of the column text; this data has {shape}")
            completions.check(rows, where)
            return []
        if options["generation"] is not None:
            raise DataError(
                "task.generation needs something to judge what is generated by: prompt and completion, or messages; "
                "this data has text (finetuned.predict generates without it)"
            )
        texts(rows, "text", where)
        return []

    def encode(
        self,
        rows: Rows,
        tokenizer: Any,
        meta: Meta,
        options: Mapping[str, Any],
        *,
        training: bool,
        where: Where = "row {}".format,
    ) -> EncodedRows:
        """No features of rows to be continued only. `aside`: see `documents.judging`."""
        from ftcheck.tasks import completions, documents
        from ftcheck.tasks.features import EncodedRows, Gatherer

        if _natural(rows):
            return EncodedRows(tokens={}, starts=Gatherer().starts())
        length = options["max_length"] or int(min(1024, tokenizer.model_max_length))
        stride = options["stride"] or length // 2
        if stride >= length:
            raise DataError(f"task.stride is {stride}, but windows have {length} tokens: it must be below")
        if _shape(rows.column_names) != "text":
            found = completions.encode(rows, tokenizer, length, where)
        elif training:
            apart = meta.get("apart", False)
            packed = apart if options["packing"] == "auto" else options["packing"]
            found = documents.training(
                rows, tokenizer, max_length=length, join=options["join"], packed=packed, apart=apart
            )
            found.notes.extend(_packing_notes(options["packing"], apart))
        else:
            found = documents.judging(rows, tokenizer, max_length=length, stride=stride, join=options["join"])
        if not len(found) or not (found.tokens["labels"] != -100).any():
            raise DataError("no row has a token that can be predicted from one before it")
        return found

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> Any:
        from ftcheck.tasks import packing

        return packing.collator(tokenizer, pad_to_multiple_of)

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        return likelihood.summed(output.logits, likelihood.following(targets["labels"]), label_smoothing)

    def items(self, targets: Mapping[str, Any]) -> Any:
        return (targets["labels"][:, 1:] != -100).sum()

    def runs_model(self, features: EncodedRows) -> bool:
        return len(features) > 0

    def places(self, features: EncodedRows) -> np.ndarray:
        return features.lengths

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        """By token: its negative log likelihood in nats, and whether it was the likeliest; 0 where it isn't scored."""
        likelihood.check(output, "causal language model")
        found = likelihood.by_token(output.logits, likelihood.following(targets["labels"]))
        # From the token that predicts to the one that is predicted; nothing is scored in the last place.
        return tuple(values.roll(1, dims=1) for values in found)

    def prompts(
        self,
        rows: Rows,
        tokenizer: Any,
        meta: Meta,
        options: Mapping[str, Any],
        *,
        where: Where = "row {}".format,
    ) -> EncodedRows | None:
        """Of what `predict` is given always; of rows with references where the suite says how to generate."""
        from ftcheck.tasks import completions

        if options["generation"] is None and not _natural(rows):
            return None
        room = tokenizer.model_max_length - self.generation(tokenizer, meta, options)["max_new_tokens"]
        if room < 1:
            raise CheckpointError(
                f"task.generation.max_new_tokens leaves no room for a prompt: the model takes "
                f"{tokenizer.model_max_length} tokens, prompt included"
            )
        return completions.prompts(rows, tokenizer, room, where)

    def generation(self, tokenizer: Any, meta: Meta, options: Mapping[str, Any]) -> dict[str, Any]:
        from ftcheck.tasks import generation

        given = options["generation"] or Generation().model_dump()
        return generation.arguments(given, min(generation.MAX_NEW_TOKENS, tokenizer.model_max_length // 2))

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: EncodedRows,
        rows: Rows,
        *,
        meta: Meta,
        options: Mapping[str, Any],
        tuned: Mapping[str, Any],
        texts: Sequence[str] | None = None,
    ) -> list[Record]:
        """Sums over the tokens that belong to a row."""
        import numpy as np

        from ftcheck.tasks import completions

        said = texts if texts is not None else [None] * len(rows)
        if _natural(rows):
            return [{"index": index, "prediction": text} for index, text in enumerate(said)]
        row = features.aside["row"]
        labelled = features.tokens["labels"] != -100
        nll, right, tokens = (
            np.bincount(row, weights=weights, minlength=len(rows)) for weights in (*outputs, labelled)
        )
        records = []
        for index, one in enumerate(rows):
            text = one["text"] if "text" in one else _shown(completions.before(one))
            records.append(
                {
                    "index": index,
                    "input": likelihood.preview(text),
                    "nll": float(nll[index]),
                    "right": int(right[index]),
                    "tokens": int(tokens[index]),
                    "bytes": int(features.aside["bytes"][index]),
                    "prediction": said[index],
                    "references": None if "text" in one else completions.references(one),
                }
            )
        return records

    def is_one(self, value: Any) -> bool:
        """A list of messages is one chat."""
        return not isinstance(value, list) or (bool(value) and all(isinstance(one, Mapping) for one in value))

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        rows = [_row(one) for one in ([value] if self.is_one(value) else value)]
        if len({type(row["prompt"]) for row in rows}) > 1:
            raise DataError("predict takes texts or chats, not both at once")
        return rows

    def natural_output(self, record: Record, meta: Meta) -> Generated:
        return Generated(text=record["prediction"])


def _shape(names: Sequence[str]) -> str:
    """Which of SHAPES these columns are. Raises DataError where they are none, or several."""
    begun = [shape for shape, columns in SHAPES.items() if columns & set(names)]
    if len(begun) == 1 and set(names) >= SHAPES[begun[0]]:
        return begun[0]
    there = ", ".join(sorted(set(names) & frozenset().union(*SHAPES.values()))) or "none of these columns"
    raise DataError(
        "text-generation reads text, or prompt and completion, or messages: exactly one of these; "
        f"this data has {there}; data.columns says what they are called, and leaves one out: {{text: null}}"
    )


def _natural(rows: Rows) -> bool:
    """Whether the rows are what `predict` was given: prompts, or chats, to continue."""
    return "prompt" in rows.column_names and "completion" not in rows.column_names


def _shown(before: Any) -> str:
    from ftcheck.tasks import chat

    return before if isinstance(before, str) else chat.text(before)


def _packing_notes(wanted: bool | str, apart: bool) -> list[str]:
    if apart or wanted is False:
        return []
    if wanted == "auto":
        return ["the model doesn't keep packed documents apart: each has blocks of its own"]
    return ["the model doesn't keep packed documents apart: in a block, each sees those before it (packing: true)"]


def _row(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"prompt": value}
    chat = value if isinstance(value, list) else [value]
    if chat and all(
        isinstance(one, Mapping) and all(isinstance(one.get(key), str) for key in ("role", "content")) for one in chat
    ):
        return {"prompt": [dict(one) for one in chat]}
    raise DataError(
        "predict takes a text to continue, or a chat (a list of {role, content}) to answer, or a list of these; "
        f"got {shown(repr(value))}"
    )
