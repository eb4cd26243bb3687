"""`python -m tests.chaos --rounds 200`: kill a session at a random moment, look at what it leaves, and run the next.

The moments are drawn by the seed: a phase, the one that was met least so far; an event of it; a signal; and in every
second round a delay after the event. With `--checkpoints` it is a file of a checkpoint, and some milliseconds after it
appeared (`aiming`). Exit status 1 where a round found something, which is printed.
"""

from __future__ import annotations

import argparse
import gc
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from multiprocessing import Pipe, get_context
from pathlib import Path
from typing import Any, TypeVar

import ftcheck
from tests.chaos import aiming, checks, project

T = TypeVar("T")
SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT")
HOURS = 2 * 3600.0


@dataclass(frozen=True, kw_only=True)
class World:
    """A project with a session behind it, another before it, and what that comes to undisturbed."""

    path: Path
    counts: Mapping[str, int]
    """Phase -> its events."""
    checkpoints: Sequence[str]
    """Names of the checkpoints that the session writes, in order."""
    metrics: Mapping[str, Any]
    accepted: Mapping[str, Any]
    weights: Mapping[str, str]


def prepare(folder: Path, *, faked: bool) -> World:
    """Make the project, run its first session, change its learning rate, and run a copy of it undisturbed."""
    path = folder / "template"
    apart(lambda: project.make(path, faked=faked))
    project.suite(path, 0.8 if faked else 1e-3, faked=faked)
    code = project.session(path)
    assert code == 0, (path / "said.txt").read_text()
    project.suite(path, 0.9 if faked else 2e-3, faked=faked)
    whole = Path(shutil.copytree(path, folder / "whole"))
    trace = folder / "trace.txt"
    watch = aiming.Watch(path=whole)
    code = project.session(whole, watch, CHAOS_TRACE=str(trace))
    assert code == 0, (whole / "said.txt").read_text()
    counts = Counter(trace.read_text().split())
    del counts["other"]
    metrics, accepted, weights = apart(
        lambda: tuple(of(whole) for of in (checks.metrics, checks.accepted, checks.weights))
    )
    return World(path=path, counts=counts, checkpoints=watch.seen, metrics=metrics, accepted=accepted, weights=weights)


def apart(work: Callable[[], T]) -> T:
    """What `work` returns, done by a copy of this process: copies made after it would lack the threads that hashing and
    torch start, and wait for them."""
    ours, theirs = Pipe(duplex=False)
    child = get_context("fork").Process(target=lambda: theirs.send(work()))
    child.start()
    theirs.close()
    made: T = ours.recv()
    child.join()
    return made


def found_in(path: Path, world: World) -> list[str]:
    """What is wrong after a session in `path` that was killed, and after the next."""
    before = (world.path / "out.json").read_bytes()
    faults = apart(lambda: list(checks.broken(path, before)))
    checks.age(path, HOURS)
    code = project.session(path)
    if code != 0:
        return [*faults, f"the next session's exit status is {code}: {(path / 'said.txt').read_text()[-3000:]}"]
    return faults + apart(lambda: list(_after(path, world)))


def _after(path: Path, world: World) -> Iterator[str]:
    yield from checks.broken(path, b"")
    if checks.metrics(path) != world.metrics:
        yield f"other metrics: {checks.metrics(path)} and not {world.metrics}"
    if checks.accepted(path) != world.accepted:
        yield f"other baselines: {checks.accepted(path)} and not {world.accepted}"
    if checks.weights(path) != world.weights:
        yield f"other weights: {checks.weights(path)} and not {world.weights}"
    yield from (f"left over: {name}" for name in checks.left_over(path))


@dataclass(frozen=True, kw_only=True)
class Shot:
    """When a session gets which signal."""

    signal: signal.Signals
    told: str
    phase: str
    environment: Mapping[str, str] = field(default_factory=dict)
    watch: aiming.Watch | None = None


def shots(world: World, given: argparse.Namespace) -> Iterator[Callable[[Path], Shot]]:
    """One after the other, for a project at a path; each at the phase that was met least so far."""
    draw, met = random.Random(given.seed), Counter[str]()
    phases = aiming.AIMS if given.checkpoints else sorted(world.counts)
    for number in range(given.rounds):
        least = min(met[phase] for phase in phases)
        phase = draw.choice([phase for phase in phases if met[phase] == least])
        met[phase] += 1
        yield partial(_checkpoint if given.checkpoints else _event, world, draw, phase, number, given.signals)


def _event(world: World, draw: random.Random, phase: str, number: int, signals: Sequence[str], path: Path) -> Shot:
    event, sent = draw.randrange(world.counts[phase]), signal.Signals[draw.choice(signals)]
    delay = draw.randrange(5000) if number % 2 else 0
    return Shot(
        signal=sent,
        told=f"{sent.name} {delay} us after {phase} {event}",
        phase=phase,
        environment={"CHAOS_PLAN": f"{phase}:{event}:{int(sent)}:{delay}"},
    )


def _checkpoint(world: World, draw: random.Random, phase: str, number: int, signals: Sequence[str], path: Path) -> Shot:
    watch = aiming.drawn(path, world.checkpoints, phase, draw, signals)
    told = f"{watch.signal.name} {watch.delay * 1e6:.0f} us after {phase or 'the folder'} of checkpoint {watch.number}"
    return Shot(signal=watch.signal, told=told, phase="checkpoint", watch=watch)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="train a tiny model, instead of the fake")
    parser.add_argument("--checkpoints", action="store_true", help="train it, and aim at the writing of checkpoints")
    parser.add_argument("--signals", nargs="+", default=SIGNALS)
    parser.add_argument("--keep", type=Path, help="keep what a round left that found something")
    given = parser.parse_args()
    real = given.real or given.checkpoints
    met, ended, stood = Counter[str](), Counter[str](), Counter[str]()
    wrong = 0
    _import(real=real)
    with tempfile.TemporaryDirectory(prefix="ftcheck-chaos-") as folder:
        world = prepare(Path(folder).resolve(), faked=not real)
        print("events:", dict(world.counts), flush=True)
        for number, shot_at in enumerate(shots(world, given)):
            path = Path(shutil.copytree(world.path, Path(folder).resolve() / f"round-{number}", symlinks=True))
            shot = shot_at(path)
            code = project.session(path, shot.watch, **shot.environment)
            (path / "said.txt").rename(path / "killed.txt")
            met[shot.phase] += 1
            ended[f"{shot.signal.name} {'died' if code < 0 else f'exit {code}'}"] += 1
            stands = apart(partial(aiming.standing, path))
            faults = found_in(path, world)
            if shot.watch is not None:
                stood[f"{stands}: {'went on' if apart(partial(checks.went_on, path)) else 'began anew'}"] += 1
            for fault in faults:
                print(f"round {number}, {shot.told}: {fault}", flush=True)
            wrong += bool(faults)
            if (faults or code == project.ESCAPED) and given.keep:
                shutil.copytree(path, given.keep / f"round-{number}", symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            if number % 10 == 9:
                print(f"{number + 1} rounds, {wrong} found something", *_lines(stood), sep="\n  ", flush=True)
    print(f"{given.rounds} rounds, {wrong} found something; phases: {dict(met)}; ends: {dict(sorted(ended.items()))}")
    print("", *_lines(stood), sep="\n  ")
    return 1 if wrong else 0


def _lines(stood: Counter[str]) -> list[str]:
    return [f"{count} at {where}" for where, count in sorted(stood.items())]


def _import(*, real: bool) -> None:
    """What sessions import, once; and have none of it looked at by their garbage collections."""
    names = [
        "jsonschema",
        "numpy",
        "pyarrow.parquet",
        "pytest",
        "rich.table",
        "scipy.special",
        "sqlite3",
        "xml.dom.minidom",
    ]
    for name in (*names, *(["datasets", "transformers", "peft"] if real else [])):
        import_module(name)
    for module in pkgutil.walk_packages(ftcheck.__path__, "ftcheck."):
        import_module(module.name)
    if real:
        import transformers

        assert transformers.Trainer
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
