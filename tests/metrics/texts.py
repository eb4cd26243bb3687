"""Texts to compare metrics with their reference libraries on."""

from __future__ import annotations

import numpy as np
import pytest

from ftcheck.metrics import Lookup

LOOKUP = Lookup(inputs=frozenset({"text"}))
References = list[list[str]]

CAT = "The cat sat on the mat, watching 3 birds."
CORPORA = [
    pytest.param([CAT, "It slept."], [[CAT], ["It slept."]], id="identical"),
    pytest.param(["one two three four five"], [["six seven eight nine ten"]], id="no-overlap"),
    pytest.param(["", ""], [["a reference of words"], ["another"]], id="all-predictions-empty"),
    pytest.param(["some words here", CAT], [[""], ["", " \n"]], id="all-references-empty"),
    pytest.param(["", " "], [[""], ["\n"]], id="both-empty"),
    pytest.param(["the cat"], [["the cat sat"]], id="shorter-than-four-words"),
    pytest.param(["the the the the the the the"], [["the cat is on the mat", "there is a cat"]], id="repeated-word"),
    pytest.param(
        ["the cat sat. the dog ran", CAT, "!?"],
        [["a cat sat", "the dog ran", "the cat ran home"], [CAT.lower()], ["?!", "..."]],
        id="different-numbers-of-references",
    ),
    pytest.param(["a a b b c", "c b a"], [["a b c a b c", "c c b b a a"], ["a b c"]], id="many-ties"),
    pytest.param(
        ["w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5\n\nw2", "x.\ny z\n"],
        [["w1 w2 w3 w4 w5\nw6 w7 w8"], ["z y\nx", "\n\ny"]],
        id="lines",
    ),
    pytest.param(["吾輩は猫である。", "名前は まだ無い"], [["吾輩は犬である。"], ["名前は まだ ない"]], id="japanese"),
    pytest.param(["القطة على السجادة", "ذهب الولد"], [["القطة تحت السجادة"], ["ذهب الولد إلى المدرسة"]], id="arabic"),
    pytest.param(["👍🏽 great 🎉🎉", "👩‍👩‍👧 family"], [["👍 great 🎉"], ["👩‍👧 family 👩‍👩‍👧"]], id="emoji"),
    pytest.param(["İstanbul'da ΣΊΣΥΦΟΣ\u2028naïve"], [["istanbul'da σίσυφος naive", "I\u0307stanbul"]], id="odd-cases"),
]


def random_corpus(seed: int, examples: int = 40, length: int = 30) -> tuple[list[str], References]:
    """Sentences out of a small vocabulary over several lines, and references made of them by editing words."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array(
        ["running", "runs", "happily", "cats", "the", "a", "of", "U.S.", "3.5", "co-op", "Ärger", "it's"]
    )

    def edited(words: list[str]) -> str:
        kept = [word if rng.random() < 0.7 else str(rng.choice(vocabulary)) for word in words if rng.random() < 0.9]
        return joined(kept)

    def joined(words: list[str]) -> str:
        return "".join(word + str(rng.choice([" ", " ", " ", ", ", ".\n"])) for word in words)

    drafts = [rng.choice(vocabulary, size=int(rng.integers(0, length))).tolist() for _ in range(examples)]
    return [joined(words) for words in drafts], [[edited(words) for _ in range(rng.integers(1, 4))] for words in drafts]


def long_corpus(words: int = 5_000) -> tuple[list[str], References]:
    """One text of very many words and one reference."""
    rng = np.random.default_rng(5)
    first = rng.integers(400, size=words)
    second = np.where(rng.random(words) < 0.8, first, rng.integers(400, size=words))
    return [" ".join(f"w{word}" for word in first)], [[" ".join(f"w{word}" for word in second)]]
