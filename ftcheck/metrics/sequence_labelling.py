"""Precision, recall and F1 over named entities, as seqeval finds them, and accuracy over tokens.

Entities are extracted by seqeval's own functions, sentence by sentence, so that its reading of each scheme (and of
ill-formed tag sequences) is ours by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import eq
from typing import TYPE_CHECKING, Literal

from ftcheck.errors import MetricError, shown
from ftcheck.metrics import Context, Definition, counts, unknown

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, NumberArray, Scale
    from ftcheck.metrics.counts import Average, Rate

Scheme = Literal["IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU"]
PREFIXES: Mapping[Scheme, str] = {
    "IOB1": "IB",
    "IOB2": "BI",
    "IOE1": "IE",
    "IOE2": "IE",
    "IOBES": "BIES",
    "BILOU": "BILU",
}
"""Scheme -> the prefixes its tags may have, besides O."""

Span = tuple[str, int, int]
"""An entity: type, first token, and last token (default mode) or the one after it (strict mode), as seqeval counts."""


@lru_cache(maxsize=1 << 15)
def entities(tags: tuple[str, ...], scheme: Scheme | None) -> frozenset[Span]:
    """The entities of one sentence: in seqeval's default mode (as conlleval.pl), or strictly by a scheme.

    Cached, since precision, recall and F1 ask for the same sentences, and strict extraction is slow.
    """
    if scheme is None:
        from seqeval.metrics.sequence_labeling import get_entities

        return frozenset(get_entities(list(tags)))
    from seqeval import scheme as schemes

    found = schemes.Tokens(list(tags), getattr(schemes, scheme)).entities
    return frozenset((entity.tag, entity.start, entity.end) for entity in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityRate:
    """Precision, recall or F1 over entities: pooled over types (micro), of one type, or averaged over types."""

    name: str
    signature: str
    rate: Rate
    average: Average | None
    scheme: Scheme | None
    tags: frozenset[str]
    types: tuple[str, ...]
    """Types that count: for an average one column each, else pooled into one."""
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = False

    def statistics(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> NumberArray:
        """(sentences, 3C + 1): [entities found, predicted, gold by type (C = 1 where pooled), 1]."""
        import numpy as np

        _same_lengths(self.name, predictions, references)
        width = 1 if self.average is None else len(self.types)
        column = {name: 0 if self.average is None else index for index, name in enumerate(self.types)}
        statistics = np.zeros((len(references), 3 * width + 1), dtype=np.int32)
        statistics[:, -1] = 1
        for row, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            predicted, gold = self._entities(row, prediction), self._entities(row, reference)
            for block, spans in enumerate((predicted & gold, predicted, gold)):
                for entity_type, _, _ in spans:
                    if entity_type in column:
                        statistics[row, block * width + column[entity_type]] += 1
        return statistics

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.averaged(totals, self.rate, self.average)

    def _entities(self, row: int, tags: Sequence[str]) -> frozenset[Span]:
        strange = set(tags) - self.tags
        if strange:
            raise unknown(f"{shown(self.name)}: in sentence {row} is an unknown tag,", min(strange), self.tags)
        return entities(tuple(tags), self.scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccuracy:
    """The share of tokens whose tag was found."""

    name: str
    signature: str
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = False

    def statistics(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> FloatArray:
        """(sentences, 2): [tokens right, tokens]."""
        import numpy as np

        _same_lengths(self.name, predictions, references)
        pairs = zip(predictions, references, strict=True)
        right = [sum(map(eq, prediction, reference)) for prediction, reference in pairs]
        return np.array([right, list(map(len, references))], dtype=np.float64).T

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.mean(totals)


def _same_lengths(name: str, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references):
        raise MetricError(f"{name}: {len(predictions)} predictions for {len(references)} references")
    for row, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        if len(prediction) != len(reference):
            raise MetricError(f"{name}: sentence {row} has {len(prediction)} predicted tags for {len(reference)} words")


def _entity_types(name: str, tags: Sequence[str], scheme: Scheme | None) -> tuple[str, ...]:
    """The entity types in the tags, sorted, as seqeval reads them. Raises MetricError for a tag it would misread."""
    prefixes = tuple("BIES" if scheme is None else PREFIXES[scheme])
    for tag in tags:
        if tag != "O" and (tag[:1] not in prefixes or tag[1:2] not in ("", "-")):
            advice = (
                f"set the task's scheme to the one of the data ({', '.join(PREFIXES)})"
                if scheme
                else "use strict_entity_* with scheme BILOU, or for tags that aren't entities token_accuracy"
            )
            kind = scheme or "default-mode"
            raise MetricError(f'{name}: "{shown(tag)}" is no {kind} tag (O or {"/".join(prefixes)}-TYPE); {advice}')
    inside = (tag for tag in tags if tag != "O")
    if scheme is None:
        return tuple(sorted({entity_type for tag in inside for entity_type, _, _ in entities((tag,), None)}))
    from seqeval import scheme as schemes

    return tuple(sorted({getattr(schemes, scheme)(tag).tag for tag in inside}))


def _scheme(name: str, context: Context) -> Scheme:
    wanted = context.options.get("scheme")
    if wanted is None:
        raise MetricError(f"{name} needs to know the tagging scheme: set the task's scheme to {' or '.join(PREFIXES)}")
    for scheme in PREFIXES:
        if scheme == wanted:
            return scheme
    raise unknown(f"{name}: no tagging scheme is called", str(wanted), PREFIXES)


def _entity_rate(rate: Rate, average: Average | None, *, strict: bool) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> EntityRate:
        from importlib.metadata import version

        scheme = _scheme(known.name, context) if strict else None
        types = _entity_types(known.name, context.labels, scheme)
        if argument is not None and argument not in types:
            raise unknown(f"{known.name}: no entity type is called", argument, types)
        meaning = (known.signature, f"seqeval {version('seqeval')}", scheme, argument)
        return EntityRate(
            name=known.name if argument is None else f"{known.name}[{argument}]",
            signature="|".join(part for part in meaning if part),
            rate=rate,
            average=average,
            scheme=scheme,
            tags=frozenset(context.labels),
            types=types if argument is None else (argument,),
        )

    over = "pooled over types, or of one type"
    if average is not None:
        over = "mean over types" + (", weighted by gold count" if average == "weighted" else "")
    mode = "strictly by the task's scheme" if strict else "in seqeval's default mode"
    return Definition(
        name="_".join(part for part in ("strict" if strict else "", "entity", average, rate) if part),
        input="tags",
        takes_argument=average is None,
        summary=f"{rate} over entities read {mode}, {over}",
        make=make,
    )


def _token_accuracy(known: Definition, argument: str | None, context: Context) -> TokenAccuracy:
    return TokenAccuracy(name=known.name, signature=known.signature)


_RATES: tuple[Rate, ...] = ("precision", "recall", "f1")
_AVERAGES: tuple[Average | None, ...] = (None, "macro", "weighted")

METRICS: tuple[Definition, ...] = (
    *(_entity_rate(rate, average, strict=False) for average in _AVERAGES for rate in _RATES),
    *(_entity_rate(rate, average, strict=True) for average in _AVERAGES for rate in _RATES),
    Definition(
        name="token_accuracy", input="tags", summary="share of tokens whose tag was found", make=_token_accuracy
    ),
)
