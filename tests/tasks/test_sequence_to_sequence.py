"""Sources and references in every form, cuts, languages, records and natural input of summarization and translation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError
from ftcheck.tasks.features import EncodedRows, Ragged, collator
from ftcheck.tasks.sequence_to_sequence import Generated
from tests import tiny

TASK: Any = tasks.get("summarization")
TRANSLATION: Any = tasks.get("translation")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.word_tokenizer(tmp_path_factory.mktemp("words"))


def options(**given: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = TASK.options(**given).model_dump()
    return chosen


def rows(**columns: list[Any]) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns)


def encoded(tokenizer: Any, table: datasets.Dataset, **given: Any) -> EncodedRows:
    found: EncodedRows = TASK.encode(table, tokenizer, {}, options(**given), training=True)
    return found


def decoded(table: datasets.Dataset, texts: list[str], tokenizer: Any) -> list[dict[str, Any]]:
    features = encoded(tokenizer, table)
    outputs = [np.array([[1.5, 1.0]] * len(table), dtype=np.float32)] if TASK.runs_model(features) else []
    records: list[dict[str, Any]] = TASK.decode(
        outputs, features, table, meta={}, options=options(), tuned={}, texts=texts
    )
    return records


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param("the cat runs", "the cat runs", id="text"),
        pytest.param(["the cat .", "it runs"], "the cat . it runs", id="sentences"),
        pytest.param([], "", id="no-sentence"),
    ],
)
def test_a_source_is_text_or_a_list_of_sentences(document: Any, expected: str, words: Any) -> None:
    (record,) = decoded(rows(document=[document], summary=["the cat"]), ["x"], words)
    assert record["input"] == expected


@pytest.mark.parametrize(
    ("summaries", "trained_on"),
    [
        pytest.param(["the cat", "a dog"], ["the cat", "a dog"], id="one-each"),
        pytest.param([["the cat", "a bird"], ["a dog"]], ["the cat", "a dog"], id="several"),
    ],
)
def test_the_first_reference_is_trained_on_and_all_are_judged_by(
    summaries: list[Any], trained_on: list[str], words: Any
) -> None:
    table = rows(document=["the cat runs", "a dog eats"], summary=summaries)
    labels = encoded(words, table).ragged["labels"]
    assert [labels[index].tolist() for index in range(2)] == words(text_target=trained_on)["input_ids"]
    records = decoded(table, ["x", "y"], words)
    assert [record["references"] for record in records] == [s if isinstance(s, list) else [s] for s in summaries]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"summary": [[]]}, r"d.csv:0: column summary is an empty list; it needs at least one", id="none"),
        pytest.param({"summary": [3]}, r"d.csv:0: column summary must be text or a list of texts, got 3", id="number"),
        pytest.param({"summary": [["a", "b"]], "document": [{"en": "x"}]}, "column document must be text", id="object"),
        pytest.param(
            {"document": [[1, 2]]}, r"column document must be text or a list of texts, got \[1, 2\]", id="ids"
        ),
    ],
)
def test_what_is_no_text_is_refused_by_its_row(columns: dict[str, Any], message: str) -> None:
    table = rows(**{"document": ["the cat"], "summary": ["the cat"], **columns})
    with pytest.raises(DataError, match=message):
        TASK.check(table, "train", {}, options(), "d.csv:{}".format)


def test_empty_sources_and_targets_are_told() -> None:
    table = rows(document=["", "the cat"], summary=[" ", "\n"])
    assert TASK.check(table, "train", {}, options(), str) == [
        "1 of 2 train rows have an empty document",
        "2 of 2 train rows have an empty summary",
    ]


def test_the_prefix_stands_before_every_source(words: Any) -> None:
    table = rows(document=["runs", "eats"], summary=["a", "a"])
    features = encoded(words, table, prefix="the cat ")
    assert [one["input_ids"].tolist() for one in features] == words(["the cat runs", "the cat eats"])["input_ids"]


def test_what_is_cut_is_told_and_only_what_is_left_is_counted(words: Any) -> None:
    table = rows(document=["the cat runs to the river", "a dog"], summary=["the old cat runs", "a dog"])
    features = encoded(words, table, max_source_length=4, max_target_length=4)
    assert features.notes == ["1 of 2 sources were cut at 4 tokens", "1 of 2 targets were cut at 4 tokens"]
    assert [len(one["input_ids"]) for one in features] == [4, 3]
    assert features.ragged["labels"].lengths.tolist() == [4, 3]
    assert features.aside["bytes"].tolist() == [len("the old cat"), len("a dog")]


def test_rows_are_the_same_in_any_chunks(words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.tasks import features

    table = rows(document=["the cat", "a", "the old dog runs", "sun", "moon"], summary=["a", "cat", "b", "dog .", "e"])
    whole = [{name: values.tolist() for name, values in one.items()} for one in encoded(words, table)]
    monkeypatch.setattr(features, "CHUNK", 2)
    assert [{name: values.tolist() for name, values in one.items()} for one in encoded(words, table)] == whole
    assert [one["input_ids"] for one in whole] == words(table["document"][:])["input_ids"]
    assert [one["labels"] for one in whole] == words(text_target=table["summary"][:])["input_ids"]


def test_bytes_are_those_of_utf8(words: Any) -> None:
    assert encoded(words, rows(document=["a"], summary=["猫 é"])).aside["bytes"].tolist() == [6]


def test_rows_without_references_are_generated_for_and_not_scored(words: Any) -> None:
    table = rows(document=["the cat"])
    features = encoded(words, table)
    assert not TASK.runs_model(features)
    assert decoded(table, ["a cat"], words) == [
        {"index": 0, "input": "the cat", "prediction": "a cat", "references": None}
    ]


def test_records_hold_what_metrics_are_computed_from(words: Any) -> None:
    records = decoded(rows(document=["the cat"], summary=[["a cat", "cat"]]), ["the cat"], words)
    assert TASK.score_inputs(records, {}, options()) == {
        "text": (["the cat"], [["a cat", "cat"]]),
        "tokens": ([[1.5, 1]], [[3, 5]]),
    }


def test_a_long_source_is_kept_by_its_beginning(words: Any) -> None:
    (record,) = decoded(rows(document=["the cat " * 1000], summary=["a"]), ["b"], words)
    assert len(record["input"]) == 1000
    assert record["input"].endswith("…")


def test_the_worst_share_least_with_any_reference() -> None:
    def record(index: int, prediction: str, *references: str) -> dict[str, Any]:
        return {"index": index, "input": "in", "prediction": prediction, "references": list(references)}

    records = [
        record(0, "red cat", "red cat"),
        record(1, "red dog", "red cat", "blue bird"),
        record(2, "sun", "moon"),
        record(3, "", "moon", "moon"),
    ]
    found = TASK.worst(records, {}, options())
    assert [(one.index, one.score, one.gold) for one in found] == [
        (2, 0.0, "moon"),
        (3, 0.0, "moon"),
        (1, 0.5, "red cat / blue bird"),
    ]


def test_labels_are_padded_by_themselves_and_always_on_the_right(words: Any) -> None:
    table = rows(document=["the old cat runs", "a dog"], summary=["a", "the big red dog eats fish"])
    words.padding_side = "left"
    try:
        collate = TASK.collator(words, None)
    finally:
        words.padding_side = "right"
    batch = collate(list(encoded(words, table)))
    expected = words.pad(words(["the old cat runs", "a dog"]), return_tensors="pt")
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    long = words(text_target="the big red dog eats fish")["input_ids"]
    assert batch["labels"].tolist() == [[*words(text_target="a")["input_ids"], *[-100] * 5], long]


def test_features_pad_as_the_seq2seq_collator_of_transformers_does(words: Any) -> None:
    from transformers import DataCollatorForSeq2Seq

    features = encoded(words, rows(document=["the old cat runs", "a dog"], summary=["a", "the big red dog eats fish"]))
    lists = [{name: values.tolist() for name, values in one.items()} for one in features]
    for multiple in (None, 8):
        batch = TASK.collator(words, multiple)(list(features))
        expected = DataCollatorForSeq2Seq(words, pad_to_multiple_of=multiple)(lists)
        assert set(batch) == set(expected)
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_ragged_arrays_hold_what_lists_would() -> None:
    lists = [[1, 2], [], [3]]
    ragged = Ragged.of(lists)
    assert [ragged[index].tolist() for index in range(3)] == lists
    assert ragged.lengths.tolist() == [2, 0, 1]


def test_outputs_are_the_likelihood_and_the_right_tokens_of_each_target(words: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 9, generator=generator)
    labels = torch.tensor([[1, 2, 3, 4], [5, 6, -100, -100], [-100] * 4])
    labels[0, :2] = logits[0, :2].argmax(dim=-1)
    (found,) = TASK.outputs(SimpleNamespace(logits=logits), {"labels": labels})
    chosen = logits.log_softmax(dim=-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    assert torch.allclose(found[:, 0], -(chosen * (labels != -100)).sum(dim=1), atol=1e-5)
    assert found[:, 1].tolist() == [float(count) for count in (logits.argmax(dim=-1) == labels).sum(dim=1)]
    assert found[2].tolist() == [0.0, 0.0]


def test_a_model_without_logits_per_token_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no encoder-decoder"):
        TASK.outputs(SimpleNamespace(logits=torch.zeros(2, 3)), {"labels": torch.zeros(2, 3, dtype=torch.int64)})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, 64, id="what-the-model-takes"),
        pytest.param({"max_target_length": 20}, 20, id="as-a-target"),
        pytest.param({"max_target_length": 20, "generation": {"max_new_tokens": 30}}, 30, id="as-said"),
    ],
)
def test_how_long_a_generated_text_may_be(given: dict[str, Any], expected: int, words: Any) -> None:
    assert TASK.generation(words, {}, options(**given)) == {"max_new_tokens": expected, "seed": 0}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("the cat", [{"document": "the cat"}], id="text"),
        pytest.param({"document": "the cat"}, [{"document": "the cat"}], id="dict"),
        pytest.param(["a", {"document": "b"}], [{"document": "a"}, {"document": "b"}], id="list"),
    ],
)
def test_natural_input(value: Any, expected: list[dict[str, Any]]) -> None:
    assert TASK.rows_from_input(value) == expected


@pytest.mark.parametrize("value", [3, None, {"text": "a"}, {"document": 3}, [["a"]], ("a", "b")])
def test_what_is_no_natural_input_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="predict takes a text or a dict with document"):
        TASK.rows_from_input(value)


def test_natural_output() -> None:
    assert TASK.natural_output({"prediction": "a cat"}, {}) == Generated(text="a cat")


@pytest.fixture(scope="module")
def nllb() -> Any:
    from transformers import NllbTokenizer

    names = ["eng_Latn", "deu_Latn", "fra_Latn"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", *names, "<mask>"]
    return NllbTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], extra_special_tokens=names
    )


@pytest.fixture(scope="module")
def mbart() -> Any:
    from transformers import MBartTokenizer

    return MBartTokenizer()


def chosen(source: str | None = None, target: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = TRANSLATION.options(source_language=source, target_language=target).model_dump()
    return found


def test_a_language_that_targets_begin_with_is_forced(nllb: Any) -> None:
    given = chosen("deu_Latn", "fra_Latn")
    table = rows(source=["a"], target=["b"])
    features = TRANSLATION.encode(table, nllb, {}, given, training=True)
    german, french = nllb.convert_tokens_to_ids(["deu_Latn", "fra_Latn"])
    assert features[0]["input_ids"][0] == german
    assert features[0]["labels"][0] == french
    assert TRANSLATION.generation(nllb, {}, given)["forced_bos_token_id"] == french


def test_a_language_that_targets_end_with_is_what_the_decoder_starts_with(mbart: Any) -> None:
    given = chosen("de_DE", "ro_RO")
    features = TRANSLATION.encode(rows(source=["a"], target=["b"]), mbart, {}, given, training=True)
    german, romanian = mbart.convert_tokens_to_ids(["de_DE", "ro_RO"])
    assert features[0]["input_ids"][-1] == german
    assert features[0]["labels"][-1] == romanian
    made = TRANSLATION.generation(mbart, {}, given)
    assert (made["decoder_start_token_id"], "forced_bos_token_id" in made) == (romanian, False)


def test_a_tokenizer_may_keep_a_table_of_its_languages() -> None:
    """As M2M-100's does, whose language tokens are called otherwise: `__de__`."""

    class Tokenizer(SimpleNamespace):
        def __call__(self, text_target: str) -> dict[str, list[int]]:
            return {"input_ids": [self.lang_code_to_id[self.tgt_lang], 2]}

    tokenizer = Tokenizer(lang_code_to_id={"de": 7, "fr": 8}, src_lang="de", tgt_lang=None, model_max_length=64)
    assert TRANSLATION.generation(tokenizer, {}, chosen("de", "fr"))["forced_bos_token_id"] == 8


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        pytest.param("ger_Latn", None, "task.source_language: .*no language 'ger_Latn'; did you mean", id="source"),
        pytest.param(None, "fra_Latin", "task.target_language: .*'fra_Latin'; did you mean fra_Latn?", id="target"),
        pytest.param(None, "a", "task.target_language: .*known: deu_Latn, eng_Latn, fra_Latn", id="a-word"),
    ],
)
def test_an_unknown_language_is_refused_with_near_names(
    source: str | None, target: str | None, message: str, nllb: Any
) -> None:
    with pytest.raises(CheckpointError, match=message):
        TRANSLATION.prompts(rows(source=["a"]), nllb, {}, chosen(source, target))


def test_a_tokenizer_without_languages_is_not_told_any(words: Any) -> None:
    with pytest.raises(CheckpointError, match=r"task.target_language: .* has no languages to choose from.*task.prefix"):
        TRANSLATION.prompts(rows(source=["a"]), words, {}, chosen(None, "fr"))


def test_every_task_pads_as_before(words: Any) -> None:
    """Labels as long as the input, on the left where the input is."""
    words.padding_side = "left"
    try:
        collate = collator(words, None)
    finally:
        words.padding_side = "right"
    examples = [{"input_ids": np.array(ids), "labels": np.array(ids)} for ids in ([5, 6, 7], [8])]
    batch = collate(examples)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch["labels"].tolist() == [[5, 6, 7], [-100, -100, 8]]
