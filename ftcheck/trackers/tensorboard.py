"""TensorBoard (`--ft-tensorboard DIR`): the Trainer writes while it trains, and for a training out of the store its log
history is written anew, so that a hit shows the same curves.

A folder for each run, `DIR/suite/case/seed42-KEY`: other arguments are another key, and so another line in the plots.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck.errors import shown

if TYPE_CHECKING:
    from ftcheck.finetune import Job
    from ftcheck.runs import Finished, Run

EVENTS: Final = "events.out.tfevents.*"


def folder(root: Path, run: Run) -> Path:
    """Where the events of a run are."""
    case, job = run.job.case, run.job
    fold = "" if job.fold is None else f"-fold{job.fold}"
    return root / case.suite.stem / case.id / f"seed{job.seed}{fold}-{run.train.digest[:8]}"


def begun(run: Run, root: str | None, warnings: list[str]) -> Job:
    """The job of `run`, told to write its events to its folder: emptied of what a training that was broken off, or is
    done again, left there. Without a `root` the job as it is; so where the folder can't be had, which `warnings` is
    told."""
    if root is None or run.job.case.training is None:
        return run.job
    place = folder(Path(root), run)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob(EVENTS):
            old.unlink()
    except OSError as error:
        _warn(warnings, root, error)
        return run.job
    return replace(run.job, tensorboard=str(place))


def completed(finished: Finished, root: str | None, warnings: list[str]) -> Finished:
    """The run as it is, its log history written if it has no events yet: it came out of the store, or its training
    loop is a technique's own. What keeps it from that is told in `warnings`."""
    if root is None or finished.trained is None:
        return finished
    place = folder(Path(root), finished.run)
    history = finished.trained.content.get("log_history", ())
    try:
        if history and not any(place.glob(EVENTS)):
            when = datetime.fromisoformat(finished.trained.manifest["created"])
            write(place, history, when.timestamp())
    except OSError as error:
        _warn(warnings, root, error)
    return finished


def write(place: Path, history: Iterable[Mapping[str, Any]], when: float) -> None:
    """Write a log history as the Trainer would have: names split into `train/` and `eval/`, by global step. `when` is
    in seconds since 1970. Imports no torch. Raises OSError."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    place.mkdir(parents=True, exist_ok=True)
    writer = EventFileWriter(str(place))
    try:
        for entry in history:
            for name, value in entry.items():
                if name != "step" and (number := _number(value)) is not None:
                    summary = Summary(value=[Summary.Value(tag=_tag(name), simple_value=number)])
                    writer.add_event(Event(wall_time=when, step=int(entry["step"]), summary=summary))
    finally:
        writer.close()


def _tag(name: str) -> str:
    """The Trainer's name of a scalar (`integrations.rewrite_logs`)."""
    for prefix in ("eval", "test"):
        if name.startswith(f"{prefix}_"):
            return f"{prefix}/{name.removeprefix(f'{prefix}_')}"
    return f"train/{name}"


def _number(value: Any) -> float | None:
    """A logged value as a float; in the store NaN and infinities are words. None for what is no number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if value in ("nan", "inf", "-inf") else None


def _warn(warnings: list[str], root: str, error: OSError) -> None:
    """Tell it once for all runs of a case."""
    text = f"--ft-tensorboard: {shown(root, 300)} can't be written to: {error.strerror or error}"
    if text not in warnings:
        warnings.append(text)
