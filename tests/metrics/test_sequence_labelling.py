"""Entity metrics equal seqeval's, in default mode and strictly by each scheme."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Lookup
from ftcheck.metrics.sequence_labelling import PREFIXES
from tests.metrics.test_classification import value

LOOKUP = Lookup(inputs=frozenset({"tags"}))

TYPES = ("LOC", "PER", "creative-work")
RATES = ("precision", "recall", "f1")
AVERAGES = ("micro", "macro", "weighted")
Tags = list[list[str]]


def tag_names(prefixes: str, types: tuple[str, ...] = TYPES) -> tuple[str, ...]:
    return ("O", *(f"{prefix}-{name}" for prefix in prefixes for name in types))


DEFAULT = Context(labels=tag_names("BIES"))
IOB = Context(labels=tag_names("BI"))


def our_name(rate: str, average: str, *, strict: bool) -> str:
    return f"{'strict_' if strict else ''}entity_{'' if average == 'micro' else average + '_'}{rate}"


def seqeval_value(
    rate: str, average: str | None, predictions: Tags, references: Tags, scheme: str | None = None
) -> Any:
    from seqeval import metrics as reference
    from seqeval import scheme as schemes

    function = getattr(reference, f"{rate}_score")
    options = {} if scheme is None else {"mode": "strict", "scheme": getattr(schemes, scheme)}
    return function(references, predictions, average=average, zero_division=0, **options)


def random_tags(labels: tuple[str, ...], seed: int, sentences: int) -> tuple[Tags, Tags]:
    """Gold tags at random, many of them ill-formed, and predictions that differ in a fifth of the tokens."""
    rng = np.random.default_rng(seed)
    gold = [[labels[i] for i in rng.integers(len(labels), size=rng.integers(12))] for _ in range(sentences)]
    predicted = [[tag if rng.random() < 0.8 else labels[rng.integers(len(labels))] for tag in tags] for tags in gold]
    return predicted, gold


EXAMPLES = [
    pytest.param([["B-PER", "I-PER", "O"]], [["B-PER", "I-PER", "O"]], id="all-right"),
    pytest.param([["B-LOC", "O", "B-PER"]], [["B-PER", "B-LOC", "O"]], id="all-wrong"),
    pytest.param([["O", "O"]], [["B-PER", "I-PER"]], id="nothing-predicted"),
    pytest.param([["B-PER", "I-PER"]], [["O", "O"]], id="nothing-gold"),
    pytest.param([["B-PER"]], [["B-PER"]], id="one-token"),
    pytest.param([[], ["B-PER"]], [[], ["B-LOC"]], id="an-empty-sentence"),
    pytest.param([["I-PER", "I-LOC", "I-LOC"]], [["B-PER", "B-LOC", "I-LOC"]], id="inside-without-begin"),
    pytest.param([["B-creative-work", "I-creative-work"]], [["B-creative-work", "I-PER"]], id="dashes-in-the-type"),
    pytest.param([["B-PER"], ["I-PER"]], [["B-PER"], ["I-PER"]], id="not-across-sentences"),
]


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("predictions", "references"), EXAMPLES)
def test_equals_seqeval_default_mode_on_degenerate_input(
    rate: str, average: str, predictions: Tags, references: Tags
) -> None:
    found = value(LOOKUP.build(our_name(rate, average, strict=False), IOB), predictions, references)
    assert found == pytest.approx(seqeval_value(rate, average, predictions, references), rel=1e-15, abs=0)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("rate", RATES)
def test_equals_seqeval_default_mode_on_ill_formed_tags(rate: str, average: str) -> None:
    predictions, references = random_tags(DEFAULT.labels, seed=7, sentences=200)
    found = value(LOOKUP.build(our_name(rate, average, strict=False), DEFAULT), predictions, references)
    assert found == pytest.approx(seqeval_value(rate, average, predictions, references), rel=4e-16, abs=0)


@settings(max_examples=50, deadline=None)
@given(
    sentences=st.lists(
        st.lists(st.tuples(st.sampled_from(DEFAULT.labels), st.sampled_from(DEFAULT.labels)), max_size=8),
        min_size=1,
        max_size=6,
    )
)
def test_equals_seqeval_default_mode_on_any_tags(sentences: list[list[tuple[str, str]]]) -> None:
    predictions, references = ([[pair[side] for pair in pairs] for pairs in sentences] for side in (0, 1))
    for rate in RATES:
        found = value(LOOKUP.build(f"entity_{rate}", DEFAULT), predictions, references)
        assert found == pytest.approx(seqeval_value(rate, "micro", predictions, references), rel=4e-16, abs=0)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("scheme", list(PREFIXES))
def test_equals_seqeval_strict_mode_in_every_scheme(scheme: str, average: str, rate: str) -> None:
    labels = tag_names(PREFIXES[scheme])  # type: ignore[index]
    predictions, references = random_tags(labels, seed=11, sentences=60)
    metric = LOOKUP.build(our_name(rate, average, strict=True), Context(labels=labels, options={"scheme": scheme}))
    expected = seqeval_value(rate, average, predictions, references, scheme)
    assert expected > 0
    assert value(metric, predictions, references) == pytest.approx(expected, rel=4e-16, abs=0)
    assert metric.signature.endswith(f"|{scheme}")


@pytest.mark.parametrize("scheme", [None, "IOB2"])
@pytest.mark.parametrize("rate", RATES)
def test_one_type_equals_seqeval_per_type(rate: str, scheme: str | None) -> None:
    predictions, references = random_tags(IOB.labels, seed=5, sentences=80)
    context = Context(labels=IOB.labels, options={"scheme": scheme})
    expected = seqeval_value(rate, None, predictions, references, scheme)
    for column, name in enumerate(TYPES):
        metric = LOOKUP.build(f"{'strict_' if scheme else ''}entity_{rate}[{name}]", context)
        assert metric.name.endswith(f"_{rate}[{name}]")
        assert value(metric, predictions, references) == pytest.approx(expected[column], rel=4e-16, abs=0)


def test_strict_mode_counts_less_than_default_mode() -> None:
    predictions, references = [["I-PER", "O"]], [["B-PER", "O"]]
    context = Context(labels=IOB.labels, options={"scheme": "IOB2"})
    assert value(LOOKUP.build("entity_f1", context), predictions, references) == 1
    assert value(LOOKUP.build("strict_entity_f1", context), predictions, references) == 0


def test_without_any_entity_pooled_rates_are_zero_and_a_mean_over_types_is_undefined() -> None:
    nothing = [["O", "O"], ["O"]]
    assert [value(LOOKUP.build(f"entity_{rate}", IOB), nothing, nothing) for rate in RATES] == [0, 0, 0]
    assert value(LOOKUP.build("entity_weighted_f1", IOB), nothing, nothing) == 0
    assert math.isnan(value(LOOKUP.build("entity_macro_f1", IOB), nothing, nothing))


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        pytest.param([["O", "B-PER"], ["I-PER"]], [["O", "B-LOC"], ["I-PER"]], id="some-right"),
        pytest.param([["B-PER"]], [["O"]], id="none-right"),
        pytest.param([[], ["O"]], [[], ["O"]], id="an-empty-sentence"),
    ],
)
def test_token_accuracy_equals_seqeval(predictions: Tags, references: Tags) -> None:
    from seqeval.metrics import accuracy_score

    metric = LOOKUP.build("token_accuracy", Context(labels=("NOUN", "VERB")))
    assert value(metric, predictions, references) == accuracy_score(references, predictions)


def test_token_accuracy_without_tokens_is_undefined() -> None:
    assert math.isnan(value(LOOKUP.build("token_accuracy", IOB), [[], []], [[], []]))


@pytest.mark.parametrize(
    ("name", "context", "error"),
    [
        pytest.param(
            "entity_f1[PERS]", IOB, r'entity_f1: no entity type is called "PERS"; did you mean PER\?', id="type"
        ),
        pytest.param("entity_f1", Context(labels=("NOUN", "O")), r'"NOUN" is no default-mode tag', id="no-entity-tags"),
        pytest.param("entity_f1", Context(labels=("O", "U-PER")), "strict_entity_\\* with scheme BILOU", id="bilou"),
        pytest.param("entity_f1", Context(labels=("O", "")), '"" is no default-mode tag', id="empty-tag"),
        pytest.param("entity_f1", Context(labels=("O", "BPER")), '"BPER" is no default-mode tag', id="no-dash"),
        pytest.param("strict_entity_f1", IOB, "needs to know the tagging scheme", id="no-scheme"),
        pytest.param(
            "strict_entity_f1",
            Context(labels=IOB.labels, options={"scheme": "IOB3"}),
            'no tagging scheme is called "IOB3"; did you mean IOB2?',
            id="unknown-scheme",
        ),
        pytest.param(
            "strict_entity_macro_f1",
            Context(labels=IOB.labels, options={"scheme": "IOE2"}),
            '"B-LOC" is no IOE2 tag',
            id="another-scheme",
        ),
    ],
)
def test_tags_that_would_be_misread_are_refused(name: str, context: Context, error: str) -> None:
    with pytest.raises(MetricError, match=error):
        LOOKUP.build(name, context)


@pytest.mark.parametrize("name", ["entity_f1", "token_accuracy"])
@pytest.mark.parametrize(
    ("predictions", "references", "error"),
    [
        pytest.param([["O"]], [["O"], ["O"]], "1 predictions for 2 references", id="sentences"),
        pytest.param([["O"], ["O"]], [["O"], ["O", "O"]], "sentence 1 has 1 predicted tags for 2 words", id="words"),
    ],
)
def test_tags_and_words_of_different_length_are_refused(
    name: str, predictions: Tags, references: Tags, error: str
) -> None:
    with pytest.raises(MetricError, match=error):
        LOOKUP.build(name, IOB).statistics(predictions, references)


def test_a_tag_that_is_no_label_is_refused_and_shown_escaped() -> None:
    with pytest.raises(MetricError, match=r'in sentence 1 is an unknown tag, "B-PRE\\x00"; did you mean B-PER\?'):
        LOOKUP.build("entity_f1", IOB).statistics([["O"], ["O"]], [["O"], ["B-PRE\x00"]])
