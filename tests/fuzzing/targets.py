"""What is read that somebody else may have written, each kind as a function of a file's bytes that either returns or
raises an error of ftcheck's own; and whole documents to begin with.

`test_fuzzing.py` feeds them mutations for seconds, `benchmarks/fuzz.py` for as long as one likes, guided by coverage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from ftcheck import baselines, catalogue, references, suitefile
from ftcheck.errors import FtcheckError
from ftcheck.keys.canonical import canonical
from ftcheck.report import html, jsonfile, markdown, rows, terminal
from ftcheck.spec import expand
from ftcheck.store import cases
from ftcheck.store.entry import checked_manifest
from tests.report import results
from tests.report.charts.test_figures import whole

PLACE = Path(__file__).parents[2] / "suites" / "quick" / "a.ft.yaml"
SEPARATOR = b"\n\0npz\0"
"""Between a baseline's JSON and its statistics, which are two files."""


@dataclass(frozen=True)
class Target:
    """A reader, and documents that it reads without an error."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]

    def __call__(self, content: bytes) -> None:
        """Read; an error of ftcheck's own is an answer."""
        with suppress(FtcheckError):
            self.read(content)


@cache
def installed() -> catalogue.Installed:
    return catalogue.Installed()


def read_suite(content: bytes) -> object:
    return list(expand(suitefile.parse(content, PLACE), installed()))


def suites() -> list[bytes]:
    """The suites that ship."""
    found = sorted((Path(__file__).parents[2] / "suites").rglob(f"*{suitefile.SUFFIX}"))
    return [path.read_bytes() for path in found]


@dataclass(frozen=True)
class Memory:
    """A baseline's two files, whatever they are called."""

    document: bytes
    statistics: bytes

    def read(self, path: Path) -> bytes | None:
        return self.document if path.suffix == ".json" else self.statistics

    def shown(self, path: Path) -> str:
        return path.name


def read_baseline(content: bytes) -> object:
    """Both files, and what a comparison takes of them. The statistics' digest is put right: fuzzing can't."""
    document, _, statistics = content.partition(SEPARATOR)
    found = baselines.read(Path("a.json"), Memory(document, statistics))
    for entry in found.entries.values():
        whole = replace(entry, digest=blake3(statistics).hexdigest())
        with suppress(FtcheckError):
            references.of_entry(found, whole, "the baseline")
        baselines.successor(whole, whole)
    return baselines.dumped(found.entries, "a")


def committed() -> list[bytes]:
    """A baseline as --ft-update writes it, with all that may be in one."""
    statistics = baselines.Statistics(
        ids=np.arange(64, dtype=np.uint8).reshape(4, 16),
        metrics={"accuracy": np.array([[[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])},
        rows=np.arange(8, dtype=np.uint8).reshape(2, 4),
    ).dump()
    accepted = baselines.Accepted(date="2026-11-02T10:00:00+00:00", author="Ada", commit="a1b2c3d", reason="first")
    power = baselines.Power(runs=1, provable=0.1, detectable=0.2, value=0.75, s2=0.1, d=0.1, prior_sd=0.01, by="label")
    entry = baselines.Entry(
        device="cpu",
        accepted=accepted,
        metrics={
            "accuracy": baselines.MetricRecord(
                value=0.75, per_seed=(0.75,), signature="accuracy|1", greater_is_better=True, interval=(0.5, 0.9)
            )
        },
        seeds=(42,),
        examples=4,
        fixed=False,
        components={"train": {"task": {"name": "text-classification"}, "seed": 42}, "predict": {"limit": None}},
        keys={"train": ("a" * 64,), "predict": ("b" * 64,)},
        statistics="a.cpu.npz",
        digest=blake3(statistics).hexdigest(),
        labels=("lost", "stolen"),
        environment={"torch": "2.13.0", "threads": 1},
        trace=((0.7, 0.6),),
        calibration={"accuracy": baselines.Noise(runs=5, s2=0.001, d=0.002, examples="c" * 64, signature="accuracy|1")},
        power={"accuracy": power},
        weakest={"accuracy": power},
        recipe={"training": {"learning_rate": 1e-4}},
    )
    past = {"accepted": asdict(accepted), "metrics": {"accuracy": 0.7}}
    whole = replace(entry, anchor=replace(entry, calibration={}), history=(past,))
    return [baselines.dumped({"cpu": found}, "a") + SEPARATOR + statistics for found in (entry, whole)]


def read_results(content: bytes) -> object:
    """A results file, and what `ftcheck report` makes of it."""
    found = jsonfile.parse(content, Path("results.json"))
    lines = terminal.table(found.results, width=100, details=True)
    page = markdown.page(found.results, complete=found.complete, missing=found.missing)
    html.page(found)
    return lines, page, list(rows.rows(found.results)), [jsonfile.line(result) for result in found.results]


def results_files() -> list[bytes]:
    """Files of --ft-json: of one case, and of two."""
    one = jsonfile.line(whole())
    head = {"schema": 2, "ftcheck": "1", "created": "2026-11-02T10:00:00+00:00", "complete": True, "missing": []}
    return [
        json.dumps({**head, "results": [json.loads(line) for line in lines]}).encode()
        for lines in ([one], [one, jsonfile.line(results.case(verdict="error", error="no such column", metrics=()))])
    ]


def read_manifest(content: bytes) -> object:
    """A manifest as it is, and again with the checksum and the key that would be right: fuzzing finds neither. What
    else of the store is JSON is read, too."""
    with suppress(FtcheckError):
        checked_manifest(content, "runs", "0" * 64)
    cases.parse(content)
    return checked_manifest(*forged(content))


def forged(content: bytes) -> tuple[bytes, Any, str]:
    """`content` with the checksum that it should have; its stage and its key. As it is where it is no such JSON."""
    try:
        found = json.loads(content)
        digest = hashlib.sha256(canonical(found["components"])).hexdigest()
        body = {name: value for name, value in found.items() if name != "checksum"} | {"key": digest}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        whole = {**body, "checksum": blake3(text.encode("ascii")).hexdigest()}
        return json.dumps(whole).encode(), body.get("stage"), digest
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FtcheckError):
        return content, "runs", "0" * 64


def manifests() -> list[bytes]:
    body: dict[str, Any] = {
        "format": 1,
        "stage": "runs",
        "components": {"stage": "train", "seed": 42, "task": {"name": "text-classification", "options": {}}},
        "created": "2026-11-02T10:00:00+00:00",
        "files": {
            "model/model.safetensors": {"size": 700, "blake3": "a" * 64},
            "train_rows.npz": {"size": 12, "blake3": "b" * 64},
        },
        "content": {"costs": {"train_seconds": 41.0}, "notes": ["12 rows were cut"], "first_losses": [0.7, 0.6]},
    }
    history = {"format": 1, "suite": "a.ft.yaml", "case": "a", "runs": [{"created": "x", "keys": {"train": {"a": 1}}}]}
    pruned = {**body, "pruned": ["model/"]}
    return [forged(json.dumps(found).encode())[0] for found in (body, pruned, {**body, **history})]


TARGETS: Mapping[str, Target] = {
    "suites": Target(read_suite, suites),
    "baselines": Target(read_baseline, committed),
    "results": Target(read_results, results_files),
    "manifests": Target(read_manifest, manifests),
}
