"""Processes that train together without any training: each does what FAKE_RANKS says, in Python alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from ftcheck.errors import TrainingError
from ftcheck.executors import launched
from ftcheck.executors.deadline import deadline
from ftcheck.finetune import Progress, Trained
from ftcheck.store import Store


def install() -> None:
    """Put the fake in the place of what a rank does once it has its order. Called as Python starts."""
    launched._train = _train


def _train(order: launched.Training, place: Path, store: Store, pipe: Connection) -> None:
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    does = os.environ["FAKE_RANKS"].split()
    if rank != processes - 1 and does[0] != "train":
        print("the others wait", flush=True)
        time.sleep(600)
    os.write(2, b"a last word\n")
    match does:
        case ["train"]:
            _made_up(order, rank, pipe)
        case ["signal", name]:
            os.kill(os.getpid(), signal.Signals[name])
        case ["exit", code]:
            os._exit(int(code))
        case ["bug"]:
            raise ZeroDivisionError("division by zero")
        case ["refuse"]:
            raise TrainingError("the loss is nan at step 7")
        case ["hang"]:
            with deadline(order.timeout):
                time.sleep(600)
        case ["deaf"]:
            Path("deaf").touch()
            time.sleep(600)


def _made_up(order: launched.Training, rank: int, pipe: Connection) -> None:
    if rank == 0:
        pipe.send(Progress(stage="train", done=1, total=2, loss=0.5))
        order.model.mkdir(parents=True)
        (order.model / "model.safetensors").write_bytes(b"weights")
    told = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
    trained = Trained(
        meta={},
        tuned={},
        costs={},
        log_history=(),
        environment={**told, "path": sys.path[0]},
        rows={},
        notes=(str(rank),),
    )
    pipe.send(launched.Made(trained=trained, warnings=("of a store",) if rank == 0 else ()))
