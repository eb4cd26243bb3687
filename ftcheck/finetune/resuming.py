"""Trainings that go on where they were broken off: the same to the last bit as if they never had been.

The Trainer writes its checkpoints in place, into a private folder that lasts until the run is published. One counts
once a manifest vouches for its files, so that none is gone on with that is half written or damaged. Weights are
safetensors; what torch writes for the optimizer and the schedule is read with `weights_only`, which builds nothing but
tensors and containers; random numbers, and all else that a training holds, are JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck.keys.arguments import for_training
from ftcheck.keys.canonical import plain_json
from ftcheck.keys.files import file_digest

if TYPE_CHECKING:
    from ftcheck.finetune import Job
    from ftcheck.finetune.techniques import Context, Technique

MANIFEST: Final = "ftcheck-manifest.json"
STATE: Final = "ftcheck-state.json"
FORMAT: Final = 1
KEPT: Final = 2
"""Checkpoints that stay where the suite gives no `save_total_limit`: nobody reads more, and one may be damaged."""

_PICKLES: Final = ("optimizer.pt", "scheduler.pt", "scaler.pt")
_UNKNOWN: Final = (
    *("fsdp", "deepspeed", "parallelism_config", "auto_find_batch_size", "eval_on_start"),
    "dataloader_persistent_workers",
)
"""Arguments with which a checkpoint is another, or doesn't say all."""

Random = tuple[Any, Any, Any, Any]
"""The states of the streams of Python, NumPy, torch, and the device (None where it isn't asked for)."""


def asked_for(job: Job) -> bool:
    """Whether the suite has the training write checkpoints."""
    return bool((job.case.training or {}).get("save_strategy", "no") != "no")


def resuming(
    folder: Path | None, context: Context, techniques: Sequence[Technique], collator: Any, features: Any
) -> Resuming | None:
    """Where a training writes checkpoints, with the one in `folder` that it goes on from; None where it writes none, or
    none that could be gone on with. What was begun before and is lost is noted."""
    job = context.job
    if folder is None or not asked_for(job):
        return None
    folder = folder.absolute()
    begun = any(folder.iterdir())
    why = _obstacle(job, techniques, collator, features) or _insecure(folder / "checkpoints")
    if why:
        (folder / "begun").touch()
        if begun:
            context.note(f"training was broken off before and began anew: {why}")
        return None
    found = Resuming(folder / "checkpoints", job)
    if found.state:
        context.note(f"training was broken off before and went on after step {found.state['step']:,}")
    return found


def _obstacle(job: Job, techniques: Sequence[Technique], collator: Any, features: Any) -> str:
    """Why a training can't be gone on with; empty where it can."""
    given = job.case.training or {}
    if job.case.data.streaming:
        return "rows that are streamed can't be found again"
    for technique in techniques:
        if not technique.resumes:
            return f"{technique.name} may hold what no checkpoint has"
    for name in _UNKNOWN:
        if given.get(name):
            return f"with training.{name} a checkpoint doesn't say all"
    if given.get("dataloader_num_workers") and _draws(collator, features):
        return "batches are drawn at random in processes of their own (training.dataloader_num_workers)"
    return ""


def _draws(collator: Any, features: Any) -> bool:
    """Whether making a batch takes random numbers."""
    before = _random()
    collator([features[0]])
    drawn = _to_json(_random()) != _to_json(before)
    _restore(before)
    return drawn


def _insecure(folder: Path) -> str:
    """Make the folder that nobody else may write to; what is wrong with one that is there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if os.name == "nt":
        return ""
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
    return "" if ours else "somebody else may write to its checkpoints"


class Resuming:
    """The checkpoints of one training in `folder`. The caller holds the run's key."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder = folder
        self.device = job.device
        self.found: Path | None = None
        """The checkpoint to go on from."""
        self.state: Mapping[str, Any] = {}
        """What was kept beside it; empty where the training begins."""
        self._recipe = _recipe(job)
        self._kept = int((job.case.training or {}).get("save_total_limit") or KEPT)
        self._find()

    @property
    def arguments(self) -> dict[str, Any]:
        """TrainingArguments fields. Older checkpoints are deleted here, once a newer one is whole."""
        return {
            "save_only_model": False,
            "save_total_limit": None,
            "restore_callback_states_from_checkpoint": True,
        }

    @property
    def seconds(self) -> float:
        """That the training took before it was broken off."""
        return float(self.state.get("seconds", 0.0))

    def seal(self, checkpoint: Path, state: Mapping[str, Any], best: str | None) -> None:
        """Make a checkpoint count that is written, and delete those that nobody needs any more."""
        (checkpoint / STATE).write_text(json.dumps(state), encoding="ascii")
        manifest = {
            "format": FORMAT,
            "recipe": self._recipe,
            "files": {name: file_digest(checkpoint / name) for name in _files(checkpoint)},
        }
        scratch = checkpoint / f"{MANIFEST}.new"
        scratch.write_text(json.dumps(manifest), encoding="ascii")
        scratch.replace(checkpoint / MANIFEST)
        needed = {*self._checkpoints()[: self._kept], checkpoint, *([Path(best)] if best else [])}
        for other in self._checkpoints():
            if other not in needed:
                shutil.rmtree(other, ignore_errors=True)

    def _find(self) -> None:
        """The newest checkpoint that is whole; what is newer, and isn't, is deleted."""
        for checkpoint in self._checkpoints():
            if self._usable(checkpoint):
                self.found = checkpoint
                self.state = json.loads((checkpoint / STATE).read_bytes())
                return
            shutil.rmtree(checkpoint, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        """Newest first."""
        found = [path for path in self.folder.glob("checkpoint-*") if path.name.partition("-")[2].isdigit()]
        return sorted(found, key=lambda path: int(path.name.partition("-")[2]), reverse=True)

    def _usable(self, checkpoint: Path) -> bool:
        """Whether a checkpoint, and the best one that it goes back to, are what was written."""
        if not self._whole(checkpoint):
            return False
        best = json.loads((checkpoint / "trainer_state.json").read_bytes())["best_model_checkpoint"]
        if best is not None and not (Path(best).parent == self.folder and self._whole(Path(best))):
            return False
        return all(_is_plain(checkpoint / name) for name in _PICKLES)

    def _whole(self, checkpoint: Path) -> bool:
        try:
            manifest = json.loads((checkpoint / MANIFEST).read_bytes())
            files = {name: file_digest(checkpoint / name) for name in _files(checkpoint) if name != MANIFEST}
        except (OSError, ValueError):
            return False
        wanted = {"format": FORMAT, "recipe": self._recipe, "files": files}
        return bool(manifest == wanted)


def _recipe(job: Job) -> dict[str, Any]:
    """What must be as it was, beyond what the run's key says: whoever retries a training may have changed it."""
    recipe: dict[str, Any] = plain_json(
        {
            "training": for_training(job.case.training or {}),
            "seed": job.seed,
            "fold": job.fold,
            "device": job.device.partition(":")[0],
            "precision": job.precision,
            "limit": job.limit,
        }
    )
    return recipe


def _files(folder: Path, below: str = "") -> Iterator[str]:
    """Names of all files, relative to `folder`. Raises OSError for what is no plain file."""
    with os.scandir(folder / below) as found:
        for item in sorted(found, key=lambda item: item.name):
            if item.is_dir(follow_symlinks=False):
                yield from _files(folder, f"{below}{item.name}/")
            elif item.is_file(follow_symlinks=False):
                yield f"{below}{item.name}"
            else:
                raise OSError(f"{below}{item.name} is no plain file")


def _is_plain(path: Path) -> bool:
    """Whether torch reads a file without unpickling anything but tensors and containers; also one that isn't there."""
    import pickle

    import torch

    try:
        if path.exists():
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError):
        return False
    return True


def _random(device: str = "cpu") -> Random:
    import numpy as np
    import torch

    of_device = None
    if device.startswith("cuda"):
        of_device = torch.cuda.get_rng_state(device)
    elif device == "mps":
        of_device = torch.mps.get_rng_state()
    return random.getstate(), np.random.get_state(), torch.random.get_rng_state(), of_device


def _restore(states: Random, device: str = "cpu") -> None:
    import numpy as np
    import torch

    python, legacy, of_torch, of_device = states
    random.setstate(python)
    np.random.set_state(legacy)
    torch.random.set_rng_state(of_torch)
    if of_device is not None and device.startswith("cuda"):
        torch.cuda.set_rng_state(of_device, device)
    elif of_device is not None:
        torch.mps.set_rng_state(of_device)


def _to_json(states: Random) -> list[Any]:
    (version, numbers, gauss), (kind, legacy, *rest), of_torch, of_device = states
    device = None if of_device is None else of_device.tolist()
    return [[version, list(numbers), gauss], [kind, legacy.tolist(), *rest], of_torch.tolist(), device]


def _from_json(found: Sequence[Any]) -> Random:
    import numpy as np
    import torch

    (version, numbers, gauss), (kind, legacy, *rest), of_torch, of_device = found
    device = None if of_device is None else torch.tensor(of_device, dtype=torch.uint8)
    numpy = (kind, np.array(legacy, dtype=np.uint32), *rest)
    return (version, tuple(numbers), gauss), numpy, torch.tensor(of_torch, dtype=torch.uint8), device


class _Collator:
    """Makes batches, and knows the random numbers that the last one was begun with.

    accelerate makes one batch ahead of the step: the first batch after a checkpoint was drawn before it. When a
    training goes on, that batch is made again as it was, and after it the numbers are those of the checkpoint.
    """

    def __init__(self, collate: Callable[[Any], Any], device: str) -> None:
        self.begun: Random | None = None
        self.again: tuple[Random, Random] | None = None
        """(the numbers of the batch to make again, those of the checkpoint)."""
        self._collate = collate
        self._device = device

    def __call__(self, examples: Any) -> Any:
        if self.again is None:
            self.begun = _random()
            return self._collate(examples)
        self.begun, after = self.again
        self.again = None
        _restore(self.begun)
        batch = self._collate(examples)
        _restore(after, self._device)
        return batch


@cache
def trainer_class(kind: type) -> Any:
    """`kind`, ftcheck's Trainer, as one that can be gone on with. A function, since transformers takes seconds to
    import."""
    import torch
    from transformers import TrainerCallback

    class Following(TrainerCallback):  # type: ignore[misc]
        """Puts back what the Trainer holds outside of its state, and follows the random numbers."""

        def __init__(self, trainer: Any) -> None:
            self.trainer = trainer

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.trainer.put_back()

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.trainer.begin_epoch()

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.trainer.epoch_ended = True

    class Resumable(kind):  # type: ignore[misc]
        """Numbers that the Trainer begins anew when it resumes are put back: the log history, too, is as it would have
        been."""

        def __init__(self, *, resuming: Resuming, data_collator: Any, **kwargs: Any) -> None:
            self.resuming = resuming
            self.batches = _Collator(data_collator, resuming.device)
            self.epoch_ended = False
            self.epoch_begun = _random()
            self.started = time.perf_counter()
            super().__init__(data_collator=self.batches, **kwargs)
            self.add_callback(Following(self))

        def train(self, **kwargs: Any) -> Any:
            found = self.resuming.found
            self.started = time.perf_counter()
            return super().train(resume_from_checkpoint=None if found is None else str(found), **kwargs)

        def put_back(self) -> None:
            state = self.resuming.state
            if state:
                self.losses.first = list(state["first_losses"])
                self.losses.last = state["step_loss"]
                self._tr_loss = torch.tensor(state["loss"], device=self.args.device)
                self._total_loss_scalar = state["total_loss"]
                self._globalstep_last_logged = state["logged"]
                self._initial_global_step = 0

        def begin_epoch(self) -> None:
            """In the epoch that a training goes on with, its rows come in the order that they had."""
            state, self.epoch_ended = self.resuming.state, False
            if state and self.state.global_step == state["step"]:
                now = _from_json(state["now"])
                _restore(_from_json(state["epoch"]) if state["in_epoch"] else now, self.resuming.device)
                if state["in_epoch"] and state["batch"] is not None:
                    self.batches.again = _from_json(state["batch"]), now
            self.epoch_begun = _random()

        def _save_rng_state(self, output_dir: str) -> None:
            """They are part of STATE."""

        def _load_rng_state(self, checkpoint: str | None) -> None:
            """After the first batch; where another process made that, it took no random numbers."""
            if self.batches.begun is None and self.resuming.state["in_epoch"]:
                _restore(_from_json(self.resuming.state["now"]), self.resuming.device)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            by_epoch = "epoch" in (self.args.eval_strategy, self.args.logging_strategy)
            ends = self.state.epoch is not None and float(self.state.epoch).is_integer() and not self.epoch_ended
            # The next thing to do would be to end the training, or the epoch, which no training begins with.
            if not self.control.should_training_stop and not (ends and by_epoch):
                checkpoint = self.resuming.folder / f"checkpoint-{self.state.global_step}"
                self.resuming.seal(checkpoint, self._held(), self.state.best_model_checkpoint)

        def _held(self) -> dict[str, Any]:
            """What no file of the Trainer's has."""
            return {
                "step": self.state.global_step,
                "seconds": self.resuming.seconds + time.perf_counter() - self.started,
                "first_losses": self.losses.first,
                "step_loss": self.losses.last,
                "loss": float(self._tr_loss),
                "total_loss": self._total_loss_scalar,
                "logged": self._globalstep_last_logged,
                "in_epoch": not float(self.state.epoch).is_integer(),
                "epoch": _to_json(self.epoch_begun),
                "batch": None if self.batches.begun is None else _to_json(self.batches.begun),
                "now": _to_json(_random(self.resuming.device)),
            }

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            """With what was done before it was broken off in the time that the training took."""
            if "train_runtime" in logs and self.resuming.seconds:
                here = logs["train_runtime"]
                logs["train_runtime"] = here + self.resuming.seconds
                for name in ("train_samples_per_second", "train_steps_per_second"):
                    logs[name] *= here / logs["train_runtime"]
            super().log(logs, *args, **kwargs)

    return Resumable
