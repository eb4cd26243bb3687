"""`augment`: what becomes of texts, that only training rows are changed, and what a key has of files and models."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from ftcheck.errors import CheckpointError, TechniqueError, TrainingError
from ftcheck.finetune.data import RoleRows
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques import edits
from tests import tiny
from tests.finetune.jobs import DOCUMENTS, TEXTS, Row, loaded
from tests.keys import inputs
from tests.techniques.trainings import ROOT, a_job, mistakes, tuning

TEXT = "I've lost my Card, again; what's the well-known way to get another one?"
OWN = {"card": ["voucher"], "lost": ["mislaid"]}


def changed(
    named: dict[str, Any], rows: list[Row] | None = None, suite: Path = Path("/suite/a.ft.yaml"), **fields: Any
) -> RoleRows:
    """The rows that a case trains on."""
    given = loaded(train=TEXTS if rows is None else rows, eval=TEXTS)
    with FineTuning(a_job({"augment": named}, suite=suite, **fields), loaded=given) as made:
        made.meta = {"labels": ["moves", "rests"]}
        return made.applied.techniques[0].rows(given.roles["train"], made._context(given))


def words(text: str) -> list[str]:
    return edits._WORD.findall(text)


def test_words_swap_and_nothing_else_changes() -> None:
    found = edits.edited(TEXT, edits.swap, 0.1, Random(1))
    assert found != TEXT
    assert Counter(words(found)) == Counter(words(TEXT))
    assert edits._WORD.sub("_", found) == edits._WORD.sub("_", TEXT)


@pytest.mark.parametrize(("share", "gone"), [(0.01, 1), (0.25, 3), (1.0, 12)])
def test_as_many_words_go_as_the_share_says_and_one_stays(share: float, gone: int) -> None:
    found = edits.edited(TEXT, edits.delete, share, Random(1))
    assert len(words(TEXT)) - len(words(found)) == gone
    assert "  " not in found


def test_typing_errors_are_one_letter_off() -> None:
    for seed in range(50):
        pairs = zip(words(TEXT), words(edits.edited(TEXT, edits.typos, 0.1, Random(seed))), strict=True)
        wrong = [(one, other) for one, other in pairs if one != other]
        assert len(wrong) <= 1
        for one, other in wrong:
            assert len(one) > 2
            assert abs(len(one) - len(other)) <= 1
            assert one[0] == other[0] or sorted(one) == sorted(other)


def test_synonyms_keep_the_capital_and_everything_between_words() -> None:
    found = edits.edited(TEXT, edits.replacing(lambda word: OWN.get(word, ())), 1.0, Random(1))
    assert found == TEXT.replace("lost", "mislaid").replace("Card", "Voucher")


@pytest.mark.parametrize("edit", [*edits.BUILT_IN.values(), edits.replacing(lambda word: ())])
@pytest.mark.parametrize("text", ["", " ", "?!", "a", "猫"])
def test_a_text_with_nothing_to_change_stays(edit: edits.Edit, text: str) -> None:
    assert edits.edited(text, edit, 1.0, Random(1)) == text


def test_copies_stand_beside_the_rows_with_their_labels() -> None:
    found = changed({"method": "swap", "copies": 2})
    assert found.dataset["text"][: len(TEXTS)] == [row["text"] for row in TEXTS]
    assert found.dataset["label"][:] == 3 * [row["label"] for row in TEXTS]
    assert [found.place(row) for row in (0, 24, 71)] == ["train.csv:0", "train.csv:0", "train.csv:23"]
    assert len(set(found.hashes)) > len(TEXTS)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        pytest.param({"method": "swap", "keep": False}, 24, id="instead-of-the-rows"),
        pytest.param({"method": ["swap", "typos"], "copies": 3}, 96, id="several-methods"),
    ],
)
def test_there_are_as_many_rows_as_the_options_say(options: dict[str, Any], size: int) -> None:
    assert len(changed(options).dataset) == size


def test_copies_are_made_with_the_probability_given() -> None:
    found = len(changed({"method": "swap", "copies": 50, "probability": 0.25}).dataset) - len(TEXTS)
    assert 230 < found < 370  # 300 are expected; five standard deviations


def test_a_seed_makes_its_own_copies_every_time() -> None:
    one, again, other = (changed({"method": "typos"}, seed=seed).hashes for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_both_texts_of_a_pair_change_unless_one_is_named() -> None:
    rows: list[Row] = [{"text": "the cat runs", "text_pair": "a dog eats", "label": row["label"]} for row in TEXTS]
    both = changed({"method": "swap", "keep": False}, rows).dataset
    assert set(both["text_pair"][:]) != {"a dog eats"}
    assert set(both["text"][:]) != {"the cat runs"}
    one = changed({"method": "swap", "keep": False, "columns": ["text_pair"]}, rows).dataset
    assert set(one["text_pair"][:]) != {"a dog eats"}
    assert set(one["text"][:]) == {"the cat runs"}


def test_summaries_stay_as_they_are() -> None:
    found = changed({"method": "delete", "share": 0.5}, DOCUMENTS, task="summarization").dataset
    assert found["summary"][:] == 2 * [row["summary"] for row in DOCUMENTS]
    assert found["document"][len(DOCUMENTS) :] != [row["document"] for row in DOCUMENTS]


def test_synonyms_come_from_a_file_beside_the_suite(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps({"Cat": ["tiger"]}))
    found = changed({"method": "synonyms", "synonyms": "own.json"}, suite=tmp_path / "a.ft.yaml").dataset["text"][:]
    assert {text.split()[-2] for text in found[24:]} == {"tiger", "dog", "bird", "fish", "sun", "moon"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("[1]", r"must map words to lists: \{\"big\": \[\"large\"\]\}", id="list"),
        pytest.param('{"a": "b"}', "must map words to lists", id="text"),
        pytest.param("{", "can't be read", id="no-json"),
        pytest.param(None, "can't be read", id="missing"),
    ],
)
def test_a_file_that_holds_no_synonyms_is_an_error(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "own.json").write_text(content)
    with pytest.raises(TechniqueError, match=message):
        changed({"method": "synonyms", "synonyms": "own.json"}, suite=tmp_path / "a.ft.yaml")


def test_without_wordnet_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nltk import data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    monkeypatch.setattr(data, "path", [str(tmp_path)])
    monkeypatch.setattr("nltk.corpus.wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, r"\.*"))
    with pytest.raises(TechniqueError, match=r"python -m nltk\.downloader wordnet, .* augment\.synonyms"):
        changed({"method": "synonyms"})


def test_wordnets_lemmas_are_synonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    senses = {"big": [["big", "large"], ["big", "grown_up", "large"]]}

    def synsets(word: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(lemma_names=lambda names=names: names) for names in senses.get(word, ())]

    monkeypatch.setattr(edits, "_wordnet", lambda: SimpleNamespace(synsets=synsets))
    synonyms = edits.from_wordnet()
    assert (synonyms("big"), synonyms("dog")) == (["grown up", "large"], [])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_changes.py").write_text(
        "def shout(text, random):\n    return text.upper()\n"
        "def fails(text, random):\n    return text[1000]\n"
        "def counts(text, random):\n    return len(text)\n"
        "NOTHING = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "own_changes.py"


@pytest.mark.usefixtures("own")
def test_a_function_of_ones_own_changes_texts() -> None:
    found = changed({"method": "own_changes:shout"}).dataset["text"][:]
    assert found[24:] == [row["text"].upper() for row in TEXTS]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("fails", r"own_changes:fails fails at .*own_changes\.py:4: IndexError", id="raises"),
        pytest.param("counts", "own_changes:counts must give a text, got", id="no-text"),
        pytest.param("shuot", "has no shuot; did you mean shout?", id="unknown"),
        pytest.param("NOTHING", r"is no function \(text, random\) -> text", id="no-function"),
    ],
)
def test_a_function_that_fails_is_one_error(name: str, message: str) -> None:
    with pytest.raises((TechniqueError, TrainingError), match=message):
        changed({"method": f"own_changes:{name}"})


@pytest.fixture(scope="session")
def translators(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two encoder-decoders, which write something."""
    return tiny.t5(tmp_path_factory.mktemp("there")), tiny.bart(tmp_path_factory.mktemp("back"))


def back(translators: tuple[Path, Path], **task: Any) -> dict[str, Any]:
    generation = {"max_new_tokens": 8, **task}
    through = [{"checkpoint": str(path), "task": {"generation": generation}} for path in translators]
    return {"method": "back_translation", "through": through}


def test_texts_are_translated_there_and_back(translators: tuple[Path, Path]) -> None:
    one, again = (changed(back(translators)).dataset["text"][:] for _ in range(2))
    assert one == again
    assert one[:24] == [row["text"] for row in TEXTS]
    assert one[24:] != one[:24]


def test_models_that_sample_translate_in_more_than_one_way(translators: tuple[Path, Path]) -> None:
    named = {**back(translators, do_sample=True, temperature=2.0), "copies": 4, "keep": False}
    one, again, other = (changed(named, seed=seed).dataset["text"][:] for seed in (1, 1, 2))
    assert one == again != other
    assert len({*one[::24]}) > 1


def test_a_translator_that_is_none_is_an_error(translators: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no config\.json in it"):
        changed(back((translators[0], tmp_path)))


@pytest.mark.e2e
def test_judged_rows_are_untouched_and_what_is_judged_was_kept(tmp_path: Path) -> None:
    named = {"augment": {"method": ["swap", "typos"], "copies": 2}}
    with tuning(named) as made:
        trained = made.train()
        made.save(tmp_path)
        predicted = made.predict()
    assert trained.rows["train"]["count"] == len(TEXTS)
    assert "train: 48 changed copies of 24 rows (swap, typos)" in trained.notes
    judged = loaded(eval=TEXTS).roles["eval"]
    assert [record["hash"] for record in predicted.records] == judged.hashes
    assert [record["input"] for record in predicted.records] == judged.dataset["text"][:]
    with tuning(named) as again:
        again.load(tmp_path)
        assert again.predict().records == predicted.records


STREAMED = "data: {path: org/data, streaming: true, splits: {eval: test}}, training: {max_steps: 3}"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            "augment: swop",
            "augment: expected synonyms, swap, delete, typos, back_translation, package.module:function, or a list of "
            "these; did you mean swap?, got 'swop' (text)",
            id="unknown-method",
        ),
        pytest.param(
            "augment: own_chnages:shout",
            "augment.method: there is no module own_chnages in sys.path: install its package, or name the folder that "
            "holds it in pytest's `pythonpath`",
            id="unknown-module",
        ),
        pytest.param(
            "augment: {method: swap, columns: [label]}",
            "augment.columns: 'label' holds no text to change; known: text, text_pair",
            id="column",
        ),
        pytest.param(
            "augment: {method: swap, synonyms: own.json}",
            "augment.synonyms: goes with the method synonyms",
            id="synonyms-for-nothing",
        ),
        pytest.param(
            "augment: back_translation",
            "augment.through: two checkpoints, there and back, go with the method back_translation",
            id="through-nothing",
        ),
        pytest.param(
            "augment: {method: back_translation, through: [org/a, org/b], copies: 2}",
            "augment.copies: all would be the same unless both models sample: task: {generation: {do_sample: true}}",
            id="equal-copies",
        ),
        pytest.param(
            "augment: swap, task: token-classification",
            "augment: goes with text-classification, summarization, translation, not with token-classification",
            id="tags",
        ),
        pytest.param(
            "augment: swap, task: question-answering",
            "augment: goes with text-classification, summarization, translation, not with question-answering",
            id="answers",
        ),
        pytest.param(
            f"augment: swap, {STREAMED}",
            "augment: needs all training rows at once; leave out data.streaming",
            id="stream",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(fields: str, expected: str) -> None:
    assert mistakes(fields) == [f"c.{expected}"]


def test_the_key_has_what_files_and_models_and_functions_hold(
    tmp_path: Path, own: Path, translators: tuple[Path, Path]
) -> None:
    made = inputs.case(tmp_path)

    def train(**options: Any) -> str:
        from ftcheck.finetune import techniques

        given = techniques.get("augment").read({"method": "swap", **options})
        return inputs.keys(replace(made, techniques={"augment": given}), tmp_path / "memo")[0].digest

    (tmp_path / "own.json").write_text(json.dumps(OWN))
    synonyms = {"method": "synonyms", "synonyms": "own.json"}
    found = [
        train(),
        train(share=0.2),
        train(copies=2),
        train(**synonyms),
        train(method="own_changes:shout"),
        train(**back(translators)),
    ]
    (tmp_path / "own.json").write_text(json.dumps({**OWN, "way": ["road"]}))
    found.append(train(**synonyms))
    inputs.changed(tmp_path / "own.json", b"road", b"path")
    found.append(train(**synonyms))
    found.append(train(**back((translators[1], translators[0]))))
    assert len(set(found)) == len(found)


@pytest.mark.e2e
def test_synonyms_teach_words_that_the_rows_do_not_have(tmp_path: Path) -> None:
    """A model that knows no language meets other verbs where it is judged than where it is trained."""
    (tmp_path / "own.json").write_text(json.dumps({"runs": ["sees"], "sleeps": ["eats"]}))
    train = [row for row in TEXTS if row["text"].split()[-1] in ("runs", "sleeps")]
    judged = [row for row in TEXTS if row not in train]
    options = {"method": "synonyms", "synonyms": "own.json", "share": 1.0}
    path = tiny.bert(tmp_path / "bert")
    training = {"max_steps": 60, "learning_rate": 3e-3, "per_device_train_batch_size": 8}

    def wrong(**named: Any) -> int:
        job = a_job(named, path=path, suite=tmp_path / "a.ft.yaml", training=training)
        with FineTuning(job, loaded=loaded(train=train, eval=judged)) as made:
            made.train()
            return sum(record["prediction"] != record["reference"] for record in made.predict().records)

    assert wrong(augment=options) == 0
    assert wrong() >= 4


def test_the_shipped_synonyms_are_words_of_the_messages() -> None:
    known = json.loads((ROOT / "fixtures" / "data" / "synonyms.json").read_text("utf-8"))
    assert "purchase" in known["order"]
    assert all(word in known[other] for word, others in known.items() for other in others)
