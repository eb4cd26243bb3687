"""Encoder-decoders: the loss that transformers has, results in the rows' order whatever the batches, generation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.errors import CheckpointError, TrainingError
from ftcheck.finetune import memory, predict
from ftcheck.finetune.predict import Predictor
from ftcheck.finetune.session import FineTuning
from ftcheck.tasks.summarization import Summarization
from tests import tiny
from tests.finetune.jobs import DOCUMENTS, job, loaded

KINDS = ("t5", "bart", "marian")
LEARNS: dict[str, Any] = {"num_train_epochs": 40, "learning_rate": 3e-3, "per_device_train_batch_size": 4}
ONE_STEP = {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}


def made(path: Path, **fields: Any) -> Any:
    """A summarization job whose texts are no longer than 8 tokens."""
    options = {"generation": {"max_new_tokens": 8}, **fields.pop("options", {})}
    return job("summarization", path, options=options, metrics=(), **fields)


@pytest.fixture(scope="module")
def saved(seq2seq: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> a model that knows its training rows."""
    found = {}
    for kind, path in seq2seq.items():
        found[kind] = tmp_path_factory.mktemp(kind) / "model"
        with FineTuning(made(path, training=LEARNS), loaded=loaded(train=DOCUMENTS, eval=DOCUMENTS)) as tuning:
            tuning.train()
            tuning.save(found[kind])
    return found


def predicted(path: Path, rows: Any = DOCUMENTS, **fields: Any) -> Any:
    """What the model at `path`, as it is, makes of `rows`."""
    with FineTuning(made(path, trains=False, **fields), loaded=loaded(eval=rows)) as tuning:
        return tuning.predict()


def texts(found: Any) -> list[str]:
    return [record["prediction"] for record in found.records]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_trained_on_is_written(kind: str, saved: dict[str, Path]) -> None:
    assert texts(predicted(saved[kind])) == [row["summary"] for row in DOCUMENTS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(kind: str, seq2seq: Mapping[str, Path]) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

    model = AutoModelForSeq2SeqLM.from_pretrained(seq2seq[kind]).eval()
    tokenizer = AutoTokenizer.from_pretrained(seq2seq[kind])
    documents, summaries = ([row[name] for row in DOCUMENTS] for name in ("document", "summary"))
    encoding = tokenizer(documents, text_target=summaries)
    batch = DataCollatorForSeq2Seq(tokenizer, model=model)(
        [dict(zip(encoding, t, strict=True)) for t in zip(*encoding.values(), strict=True)]
    )
    with torch.no_grad():
        expected = float(model(**batch).loss)
    found = predicted(seq2seq[kind])
    tokens = sum(record["tokens"] for record in found.records)
    assert sum(record["nll"] for record in found.records) / tokens == pytest.approx(expected, rel=1e-5)
    trained = made(seq2seq[kind], training={**ONE_STEP, "per_device_train_batch_size": 12})
    with FineTuning(trained, loaded=loaded(train=DOCUMENTS, eval=DOCUMENTS)) as tuning:
        assert tuning.train().log_history[-1]["train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", KINDS)
def test_accumulating_batches_takes_the_step_of_one_large_batch(
    kind: str, smoothing: float, seq2seq: Mapping[str, Path]
) -> None:
    """Targets of different lengths: a mean of the batches' means would be another step."""
    rows = DOCUMENTS[:8]
    after = {}
    for batch, times in ((8, 1), (2, 4)):
        training = {
            **ONE_STEP,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": times,
            "label_smoothing_factor": smoothing,
        }
        with FineTuning(made(seq2seq[kind], training=training), loaded=loaded(train=rows, eval=rows)) as tuning:
            tuning.train()
            after[batch] = torch.cat([tensor.flatten() for tensor in tuning.model.state_dict().values()]).clone()
    assert float((after[8] - after[2]).abs().max()) < 1e-5


@pytest.mark.parametrize("size", [1, 5, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_each_rows_own_whatever_the_batch(
    kind: str, size: int, saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding on both sides, the sorting by length, and the way back to the data's order change nothing."""
    monkeypatch.setattr(predict, "BATCH_SIZE", size)
    together = predicted(saved[kind]).records
    alone = [predicted(saved[kind], [row]).records[0] for row in DOCUMENTS[:6]]
    assert [record["index"] for record in together] == list(range(len(DOCUMENTS)))
    assert [record["input"] for record in together] == [row["document"] for row in DOCUMENTS]
    for one, other in zip(together[:6], alone, strict=True):
        assert one["nll"] == pytest.approx(other["nll"], abs=1e-4)
        assert {**one, "nll": 0, "index": 0} == {**other, "nll": 0, "index": 0}


@pytest.mark.parametrize("kind", KINDS)
def test_generation_is_that_of_transformers_row_by_row(kind: str, seq2seq: Mapping[str, Path]) -> None:
    """An untrained model, so that nothing but the same search gives the same text."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(seq2seq[kind]).eval()
    tokenizer = AutoTokenizer.from_pretrained(seq2seq[kind])
    settings = {"num_beams": 3, "max_new_tokens": 6, "no_repeat_ngram_size": 2, "length_penalty": 0.5}
    expected = []
    for row in DOCUMENTS:
        tokens = model.generate(**tokenizer(row["document"], return_tensors="pt"), **settings)
        expected.append(tokenizer.decode(tokens[0], skip_special_tokens=True))
    assert texts(predicted(seq2seq[kind], options={"generation": settings})) == expected


TWICE = [*DOCUMENTS, DOCUMENTS[3]]
"""A source occurs twice, and is written for once."""


@contextmanager
def sources_read() -> Iterator[list[int]]:
    """How many sources encoders read, batch by batch."""
    read: list[int] = []

    def note(module: Any, given: Any, output: Any) -> None:
        name = type(module).__name__
        if name.endswith("Encoder") or (name == "T5Stack" and not module.is_decoder):
            read.append(len(output[0]))

    handle = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        yield read
    finally:
        handle.remove()


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("logits", [1 << 29, 1 << 13], ids=["all-at-once", "few-at-a-time"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_source_is_read_once(
    kind: str, logits: int, beams: int, seq2seq: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To judge the reference and to write; the text is that of a model that reads again."""
    monkeypatch.setattr(memory, "LOGITS_AT_ONCE", logits)
    options = {"generation": {"num_beams": beams, "max_new_tokens": 8}}
    with sources_read() as read:
        once = predicted(seq2seq[kind], TWICE, options=options)
    assert sum(read) == len(TWICE)
    assert (len(read) > 1) is (logits < 1 << 29)
    monkeypatch.delattr(Summarization, "read_once")
    with sources_read() as read:
        again = predicted(seq2seq[kind], TWICE, options=options)
    assert sum(read) == len(TWICE) + len(DOCUMENTS)
    assert once.records == again.records


@pytest.mark.parametrize("size", [1, 5])
def test_texts_are_written_as_soon_as_enough_is_read(size: int, seq2seq: Mapping[str, Path]) -> None:
    """No more is kept of what was read than the next batch needs."""
    told: list[tuple[str, int]] = []
    training = {"max_steps": 1, "per_device_eval_batch_size": size}
    rows = loaded(train=DOCUMENTS, eval=TWICE)
    with FineTuning(made(seq2seq["t5"], training=training), loaded=rows) as tuning:
        tuning.train()
        generate, outputs = tuning.model.generate, tuning.model.get_encoder().register_forward_hook
        handle = outputs(lambda module, given, output: told.append(("read", len(output[0]))))

        def write(**given: Any) -> Any:
            told.append(("write", len(given["input_ids"])))
            return generate(**given)

        tuning.model.generate = write
        tuning.predict()
        handle.remove()
    left = 0
    for what, rows_of_it in told:
        left += rows_of_it if what == "read" else -rows_of_it
        assert left <= 2 * size
    assert left == len(TWICE) - len(DOCUMENTS)


def test_where_the_suite_is_silent_the_checkpoint_says_how(seq2seq: Mapping[str, Path], tmp_path: Path) -> None:
    from transformers import GenerationConfig

    path = tiny.bart(tmp_path, dropout=0.0)
    config = GenerationConfig.from_pretrained(path)
    config.update(num_beams=3, no_repeat_ngram_size=1, length_penalty=2.0, early_stopping=True, max_length=40)
    config.save_pretrained(path)
    said = {"num_beams": 3, "no_repeat_ngram_size": 1, "length_penalty": 2.0, "early_stopping": True}
    silent = predicted(path)
    assert texts(silent) == texts(predicted(seq2seq["bart"], options={"generation": {**said, "max_new_tokens": 8}}))
    assert texts(silent) != texts(predicted(path, options={"generation": {"num_beams": 1, "max_new_tokens": 8}}))
    assert silent.warnings == ()


def test_sampling_starts_from_its_own_seed_and_leaves_the_random_numbers_alone(seq2seq: Mapping[str, Path]) -> None:
    def sampled(seed: int) -> list[str]:
        generation = {"do_sample": True, "seed": seed, "max_new_tokens": 8}
        return texts(predicted(seq2seq["t5"], options={"generation": generation}))

    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = sampled(3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert sampled(3) == one
    assert sampled(4) != one


def test_a_predictor_that_samples_leaves_the_random_numbers_alone(seq2seq: Mapping[str, Path]) -> None:
    sampling = made(seq2seq["t5"], trains=False, options={"generation": {"do_sample": True, "max_new_tokens": 8}})
    answers = Predictor(sampling, None, meta={}, tuned={})
    before = torch.get_rng_state()
    assert answers.predict("the cat runs") == answers.predict("the cat runs")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.OutOfMemoryError("CUDA out of memory"), id="gpu"),
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory"), id="cpu"),
    ],
)
def test_batches_are_halved_where_memory_runs_out(
    error: Exception, saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    with FineTuning(made(saved["t5"], trains=False), loaded=loaded(eval=DOCUMENTS)) as tuning:
        tuning.train()
        generate = tuning.model.generate

        def small(**given: Any) -> Any:
            sizes.append(len(given["input_ids"]))
            if sizes[-1] > 3:
                raise error
            return generate(**given)

        monkeypatch.setattr(tuning.model, "generate", small)
        found = tuning.predict()
    assert sizes == [12, 6, 3, 3, 3, 3]
    assert texts(found) == [row["summary"] for row in DOCUMENTS]


@pytest.mark.parametrize(
    ("error", "sizes", "message"),
    [
        pytest.param(
            torch.OutOfMemoryError("CUDA out of memory"),
            [12, 6, 3, 1],
            "out of memory on cpu, answering one .*: lower task.max_source_length",
            id="not-even-one",
        ),
        pytest.param(RuntimeError("index out of range"), [12], "index out of range", id="another-error"),
    ],
)
def test_what_smaller_batches_do_not_help_is_raised(
    error: Exception, sizes: list[int], message: str, saved: dict[str, Path]
) -> None:
    seen = []

    def never(**given: Any) -> None:
        seen.append(len(given["input_ids"]))
        raise error

    with FineTuning(made(saved["t5"], trains=False), loaded=loaded(eval=DOCUMENTS)) as tuning:
        tuning.train()
        tuning.model.generate = never
        with pytest.raises((TrainingError, RuntimeError), match=message):
            tuning.predict()
    assert seen == sizes


@pytest.mark.parametrize(
    ("kind", "limit", "count"),
    [
        pytest.param("t5", 3, 6, id="half-of-them"),
        pytest.param("t5", 4, 0, id="an-end-in-the-last-place"),
        pytest.param("bart", 4, 6, id="an-end-that-is-forced-is-not-its-own"),
        pytest.param("bart", 5, 0, id="an-end-before-it-is"),
        pytest.param("marian", 1, 12, id="all-of-them"),
    ],
)
def test_texts_without_an_end_of_their_own_are_told(kind: str, limit: int, count: int, saved: dict[str, Path]) -> None:
    """Of the summaries, half take 3 tokens and half take 4, ends included."""
    expected = f"eval: {count} of 12 generated texts reached max_new_tokens ({limit}) without an end of their own"
    found = predicted(saved[kind], options={"generation": {"max_new_tokens": limit}})
    assert found.notes == ((expected,) if count else ())


def test_special_tokens_are_no_part_of_a_text(saved: dict[str, Path]) -> None:
    assert not [text for text in texts(predicted(saved["bart"])) if "<" in text]


def test_what_is_cut_is_noted_for_each_role(seq2seq: Mapping[str, Path]) -> None:
    cut = made(seq2seq["t5"], options={"max_source_length": 5, "max_target_length": 3}, training={"max_steps": 1})
    with FineTuning(cut, loaded=loaded(train=DOCUMENTS, eval=DOCUMENTS)) as tuning:
        assert tuning.train().notes == (
            "train: 4 of 12 sources were cut at 5 tokens",
            "train: 6 of 12 targets were cut at 3 tokens",
        )
        notes = tuning.predict().notes
    assert notes[:2] == (
        "eval: 4 of 12 sources were cut at 5 tokens",
        "eval: 6 of 12 targets were cut at 3 tokens",
    )


def test_training_looks_at_the_loss_of_the_targets(seq2seq: Mapping[str, Path]) -> None:
    looks = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    rows = loaded(train=DOCUMENTS, tune=DOCUMENTS[:4], eval=DOCUMENTS)
    with FineTuning(made(seq2seq["bart"], training=looks), loaded=rows) as tuning:
        losses = [entry["eval_loss"] for entry in tuning.train().log_history if "eval_loss" in entry]
        tuning._loaded = loaded(eval=DOCUMENTS[:4])
        found = tuning.predict().records
    assert losses[-1] == pytest.approx(sum(r["nll"] for r in found) / sum(r["tokens"] for r in found), rel=1e-5)


def test_looking_at_a_training_does_not_change_its_weights(tmp_path: Path) -> None:
    """With dropout, and with texts that are sampled, so that any random number that the looking drew would show."""
    path = tiny.t5(tmp_path, dropout_rate=0.2)
    sampled = {"generation": {"do_sample": True, "seed": 5, "max_new_tokens": 8}}
    weights = []
    for looks in ({}, {"eval_strategy": "steps", "eval_steps": 2}):
        training = {"max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-3, **looks}
        rows = loaded(train=DOCUMENTS, tune=DOCUMENTS[:5], eval=DOCUMENTS)
        with FineTuning(made(path, training=training, options=sampled), loaded=rows) as tuning:
            tuning.train()
            weights.append({name: tensor.clone() for name, tensor in tuning.model.state_dict().items()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_predictions_belong_to_their_rows_under_group_by_length(seq2seq: Mapping[str, Path]) -> None:
    training = {**LEARNS, "train_sampling_strategy": "group_by_length"}
    with FineTuning(made(seq2seq["t5"], training=training), loaded=loaded(train=DOCUMENTS, eval=DOCUMENTS)) as tuning:
        tuning.train()
        assert texts(tuning.predict()) == [row["summary"] for row in DOCUMENTS]


def test_a_model_trained_in_bf16_answers_as_the_one_that_is_saved(seq2seq: Mapping[str, Path], tmp_path: Path) -> None:
    """accelerate leaves its wrapper on a trained model's forward, which would round once more."""
    rows = loaded(train=DOCUMENTS, eval=DOCUMENTS)
    with FineTuning(made(seq2seq["bart"], training={"max_steps": 5}, precision="bf16"), loaded=rows) as tuning:
        tuning.train()
        tuning.save(tmp_path / "model")
        before = tuning.predict().records
        tuning.load(tmp_path / "model")
        assert tuning.predict().records == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_predictor_writes_as_the_judged_predictions_say(kind: str, saved: dict[str, Path]) -> None:
    answers = Predictor(made(saved[kind], trains=False), saved[kind], meta={}, tuned={})
    assert [one.text for one in answers.predict([row["document"] for row in DOCUMENTS])] == [
        row["summary"] for row in DOCUMENTS
    ]
    assert answers.predict(DOCUMENTS[0]["document"]).text == DOCUMENTS[0]["summary"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"max_source_length": 65}, "task.max_source_length is 65, but .* takes at most 64", id="source"),
        pytest.param({"max_target_length": 65}, "task.max_target_length is 65, but .* takes at most 64", id="target"),
        pytest.param(
            {"generation": {"max_new_tokens": 65}},
            "task.generation.max_new_tokens is 65, but .* takes at most 64 tokens: lower max_new_tokens",
            id="generation",
        ),
    ],
)
def test_lengths_beyond_the_models_are_refused(
    options: dict[str, Any], message: str, seq2seq: Mapping[str, Path]
) -> None:
    with pytest.raises(CheckpointError, match=message):
        predicted(seq2seq["bart"], options=options)
    assert predicted(seq2seq["t5"], options={"generation": {"max_new_tokens": 65}}).records


def test_a_model_that_no_text_can_be_got_from_is_refused(
    bert: Path, seq2seq: Mapping[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="its architecture has no head for this task"):
        predicted(bert)
    import shutil

    from safetensors.torch import load_file, save_file

    part = Path(shutil.copytree(seq2seq["t5"], tmp_path / "part"))
    weights = load_file(part / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "decoder.block.1" not in name}
    save_file(kept, part / "model.safetensors", metadata={"format": "pt"})
    trains = made(part, training={"max_steps": 1})
    with (
        FineTuning(trains, loaded=loaded(train=DOCUMENTS, eval=DOCUMENTS)) as tuning,
        pytest.raises(CheckpointError, match=r"isn't a whole T5ForConditionalGeneration: decoder.block.1"),
    ):
        tuning.train()


def test_a_model_that_shifts_only_labels_of_its_own_loss(tmp_path: Path) -> None:
    """M2M-100 and NLLB."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    tokenizer = tiny.word_tokenizer(tmp_path)
    config = M2M100Config(**tiny.encoder_decoder(tokenizer, decoder_start_token_id=1))
    model = M2M100ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path)
    record = predicted(tmp_path, DOCUMENTS[:1]).records[0]
    batch = tokenizer(DOCUMENTS[0]["document"], text_target=DOCUMENTS[0]["summary"], return_tensors="pt")
    with torch.no_grad():
        assert record["nll"] / record["tokens"] == pytest.approx(float(model(**batch).loss), rel=1e-5)
