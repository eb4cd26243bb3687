"""preference: a prompt, an answer that people chose and one that they rejected; a causal language model should find the
chosen one likelier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import DataError, TrainingError, shown
from ftcheck.results import WorstExample
from ftcheck.tasks import Task, likelihood

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows
    from ftcheck.tasks.grouped import GroupCollator

ANSWERS = ("chosen", "rejected")
BETA, MARGIN = 2.0, 1.0
"""Of SimPO's loss: values within those that its paper tried (section 4; the second is γ)."""


class Options(BaseModel):
    """Settings of preference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(
        default=None,
        ge=2,
        description="Tokens of a prompt with one answer; null: 1024, or as many as the model takes.",
    )
    reference: bool = Field(
        default=False,
        description="Whether the model that the training starts from reads the judged rows, too: for rewards.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferred:
    """What `finetuned.predict` returns for two answers: how likely the model finds each, in nats."""

    chosen: float
    rejected: float

    @property
    def right(self) -> bool:
        """Whether the chosen one is likelier."""
        return self.chosen > self.rejected


class Preference(Task):
    """Records: index, input, chosen and rejected (texts), logps (nats, summed over each answer's tokens), tokens,
    reference_logps (of the model that the training started from, or None).

    A feature is a row: the tokens of the prompt with the chosen answer, then those with the rejected one; `side` says
    which one each belongs to. Without a Trainer of its own, the loss is SimPO's (Meng et al. 2024, "SimPO: Simple
    Preference Optimization with a Reference-Free Reward", equation 6).
    """

    name = "preference"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"prompt": True, "chosen": True, "rejected": True}
    auto_class = "AutoModelForCausalLM"
    options = Options
    training_defaults: ClassVar[Mapping[str, Any]] = {"per_device_eval_batch_size": likelihood.EVAL_BATCH_SIZE // 2}
    new_head = False
    in_parts = True

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"preference", "reward"} if options["reference"] else {"preference"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        rewards = ("reward_accuracy", "reward_margin") if options["reference"] else ()
        return (*rewards, "preference_accuracy", "preference_margin")

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        tokens = [r["tokens"] for r in records]
        found: dict[Input, tuple[Sequence[Any], Sequence[Any]]] = {
            "preference": ([r["logps"] for r in records], tokens)
        }
        if options["reference"]:
            found["reward"] = [_rewards(r) for r in records], tokens
        return found

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """Wrong ones, those first whose rejected answer is likelier by most; `score` is by how many nats."""
        scored = [(r["logps"][1] - r["logps"][0], r) for r in records]
        scored.sort(key=lambda item: (-item[0], item[1]["index"]))
        return [
            WorstExample(index=r["index"], input=r["input"], gold=r["chosen"], predicted=r["rejected"], score=nats)
            for nats, r in scored[:10]
            if nats >= 0
        ]

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        same = 0
        for index, row in enumerate(rows):
            kinds = {_kind(row[name], name, where(index)) for name in self.columns}
            if len(kinds) > 1:
                raise DataError(
                    f"{where(index)}: prompt, chosen and rejected must be all texts, or all lists of messages"
                )
            same += row["chosen"] == row["rejected"]
        return [f"{same:,} of {len(rows):,} rows have the same answer twice"] if same else []

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
        """As text-generation encodes completions, or the last turns of chats."""
        import numpy as np

        from ftcheck.tasks import completions, features

        length = options["max_length"] or int(min(1024, tokenizer.model_max_length))
        gathered = features.Gatherer()
        cut = 0
        for pair in zip(*(_examples(rows, name, tokenizer, where) for name in ANSWERS), strict=True):
            fitted = [completions.fit(ids, said, length) for ids, said in pair]
            cut += sum(len(ids) < len(whole) for (ids, _), (whole, _) in zip(fitted, pair, strict=True))
            # Nothing precedes the first token.
            labels = [np.where([False, *said[1:]], ids, -100) for ids, said in fitted]
            gathered.add(
                {"input_ids": [np.concatenate([ids for ids, _ in fitted])]},
                ["input_ids"],
                labels=[np.concatenate(labels)],
                side=[np.repeat([0, 1], [len(ids) for ids, _ in fitted])],
            )
        notes = []
        if cut:
            notes.append(
                f"{cut:,} of {2 * len(rows):,} answers with their prompts were cut at {length} tokens: at the "
                "beginning of the prompt, and where that isn't enough at the end"
            )
        return features.EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), notes=notes)

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> GroupCollator:
        from ftcheck.tasks.features import collator
        from ftcheck.tasks.grouped import GroupCollator

        return GroupCollator(texts=collator(tokenizer, pad_to_multiple_of), by="side", targets=())

    def forward(self, model: Any, batch: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
        """Both answers of all rows go through the model together."""
        from ftcheck.tasks.grouped import flat

        return model(**flat(batch))

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        from torch.nn.functional import logsigmoid

        if label_smoothing:
            raise TrainingError(
                f"training.label_smoothing_factor {label_smoothing} is for classes, not for {self.name}: leave it out"
            )
        logps, tokens = _likelihoods(output, targets)
        rewards = BETA * logps / tokens.clamp(min=1)
        return -logsigmoid(rewards[:, 0] - rewards[:, 1] - MARGIN).sum()

    def wants_reference(self, options: Mapping[str, Any]) -> bool:
        return bool(options["reference"])

    def places(self, features: EncodedRows) -> np.ndarray:
        """Both answers are padded to the longer one."""
        import numpy as np

        rejected = np.add.reduceat(features.tokens["side"], features.starts[:-1])
        found: np.ndarray = 2 * np.maximum(rejected, features.lengths - rejected)
        return found

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        """(rows, 2) each: log-probabilities in nats, and over how many tokens."""
        return _likelihoods(output, targets)

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
        logps, tokens, *of_reference = outputs
        before = of_reference[0].astype(float).tolist() if of_reference else [None] * len(rows)
        return [
            {
                "index": index,
                "input": likelihood.preview(_shown(row["prompt"])),
                **{name: likelihood.preview(_shown(row[name])) for name in ANSWERS},
                "logps": logps[index].astype(float).tolist(),
                "reference_logps": before[index],
                "tokens": tokens[index].astype(int).tolist(),
            }
            for index, row in enumerate(rows)
        ]

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        rows = [_row(one) for one in ([value] if self.is_one(value) else value)]
        if len({type(row["prompt"]) for row in rows}) > 1:
            raise DataError("predict takes texts or chats, not both at once")
        return rows

    def natural_output(self, record: Record, meta: Meta) -> Preferred:
        chosen, rejected = record["logps"]
        return Preferred(chosen=chosen, rejected=rejected)


def _rewards(record: Record) -> list[float]:
    """The implicit rewards of DPO (Rafailov et al. 2023, equation 5) with a β of 1."""
    return [after - before for after, before in zip(record["logps"], record["reference_logps"], strict=True)]


def _likelihoods(output: Any, targets: Mapping[str, Any]) -> tuple[Any, Any]:
    """(rows, 2) each: the log-probability of each answer in nats, and its tokens."""
    likelihood.check(output, "causal language model")
    labels = likelihood.following(targets["labels"].flatten(0, 1))
    logps = -likelihood.by_line(output.logits, labels)
    return logps.view(-1, 2), (labels != -100).sum(dim=1).view(-1, 2)


def _examples(rows: Rows, name: str, tokenizer: Any, where: Where) -> Iterator[tuple[list[int], list[bool]]]:
    """Each prompt with its answer as tokens, and which of them are the answer."""
    from ftcheck.tasks import chat, completions
    from ftcheck.tasks.features import pieces

    if len(rows) and isinstance(rows[0]["prompt"], str):
        for part in pieces(rows, "prompt", name):
            yield from completions.continued(tokenizer, rows[part]["prompt"], rows[part][name])
        return
    chat.require_template(tokenizer)
    for index, row in enumerate(rows):
        before = len(chat.prompt(tokenizer, row["prompt"], where(index)))
        ids, said = chat.encode(tokenizer, [*row["prompt"], *row[name]], where(index))
        yield ids, [flag and place >= before for place, flag in enumerate(said)]


def _kind(value: Any, name: str, where: str) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and value and all(_is_message(one) for one in value):
        return "messages"
    raise DataError(f"{where}: column {name} must be text or a list of {{role, content}}, got {shown(repr(value))}")


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("role", "content"))


def _shown(value: Any) -> str:
    from ftcheck.tasks import chat

    return value if isinstance(value, str) else chat.text(value)


def _row(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple) and len(value) == 3:
        value = dict(zip(Preference.columns, value, strict=True))
    if isinstance(value, Mapping) and set(value) == set(Preference.columns):
        kinds = {_kind(value[name], name, "predict") for name in value}
        if len(kinds) == 1:
            return dict(value)
    raise DataError(
        "predict takes (prompt, chosen, rejected), three texts or three lists of messages, or a dict with these, or a "
        f"list of such; got {shown(repr(value))}"
    )
