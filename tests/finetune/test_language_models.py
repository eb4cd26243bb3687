"""Causal and masked language models through the whole room: trained, judged, saved, asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.errors import CheckpointError, DataError
from ftcheck.finetune import predict
from ftcheck.finetune.predict import Predictor
from ftcheck.finetune.session import FineTuning
from tests import tiny
from tests.finetune.jobs import TEXTS, Row, job, loaded

ROWS: Mapping[str, list[Row]] = {
    "text": [{"text": row["text"]} for row in TEXTS],
    "prompts": [
        {"prompt": f"{animal} ?", "completion": [f" {sound} !", "what"]}
        for animal, sound in {"cat": "mew", "dog": "wuff", "bird": "chirp", "cow": "moo"}.items()
    ],
    "messages": [
        {"messages": [{"role": "user", "content": animal}, {"role": "assistant", "content": sound}]}
        for animal, sound in {"cat": "mew", "dog": "wuff", "bird": "chirp", "cow": "moo"}.items()
    ],
}
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
LEARNS: dict[str, Any] = {"max_steps": 60, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 without dropout whose tokenizer has a chat template."""
    path = tmp_path_factory.mktemp("decoder")
    tiny.gpt2(path, head="GPT2LMHeadModel", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("encoder"), head="BertForMaskedLM")


def made(task: str, path: Path, **fields: Any) -> Any:
    """A job whose metrics don't matter here."""
    return job(task, path, **{"metrics": (), **fields})


def trained(case: Any, **roles: Any) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """(Trained, Predicted, weights)."""
    with FineTuning(case, loaded=loaded(**roles)) as tuning:
        result, predicted = tuning.train(), tuning.predict()
        return result, predicted, {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


def nats(predicted: Any) -> float:
    """Mean negative log likelihood per token."""
    return float(sum(r["nll"] for r in predicted.records) / sum(r["tokens"] for r in predicted.records))


@pytest.mark.parametrize("shape", ROWS)
def test_a_causal_model_learns_its_rows(shape: str, decoder: Path) -> None:
    rows = ROWS[shape]
    before = FineTuning(made("text-generation", decoder, trains=False), loaded=loaded(train=rows, eval=rows)).predict()
    _, after, _ = trained(made("text-generation", decoder, training=LEARNS), train=rows, eval=rows)
    assert nats(before) > 5
    assert nats(after) < 1


def test_a_masked_model_learns_its_texts(encoder: Path) -> None:
    rows = ROWS["text"]
    options = {"mlm_probability": 0.3}
    case = made("fill-mask", encoder, trains=False, options=options)
    before = FineTuning(case, loaded=loaded(train=rows, eval=rows)).predict()
    _, after, _ = trained(made("fill-mask", encoder, training=LEARNS, options=options), train=rows, eval=rows)
    assert nats(after) < 0.6 * nats(before)


@pytest.mark.parametrize("task", ["text-generation", "fill-mask"])
def test_two_trainings_of_one_job_are_the_same_to_the_last_bit(task: str, decoder: Path, encoder: Path) -> None:
    path = {"text-generation": decoder, "fill-mask": encoder}[task]
    case = made(task, path, training={"max_steps": 4, "learning_rate": 1e-3})
    one = trained(case, train=ROWS["text"], eval=ROWS["text"])
    torch.rand(7)
    other = trained(case, train=ROWS["text"], eval=ROWS["text"])
    assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])
    assert one[1].records == other[1].records


@pytest.mark.parametrize("task", ["text-generation", "fill-mask"])
def test_looking_at_the_tune_split_changes_no_weight(task: str, decoder: Path, encoder: Path) -> None:
    path, rows = {"text-generation": decoder, "fill-mask": encoder}[task], ROWS["text"]
    steps = {"max_steps": 4, "learning_rate": 1e-3}
    blind = trained(made(task, path, training=steps), train=rows, eval=rows)[2]
    looking = {**steps, "eval_strategy": "steps", "eval_steps": 1}
    result, _, weights = trained(made(task, path, training=looking), train=rows, tune=rows, eval=rows)
    assert all(torch.equal(blind[name], weights[name]) for name in blind)
    assert [entry["eval_loss"] for entry in result.log_history if "eval_loss" in entry]


@pytest.mark.parametrize(
    ("trains", "given", "size"), [(True, {}, 8), (False, {}, 8), (True, {"per_device_eval_batch_size": 5}, 5)]
)
def test_batches_are_small_unless_the_suite_says_otherwise(
    trains: bool, given: dict[str, Any], size: int, decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A causal model's answer is tokens × vocabulary."""
    sizes = []
    run = predict.run

    def noted(*args: Any, **kwargs: Any) -> Any:
        sizes.append(kwargs["batch_size"])
        return run(*args, **kwargs)

    monkeypatch.setattr(predict, "run", noted)
    case = made("text-generation", decoder, trains=trains, training={"max_steps": 1, **given})
    with FineTuning(case, loaded=loaded(train=ROWS["text"], eval=ROWS["text"])) as tuning:
        tuning.train()
        tuning.predict()
    assert sizes == [size]


@pytest.mark.parametrize("shape", ["text", "prompts"])
def test_a_token_counts_the_same_in_every_accumulated_batch(shape: str, decoder: Path) -> None:
    """Trap 1, and rows of different lengths: a mean of the batches' means would weigh short ones more."""
    rows = ROWS[shape][:4]
    steps = []
    for batch in (4, 1):
        training = {
            "max_steps": 1,
            "optim": "sgd",
            "learning_rate": 0.1,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": 4 // batch,
        }
        case = made("text-generation", decoder, training=training, options={"packing": False})
        steps.append(trained(case, train=rows, eval=rows)[2])
    large, small = (torch.cat([weights[name].flatten() for name in weights]) for weights in steps)
    torch.testing.assert_close(large, small, atol=1e-6, rtol=0)


def test_packed_documents_train_as_documents_of_their_own_do(decoder: Path) -> None:
    """One step over all of them: the same tokens, the same context of each, so the same gradient."""
    rows = ROWS["text"]
    training = {"max_steps": 1, "optim": "sgd", "learning_rate": 0.1, "per_device_train_batch_size": 24}
    steps = []
    for packing in (True, False):
        # a document that a block's end cuts in two would lose the context of its second half
        options = {"packing": packing, "max_length": 128}
        result, _, weights = trained(
            made("text-generation", decoder, training=training, options=options), train=rows[:8], eval=rows
        )
        assert result.meta == {"apart": packing}
        steps.append(torch.cat([weights[name].flatten() for name in weights]))
        assert any("blocks of up to 128 tokens" in note for note in result.notes) == packing
    torch.testing.assert_close(*steps, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("shape", "ask", "answer"),
    [
        pytest.param("prompts", "dog ?", " wuff !", id="prompt"),
        pytest.param("messages", [{"role": "user", "content": "dog"}], "wuff", id="chat"),
    ],
)
def test_a_saved_model_continues_as_it_was_taught(
    shape: str, ask: Any, answer: str, decoder: Path, tmp_path: Path
) -> None:
    case = made("text-generation", decoder, training=LEARNS, options={"generation": {"max_new_tokens": 12}})
    with FineTuning(case, loaded=loaded(train=ROWS[shape], eval=ROWS[shape])) as tuning:
        result = tuning.train()
        tuning.save(tmp_path / "model")
    with FineTuning(case, loaded=loaded(train=ROWS[shape], eval=ROWS[shape])) as again:
        again.load(tmp_path / "model")
        records = again.predict().records
    assert [record["prediction"] for record in records] == [record["references"][0] for record in records]
    predictor = Predictor(case, tmp_path / "model", meta=result.meta, tuned={})
    assert predictor.predict(ask).text == answer
    assert [one.text for one in predictor.predict([ask, ask])] == [answer, answer]
    assert predictor.predict([]) == []


def test_a_model_of_texts_continues_one(decoder: Path) -> None:
    answers = Predictor(made("text-generation", decoder, trains=False), None, meta={}, tuned={})
    assert isinstance(answers.predict("the").text, str)


def test_a_checkpoint_as_it_is_fills_masks(encoder: Path) -> None:
    predictor = Predictor(made("fill-mask", encoder, trains=False), None, meta={}, tuned={})
    one, other = predictor.predict(["the [MASK] runs", "a [MASK] and a [MASK] sleeps in the house"])
    alone = predictor.predict("the [MASK] runs")
    assert (alone.text, alone.token) == (one.text, one.token)
    assert alone.score == pytest.approx(one.score, rel=1e-5)
    assert (len(one.masks), len(other.masks)) == (1, 2)
    with pytest.raises(DataError, match="no \\[MASK\\] to fill"):
        predictor.predict("the cat")


def test_messages_need_a_chat_template(tmp_path: Path) -> None:
    path = tiny.gpt2(tmp_path, head="GPT2LMHeadModel")
    with (
        FineTuning(made("text-generation", path), loaded=loaded(train=ROWS["messages"], eval=ROWS["messages"])) as t,
        pytest.raises(CheckpointError, match="no chat template"),
    ):
        t.train()


def test_a_text_file_needs_no_columns(decoder: Path, tmp_path: Path) -> None:
    """Lines of a file, read as one text; columns of the other shapes are nowhere."""
    from ftcheck.spec import Data

    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text("ann sleeps\n\nin the house\n" * 3)
    files = {name: (str(tmp_path / f"{name}.txt"),) for name in ("train", "test")}
    case = made(
        "text-generation",
        decoder,
        training={"max_steps": 1},
        options={"join": "\n", "max_length": 16},
        data=Data(kind="reader", path="text", files=files),
    )
    with FineTuning(case) as tuning:
        tuning.train()
        records = tuning.predict().records
    assert [record["tokens"] for record in records] == [11, 1, 13] * 2 + [11, 1, 12]


def test_data_without_any_column_of_the_task_is_refused(decoder: Path, tmp_path: Path) -> None:
    from ftcheck.spec import Data

    (tmp_path / "a.csv").write_text("question,answer\nwho,ann\n")
    files = {name: (str(tmp_path / "a.csv"),) for name in ("train", "test")}
    case = made("text-generation", decoder, data=Data(kind="reader", path="csv", files=files))
    with (
        FineTuning(case) as tuning,
        pytest.raises(DataError, match=r"none of the task's columns \(text, pr.*question, answer\)"),
    ):
        tuning.train()
