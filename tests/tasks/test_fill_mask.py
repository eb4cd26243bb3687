"""Which tokens are masked, in training and in judging, and what a masked model scores for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError
from ftcheck.finetune import predict
from ftcheck.tasks import masking
from ftcheck.tasks.fill_mask import CANDIDATES, Options
from tests import tiny

TASK: Any = tasks.get("fill-mask")
TEXTS = ["the cat sees the old dog in the river", "", "a bird", "ann likes the big red house in rome .", "sun"]


def options(**given: Any) -> dict[str, Any]:
    return Options(**given).model_dump()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tiny.bert(tmp_path_factory.mktemp("bert"), head="BertForMaskedLM", initializer_range=0.5)
    return AutoModelForMaskedLM.from_pretrained(path).eval()


def encoded(tokenizer: Any, texts: Sequence[str], *, training: bool = False, **given: Any) -> Any:
    return TASK.encode(datasets.Dataset.from_dict({"text": texts}), tokenizer, {}, options(**given), training=training)


def records_of(
    model: Any, tokenizer: Any, texts: Sequence[str], *, batch_size: int = 3, **given: Any
) -> list[dict[str, Any]]:
    table, features = datasets.Dataset.from_dict({"text": texts}), encoded(tokenizer, texts, **given)
    answers = predict.run(
        model,
        features,
        TASK.collator(tokenizer, None),
        TASK,
        device="cpu",
        precision="fp32",
        batch_size=batch_size,
    )
    found: list[dict[str, Any]] = TASK.decode(answers.arrays, features, table, meta={}, options=options(), tuned={})
    total = sum(record["tokens"] for record in found)
    assert answers.loss == pytest.approx(sum(record["nll"] for record in found) / total, rel=1e-5)
    return found


def test_the_loss_is_the_one_of_transformers(model: Any, tokenizer: Any) -> None:
    torch.manual_seed(0)
    batch = TASK.collator(tokenizer, 8)(list(encoded(tokenizer, TEXTS, training=True, mlm_probability=0.5)))
    targets = {"labels": batch.pop("labels")}
    with torch.no_grad():
        ours = TASK.loss(model(**batch), targets, 0.0) / TASK.items(targets)
        theirs = model(**batch, labels=targets["labels"]).loss
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


def test_training_masks_as_the_collator_of_transformers_does(tokenizer: Any) -> None:
    """The share of tokens that are guessed, and of these the shares that are masked, replaced and left."""
    from transformers import DataCollatorForLanguageModeling

    texts = ["the cat sees the old dog in the river"] * 2000
    torch.manual_seed(0)
    ours = TASK.collator(tokenizer, None)(list(encoded(tokenizer, texts, training=True, mlm_probability=0.3)))
    theirs = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)(
        [tokenizer(text, return_special_tokens_mask=True) for text in texts]
    )
    original = torch.tensor(tokenizer(texts[0])["input_ids"])
    for batch in (ours, theirs):
        guessed = batch["labels"] != -100
        assert torch.equal(batch["labels"][guessed], original.expand_as(guessed)[guessed])
        assert not guessed[:, [0, -1]].any()
        assert float(guessed[:, 1:-1].float().mean()) == pytest.approx(0.3, abs=0.01)
        now = batch["input_ids"][guessed]
        assert float((now == tokenizer.mask_token_id).float().mean()) == pytest.approx(0.8, abs=0.02)
        assert float((now == batch["labels"][guessed]).float().mean()) == pytest.approx(0.1, abs=0.02)
        assert torch.equal(batch["input_ids"][~guessed], original.expand_as(guessed)[~guessed])


def test_each_epoch_masks_anew_and_a_seed_repeats_it(tokenizer: Any) -> None:
    collate, found = TASK.collator(tokenizer, None), list(encoded(tokenizer, TEXTS, training=True))
    torch.manual_seed(3)
    first, second = collate(found), collate(found)
    torch.manual_seed(3)
    again = collate(found)
    assert not torch.equal(first["labels"], second["labels"])
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_judged_masks_are_a_texts_own(tokenizer: Any) -> None:
    """Whatever stands beside it, and whatever random numbers were drawn."""
    one = encoded(tokenizer, TEXTS)
    torch.manual_seed(99)
    np.random.seed(99)
    other = encoded(tokenizer, TEXTS[::-1])
    for here, there in zip(one, list(other)[::-1], strict=True):
        assert all(np.array_equal(here[name], there[name]) for name in here)
    before = torch.get_rng_state()
    TASK.collator(tokenizer, None)(list(one))
    assert torch.equal(before, torch.get_rng_state())


def test_each_text_with_tokens_has_a_masked_one(tokenizer: Any) -> None:
    found = encoded(tokenizer, TEXTS, mlm_probability=0.01)
    assert found.aside["guessed"].tolist() == [1, 0, 1, 1, 1]
    labels = found.tokens["labels"]
    assert set(found.tokens["input_ids"][labels != -100]) == {tokenizer.mask_token_id}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scoring", ["masked", "pseudo"])
def test_special_tokens_are_never_masked(tokenizer: Any, training: bool, scoring: str) -> None:
    text = "[MASK] the [SEP] cat ☃ [CLS]"
    found = encoded(tokenizer, [text] * 50, training=training, scoring=scoring, mlm_probability=0.9)
    torch.manual_seed(0)
    labels = TASK.collator(tokenizer, None)(list(found))["labels"]
    words = set(tokenizer.convert_tokens_to_ids(["the", "cat"]))
    assert set(labels.unique().tolist()) - {-100} == words


@pytest.mark.parametrize("size", [4, 6, 64])
def test_windows_hold_each_token_once(tokenizer: Any, size: int) -> None:
    found = encoded(tokenizer, TEXTS, training=True, max_length=size)
    for row, text in enumerate(TEXTS):
        windows = [found[index]["input_ids"] for index in np.flatnonzero(found.aside["row"] == row)]
        assert all(
            len(ids) <= size and (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
            for ids in windows
        )
        own = [int(token) for ids in windows for token in ids[1:-1]]
        assert own == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_windows_of_a_tokenizer_with_other_special_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    roberta = AutoTokenizer.from_pretrained(tiny.roberta(tmp_path))
    (window,) = encoded(roberta, ["the cat"], training=True)
    assert window["input_ids"].tolist() == roberta("the cat")["input_ids"]


def log_likelihood(model: Any, ids: Sequence[int], place: int, mask: int, hidden: Sequence[int]) -> float:
    """Of the token in `place`, with those in `hidden` masked."""
    given = torch.tensor([[mask if index in hidden else token for index, token in enumerate(ids)]])
    with torch.no_grad():
        return float(model(input_ids=given).logits[0, place].double().log_softmax(-1)[ids[place]])


def test_masked_tokens_score_as_a_pass_for_the_text_alone_does(model: Any, tokenizer: Any) -> None:
    found = encoded(tokenizer, TEXTS, mlm_probability=0.4)
    labels = {int(row): found[index]["labels"] for index, row in enumerate(found.aside["row"])}
    for record, text in zip(records_of(model, tokenizer, TEXTS, mlm_probability=0.4), TEXTS, strict=True):
        ids = tokenizer(text)["input_ids"]
        hidden = np.flatnonzero(labels[record["index"]] != -100).tolist() if text else []
        expected = [log_likelihood(model, ids, place, tokenizer.mask_token_id, hidden) for place in hidden]
        assert record["nll"] == pytest.approx(-sum(expected), abs=1e-3)
        assert record["tokens"] == len(hidden)
        own = len(ids) - 2
        assert record["bytes"] == pytest.approx(len(text.encode()) * len(hidden) / max(own, 1))


def test_pseudo_perplexity_masks_each_token_in_turn(model: Any, tokenizer: Any) -> None:
    """Salazar et al. 2020, equation 1."""
    for record, text in zip(records_of(model, tokenizer, TEXTS, scoring="pseudo"), TEXTS, strict=True):
        ids = tokenizer(text)["input_ids"]
        places = range(1, len(ids) - 1)
        expected = [log_likelihood(model, ids, place, tokenizer.mask_token_id, [place]) for place in places]
        assert record["nll"] == pytest.approx(-sum(expected), abs=1e-3)
        assert (record["tokens"], record["bytes"]) == (len(places), len(text.encode()))


@pytest.mark.parametrize("scoring", ["masked", "pseudo"])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_what_a_text_scores_does_not_depend_on_its_batch(
    model: Any, tokenizer: Any, scoring: str, batch_size: int
) -> None:
    one = records_of(model, tokenizer, TEXTS, scoring=scoring, max_length=6)
    other = records_of(model, tokenizer, TEXTS, scoring=scoring, max_length=6, batch_size=batch_size)
    np.testing.assert_allclose([r["nll"] for r in one], [r["nll"] for r in other], atol=1e-3)


def test_notes_say_what_was_split_and_what_is_empty(tokenizer: Any) -> None:
    assert encoded(tokenizer, TEXTS, max_length=8).notes == [
        "4 texts make 6 windows of up to 8 tokens",
        "1 of 5 texts have no tokens",
    ]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("texts", [["", " "], ["[MASK]"]], ids=["empty", "special-only"])
def test_nothing_to_mask_is_an_error(tokenizer: Any, texts: list[str], training: bool) -> None:
    with pytest.raises(DataError, match="no text has a token that can be masked"):
        encoded(tokenizer, texts, training=training)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny.byte_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="has no mask token"):
        encoded(tokenizer, TEXTS)


def test_a_row_that_is_no_text_is_named(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"^eval.csv:1: column text must be text, got 3"):
        TASK.check(datasets.Dataset.from_dict({"text": [3]}), "eval", {}, options(), "eval.csv:1".format)


def filled(model: Any, tokenizer: Any, value: Any) -> list[Any]:
    table = datasets.Dataset.from_list(TASK.rows_from_input(value))
    features = TASK.encode(table, tokenizer, {}, options(), training=False)
    answers = predict.run(
        model, features, TASK.collator(tokenizer, None), TASK, device="cpu", precision="fp32", batch_size=1
    )
    records = TASK.decode(answers.arrays, features, table, meta={}, options=options(), tuned={})
    return [TASK.natural_output(record, {}) for record in records]


def test_masks_are_filled_with_the_likeliest_tokens(model: Any, tokenizer: Any) -> None:
    texts = ["the [MASK] sleeps in the old [MASK]", "a [MASK]"]
    for answer, text in zip(filled(model, tokenizer, texts), texts, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            probabilities = model(input_ids=ids).logits[0].softmax(-1)[ids[0] == tokenizer.mask_token_id]
        assert len(answer.masks) == len(probabilities)
        for candidates, line in zip(answer.masks, probabilities, strict=True):
            best = line.topk(CANDIDATES)
            assert [c.token for c in candidates] == [tokenizer.decode([token]) for token in best.indices.tolist()]
            assert [c.score for c in candidates] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert (answer.token, answer.score) == (answer.masks[0][0].token, answer.masks[0][0].score)
        assert "[MASK]" not in answer.text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(3, "predict takes a text with a mask", id="number"),
        pytest.param("the cat", r"there is no \[MASK\] to fill in", id="no-mask"),
        pytest.param("[MASK] " + "cat " * 600, "the model takes 512", id="too-long"),
    ],
)
def test_what_can_not_be_filled(tokenizer: Any, value: Any, message: str) -> None:
    longest = tokenizer.model_max_length
    tokenizer.model_max_length = 512
    try:
        with pytest.raises(DataError, match=message):
            TASK.encode(
                datasets.Dataset.from_list(TASK.rows_from_input(value)), tokenizer, {}, options(), training=False
            )
    finally:
        tokenizer.model_max_length = longest


def test_pseudo_features_are_made_when_they_are_asked_for(tokenizer: Any) -> None:
    found = encoded(tokenizer, TEXTS, scoring="pseudo")
    assert isinstance(found, masking.EachMasked)
    assert len(found) == sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS)
    example: Mapping[str, Any] = found[1]
    assert (example["labels"] != -100).sum() == 1
    with pytest.raises(IndexError):
        found[len(found)]
