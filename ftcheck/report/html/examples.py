"""Flips and worst examples as the page shows them: words that differ, and answers where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftcheck.report import numbers
from ftcheck.report.html import texts
from ftcheck.report.html.texts import Pieces, cut
from ftcheck.results import Flip, Marked, Role, WorstExample

MOST_INPUT = 400
MOST_ANSWER = 300
"""Characters of an example's texts."""
FIRST = 4
"""Examples of a list that are seen without unfolding it."""
SHORT = 32
"""Characters of answers that stand beside each other."""
MOST_EXAMPLES = 9_000
"""Characters of all examples of a list together: 50 cases make a page of less than 2 MB."""
ROLES: Mapping[str, Role] = {"expected": "gold", "before": "before", "now": "predicted", "got": "predicted"}
"""What an answer is called -> the marks it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleView:
    """A flip or a worst example: what was read, expected, predicted, and where that stands in the text."""

    name: str
    input: str
    answers: tuple[tuple[str, Pieces], ...]
    """(`expected`, its text), (`before`, ...), (`now`, ...)."""
    short: bool
    """Whether the answers have room beside each other."""
    context: Pieces
    """The text with the answers marked in it; empty where the task marks none."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesView:
    """Some examples, the first of them and those that are folded, and how many there is no room for."""

    shown: tuple[ExampleView, ...]
    folded: tuple[ExampleView, ...]
    left_out: str


def flips(found: Sequence[Flip], types: Sequence[str]) -> ExamplesView:
    """Examples that broke; `types` are the case's types of entities."""
    return _limited([_flip(flip, types) for flip in found])


def worst(found: Sequence[WorstExample], types: Sequence[str]) -> ExamplesView:
    """The most wrong examples."""
    return _limited([_worst(example, types) for example in found])


def _limited(examples: Sequence[ExampleView]) -> ExamplesView:
    """As many as there is room for."""
    room = MOST_EXAMPLES
    kept: list[ExampleView] = []
    for example in examples:
        answers = [piece for _, pieces in example.answers for piece in pieces]
        room -= len(example.input) + sum(len(piece.text) for piece in (*answers, *example.context))
        if room < 0 and kept:
            break
        kept.append(example)
    more = len(examples) - len(kept)
    return ExamplesView(
        shown=tuple(kept[:FIRST]),
        folded=tuple(kept[FIRST:]),
        left_out=f"{more:,} more in the results file (--ft-json)" if more else "",
    )


def _flip(flip: Flip, types: Sequence[str]) -> ExampleView:
    expected, now = texts.differing(cut(flip.gold, MOST_ANSWER), cut(flip.after, MOST_ANSWER))
    before = texts.plain(cut(flip.before, MOST_ANSWER))
    return _example(flip, flip.id, "", {"expected": expected, "before": before, "now": now}, types)


def _worst(example: WorstExample, types: Sequence[str]) -> ExampleView:
    expected, got = texts.differing(cut(example.gold, MOST_ANSWER), cut(example.predicted, MOST_ANSWER))
    score = "" if example.score is None else f"score {numbers.plain(example.score, 2)}"
    return _example(example, f"row {example.index}", score, {"expected": expected, "got": got}, types)


def _example(
    example: Flip | WorstExample, name: str, note: str, answers: Mapping[str, Pieces], types: Sequence[str]
) -> ExampleView:
    """With its marks: entities stand in the sentence in place of it, an answer's context beside what was asked."""
    marked = texts.bounded(example.marked) if example.marked else None
    labelled = marked is not None and any(mark.label for mark in marked.marks)
    if marked and labelled:
        answers = {said: _tagged(marked, said, pieces, types) for said, pieces in answers.items()}
    kept = tuple((said, pieces) for said, pieces in answers.items() if pieces or said != "before")
    return ExampleView(
        name=cut(name, 80),
        input="" if labelled else cut(example.input, MOST_INPUT),
        answers=kept,
        short=all(len(text := "".join(p.text for p in pieces)) <= SHORT and "\n" not in text for _, pieces in kept),
        context=texts.in_context(marked) if marked and not labelled else (),
        note=note,
    )


def _tagged(marked: Marked, said: str, pieces: Pieces, types: Sequence[str]) -> Pieces:
    """The sentence with the entities of one side; what was before is not always known."""
    role = ROLES[said]
    if role == "before" and not any(mark.role == role for mark in marked.marks):
        return pieces
    return texts.entities(marked, role, types)
