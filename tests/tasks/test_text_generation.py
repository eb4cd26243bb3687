"""What a causal model is trained on, how texts are judged in windows, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftcheck import catalogue, suitefile, tasks
from ftcheck.errors import CheckpointError, DataError, SuiteErrors
from ftcheck.finetune import predict
from ftcheck.spec import expand
from ftcheck.tasks.text_generation import Generated, Options
from tests import tiny
from tests.tasks.test_chat import PLAIN

TASK: Any = tasks.get("text-generation")
TEXTS = ["the cat sees the old dog in the river", "a bird", "", "é", "ann likes the big red house in rome ."]
PAIRS = [
    {"prompt": "where is ann ?", "completion": " in rome"},
    {"prompt": "who sleeps ?", "completion": " the cat"},
]


def options(**given: Any) -> dict[str, Any]:
    return Options(**given).model_dump()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.gpt2(tmp_path_factory.mktemp("gpt2"), head="GPT2LMHeadModel", initializer_range=0.5)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(checkpoint).eval()


def load_tokenizer(checkpoint: Path, **changes: Any) -> Any:
    """Padded with the end of a text, as ftcheck pads where there is no padding token."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, pad_token="<|endoftext|>")
    tokenizer.model_max_length = 128
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.fixture
def tokenizer(checkpoint: Path) -> Any:
    return load_tokenizer(checkpoint)


def records_of(
    model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], *, batch_size: int = 3
) -> list[dict[str, Any]]:
    table = datasets.Dataset.from_list([dict(row) for row in rows])
    features = TASK.encode(table, tokenizer, {}, chosen, training=False)
    answers = predict.run(
        model,
        features,
        TASK.collator(tokenizer, None),
        TASK,
        device="cpu",
        precision="fp32",
        batch_size=batch_size,
    )
    found: list[dict[str, Any]] = TASK.decode(answers.arrays, features, table, meta={}, options=chosen, tuned={})
    labelled = sum(record["tokens"] for record in found)
    assert answers.loss == pytest.approx(sum(record["nll"] for record in found) / labelled, rel=1e-5)
    return found


def log_probabilities(model: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)])).logits[0].double().log_softmax(-1)


def brute_force(model: Any, ids: Sequence[int], size: int, stride: int) -> list[tuple[float, bool]]:
    """For each token but the first: its negative log likelihood, and whether it is the likeliest, token by token from
    the window that scores it."""
    found = []
    for token in range(1, len(ids)):
        steps = max(0, math.ceil((token + 1 - size) / stride))
        line = log_probabilities(model, ids[steps * stride : token])[-1]
        found.append((-float(line[ids[token]]), int(line.argmax()) == ids[token]))
    return found


@pytest.mark.parametrize(("size", "stride"), [(8, None), (8, 1), (8, 7), (5, 3), (100, 50)])
@pytest.mark.parametrize("begins", [True, False], ids=["bos", "no-bos"])
def test_windows_score_as_a_pass_for_each_token_does(
    model: Any, checkpoint: Path, size: int, stride: int | None, begins: bool
) -> None:
    tokenizer = load_tokenizer(checkpoint, **({} if begins else {"bos_token": None}))
    records = records_of(model, tokenizer, [{"text": text} for text in TEXTS], options(max_length=size, stride=stride))
    for record, text in zip(records, TEXTS, strict=True):
        ids = tokenizer(text)["input_ids"]
        expected = brute_force(model, [256, *ids] if begins else ids, size, stride or size // 2)
        assert record["tokens"] == len(expected) == (len(ids) if begins else max(len(ids) - 1, 0))
        assert record["nll"] == pytest.approx(sum(nll for nll, _ in expected), abs=1e-3)
        assert record["right"] == sum(right for _, right in expected)


@pytest.mark.parametrize(
    ("begins", "text", "expected"),
    [
        pytest.param(True, "été", 5, id="all-bytes"),
        pytest.param(True, "", 0, id="no-text"),
        pytest.param(False, "cat", 2, id="without-the-first-token"),
        pytest.param(False, "c", 0, id="a-token-alone"),
    ],
)
def test_bytes_are_those_of_the_scored_text(
    model: Any, checkpoint: Path, begins: bool, text: str, expected: int
) -> None:
    tokenizer = load_tokenizer(checkpoint, **({} if begins else {"bos_token": None}))
    assert records_of(model, tokenizer, [{"text": text}, {"text": "the cat"}], options())[0]["bytes"] == expected


def test_joined_rows_are_scored_as_one_text_and_told_apart(model: Any, tokenizer: Any) -> None:
    chosen = options(max_length=16, stride=4, join="\n")
    records = records_of(model, tokenizer, [{"text": text} for text in TEXTS], chosen)
    whole = "\n".join(TEXTS)
    (alone,) = records_of(model, tokenizer, [{"text": whole}], options(max_length=16, stride=4))
    for name in ("nll", "right", "tokens", "bytes"):
        assert sum(record[name] for record in records) == pytest.approx(alone[name], rel=1e-6)
    assert [record["tokens"] for record in records] == [
        len(text.encode()) + (place < len(TEXTS) - 1) for place, text in enumerate(TEXTS)
    ]
    assert [record["bytes"] for record in records] == [record["tokens"] for record in records]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [2, 64])
def test_what_a_row_scores_does_not_depend_on_its_batch(
    model: Any, checkpoint: Path, batch_size: int, side: str
) -> None:
    """Also where the tokenizer pads on the left, from where GPT-2 counts positions."""
    rows = [{"text": text} for text in TEXTS]
    one = records_of(model, load_tokenizer(checkpoint), rows, options(max_length=16), batch_size=1)
    padded = load_tokenizer(checkpoint, padding_side=side)
    other = records_of(model, padded, rows, options(max_length=16), batch_size=batch_size)
    np.testing.assert_allclose([r["nll"] for r in one], [r["nll"] for r in other], atol=1e-3)


def test_notes_say_what_is_split_and_what_is_silent(tokenizer: Any) -> None:
    table = datasets.Dataset.from_dict({"text": TEXTS})
    assert TASK.encode(table, tokenizer, {}, options(max_length=16), training=False).notes == [
        "2 documents are longer than 16 tokens: 10 windows in all",
        "1 of 5 rows have no token to judge",
    ]


def test_a_completion_that_is_cut_counts_its_part_of_the_bytes(tokenizer: Any) -> None:
    table = datasets.Dataset.from_list([{"prompt": "a", "completion": "x" * 19}])
    found = TASK.encode(table, tokenizer, {}, options(max_length=11), training=False)
    assert (found.aside["bytes"].tolist(), int((found.tokens["labels"] != -100).sum())) == ([10], 10)


def encoded(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any] | None = None, **given: Any
) -> Any:
    table = datasets.Dataset.from_list([dict(row) for row in rows])
    return TASK.encode(table, tokenizer, dict(meta or {}), options(**given), training=True)


def test_the_loss_is_the_one_of_transformers(model: Any, tokenizer: Any) -> None:
    """Summed over tokens, also where the batch is padded with the token that ends a document, which is learned."""
    found = encoded(tokenizer, [{"text": text} for text in TEXTS], packing=False)
    batch = TASK.collator(tokenizer, 8)(list(found))
    targets = {"labels": batch.pop("labels")}
    with torch.no_grad():
        ours = TASK.loss(model(**batch), targets, 0.0) / TASK.items(targets)
        theirs = model(**batch, labels=targets["labels"]).loss
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    assert int((targets["labels"] == tokenizer.eos_token_id).sum()) == len(TEXTS)
    assert int(TASK.items(targets)) == sum(len(text.encode()) + 1 for text in TEXTS)


@pytest.mark.parametrize(
    ("given", "meta", "positions", "shared", "note"),
    [
        pytest.param({}, {"apart": True}, True, True, "", id="auto-apart"),
        pytest.param({}, {"apart": False}, False, False, "each has blocks of its own", id="auto-crossing"),
        pytest.param({"packing": True}, {"apart": False}, False, True, "each sees those before it", id="packed-anyway"),
        pytest.param({"packing": False}, {"apart": True}, False, False, "", id="never"),
    ],
)
def test_when_documents_share_blocks(
    tokenizer: Any, given: dict[str, Any], meta: dict[str, Any], positions: bool, shared: bool, note: str
) -> None:
    found = encoded(tokenizer, [{"text": text} for text in TEXTS], meta, max_length=64, **given)
    batch = TASK.collator(tokenizer, None)(list(found))
    assert ("position_ids" in batch) == positions == ("attention_mask" not in batch)
    assert (len(found) < len(TEXTS)) == shared
    assert ("doesn't keep packed documents apart" in " ".join(found.notes)) == bool(note)
    assert note in " ".join(found.notes)
    begins = found.tokens["input_ids"] == tokenizer.bos_token_id
    assert begins.sum() == 2 * len(TEXTS)  # GPT-2 begins and ends a document with the same token


def test_only_the_completion_and_its_end_are_learned(tokenizer: Any) -> None:
    found = encoded(tokenizer, [*PAIRS, {"prompt": "", "completion": "ann"}])
    for example, row in zip(found, [*PAIRS, {"prompt": "", "completion": "ann"}], strict=True):
        assert tokenizer.decode(example["input_ids"]) == f"<|endoftext|>{row['prompt']}{row['completion']}<|endoftext|>"
        learned = example["labels"][example["labels"] != -100]
        assert tokenizer.decode(learned) == f"{row['completion']}<|endoftext|>"


def test_only_the_assistants_turns_are_learned(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint, chat_template=PLAIN)
    row = {"messages": [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "ann"}]}
    found = encoded(tokenizer, [row])
    assert tokenizer.decode(found[0]["labels"][found[0]["labels"] != -100]) == "ann;"


@pytest.mark.parametrize(
    ("size", "expected", "learned"),
    [
        pytest.param(64, "<|endoftext|>where is ann ? in rome<|endoftext|>", " in rome<|endoftext|>", id="fits"),
        pytest.param(12, "n ? in rome<|endoftext|>", " in rome<|endoftext|>", id="prompt-cut"),
        pytest.param(6, "? in r", " in r", id="completion-cut"),
    ],
)
def test_what_is_too_long_loses_its_prompts_beginning_first(
    tokenizer: Any, size: int, expected: str, learned: str
) -> None:
    found = encoded(tokenizer, PAIRS[:1], max_length=size)
    assert tokenizer.decode(found[0]["input_ids"]) == expected
    assert tokenizer.decode(found[0]["labels"][found[0]["labels"] != -100]) == learned
    assert bool(found.notes) == (size < 64)


def test_a_completions_likelihood_is_that_of_its_tokens(model: Any, tokenizer: Any) -> None:
    rows = [{"prompt": "where is ann ?", "completion": [" in rome", " rome"]}]
    (record,) = records_of(model, tokenizer, rows, options())
    prompt = [256, *tokenizer("where is ann ?")["input_ids"]]
    ids = [*prompt, *tokenizer(" in rome")["input_ids"], 256]
    lines = log_probabilities(model, ids[:-1])
    expected = -sum(float(lines[place - 1][ids[place]]) for place in range(len(prompt), len(ids)))
    assert record["nll"] == pytest.approx(expected, abs=1e-3)
    assert (record["tokens"], record["bytes"], record["references"]) == (9, 8, [" in rome", " rome"])


@pytest.mark.parametrize(
    ("columns", "there"),
    [
        pytest.param([], "none of these columns", id="none"),
        pytest.param(["text", "messages"], "messages, text", id="two-shapes"),
        pytest.param(["text", "prompt", "completion"], "completion, prompt, text", id="all"),
        pytest.param(["completion"], "completion", id="half-a-shape"),
        pytest.param(["prompt"], "prompt", id="nothing-to-learn"),
    ],
)
def test_other_columns_than_one_shapes_are_refused(columns: list[str], there: str) -> None:
    table = datasets.Dataset.from_dict({"id": [1], **{name: ["a"] for name in columns}})
    with pytest.raises(DataError, match=f"exactly one of these; this data has {there};"):
        TASK.check(table, "train", {}, options(), "row {}".format)


@pytest.mark.parametrize(
    ("row", "given", "message"),
    [
        pytest.param({"text": 3}, {}, "row 0: column text must be text, got 3", id="no-text"),
        pytest.param({"text": "a"}, {"generation": {}}, "needs something to judge", id="nothing-to-compare"),
        pytest.param({"prompt": "a", "completion": "b"}, {"join": ""}, "this data has prompt", id="nothing-to-join"),
        pytest.param({"prompt": 3, "completion": "b"}, {}, "row 0: column prompt must be text", id="no-prompt"),
        pytest.param({"prompt": "a", "completion": []}, {}, "row 0: column completion must be", id="no-reference"),
        pytest.param({"prompt": "a", "completion": 3}, {}, "row 0: column completion must be", id="no-completion"),
        pytest.param({"messages": "a"}, {}, "row 0: messages must be a list", id="no-messages"),
    ],
)
def test_rows_that_can_not_be_used(row: dict[str, Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TASK.check(datasets.Dataset.from_list([row]), "eval", {}, options(**given), "row {}".format)


@pytest.mark.parametrize("begins", [True, False], ids=["bos", "no-bos"])
def test_no_token_to_score_is_an_error(checkpoint: Path, begins: bool) -> None:
    tokenizer = load_tokenizer(checkpoint, **({} if begins else {"bos_token": None}))
    table = datasets.Dataset.from_dict({"text": ["", "" if begins else "a"]})
    with pytest.raises(DataError, match="no row has a token"):
        TASK.encode(table, tokenizer, {}, options(), training=False)


@pytest.mark.parametrize("given", [{"max_length": 8, "stride": 8}, {"max_length": 8, "stride": 9}])
def test_windows_must_overlap(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be below max_length 8"):
        Options(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param("stride: 8, max_length: 8", ".task: stride 8 must be below max_length 8", id="stride"),
        pytest.param("packing: perhaps", ".task.packing: expected one of auto, True, False, got", id="packing"),
        pytest.param(
            "generation: {max_new_token: 4}",
            ".task.generation.max_new_token: no such key; did you mean max_new_tokens?",
            id="generation",
        ),
    ],
)
def test_a_suite_with_a_wrong_option_says_where(given: str, message: str, tmp_path: Path) -> None:
    suite = tmp_path / "a.ft.yaml"
    suite.write_text(f"cases: {{a: {{checkpoint: a/b, task: {{name: text-generation, {given}}}, data: a/b}}}}")
    with pytest.raises(SuiteErrors) as caught:
        expand(suitefile.read(suite), catalogue.installed())
    assert message in str(caught.value)


def test_windows_must_overlap_at_the_models_own_length(tokenizer: Any) -> None:
    table = datasets.Dataset.from_dict({"text": ["a"]})
    with pytest.raises(DataError, match=r"task.stride is 128, but windows have 128 tokens"):
        TASK.encode(table, tokenizer, {}, options(stride=128), training=False)


def prompts(tokenizer: Any, rows: list[dict[str, Any]], **given: Any) -> Any:
    return TASK.prompts(datasets.Dataset.from_list(rows), tokenizer, {}, options(**given))


def test_what_is_generated_from_is_what_stands_before_the_completion(tokenizer: Any) -> None:
    assert prompts(tokenizer, PAIRS) is None
    found = prompts(tokenizer, PAIRS, generation={"max_new_tokens": 4})
    trained = encoded(tokenizer, PAIRS)
    for prompt, example in zip(found, trained, strict=True):
        ids = prompt["input_ids"].tolist()
        assert example["input_ids"][: len(ids)].tolist() == ids
        assert example["labels"][len(ids)] != -100
        assert set(example["labels"][: len(ids)]) == {-100}


def test_a_long_prompt_is_cut_where_the_model_needs_room(tokenizer: Any) -> None:
    found = prompts(tokenizer, [{"prompt": "ab" * 100}], generation={"max_new_tokens": 100})
    assert tokenizer.decode(found[0]["input_ids"]) == "ab" * 14
    assert found.notes == ["1 of 1 prompts were cut at the last 28 tokens"]
    with pytest.raises(CheckpointError, match="leaves no room for a prompt"):
        prompts(tokenizer, [{"prompt": "a"}], generation={"max_new_tokens": 128})


def test_an_empty_prompt_needs_a_token_that_begins_a_text(checkpoint: Path) -> None:
    assert prompts(load_tokenizer(checkpoint), [{"prompt": ""}])[0]["input_ids"].tolist() == [256]
    with pytest.raises(DataError, match="row 0: the prompt is empty"):
        prompts(load_tokenizer(checkpoint, bos_token=None), [{"prompt": ""}])


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        pytest.param("a", [{"prompt": "a"}], id="text"),
        pytest.param(["a", "b"], [{"prompt": "a"}, {"prompt": "b"}], id="texts"),
        pytest.param([{"role": "user", "content": "a"}], [{"prompt": [{"role": "user", "content": "a"}]}], id="a-chat"),
        pytest.param(
            [[{"role": "user", "content": "a"}]], [{"prompt": [{"role": "user", "content": "a"}]}], id="chats"
        ),
        pytest.param([], [], id="none"),
    ],
)
def test_natural_inputs(value: Any, rows: list[dict[str, Any]]) -> None:
    assert TASK.rows_from_input(value) == rows


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(3, "predict takes a text to continue", id="number"),
        pytest.param([{"role": "user"}], "predict takes a text to continue", id="no-content"),
        pytest.param(["a", [{"role": "user", "content": "a"}]], "not both at once", id="mixed"),
    ],
)
def test_what_is_no_natural_input(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TASK.rows_from_input(value)


def test_the_worst_examples_are_the_least_likely_per_token() -> None:
    records = [
        {"index": 0, "input": "long", "nll": 20.0, "right": 0, "tokens": 10, "bytes": 10},
        {"index": 1, "input": "odd", "nll": 9.0, "right": 0, "tokens": 1, "bytes": 3},
        {"index": 2, "input": "none", "nll": 0.0, "right": 0, "tokens": 0, "bytes": 0},
        {
            "index": 3,
            "input": "q",
            "nll": 6.0,
            "right": 0,
            "tokens": 2,
            "bytes": 1,
            "references": ["a"],
            "prediction": "b",
        },
    ]
    worst = TASK.worst(records, {}, options())
    assert [(w.index, w.gold, w.predicted, w.score) for w in worst] == [
        (1, "", "9.00 nats a token", 9.0),
        (3, "a", "b", 3.0),
        (0, "", "2.00 nats a token", 2.0),
    ]


def test_an_answer_is_what_is_generated() -> None:
    assert TASK.natural_output({"index": 0, "prediction": " rome"}, {}) == Generated(text=" rome")
