"""A training that was broken off goes on from its last checkpoint, and comes to the same, to the last bit."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.errors import TrainingError
from ftcheck.finetune import Job, Progress, Trained, resuming, techniques
from ftcheck.finetune.session import FineTuning
from ftcheck.keys.files import file_digest
from ftcheck.spec import EarlyStopping
from tests.finetune.jobs import SENTENCES, TEXTS, job, loaded

TEXT = "text-classification"
SAVES: dict[str, Any] = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "save_strategy": "steps",
    "save_steps": 2,
    "logging_steps": 3,
}
"""12 steps, 6 in an epoch, checkpoints between two lines of the log."""
TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second")


class Killed(BaseException):
    """Nothing that a library catches."""


def run(
    made: Job, rows: Any, unfinished: Path | None, *, until: int | None = None
) -> tuple[Trained, dict[str, torch.Tensor]]:
    """(Trained, weights); broken off after step `until`."""

    def on_progress(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == until:
            raise Killed

    if unfinished is not None:
        unfinished.mkdir(exist_ok=True)
    with FineTuning(
        made, on_progress, loaded=loaded(train=rows, tune=rows, eval=rows), unfinished=unfinished
    ) as tuning:
        trained = tuning.train()
        return trained, {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


def broken_off(made: Job, rows: Any, unfinished: Path, *, until: int) -> None:
    with pytest.raises(Killed):
        run(made, rows, unfinished, until=until)


def said(trained: Trained) -> list[dict[str, Any]]:
    """The log history without times."""
    return [{name: value for name, value in line.items() if name not in TIMES} for line in trained.log_history]


def checkpoints(unfinished: Path) -> list[str]:
    return sorted(path.name for path in (unfinished / "checkpoints").glob("*") if (path / resuming.MANIFEST).exists())


BEST = {
    "eval_strategy": "steps",
    "eval_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "learning_rate": 2e-2,
}


def of(training: Mapping[str, Any] | None = None, task: str = TEXT, **fields: Any) -> Callable[[Path], Job]:
    return lambda bert: job(task, bert, training={**SAVES, **(training or {})}, **fields)


@pytest.fixture(scope="module")
def undisturbed(bert: Path) -> dict[str, torch.Tensor]:
    """The weights of the plain training."""
    return run(of()(bert), TEXTS, None)[1]


@pytest.fixture(scope="module")
def after_9(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the plain training leaves that is broken off after step 9."""
    unfinished = tmp_path_factory.mktemp("broken") / "unfinished"
    broken_off(of()(bert), TEXTS, unfinished, until=9)
    return unfinished


@pytest.fixture
def broken(after_9: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(after_9, tmp_path / "unfinished"))


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


IN_GROUPS = {"padding": techniques.get("padding").read("groups")}
KINDS = [
    pytest.param(of(), 5, 4, id="shuffled, in the first epoch"),
    pytest.param(of(), 9, 8, id="in the middle of the second epoch"),
    pytest.param(of(), 7, 6, id="at the end of an epoch"),
    pytest.param(of({"save_strategy": "epoch", "save_steps": 500}), 9, 6, id="a checkpoint an epoch"),
    pytest.param(
        of({"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}), 9, 8, id="accumulated gradients"
    ),
    pytest.param(
        of({"gradient_accumulation_steps": 4, "per_device_train_batch_size": 1, "save_steps": 1}),
        4,
        3,
        id="more accumulated gradients",
    ),
    pytest.param(of({"train_sampling_strategy": "group_by_length"}), 9, 8, id="grouped by length, second epoch"),
    pytest.param(of({"train_sampling_strategy": "group_by_length"}), 5, 4, id="grouped by length, first epoch"),
    pytest.param(
        of({"train_sampling_strategy": "group_by_length", "save_strategy": "epoch", "save_steps": 500}),
        9,
        6,
        id="grouped by length, a checkpoint an epoch",
    ),
    pytest.param(of(techniques=IN_GROUPS), 9, 8, id="in groups, second epoch"),
    pytest.param(of(techniques=IN_GROUPS), 5, 4, id="in groups, first epoch"),
    pytest.param(of({"warmup_steps": 5, "lr_scheduler_type": "cosine"}), 5, 4, id="warm-up and schedule"),
    pytest.param(of(BEST), 9, 8, id="best checkpoint"),
    pytest.param(of(BEST | {"save_total_limit": 1}), 9, 8, id="best checkpoint, few kept"),
    pytest.param(
        of(BEST | {"num_train_epochs": 6, "learning_rate": 5e-2}, early_stopping=EarlyStopping(patience=3)),
        7,
        6,
        id="early stopping",
    ),
    pytest.param(
        of({"eval_strategy": "epoch", "logging_strategy": "epoch", "logging_steps": 500}), 7, 4, id="evaluated by epoch"
    ),
    pytest.param(of(precision="bf16"), 9, 8, id="bf16"),
    pytest.param(of({"optim": "adafactor"}), 9, 8, id="another optimizer"),
    pytest.param(of({"dataloader_num_workers": 1}), 9, 8, id="batches made by another process"),
    pytest.param(
        of(techniques={"peft": techniques.get("peft").read({"method": "lora", "r": 2})}), 9, 8, id="adapter (LoRA)"
    ),
    pytest.param(
        of(techniques={"freeze": techniques.get("freeze").read({"patterns": "base", "unfreeze_layers_per_epoch": 1})}),
        9,
        8,
        id="gradual unfreezing",
    ),
    pytest.param(of(techniques={"focal": techniques.get("focal").read({"gamma": 2.0})}), 9, 8, id="another loss"),
]


@pytest.mark.parametrize(("made", "until", "step"), KINDS)
def test_what_was_broken_off_comes_to_the_same(
    made: Callable[[Path], Job], until: int, step: int, bert: Path, tmp_path: Path
) -> None:
    whole, weights = run(made(bert), TEXTS, None)
    broken_off(made(bert), TEXTS, tmp_path / "unfinished", until=until)
    torch.rand(3)  # another process begins with other random numbers
    resumed, again = run(made(bert), TEXTS, tmp_path / "unfinished")
    assert f"training was broken off before and went on after step {step}" in resumed.notes
    assert same(again, weights)
    assert said(resumed) == said(whole)
    assert resumed.first_losses == whole.first_losses
    assert resumed.tuned == whole.tuned


def test_masks_drawn_while_training_come_to_the_same(bert: Path, tmp_path: Path) -> None:
    """The first batch after a checkpoint was drawn before it."""
    rows = [{"text": row["text"]} for row in TEXTS]
    for number, (more, until) in enumerate([({}, 9), ({"gradient_accumulation_steps": 2}, 5)]):
        made = job("fill-mask", bert, training={**SAVES, **more})
        _, weights = run(made, rows, None)
        broken_off(made, rows, tmp_path / str(number), until=until)
        resumed, again = run(made, rows, tmp_path / str(number))
        assert any("went on after step" in note for note in resumed.notes)
        assert same(again, weights)


def test_broken_off_again_and_again_it_still_comes_to_the_same(bert: Path, tmp_path: Path) -> None:
    made = job("token-classification", bert, training={**SAVES, **BEST, "save_steps": 2})
    whole, weights = run(made, SENTENCES, None)
    for until in (1, 3, 4, 6, 7, 9, 12):
        broken_off(made, SENTENCES, tmp_path / "unfinished", until=until)
    resumed, again = run(made, SENTENCES, tmp_path / "unfinished")
    assert same(again, weights)
    assert said(resumed) == said(whole)
    assert resumed.costs["train_seconds"] == pytest.approx(resumed.log_history[-1]["train_runtime"], rel=0.2, abs=0.5)


def test_no_more_checkpoints_are_kept_than_are_read(bert: Path, tmp_path: Path) -> None:
    broken_off(of()(bert), TEXTS, tmp_path / "two", until=11)
    assert checkpoints(tmp_path / "two") == ["checkpoint-10", "checkpoint-8"]
    broken_off(of({"save_total_limit": 1})(bert), TEXTS, tmp_path / "one", until=11)
    assert checkpoints(tmp_path / "one") == ["checkpoint-10"]
    best = of(BEST | {"save_total_limit": 1, "learning_rate": 0.9})(bert)
    broken_off(best, TEXTS, tmp_path / "best", until=11)
    [named] = {
        json.loads(path.read_text())["best_model_checkpoint"]
        for path in (tmp_path / "best").glob("checkpoints/checkpoint-10/trainer_state.json")
    }
    assert checkpoints(tmp_path / "best") == sorted({"checkpoint-10", Path(named).name})


def test_nothing_is_written_where_the_suite_asks_for_no_checkpoint(bert: Path, tmp_path: Path) -> None:
    broken_off(job(TEXT, bert, training={"max_steps": 6}), TEXTS, tmp_path / "unfinished", until=4)
    assert os.listdir(tmp_path / "unfinished") == []


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no manifest: killed while it was written": lambda newest: (newest / resuming.MANIFEST).unlink(),
    "half a manifest": lambda newest: cut(newest / resuming.MANIFEST),
    "half the optimizer": lambda newest: cut(newest / "optimizer.pt"),
    "a flipped bit in the weights": lambda newest: flip(newest / "model.safetensors"),
    "a file more": lambda newest: (newest / "pytorch_model.bin").touch(),
    "a file less": lambda newest: (newest / "scheduler.pt").unlink(),
    "a link": lambda newest: (newest / "link").symlink_to("/etc/passwd"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over(
    name: str, bert: Path, broken: Path, undisturbed: Mapping[str, torch.Tensor]
) -> None:
    DAMAGE[name](broken / "checkpoints" / "checkpoint-8")
    resumed, again = run(of()(bert), TEXTS, broken)
    assert "training was broken off before and went on after step 6" in resumed.notes
    assert same(again, undisturbed)


def test_without_its_best_checkpoint_none_is_gone_on_with(bert: Path, tmp_path: Path) -> None:
    made = of(BEST | {"learning_rate": 0.9})(bert)
    _, weights = run(made, TEXTS, None)
    broken_off(made, TEXTS, tmp_path / "unfinished", until=9)
    folder = tmp_path / "unfinished" / "checkpoints"
    state = json.loads((folder / "checkpoint-8" / "trainer_state.json").read_text())
    flip(Path(state["best_model_checkpoint"]) / "model.safetensors")
    resumed, again = run(made, TEXTS, tmp_path / "unfinished")
    assert not any("went on" in note for note in resumed.notes)
    assert same(again, weights)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["BOMB"],)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth"])
def test_a_pickle_is_never_unpickled(
    name: str, bert: Path, broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that the manifest vouches for."""
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    newest = broken / "checkpoints" / "checkpoint-8"
    (newest / name).write_bytes(pickle.dumps(Bomb()))
    manifest = json.loads((newest / resuming.MANIFEST).read_text())
    manifest["files"][name] = file_digest(newest / name)
    (newest / resuming.MANIFEST).write_text(json.dumps(manifest))
    resumed, _ = run(of()(bert), TEXTS, broken)
    after = 6 if name in ("optimizer.pt", "scheduler.pt") else 8  # the others are none of ours, and never read
    assert f"training was broken off before and went on after step {after}" in resumed.notes
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_has_no_pickles_but_those_that_are_read_as_weights(after_9: Path) -> None:
    newest = after_9 / "checkpoints" / "checkpoint-8"
    assert {path.name for path in newest.iterdir()} == {
        *("config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"),
        *(resuming.MANIFEST, resuming.STATE),
    }


def test_another_recipe_begins_anew(bert: Path, broken: Path) -> None:
    """A batch that was halved since memory was not enough has other steps."""
    halved = of({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2})(bert)
    _, weights = run(halved, TEXTS, None)
    resumed, again = run(halved, TEXTS, broken)
    assert not any("went on" in note for note in resumed.notes)
    assert same(again, weights)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_checkpoints_that_others_may_write_are_not_gone_on_with(bert: Path, broken: Path) -> None:
    assert (broken / "checkpoints").stat().st_mode & 0o777 == 0o700
    (broken / "checkpoints").chmod(0o777)
    resumed, _ = run(of()(bert), TEXTS, broken)
    assert any("began anew: somebody else may write" in note for note in resumed.notes)


def worker_masks(bert: Path) -> Job:
    return job("fill-mask", bert, training={**SAVES, "dataloader_num_workers": 1})


def pruned(bert: Path) -> Job:
    given = {"prune": techniques.get("prune").read({"amount": 0.5, "schedule": "cubic"})}
    return job(TEXT, bert, training=SAVES, techniques=given)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        pytest.param(pruned, "prune may hold what no checkpoint has", id="a technique with a state of its own"),
        pytest.param(worker_masks, "batches are drawn at random", id="batches drawn by another process"),
        pytest.param(of({"eval_on_start": True, **BEST}), "training.eval_on_start", id="evaluated at the start"),
    ],
)
def test_what_could_not_come_to_the_same_begins_anew_and_says_so(
    made: Callable[[Path], Job], why: str, bert: Path, tmp_path: Path
) -> None:
    rows = TEXTS if made is not worker_masks else [{"text": row["text"]} for row in TEXTS]
    _, weights = run(made(bert), rows, None)
    broken_off(made(bert), rows, tmp_path / "unfinished", until=9)
    resumed, again = run(made(bert), rows, tmp_path / "unfinished")
    assert any(f"began anew: {why}" in note or f"began anew: with {why}" in note for note in resumed.notes)
    assert same(again, weights)


def test_a_technique_that_takes_part_in_the_steps_says_whether_it_can_go_on() -> None:
    hooks = ("callbacks", "optimizers", "trainer", "train")
    for name in techniques.names():
        kind = techniques.get(name)
        if any(getattr(kind, hook) is not getattr(techniques.Technique, hook) for hook in hooks):
            assert "resumes" in vars(kind), f"{name}: say whether a checkpoint has all that it holds (`resumes`)"


def test_a_loss_that_is_no_number_stops_what_goes_on_at_the_same_step(bert: Path, tmp_path: Path) -> None:
    made = of({"learning_rate": 1e30, "max_grad_norm": 0, "save_steps": 1})(bert)
    told = []
    for _ in range(2):
        with pytest.raises(TrainingError, match="the loss is") as stopped:
            run(made, TEXTS, tmp_path / "unfinished")
        told.append(str(stopped.value))
    assert told[0] == told[1]
