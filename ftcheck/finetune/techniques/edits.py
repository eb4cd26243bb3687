"""Small changes of a text that leave its meaning: those of EDA (Wei and Zou 2019), and typing errors.

Each takes the words of a text, the share of them to change (at least one is) and random numbers, and gives the words as
they are afterwards, with "" for those that are gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ftcheck.errors import TechniqueError, shown

Edit = Callable[[Sequence[str], float, Random], list[str]]
Synonyms = Callable[[str], Sequence[str]]
"""A word in lower case -> what may stand for it."""

_WORD = re.compile(r"(\w+(?:['’-]\w+)*)")
_NEIGHBOURS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""The rows of a keyboard."""


def edited(text: str, edit: Edit, share: float, random: Random) -> str:
    """`text` with its words changed; what stands between them stays, but for spaces around words that are gone."""
    parts = _WORD.split(text)
    words = parts[1::2]
    if not words:
        return text
    parts[1::2] = edit(words, share, random)
    whole = "".join(parts)
    return re.sub(r" {2,}", " ", whole).strip(" ") if "" in parts[1::2] else whole


def swap(words: Sequence[str], share: float, random: Random) -> list[str]:
    """Pairs of words change places."""
    found = list(words)
    for _ in range(_count(words, share) if len(words) > 1 else 0):
        one, other = random.sample(range(len(found)), 2)
        found[one], found[other] = found[other], found[one]
    return found


def delete(words: Sequence[str], share: float, random: Random) -> list[str]:
    """Words go; one stays in any case."""
    gone = set(random.sample(range(len(words)), min(_count(words, share), len(words) - 1)))
    return ["" if place in gone else word for place, word in enumerate(words)]


def typos(words: Sequence[str], share: float, random: Random) -> list[str]:
    """In some words of three letters and more a letter is left out, doubled, hit beside, or changes places."""
    found = list(words)
    long = [place for place, word in enumerate(words) if len(word) > 2]
    for place in random.sample(long, min(_count(words, share), len(long))):
        found[place] = _misspelt(found[place], random)
    return found


def _misspelt(word: str, random: Random) -> str:
    at = random.randrange(1, len(word))
    kind = random.choice(("left out", "doubled", "beside", "swapped"))
    if kind == "left out":
        return word[:at] + word[at + 1 :]
    if kind == "doubled":
        return word[:at] + word[at] + word[at:]
    if kind == "swapped":
        return word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]
    row = next((row for row in _NEIGHBOURS if word[at] in row), None)
    if row is None:
        return word[:at] + word[at + 1 :]
    place = row.index(word[at])
    return word[:at] + random.choice(row[max(place - 1, 0) : place] + row[place + 1 : place + 2]) + word[at + 1 :]


def replacing(synonyms: Synonyms) -> Edit:
    """Some of the words that have synonyms are replaced by one."""

    def replace(words: Sequence[str], share: float, random: Random) -> list[str]:
        found = list(words)
        known = {place: others for place, word in enumerate(words) if (others := synonyms(word.lower()))}
        for place in random.sample(sorted(known), min(_count(words, share), len(known))):
            other = random.choice(known[place])
            found[place] = other[:1].upper() + other[1:] if words[place][:1].isupper() else other
        return found

    return replace


def from_file(path: Path) -> Synonyms:
    """The synonyms of a JSON file: `{"word": ["another", ...]}`. Raises TechniqueError for one that is none."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TechniqueError(f"augment.synonyms: {shown(path, 300)} can't be read: {error}") from None
    right = isinstance(given, dict) and all(
        isinstance(others, list) and others and all(isinstance(other, str) for other in others)
        for others in given.values()
    )
    if not right:
        raise TechniqueError(f'augment.synonyms: {shown(path, 300)} must map words to lists: {{"big": ["large"]}}')
    known: Mapping[str, Sequence[str]] = {word.lower(): others for word, others in given.items()}
    return lambda word: known.get(word, ())


def from_wordnet() -> Synonyms:
    """The lemmas of all senses of a word in WordNet, as nltk has it. Raises TechniqueError where the corpus is
    missing."""
    wordnet = _wordnet()

    def synonyms(word: str) -> Sequence[str]:
        found = {name for sense in wordnet.synsets(word) for name in sense.lemma_names()}
        return sorted(name.replace("_", " ") for name in found if name.lower() != word)

    return synonyms


def wordnet_files() -> list[Path]:
    """The files that WordNet's synonyms come from. Raises TechniqueError where the corpus is missing."""
    root = _wordnet().root
    zipped = getattr(root, "zipfile", None)
    if zipped is not None:
        return [Path(zipped.filename)]
    found = Path(str(root)).iterdir()
    return sorted(path for path in found if path.name.startswith(("data.", "index.")) or path.suffix == ".exc")


def _wordnet() -> Any:
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise TechniqueError(
            "augment: synonyms come from the corpus WordNet, which nltk doesn't find: run python -m nltk.downloader "
            "wordnet, set NLTK_DATA to a folder that holds corpora/wordnet, or give a file of your own: "
            "augment.synonyms"
        ) from error
    return wordnet


def _count(words: Sequence[str], share: float) -> int:
    return max(1, round(share * len(words)))


BUILT_IN: Mapping[str, Edit] = {"swap": swap, "delete": delete, "typos": typos}
