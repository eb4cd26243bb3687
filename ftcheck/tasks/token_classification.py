"""token-classification: a list of words -> one tag per word (named entities, parts of speech)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import DataError, shown
from ftcheck.results import Mark, WorstExample
from ftcheck.tasks import Task

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.results import Confusion, Marked, Role
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows


class Options(BaseModel):
    """Settings of token-classification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(
        default=None, ge=3, description="Cut sentences at this many tokens; null: as many as the model takes."
    )
    labels: tuple[str, ...] | None = Field(
        default=None,
        min_length=2,
        description="Tag names in the order of their ids; null: the data's ClassLabel names, "
        "or what the training rows have, sorted.",
    )
    label_subwords: Literal["first", "all"] = Field(
        default="first",
        description="Which sub-words of a word are trained on; its prediction is always that of the first.",
    )
    scheme: Literal["IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU"] | None = Field(
        default=None,
        description="The tagging scheme that the strict_entity_* metrics read entities by; the others need none.",
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


class TokenClassification(Task):
    """Records: index, tokens, predictions and references (tag names), scores."""

    name = "token-classification"
    version = 1
    columns: ClassVar[Mapping[str, bool]] = {"tokens": True, "tags": True}
    auto_class = "AutoModelForTokenClassification"
    options = Options
    tokenizer_kwargs: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}
    needs_offsets = True
    per_token = True

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"tags"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("entity_f1", "entity_precision", "entity_recall")

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {"tags": ([r["predictions"] for r in records], [r["references"] for r in records])}

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        """Word by word, tags as they are."""
        from ftcheck.tasks import labels

        pairs: Counter[tuple[str, str]] = Counter()
        for record in records:
            pairs.update(zip(record["references"], record["predictions"], strict=True))
        return labels.confusions(pairs)

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """Sentences with the most wrong words first; `score` is the share of right words."""

        def wrong(record: Record) -> int:
            return sum(a != b for a, b in zip(record["references"], record["predictions"], strict=True))

        ranked = sorted(((wrong(r), r) for r in records), key=lambda item: (-item[0], item[1]["index"]))
        return [
            WorstExample(
                index=r["index"],
                input=" ".join(r["tokens"]),
                gold=_described(r["tokens"], r["references"]),
                predicted=_described(r["tokens"], r["predictions"]),
                score=1 - count / len(r["tokens"]),
                marked=_marked(r["tokens"], {"gold": r["references"], "predicted": r["predictions"]}),
            )
            for count, r in ranked[:10]
            if count
        ]

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        from ftcheck.tasks import labels

        return labels.learn(train, "tags", model_config, options["labels"], where)

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks import labels

        words, tags = rows["tokens"][:], rows["tags"][:]
        for row, (sentence, given) in enumerate(zip(words, tags, strict=True)):
            _check_words(sentence, where(row))
            if not isinstance(given, list) or len(given) != len(sentence):
                count = len(given) if isinstance(given, list) else shown(given)
                raise DataError(
                    f"{where(row)}: {len(sentence)} tokens but {count} tags "
                    f'("{shown(" ".join(sentence), 60)}"): there must be one tag for each token'
                )
        labels.ids(rows, "tags", meta, where)
        empty = sum(not sentence for sentence in words)
        return [f"{empty:,} of {len(words):,} {role} rows have no tokens"] if empty else []

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        from ftcheck.tasks import labels

        return labels.config_kwargs(meta)

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
        """`aside["first"]`: the word that a token begins (counted within its row), -1 for all other tokens."""
        from ftcheck.tasks import features, labels

        limits = features.room(tokenizer, options["max_length"])
        known = labels.ids(rows, "tags", meta) if "tags" in rows.column_names else None
        gathered = features.Gatherer()
        lost = 0
        for part in features.pieces(rows, "tokens"):
            sentences = rows[part]["tokens"]
            encoding = tokenizer(sentences, is_split_into_words=True, return_attention_mask=False, **limits)
            words = [encoding.word_ids(index) for index in range(len(sentences))]
            more = {"first": [_beginnings(line) for line in words]}
            if known is not None:
                every = training and options["label_subwords"] == "all"
                tags = known[part]
                more["labels"] = [
                    _aligned(line, firsts, tags[index], every=every)
                    for index, (line, firsts) in enumerate(zip(words, more["first"], strict=True))
                ]
            gathered.add(encoding, features.input_names(encoding), **more)
            lost += sum(map(len, sentences)) - sum(word >= 0 for line in more["first"] for word in line)
        tokens = gathered.tokens()
        aside = {"first": tokens.pop("first")}
        return features.EncodedRows(
            tokens=tokens, starts=gathered.starts(), aside=aside, notes=_notes(lost, rows, training, limits)
        )

    def encodes_each_alone(self, options: Mapping[str, Any]) -> bool:
        return bool(options["label_subwords"] != "all")  # which is for training only

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        from torch.nn.functional import cross_entropy

        logits = output.logits.float()
        return cross_entropy(
            logits.view(-1, logits.shape[-1]),
            targets["labels"].view(-1),
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    def items(self, targets: Mapping[str, Any]) -> Any:
        return (targets["labels"] != -100).sum()

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        """The likeliest tag of each token, and its probability: a hundredth of the logits' memory."""
        from ftcheck.errors import CheckpointError

        if getattr(output, "logits", None) is None or output.logits.ndim != 3:
            raise CheckpointError("the model gives no logits per token: it is no token classifier")
        best = output.logits.float().softmax(dim=-1).max(dim=-1)
        return best.indices, best.values

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
        """A word is tagged as its first sub-word is; one that was cut off, or that has no tokens, as `O`."""
        from ftcheck.tasks import labels

        names: list[str] = meta["labels"]
        tags, scores = (values.tolist() for values in outputs)
        first, starts = features.aside["first"].tolist(), features.starts.tolist()
        gold: list[Any] = labels.ids(rows, "tags", meta) if "tags" in rows.column_names else [None] * len(rows)
        records = []
        for index, words in enumerate(rows["tokens"][:]):
            predictions, confidence = ["O"] * len(words), [0.0] * len(words)
            for token in range(starts[index], starts[index + 1]):
                word = first[token]
                if word >= 0:
                    predictions[word], confidence[word] = names[tags[token]], scores[token]
            references = None if gold[index] is None else [names[tag] for tag in gold[index]]
            records.append(
                {
                    "index": index,
                    "tokens": words,
                    "predictions": predictions,
                    "references": references,
                    "scores": confidence,
                }
            )
        return records

    def is_one(self, value: Any) -> bool:
        """A list of words is one sentence; a list with a text of several words in it is a list of sentences."""
        if not isinstance(value, list):
            return True
        return bool(value) and all(isinstance(word, str) and len(word.split()) == 1 for word in value)

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        return [_row(one) for one in ([value] if self.is_one(value) else value)]

    def natural_output(self, record: Record, meta: Meta) -> list[Entity]:
        """Its entities, in the order of the text, as seqeval's default mode reads the tags."""
        from seqeval.metrics.sequence_labeling import get_entities

        words, scores = record["tokens"], record["scores"]
        return [
            Entity(
                text=" ".join(words[start : last + 1]),
                type=kind,
                start=start,
                end=last + 1,
                score=sum(scores[start : last + 1]) / (last + 1 - start),
            )
            for kind, start, last in get_entities(record["predictions"])
        ]


def _beginnings(words: Sequence[int | None]) -> list[int]:
    """For each token, the word that it begins, or -1. A word's tokens are neighbours."""
    return [-1 if word is None or word == before else word for word, before in zip(words, (None, *words), strict=False)]


def _aligned(words: Sequence[int | None], firsts: Sequence[int], tags: Sequence[int], *, every: bool) -> list[int]:
    """Tag ids by token, -100 where none is trained on."""
    if every:
        return [-100 if word is None else tags[word] for word in words]
    return [-100 if word < 0 else tags[word] for word in firsts]


def _notes(lost: int, rows: Rows, training: bool, limits: Mapping[str, Any]) -> list[str]:
    if not lost:
        return []
    total = sum(map(len, rows["tokens"][:]))
    where = f"lie beyond {limits['max_length']} tokens or have none" if "max_length" in limits else "have no tokens"
    then = "they were not trained on" if training else "they count as tagged O"
    return [f"{lost:,} of {total:,} words {where}: {then}"]


def _check_words(sentence: Any, where: str) -> None:
    if not isinstance(sentence, list):
        raise DataError(f"{where}: column tokens must be a list of words, got {shown(repr(sentence))}")
    for word in sentence:
        if not isinstance(word, str):
            raise DataError(f"{where}: a token must be text, got {shown(repr(word))}")


def _described(words: Sequence[str], tags: Sequence[str]) -> str:
    return " ".join(f"{word}/{tag}" for word, tag in zip(words, tags, strict=True) if tag != "O")


def _marked(words: Sequence[str], tags: Mapping[Role, Sequence[str]]) -> Marked:
    """The sentence with its entities, as seqeval's default mode reads the tags."""
    from ftcheck.metrics.sequence_labelling import entities
    from ftcheck.tasks import marking

    begins = list(accumulate((len(word) + 1 for word in words), initial=0))
    marks = [
        Mark(start=begins[first], end=begins[last] + len(words[last]), role=role, label=kind)
        for role, given in tags.items()
        for kind, first, last in sorted(entities(tuple(given), None), key=lambda entity: entity[1])
    ]
    return marking.excerpt(" ".join(words), marks)


def _row(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and set(value) == {"tokens"}:
        value = value["tokens"]
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise DataError(
            "predict takes a sentence (split at white space), its list of words, or a dict with tokens, "
            f"or a list of these; got {shown(repr(value))}"
        )
    return {"tokens": value}
