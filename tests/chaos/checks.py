"""What must hold in a project whatever ended its session."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
from filelock import FileLock, Timeout

from ftcheck import baselines
from ftcheck.report import jsonfile
from ftcheck.store import STAGES, Store, prune

SCHEMA = jsonfile.schema()


def broken(path: Path, before: bytes) -> Iterator[str]:
    """What doesn't hold after a session that was killed; `before`: the results file before it."""
    yield from children(path)
    yield from held_locks(path)
    yield from half_entries(path)
    yield from results_file(path, before)
    for place in (path / "__baselines__" / "suite.ft").glob("*.json"):
        yield from baseline(place)
    history = path / "store" / "history.sqlite"
    if history.exists():
        with closing(sqlite3.connect(history)) as connection:
            [(told,)] = connection.execute("PRAGMA integrity_check").fetchall()
        if told != "ok":
            yield f"history: {told}"


def children(path: Path) -> Iterator[str]:
    """Processes of the session that are still there some seconds later."""
    for _ in range(50):
        found = [number for number in os.listdir("/proc") if number.isdigit() and _in(path, number)]
        if not found:
            return
        time.sleep(0.1)
    yield f"processes left: {found}"


def _in(path: Path, number: str) -> bool:
    """Whether a process works in the project; not this one."""
    try:
        return int(number) != os.getpid() and Path(os.readlink(f"/proc/{number}/cwd")).is_relative_to(path)
    except OSError:
        return False


def held_locks(path: Path) -> Iterator[str]:
    for lock in (path / "store" / "locks").glob("*.lock"):
        try:
            with FileLock(lock, timeout=0):
                pass
        except Timeout:
            yield f"{lock.name} is held"


def half_entries(path: Path) -> Iterator[str]:
    """Entries that a reader would meet, and that aren't what was published."""
    store = Store(path / "store", read_only=True)
    for stage in STAGES:
        for digest in store.keys(stage):
            entry = store.get(stage, digest)
            if entry is not None:
                entry.verify()
    yield from store.warnings


def results_file(path: Path, before: bytes) -> Iterator[str]:
    content = (path / "out.json").read_bytes()
    if content == before:
        return
    try:
        jsonschema.validate(json.loads(content), SCHEMA)
        jsonfile.load(path / "out.json")
    except Exception as error:  # noqa: BLE001  whatever is wrong with it
        yield f"out.json: {error}"


def baseline(place: Path) -> Iterator[str]:
    try:
        found = baselines.read(place)
        for entry in found.entries.values():
            for one in (entry, *([entry.anchor] if entry.anchor else [])):
                found.statistics(one)
    except Exception as error:  # noqa: BLE001  whatever is wrong with it
        yield f"baseline: {error}"


def accepted(path: Path) -> dict[str, Any]:
    """Case -> what its baseline says, but for dates."""
    made = {}
    for place in sorted((path / "__baselines__" / "suite.ft").glob("*.json")):
        for entry in baselines.read(place).entries.values():
            values = {name: (record.value, record.per_seed) for name, record in entry.metrics.items()}
            made[place.stem] = (values, entry.keys, entry.digest, len(entry.history), entry.anchor is not None)
    return made


def metrics(path: Path) -> dict[str, Any]:
    """Case -> its metrics, out of the results file. Not its verdict: the session that was killed may have accepted the
    baseline that it is compared with."""
    return {
        result.case_id: {metric.name: metric.per_seed for metric in result.metrics}
        for result in jsonfile.read(path / "out.json")
    }


def weights(path: Path) -> dict[str, str]:
    """Train key -> the checksum of what was trained."""
    store = Store(path / "store", read_only=True)
    found = {digest: store.get("runs", digest) for digest in store.keys("runs")}
    return {
        digest: file["blake3"]
        for digest, entry in found.items()
        if entry is not None
        for name, file in entry.manifest["files"].items()
        if name.endswith(".safetensors")
    }


def went_on(path: Path) -> bool:
    """Whether a training went on from a checkpoint."""
    results = json.loads((path / "out.json").read_bytes())["results"]
    return any("went on after step" in note for result in results for note in result["notes"])


def left_over(path: Path) -> Iterator[str]:
    """Files that neither the next session nor a pruning takes away."""
    store = Store(path / "store")
    prune(store, older_than=timedelta(days=1000))
    yield from (f"store/tmp/{name}" for name in os.listdir(store.root / "tmp"))
    yield from (str(found.relative_to(path)) for found in (store.root / "quarantine").glob("*"))
    for folder in (path, path / "__baselines__" / "suite.ft", store.root / "memo"):
        yield from (str(found.relative_to(path)) for found in folder.glob(".*.*") if found.name != ".pytest_cache")
        yield from (str(found.relative_to(path)) for found in folder.rglob("*.tmp"))


def age(path: Path, seconds: float) -> None:
    """Make all files look that much older: what a killed session left isn't taken for that of one that runs."""
    for folder, _, files in os.walk(path):
        for name in files:
            place = Path(folder, name)
            if not place.is_symlink():
                found = place.stat()
                os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns - int(seconds * 1e9)))
