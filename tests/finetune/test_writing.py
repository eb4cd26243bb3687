"""Faster generation writes what plain `generate` writes, prompt by prompt, on checkpoints and rows that end by
themselves."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.finetune import writing
from ftcheck.finetune.generating import Writer
from ftcheck.tasks.features import EncodedRows, Gatherer

FIXTURES = Path(__file__).parents[2] / "fixtures"
LIMIT = 32


def texts(kind: str) -> list[str]:
    """What the checkpoint is made to read: some of it twice."""
    if kind == "decoder":
        rows = json.loads((FIXTURES / "data/replies/test.json").read_text(encoding="utf-8"))
        found = [row["prompt"] for row in rows[:14]]
    else:
        with (FIXTURES / "data/digests/test.csv").open(encoding="utf-8", newline="") as file:
            found = [row["report"] for row, _ in zip(csv.DictReader(file), range(14), strict=False)]
    return [*found, found[3]]


@pytest.fixture(scope="module", params=["encoder_decoder", "decoder"])
def checkpoint(request: pytest.FixtureRequest) -> tuple[Any, Any, list[list[int]]]:
    """(model, tokenizer, prompts as tokens)."""
    import transformers

    auto = {"decoder": "AutoModelForCausalLM", "encoder_decoder": "AutoModelForSeq2SeqLM"}[request.param]
    tokenizer = transformers.AutoTokenizer.from_pretrained(FIXTURES / request.param)
    model = getattr(transformers, auto).from_pretrained(FIXTURES / request.param).eval()
    return model, tokenizer, tokenizer(texts(request.param))["input_ids"]


@pytest.fixture
def model(checkpoint: tuple[Any, Any, list[list[int]]]) -> Iterator[Any]:
    """The model, whose settings of generation are put back; without a shortest text some write none at all."""
    kept = deepcopy(checkpoint[0].generation_config)
    checkpoint[0].generation_config.min_new_tokens = 4
    yield checkpoint[0]
    checkpoint[0].generation_config = kept


def written(model: Any, checkpoint: Any, precision: str = "fp32", size: int = 64, **settings: Any) -> list[str]:
    gathered = Gatherer()
    gathered.add({"input_ids": checkpoint[2]}, ["input_ids"])
    prompts = EncodedRows(tokens=gathered.tokens(), starts=gathered.starts())
    arguments = {"max_new_tokens": LIMIT, **settings}
    return (
        Writer(model, checkpoint[1], prompts, arguments, device="cpu", precision=precision, batch_size=size)
        .finish()
        .texts
    )


def plain(checkpoint: Any, **settings: Any) -> list[str]:
    """Prompt by prompt, by nothing but `generate`."""
    model, tokenizer, prompts = checkpoint
    found = []
    for ids in prompts:
        tokens = model.generate(torch.tensor([ids]), max_new_tokens=LIMIT, **settings)[0]
        begin = 1 if model.config.is_encoder_decoder else len(ids)
        found.append(tokenizer.decode(tokens[begin:], skip_special_tokens=True))
    return found


def ends(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that texts hold at different places, so that they end there."""
    return [model.config.eos_token_id, *tokenizer(" the a is", add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="greedy"),
        pytest.param({"no_repeat_ngram_size": 2, "min_new_tokens": 5}, id="what-looks-back"),
        pytest.param({"num_beams": 3, "length_penalty": 0.6}, id="beams"),
        pytest.param({"num_beams": 3, "early_stopping": True}, id="beams-that-stop"),
        pytest.param({"forced_bos_token_id": 7, "forced_eos_token_id": 1}, id="forced-begin-and-end"),
        pytest.param({"pad_token_id": 1}, id="padding-is-the-end"),
        pytest.param({"repetition_penalty": 1.5}, id="a-penalty"),
    ],
)
@pytest.mark.parametrize("several", [False, True], ids=["one-end", "several-ends"])
def test_texts_are_those_of_plain_generation(
    settings: Mapping[str, Any], several: bool, model: Any, checkpoint: Any
) -> None:
    model.generation_config.update(**settings)
    if several:
        model.generation_config.eos_token_id = ends(model, checkpoint[1])
    expected = plain(checkpoint)
    assert written(model, checkpoint) == expected
    assert len({len(text.split()) for text in expected}) > 1, "all end at the same time: nobody can leave"


def test_rows_leave_as_they_end(model: Any, checkpoint: Any) -> None:
    """Fewer and fewer are computed, and no hook stays behind."""
    model.generation_config.eos_token_id = ends(model, checkpoint[1])
    rows: list[int] = []
    watch = model.register_forward_hook(lambda module, given, output: rows.append(len(output.logits)), prepend=True)
    try:
        written(model, checkpoint)
    finally:
        watch.remove()
    assert rows[0] == len(checkpoint[2]) - 1, "two prompts are the same"
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] <= rows[0] // 2
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


def test_what_is_drawn_does_not_depend_on_who_has_left(
    model: Any, checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.generation_config.eos_token_id = ends(model, checkpoint[1])
    settings: dict[str, Any] = {"do_sample": True, "seed": 3, "top_k": 20}
    found = written(model, checkpoint, **settings)
    monkeypatch.setattr(writing, "finished_rows_leave", lambda model, arguments: nullcontext())
    assert written(model, checkpoint, **settings) == found
    assert found[3] != found[-1], "the same prompt is drawn for twice"


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_that_are_cast_once_write_the_same(
    frozen: bool, model: Any, checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.requires_grad_(not frozen)
    try:
        found = written(model, checkpoint, "bf16")
        assert {weight.requires_grad for weight in model.parameters()} == {not frozen}
        monkeypatch.setattr(writing, "weights_cast_once", lambda model: torch.inference_mode())
        assert written(model, checkpoint, "bf16") == found
    finally:
        model.requires_grad_(True)


@pytest.mark.parametrize("frozen", [False, True])
def test_autocast_keeps_what_it_has_cast(frozen: bool) -> None:
    """A frozen weight is cast anew each time but for it."""
    layer = torch.nn.Linear(4, 4).requires_grad_(not frozen)
    with writing.weights_cast_once(layer), torch.autocast("cpu", dtype=torch.bfloat16):
        before = layer(torch.ones(1, 4))
        layer.weight.zero_()
        assert torch.equal(layer(torch.ones(1, 4)), before)
    assert layer.weight.requires_grad is not frozen


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # by PEFT
def test_an_adapted_model_writes_the_same(model: Any, checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import peft

    kind = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    config = peft.LoraConfig(task_type=kind, target_modules="all-linear", init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(deepcopy(model), config).eval()
    adapted.get_base_model().generation_config.eos_token_id = ends(model, checkpoint[1])
    found = written(adapted, checkpoint)
    monkeypatch.setattr(writing, "finished_rows_leave", lambda model, arguments: nullcontext())
    assert written(adapted, checkpoint, size=1) == found


@pytest.mark.parametrize(
    ("longest", "arguments", "values"),
    [
        pytest.param(100, {}, 128, id="one-text"),
        pytest.param(100, {"num_beams": 4}, 4 * 128, id="beams"),
        pytest.param(10**9, {}, None, id="one-too-large"),
    ],
)
def test_as_many_rows_are_written_at_once_as_fit(
    longest: int, arguments: Mapping[str, Any], values: int | None, model: Any
) -> None:
    """Keys and values of layers x heads x width for each token, and four copies of the scores of one."""
    config = model.config
    decoder = not config.is_encoder_decoder
    layers, width = (3, 4 * 32) if decoder else (3, 4 * 24)
    found = writing.rows_that_fit(model, longest, {"max_new_tokens": 28, **arguments})
    if values is None:
        assert found == 1
    else:
        beams = values // 128
        assert found == writing.MEMORY_BYTES // (4 * beams * (2 * layers * width * 128 + 4 * config.vocab_size))


def test_a_case_that_says_how_many_are_answered_at_once_writes_as_many(
    seq2seq: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import GenerationMixin

    from ftcheck.finetune.session import FineTuning
    from tests.finetune.jobs import DOCUMENTS, job, loaded

    rows: list[int] = []
    generate = GenerationMixin.generate

    def counted(self: Any, **given: Any) -> Any:
        rows.append(len(given["input_ids"]))
        return generate(self, **given)

    monkeypatch.setattr(GenerationMixin, "generate", counted)
    options = {"generation": {"max_new_tokens": 2}}
    training = {"max_steps": 1, "per_device_eval_batch_size": 5}
    made = job("summarization", seq2seq["t5"], training=training, options=options, metrics=())
    with FineTuning(made, loaded=loaded(train=DOCUMENTS, eval=DOCUMENTS)) as tuning:
        tuning.train()
        tuning.predict()
    assert rows == [5, 5, 2]
