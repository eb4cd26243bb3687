"""The one fake: an executor that "trains" text classifiers in microseconds. Everything before and after it is real.

Its model is right on as many of 100 examples as the case's `learning_rate` says (0.9: 90, give or take one by
seed); of a seed named by FAKE_COLLAPSED on half of them. What it did is written to the file named by FAKE_LOG, a line
per stage, so that a test can count. With FAKE_MEET=N a training waits until N are under way at once; with
FAKE_SIDE_BY_SIDE=FILE it takes a moment and notes there which others are under way. FAKE_GPUS=N of 10 GB each, and
FAKE_CORES=N, are what the machine has; FAKE_PEAK=BYTES is the memory that a training is said to have had. With
FAKE_HELD=NAME trainings of the case with that name wait until there is a file of that name beside FAKE_LOG.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from ftcheck import devices, examples, machine
from ftcheck.devices import Device
from ftcheck.errors import TrainingError
from ftcheck.executors import Work
from ftcheck.executors.deadline import deadline
from ftcheck.executors.inline import InlineExecutor, has_model
from ftcheck.finetune import OnProgress, Predicted, Progress, Trained
from ftcheck.store import Store

LABELS = ("lost", "stolen")
EXAMPLES = 100


class FakeExecutor(InlineExecutor):
    """Does what InlineExecutor does, but for the training."""

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        made = set()
        with store.lock("runs", work.train.digest, on_wait=on_wait):
            found = None if work.redo else store.get("runs", work.train.digest)
            if work.job.case.training is not None and (found is None or not has_model(found)):
                with deadline(work.timeout):
                    self._made_up_training(work, store, on_progress)
                made.add("train")
            if work.redo or store.get("predictions", work.predict.digest) is None:
                self._made_up_answers(work, store)
                made.add("predict")
        return frozenset(made)

    def _made_up_training(self, work: Work, store: Store, on_progress: OnProgress) -> None:
        log(f"train {work.job.case.name} {work.job.seed}")
        on_progress(Progress(stage="train", done=1, total=2, epoch=0.5, loss=0.7, learning_rate=1e-4))
        if os.environ.get("FAKE_HELD") == work.job.case.name:
            _until(Path(os.environ["FAKE_LOG"]).with_name(work.job.case.name).exists, "nobody lets it go")
        with _side_by_side(work):
            _meet(work.job.case.name)
        _end(work.job.case.name)
        if os.environ.get("FAKE_FAILURE") in (f"hang {work.job.case.name}", f"deaf {work.job.case.name}"):
            _hang(deaf="deaf" in os.environ["FAKE_FAILURE"])
        if os.environ.get("FAKE_FAILURE") == "exit":
            os.write(2, b"a last word\n")
            os._exit(7)
        if os.environ.get("FAKE_FAILURE") == "bug":
            raise ZeroDivisionError("division by zero")
        if os.environ.get("FAKE_FAILURE") == "nan":
            raise TrainingError("the loss became NaN at step 7")
        if os.environ.get("FAKE_FAILURE") == "interrupt":
            raise KeyboardInterrupt
        with store.publish("runs", work.train, replace=True) as publication:
            (publication.path / "model").mkdir()
            if os.environ.get("FAKE_FAILURE") == "edit":
                with Path(work.job.case.data.files["train"][0]).open("a") as file:
                    file.write("one more,lost\n")
            work.refuse_changed()
            (publication.path / "model" / "model.safetensors").write_bytes(b"weights of seed %d" % work.job.seed)
            publication.content = asdict(
                Trained(
                    meta={"problem_type": "single_label_classification", "labels": list(LABELS)},
                    tuned={},
                    costs={
                        "train_seconds": 41.0,
                        "parameters": 1000.0,
                        "train_samples_per_second": 0.25,
                        **({"peak_memory_bytes": float(os.environ["FAKE_PEAK"])} if "FAKE_PEAK" in os.environ else {}),
                    },
                    log_history=({"step": 1, "loss": 0.7},),
                    environment={"torch": "fake", "threads": os.environ.get("OMP_NUM_THREADS", "")},
                    rows={"train": {"count": 10, "hashes": "t"}},
                    notes=("2 of 100 rows were cut at 8 tokens",),
                    warnings=("a library warned",),
                )
            )

    def _made_up_answers(self, work: Work, store: Store) -> None:
        log(f"predict {work.job.case.name} {work.job.seed}")
        training = work.job.case.training or {}
        right = round(EXAMPLES * float(training.get("learning_rate", 0.5))) + work.job.seed % 3 - 1
        if os.environ.get("FAKE_COLLAPSED") == str(work.job.seed):
            right = EXAMPLES // 2
        folds = work.job.case.techniques.get("folds", {"n": 1})["n"]
        judged = range(work.job.fold or 0, EXAMPLES, folds)
        records = [
            {
                "index": place,
                "prediction": i % 2 if i < right else 1 - i % 2,
                "reference": i % 2,
                "scores": [0.1, 0.9],
                "input": f"row {i}",
                "length": 5,
                "hash": f"{i:032x}",
            }
            for place, i in enumerate(judged)
        ]
        predicted = Predicted(
            records=records,
            meta={"problem_type": "single_label_classification", "labels": list(LABELS)},
            tuned={},
            costs={"eval_seconds": 1.5, "eval_samples_per_second": 66.7},
            rows={"eval": {"count": len(judged), "hashes": "e", "index": list(judged)}},
        )
        with store.publish("predictions", work.predict, replace=True) as publication:
            examples.write(predicted.records, publication.path / examples.FILE)
            content = asdict(predicted)
            del content["records"]
            publication.content = content


def log(line: str) -> None:
    """Note that a stage was done, in a file that all processes append to."""
    if "FAKE_LOG" in os.environ:
        with Path(os.environ["FAKE_LOG"]).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@contextmanager
def _side_by_side(work: Work) -> Iterator[None]:
    """Note which trainings are under way when this one begins: its device, and the names of all."""
    if "FAKE_SIDE_BY_SIDE" not in os.environ:
        yield
        return
    log = Path(os.environ["FAKE_SIDE_BY_SIDE"])
    folder = log.with_suffix(".running")
    folder.mkdir(exist_ok=True)
    mine = folder / f"{work.job.case.name}-{os.getpid()}"
    mine.touch()
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{work.job.device} {seen} {','.join(sorted(path.name for path in folder.iterdir()))}\n")
    yield
    time.sleep(0.2)
    mine.unlink()


def _end(name: str) -> None:
    """End the process as code of the user's may do it, where FAKE_FAILURE says so of this case."""
    way, _, case = os.environ.get("FAKE_FAILURE", "").partition(" ")
    if case != name:
        return
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)
    if way == "end":
        os._exit(0)
    if way == "leave":
        sys.exit(0)
    if way == "interrupt":
        raise KeyboardInterrupt
    if way == "panic":
        raise PanicException("index out of bounds")


class PanicException(BaseException):
    """What a library in Rust raises where it panics: no Exception, so that nobody takes it for one of theirs."""


def _hang(*, deaf: bool) -> None:
    """Never end, and catch what can be caught; `deaf`: to the alarm and to SIGTERM, too, as a library is that hangs in
    C."""
    if deaf:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        with suppress(Exception):
            time.sleep(0.05)


def _meet(name: str) -> None:
    """Wait for as many trainings as FAKE_MEET says."""
    wanted = int(os.environ.get("FAKE_MEET", "0"))
    if not wanted:
        return
    folder = Path(os.environ["FAKE_LOG"]).with_name("meeting")
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    _until(lambda: len(list(folder.iterdir())) >= wanted, f"{name} is the only one that is being trained")


def _until(there: Callable[[], bool], otherwise: str) -> None:
    give_up = time.monotonic() + 120
    while not there():
        if time.monotonic() > give_up:
            raise TrainingError(otherwise)
        time.sleep(0.02)


def install() -> None:
    """Put the fake in the inline executor's place. Called from a conftest.py inside pytester."""
    from ftcheck.executors import forkserver, inline

    inline.InlineExecutor = FakeExecutor  # type: ignore[misc]
    forkserver.PRELOADED = ()
    if "FAKE_GPUS" in os.environ:
        gpus = (Device(kind="cuda", index=n, memory=10**10) for n in range(int(os.environ["FAKE_GPUS"])))
        found = devices.Cuda(devices=tuple(gpus))
        devices.cuda = lambda: found  # type: ignore[assignment]
    if "FAKE_CORES" in os.environ:
        cores = tuple(range(int(os.environ["FAKE_CORES"])))
        machine.cores = lambda: cores
