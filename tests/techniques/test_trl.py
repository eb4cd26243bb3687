"""What TRL's SFTTrainer does with completions is what the task text-generation does: the same rows, the same loss."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from ftcheck.finetune.session import FineTuning
from tests import tiny
from tests.finetune.jobs import Row, job, loaded

pytest.importorskip("trl")

PAIRS: list[Row] = [
    {"prompt": "the cat", "completion": " runs ."},
    {"prompt": "the old dog sleeps", "completion": " in the big green house ."},
    {"prompt": "who eats the fish ?", "completion": " ann ."},
]
ONCE = {
    "max_steps": 1,
    "per_device_train_batch_size": 3,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
}


def theirs(path: Path, rows: list[Row], folder: Path) -> float:
    """The first loss of an SFTTrainer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        tokenizer = AutoTokenizer.from_pretrained(path)
        tokenizer.pad_token = tokenizer.eos_token
        given: dict[str, Any] = {**ONCE, "report_to": "none", "use_cpu": True, "bf16": False, "max_length": 64}
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(path),
            args=SFTConfig(output_dir=str(folder), **given),
            train_dataset=Dataset.from_list([dict(row) for row in rows]),
            processing_class=tokenizer,
        )
        trainer.train()
    return float(trainer.state.log_history[0]["loss"])


@pytest.mark.e2e
def test_completions_have_the_loss_that_the_sft_trainer_has(tmp_path: Path) -> None:
    """With a tokenizer that begins no text: ftcheck begins a prompt with the token that does, TRL doesn't."""
    from transformers import AutoTokenizer

    path = tiny.gpt2(tmp_path / "gpt2", head="GPT2LMHeadModel", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.bos_token = None
    tokenizer.save_pretrained(path)
    made = job("text-generation", path, training=ONCE, options={"max_length": 64})
    with FineTuning(made, loaded=loaded(train=PAIRS, eval=PAIRS)) as tuning:
        ours = tuning.train().first_losses[0]
    assert ours == pytest.approx(theirs(path, PAIRS, tmp_path / "out"), rel=1e-5)
