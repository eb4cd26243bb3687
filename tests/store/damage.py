"""A project whose every file kind is in a store, a remote or beside a suite; ways to damage one; and what a session
makes of it. Training is made up, but its model is read back: damaged weights would be other answers."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Self

import numpy as np
import pytest

from ftcheck import baselines, catalogue, suitefile
from ftcheck.certificate import checking, folder
from ftcheck.devices import Device
from ftcheck.errors import FtcheckError
from ftcheck.evaluating import pipeline_in
from ftcheck.executors.sharing import sharing
from ftcheck.finetune import Job, OnProgress, Predicted, Trained
from ftcheck.finetune import session as finetuning
from ftcheck.settings import Settings
from ftcheck.spec import Case, expand
from ftcheck.store import STAGES, Store
from tests.certificate.conftest import stated

EXAMPLES = 60
PATIENCE = 60
"""Seconds after which a session hangs. It takes a tenth of one."""
MOST_BYTES = 4 * 1024**3

SUITE = """
cases:
  kinds:
    checkpoint: ./checkpoint
    task: text-classification
    data: {path: csv, files: {train: train.csv, test: test.csv}}
    training: {learning_rate: 0.9}
    precision: fp32
    seeds: 2
    gates: {accuracy: {max_regression: 0.2}}
"""


class Tuning:
    """In the place of `FineTuning`: weights made of the seed, and answers made of all that `save` left."""

    def __init__(self, job: Job, on_progress: OnProgress, share: object = None, unfinished: object = None) -> None:
        self.job = job
        self.files: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def train(self) -> Trained:
        from safetensors.numpy import save

        weights = np.random.default_rng(self.job.seed).random(EXAMPLES, dtype=np.float32)
        self.files = {"model.safetensors": save({"weights": weights})}
        self.files |= {
            name: json.dumps({"file": name, "of": list(range(20))}).encode()
            for name in ("config.json", "tokenizer.json", "ftcheck.json")
        }
        return Trained(
            meta={"problem_type": "single_label_classification", "labels": ["lost", "stolen"]},
            tuned={},
            costs={"train_seconds": 41.0},
            log_history=({"step": 1, "loss": 0.7},),
            environment={"torch": "made up"},
            rows={"train": {"count": 8, "hashes": "t"}},
            row_hashes=tuple(f"{i:032x}" for i in range(8)),
        )

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        for name, content in self.files.items():
            (directory / name).write_bytes(content)

    def load(self, directory: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}

    def predict(self) -> Predicted:
        digits = np.frombuffer(b"".join(content for _, content in sorted(self.files.items())), dtype=np.uint8)
        wrong = np.random.default_rng(int(digits.astype(np.int64) @ np.arange(1, len(digits) + 1))).random(EXAMPLES)
        records = [
            {
                "index": i,
                "prediction": i % 2 if wrong[i] > 0.2 else 1 - i % 2,
                "reference": i % 2,
                "scores": [float(wrong[i]), 1 - float(wrong[i])],
                "input": f"row {i}",
                "length": 5,
                "hash": f"{i:032x}",
            }
            for i in range(EXAMPLES)
        ]
        return Predicted(
            records=records,
            meta={"problem_type": "single_label_classification", "labels": ["lost", "stolen"]},
            tuned={},
            costs={"eval_seconds": 1.5},
            rows={"eval": {"count": EXAMPLES, "hashes": "e", "index": list(range(EXAMPLES))}},
        )


@cache
def installed() -> catalogue.Installed:
    return catalogue.Installed()


Seen = Mapping[str, Any]
"""Numbers that a session came to."""


@dataclass(frozen=True)
class World:
    """A project's folder: the suite and its baseline, a store, a remote, a certified model."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    def case(self) -> Case:
        path = self.root / "a.ft.yaml"
        (found,) = expand(suitefile.read(path), installed())
        return found

    def session(self, *, remote: bool = False, update: bool = False) -> Seen:
        """What measuring the case in a new session says, and what its work stands on. Raises what a session shows."""
        settings = Settings(device="cpu", cache_dir=str(self.store), update=update)
        if remote:
            settings = replace(settings, remote=f"file://{self.root}/remote", remote_patience=1)
        pipeline = pipeline_in(self.store, settings, Device(kind="cpu"))
        try:
            case = self.case()
            measured = pipeline.measure(case, "a.ft.yaml::kinds", lambda seed, progress: None, lambda text: None)
            pipeline.store.write_back()
            pipeline.store.close()
        finally:
            pipeline.executor.close()
        if measured.proposal is not None:
            baselines.write(measured.proposal.path, measured.proposal.entry, measured.proposal.statistics)
        result = measured.result
        arrays = sharing(Store(self.store), lambda text: None)({"of": "a teacher"}, answers)
        return {
            "metrics": [(metric.name, metric.value, metric.per_seed, metric.interval) for metric in result.metrics],
            "gates": [(gate.verdict, gate.value, gate.comparison) for gate in result.gates],
            "answers": {name: array.tolist() for name, array in arrays.items()},
            "examples": result.examples,
        }

    def certified(self) -> Seen:
        """What `ftcheck certify check` finds out about the deployed model."""
        found = checking.check(self.root / "model", self.root / "model" / "certificate.json")
        if found.problems:
            raise FtcheckError(found.problems[0])
        predicate = found.statement.predicate
        return {"subject": found.statement.subject, "verdict": predicate.verdict}


def answers() -> dict[str, Any]:
    """What a teacher says."""
    return {"logits": np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)}


@contextmanager
def made_up_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "FineTuning", Tuning)
        yield


def built(root: Path) -> World:
    """A world with everything in it. Call it under `made_up_training`."""
    world = World(root)
    (root / "checkpoint").mkdir(parents=True)
    checkpoint = {"config.json": '{"model_type": "bert"}', "model.safetensors": "w", "tokenizer.json": "{}"}
    for name, content in checkpoint.items():
        (root / "checkpoint" / name).write_text(content)
    for split in ("train", "test"):
        (root / f"{split}.csv").write_text("text,label\nwhere is it,lost\nthey took it,stolen\n")
    for path in root.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))  # what just changed is not remembered
    (root / "a.ft.yaml").write_text(SUITE)
    world.session(remote=True, update=True)
    world.session()
    certify(world)
    return world


def certify(world: World) -> None:
    """A model's folder with its certificate."""
    model = min((world.store / "runs").glob("*/*/model"))
    shutil.copytree(model, world.root / "model")
    digests = {path.name: folder.sha256(path) for path in sorted(model.iterdir())}
    (world.root / "model" / "certificate.json").write_bytes(stated(digests).to_bytes())


def kinds(world: World) -> dict[str, list[Path]]:
    """Every kind of file that is read back -> its files, relative to the world."""
    found: dict[str, list[Path]] = {}
    for path in sorted(world.root.rglob("*")):
        below = path.relative_to(world.root)
        kind = _kind(below) if path.is_file() else ""
        if kind:
            found.setdefault(kind, []).append(below)
    return found


def _kind(below: Path) -> str:
    parts = below.parts
    if parts[0] == "store" and parts[1] in STAGES:
        return f"{parts[1]}: {'/'.join(parts[4:])}"
    if parts[0] == "store" and parts[1] in ("cases", "memo"):
        return parts[1]
    if parts[0] == "remote":
        return "remote: manifest.json" if parts[-1] == "manifest.json" else "remote: a file by its hash"
    if parts[0] == "__baselines__":
        return f"baseline: {below.suffix}"
    if parts[0] == "model":
        return "certificate" if parts[-1] == "certificate.json" else "certified model"
    return ""


POSITIONS: Mapping[str, Callable[[int], int]] = {
    "first": lambda size: 0,
    "header": lambda size: min(size - 1, 5),
    "length field": lambda size: max(0, size - 7),
    "length field in front": lambda size: min(size - 1, 20),
    "middle": lambda size: size // 2,
    "last": lambda size: size - 1,
    "past the end": lambda size: size + 3,
}
"""Class of a byte's place -> the place in a file of `size` bytes. Parquet and zip keep lengths at their end."""


def truncated(content: bytes, at: int, random: Random) -> bytes:
    return content[:at].ljust(at, b"\0")


def flipped(content: bytes, at: int, random: Random) -> bytes:
    at = max(at, 0)  # of an empty file there is no last byte
    changed = bytearray(content.ljust(at + 1, b"\0"))
    changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)


def swapped(content: bytes, at: int, random: Random) -> bytes:
    """Two blocks of up to 16 bytes in each other's place."""
    size = min(16, len(content) // 3)
    at = min(at, len(content) - 2 * size)
    other = random.randrange(at + size, len(content) - size + 1)
    blocks = content[at : at + size], content[other : other + size]
    return content[:at] + blocks[1] + content[at + size : other] + blocks[0] + content[other + size :]


def cut_out(content: bytes, at: int, random: Random) -> bytes:
    return content[:at] + content[at + random.randint(1, 40) :]


def put_in(content: bytes, at: int, random: Random) -> bytes:
    return content[:at].ljust(at, b"\0") + random.randbytes(random.randint(1, 40)) + content[at:]


BYTES = {f.__name__: f for f in (truncated, flipped, swapped, cut_out, put_in)}
FILES = (
    *("removed", "emptied", "another's", "a folder", "a link to a copy", "a link to nothing", "a link to /dev/zero"),
    *("a pipe", "a file beside it", "a link beside it", "its folder is a link", "its folder is a file"),
    "its folder is a pipe",
)


@dataclass(frozen=True)
class Mutation:
    """One damage to one file."""

    kind: str
    how: str
    where: str
    file: Path

    def __str__(self) -> str:
        return f"{self.how} {self.where} of {self.file}".replace("  ", " ")

    def apply(self, world: World, random: Random) -> bool:
        """Damage the file. Whether anything is other than it was."""
        path = world.root / self.file
        content = path.read_bytes()
        if self.how in BYTES:
            changed = BYTES[self.how](content, POSITIONS[self.where](len(content)), random)
            path.write_bytes(changed)
            return changed != content
        self._replace(world, path, content, random)
        return True

    def _replace(self, world: World, path: Path, content: bytes, random: Random) -> None:
        copy = world.root / "copy"
        around = path.parent
        match self.how:
            case "removed":
                path.unlink()
            case "emptied":
                path.write_bytes(b"")
            case "another's":
                others = [found for found in kinds(world)[self.kind] if found != self.file]
                path.write_bytes((world.root / random.choice(others)).read_bytes() if others else b"{}")
            case "a folder":
                path.unlink()
                path.mkdir()
            case "a link to a copy":
                path.rename(copy)
                path.symlink_to(copy)
            case "a link to nothing":
                path.unlink()
                path.symlink_to(world.root / "nothing")
            case "a link to /dev/zero":
                path.unlink()
                path.symlink_to("/dev/zero")
            case "a pipe":
                path.unlink()
                os.mkfifo(path)
            case "a file beside it":
                path.with_name("one.more").write_bytes(content)
            case "a link beside it":
                path.with_name("one.more").symlink_to(path)
            case "its folder is a link":
                around.rename(copy)
                around.symlink_to(copy)
            case "its folder is a file":
                shutil.rmtree(around)
                around.write_bytes(b"")
            case "its folder is a pipe":
                shutil.rmtree(around)
                os.mkfifo(around)


def mutations(world: World, count: int, seed: int) -> list[Mutation]:
    """`count` different damages, as many of each kind; the seed decides which."""
    random = Random(seed)
    ways = [(how, where) for how in BYTES for where in POSITIONS] + [(how, "") for how in FILES]
    found = kinds(world)
    every = {kind: random.sample(ways, len(ways)) for kind in found}
    made = []
    for turn in range(-(-count // len(found))):
        for kind, order in every.items():
            how, where = order[turn % len(order)]
            made.append(Mutation(kind, how, where, random.choice(found[kind])))
    return made[:count]


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged file."""

    what: str
    """`unchanged`, `the same numbers`, `refused`, or what must not be: `OTHER NUMBERS`, `HANGS`, `NOT OURS`."""
    message: str = ""

    @property
    def good(self) -> bool:
        return self.what.islower()


def outcome(pristine: World, place: Path, mutation: Mutation, seed: int) -> Outcome:
    """Damage a copy of the world at `place`, run a session, and compare. The folder `place` is made and deleted."""
    shutil.copytree(pristine.root, place, symlinks=True)
    try:
        world = World(place)
        random = Random(seed)
        changed = mutation.apply(world, random)
        remote, certified = mutation.kind.startswith("remote"), mutation.kind.startswith("certif")
        if remote:
            shutil.rmtree(world.store)
        elif "runs: model" in mutation.kind:  # nobody looks at a model that needn't answer
            shutil.rmtree(world.store / "predictions")
            shutil.rmtree(world.store / "scores")
        elif "predictions" in mutation.kind:
            shutil.rmtree(world.store / "scores")
        with bounded():
            try:
                seen = world.certified() if certified else world.session(remote=remote)
            except FtcheckError as error:
                return Outcome("refused", str(error))
        expected = expectation(pristine, certified=certified)
        if mutation.how == "removed" and mutation.kind == "baseline: .json":
            return Outcome("refused", "new") if seen["gates"][0][0] == "new" else Outcome("OTHER NUMBERS")
        if seen != expected:
            return Outcome("OTHER NUMBERS", f"{seen} instead of {expected}")
        return Outcome("the same numbers" if changed else "unchanged")
    except HangsError:
        return Outcome("HANGS")
    except Exception as error:  # noqa: BLE001  what must not be is counted
        return Outcome("NOT OURS", f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(place)


@cache
def expectation(pristine: World, *, certified: bool) -> Seen:
    return pristine.certified() if certified else pristine.session()


class HangsError(BaseException):
    """A session takes too long."""


@contextmanager
def bounded() -> Iterator[None]:
    """At most PATIENCE, and MOST_BYTES of memory more than there is in use."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise HangsError

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
