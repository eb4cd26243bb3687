"""How likely a model finds what is right, without ever holding a second copy of tokens × vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftcheck.errors import CheckpointError
from ftcheck.results import WorstExample
from ftcheck.tasks.head import Parts

if TYPE_CHECKING:
    from ftcheck.tasks import Record

EVAL_BATCH_SIZE = 8
"""A model's answer is tokens × vocabulary: 64 windows of 1,024 tokens of GPT-2 would take 13 GB."""
PART = 1 << 24
"""Logits of which a float32 copy and its logarithms are made at a time while judging: 64 MiB each."""


def check(output: Any, head: str) -> None:
    """Raises CheckpointError where the model gives no logits per token: it isn't what `head` says."""
    if getattr(output, "logits", None) is None or output.logits.ndim != 3:
        raise CheckpointError(f"the model gives no logits per token: it is no {head}")


def following(labels: Any) -> Any:
    """(batch, tokens) labels -> in each place the label of the next one, which a causal model predicts there."""
    from torch.nn.functional import pad

    return pad(labels[:, 1:], (0, 1), value=-100)


def summed(logits: Any, labels: Any, label_smoothing: float) -> Any:
    """The cross-entropy of (batch, tokens) labels in nats, summed; -100 counts nothing. (batch, tokens, vocabulary)
    logits are taken part by part: their float32 copy is the largest thing there is. Those that come in `Parts` are
    judged only, without smoothing."""
    from torch.nn.functional import cross_entropy

    if isinstance(logits, Parts):
        return by_token(logits, labels)[0].sum()
    return sum(
        cross_entropy(part.float(), wanted, reduction="sum", label_smoothing=label_smoothing)
        for part, wanted in _parts(logits, labels)
    )


def by_line(logits: Any, labels: Any) -> Any:
    """(batch,): the same line by line."""
    import torch

    if isinstance(logits, Parts):
        return by_token(logits, labels)[0].sum(dim=1)
    return torch.stack([summed(line[None], wanted[None], 0.0) for line, wanted in zip(logits, labels, strict=True)])


def _parts(logits: Any, labels: Any) -> Iterator[tuple[Any, Any]]:
    """(tokens, vocabulary) logits and their labels: a line of the batch, of which no more than PART while judging.
    (In training the sum over a line is one sum: its rounding is what kept trainings have.)"""
    import torch

    tokens = labels.shape[1] if torch.is_grad_enabled() else max(1, PART // logits.shape[-1])
    for line, wanted in zip(logits, labels, strict=True):
        yield from zip(line.split(tokens), wanted.split(tokens), strict=True)


def among(logits: Any, chosen: Any, label_smoothing: float) -> Any:
    """The cross-entropy of (batch, places) logits in nats, summed, where those `chosen` (batch,) are right. A place
    whose logit is -inf takes no part. (torch's own smoothing would take its share there too, where the logarithm is
    infinite.)"""
    surprise = -logits.float().log_softmax(dim=-1)
    none = surprise.isinf()
    spread = surprise.masked_fill(none, 0.0).sum(dim=-1) / (~none).sum(dim=-1)
    return (1 - label_smoothing) * surprise.gather(1, chosen[:, None]).sum() + label_smoothing * spread.sum()


def by_token(logits: Any, labels: Any) -> tuple[Any, Any]:
    """(batch, tokens): the negative log likelihood of each label in nats, and whether it is the likeliest token; 0 and
    False where it is -100."""
    import torch
    from torch.nn.functional import cross_entropy

    if isinstance(logits, Parts):
        return _of_parts(logits, labels)
    losses, right = [], []
    for part, wanted in _parts(logits, labels):
        losses.append(cross_entropy(part.float(), wanted, reduction="none"))
        right.append(part.argmax(dim=-1) == wanted)
    return torch.cat(losses).view_as(labels), torch.cat(right).view_as(labels)


def _of_parts(logits: Parts, labels: Any) -> tuple[Any, Any]:
    """Once for the same labels: each part is the output of a head."""
    import torch

    if logits.told is None or not torch.equal(logits.told[0], labels):
        found, begin = [], 0
        for part in logits:
            found.append(by_token(part, labels[:, begin : begin + part.shape[1]]))
            begin += part.shape[1]
            del part  # before the next is made
        losses, right = (torch.cat(values, dim=1) for values in zip(*found, strict=True))
        logits.told = labels, (losses, right)
    told: tuple[Any, Any] = logits.told[1]
    return told


def score_inputs(records: Sequence[Record]) -> tuple[list[list[float]], list[list[float]]]:
    """The input `tokens` of metrics, out of records with nll, right, tokens and bytes."""
    return [[r["nll"], r["right"]] for r in records], [[r["tokens"], r["bytes"]] for r in records]


def worst(records: Sequence[Record]) -> list[WorstExample]:
    """Those that the model finds least likely, token for token; `score` is their mean negative log likelihood."""
    scored = sorted((r for r in records if r["tokens"]), key=lambda r: (-r["nll"] / r["tokens"], r["index"]))
    return [_worst(record) for record in scored[:10]]


def _worst(record: Mapping[str, Any]) -> WorstExample:
    nats = record["nll"] / record["tokens"]
    references = record.get("references") or [""]
    predicted = record.get("prediction")
    return WorstExample(
        index=record["index"],
        input=record["input"],
        gold=references[0],
        predicted=f"{nats:.2f} nats a token" if predicted is None else predicted,
        score=nats,
    )


def preview(text: str, limit: int = 200) -> str:
    """The beginning of a text, for a record: a document may be a book."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
