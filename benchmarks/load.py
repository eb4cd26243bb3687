"""Much at once: what a session of many cases, a store that many processes share, and a large store cost.

    python benchmarks/load.py session [--cases 2000] [--small 200]
    python benchmarks/load.py workers [--workers 16] [--keys 40] [--seconds 60]
    python benchmarks/load.py entries [--entries 100000] [--small 10000]

`session` and `entries` do the same with a small number, a large one and one half-way between, and print what one more
costs: bytes of peak memory, and processor time, in the upper half as a multiple of the lower one (linear: 1). Each
prints a line of JSON per figure. `session` does it with plain pytest too: with tests that do nothing, and have as many
properties in the JUnit file as a case has; `entries` with a script that only reads all files of the store. The exit
code is 1 where something was lost or done twice. Training is faked by tests/fake.py; keys, locks, store, statistics and
reports are real.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from measure import Sample, run
from suite import project

from ftcheck.keys import Key
from ftcheck.store import Store, listed, prune

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
EXAMPLES = 100
WARM = 50
"""Reads after which a worker has done all that it does."""
PLAIN = """
import pytest
@pytest.mark.parametrize("number", range({tests}))
def test_nothing(number, record_property):
    for place in range({properties}):
        record_property(f"property{{place}}", f"{{number}}.{{place}}")
"""
READING = """
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            file.read()
"""
CONFTEST = """
import os, sys
from tests import fake
fake.install()
if "COUNT_BELOW" in os.environ:
    below, seen = os.environ["COUNT_BELOW"], [0]
    def count(event, arguments):
        if event in ("open", "os.listdir", "os.scandir") and below in str(arguments[0]):
            seen[0] += 1
    sys.addaudithook(count)
    def pytest_unconfigure(config):
        with open(os.environ["COUNT_TO"], "w") as file:
            file.write(str(seen[0]))
"""


def told(what: str, **figures: float | int | str) -> None:
    """Print a figure."""
    print(json.dumps({"what": what} | {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}))


def pytest_in(folder: Path, store: Path, *arguments: str, **environment: str) -> Sample:
    """A whole session."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return run(command, cwd=folder, env={**ENVIRONMENT, "FTCHECK_CACHE_DIR": str(store), **environment})


def compared(what: str, counts: Sequence[int], samples: Sequence[Sample]) -> None:
    """Print what one more costs, of three counts that are equally far apart."""
    few, _, many = counts
    low, middle, high = samples
    told(
        what,
        of=many,
        megabytes=high.peak_bytes / 1e6,
        bytes_for_one_more=round((high.peak_bytes - low.peak_bytes) / (many - few)),
        milliseconds_for_one_more=1000 * (high.cpu_seconds - low.cpu_seconds) / (many - few),
        upper_half_over_lower=(high.cpu_seconds - middle.cpu_seconds) / (middle.cpu_seconds - low.cpu_seconds),
    )


def between(small: int, large: int) -> tuple[int, int, int]:
    return small, (small + large) // 2, large


def session(root: Path, cases: int, small: int) -> None:
    """A session with all reports that finds nothing, and one that finds everything; of few cases and of many."""
    reports = ("--ft-json=out.json", "--ft-html=out.html", "--junitxml=out.xml")
    taken: dict[str, list[Sample]] = {"cold": [], "warm": [], "plain pytest": []}
    for count in between(small, cases):
        folder = project(root / f"cases-{count}", CONFTEST, cases=count, examples=EXAMPLES)
        for state in ("cold", "warm"):
            taken[state].append(pytest_in(folder, root / f"store-{count}", *reports))
        properties = (folder / "out.xml").read_text().count("<property ") // count
        plain = root / f"plain-{count}"
        plain.mkdir()
        (plain / "test_plain.py").write_text(PLAIN.format(tests=count, properties=properties))
        taken["plain pytest"].append(pytest_in(plain, root, "-p", "no:ftcheck", "--junitxml=out.xml"))
        written = json.loads((folder / "out.json").read_text())
        if not written["complete"] or len(written["results"]) != count:
            sys.exit(f"{len(written['results'])} results of {count} cases")
        page = (folder / "out.html").stat().st_size
        told("reports", of=count, json_bytes_each=(folder / "out.json").stat().st_size // count, html_bytes=page)
    for state, samples in taken.items():
        compared(f"session, {state}", between(small, cases), samples)


@dataclass(frozen=True)
class Shared:
    """A store, and what its users have done, a line each."""

    store: Store
    log: Path

    def note(self, line: str) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def count(self, word: str) -> int:
        return self.log.read_text().split().count(word) if self.log.exists() else 0

    def most(self, word: str) -> int:
        """The largest number behind a word."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return max((int(line.split()[1]) for line in lines if line.startswith(f"{word} ")), default=0)


def key(number: int) -> Key:
    return Key.of({"task": {"name": "load"}, "seed": number})


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def train(store: Store, number: int) -> None:
    """What an executor does with a training: a model and what else there is, published in one step."""
    with store.publish("runs", key(number)) as publication:
        (publication.path / "model").mkdir()
        (publication.path / "model" / "model.safetensors").write_bytes(number.to_bytes(8, "big") * 512)
        (publication.path / "statistics.npz").write_bytes(bytes(256))
        publication.content = {"number": number, "costs": {}}


def use(root: Path, keys: int, until: float) -> None:
    """One of the workers: wants keys at random, trains what isn't there, and reads all of what is. In the end it notes
    how much its memory grew since it had done all of that."""
    shared, dice = Shared(Store(root / "store"), root / "log"), random.Random(os.getpid())
    warm, reads = 0, 0
    while time.time() < until:
        number = dice.randrange(keys)
        with shared.store.lock("runs", key(number).digest):
            if shared.store.get("runs", key(number).digest) is None:
                train(shared.store, number)
                shared.note("trained")
        entry = shared.store.get("runs", key(number).digest)
        if entry is not None:  # else it was pruned meanwhile
            with shared.store.lock("runs", key(number).digest):
                if entry.path.exists():
                    entry.verify()
            if entry.content["number"] != number:
                sys.exit("another key's entry")
        shared.note("read")
        reads += 1
        if reads == WARM:
            warm = resident()
    if warm:
        shared.note(f"grew {resident() - warm}")
    if shared.store.warnings:
        sys.exit("\n".join(shared.store.warnings))


def prune_now_and_then(root: Path, keys: int, until: float) -> None:
    """Beside the workers: makes the store half as large, again and again."""
    shared = Shared(Store(root / "store"), root / "log")
    while time.time() < until:
        size = sum(item.entry.size for item in listed(shared.store))
        for _ in range(prune(shared.store, max_size=size // 2).entries):
            shared.note("pruned")
        time.sleep(0.2)
    if shared.store.warnings:
        sys.exit("\n".join(shared.store.warnings))


def workers(root: Path, count: int, keys: int, seconds: float) -> None:
    """Processes that publish and read the same keys and others, while one prunes. Whatever is in the store in the end
    was trained once more often than it was pruned."""
    until = time.time() + seconds
    command = [sys.executable, __file__, "one"]
    shown = [str(root), str(keys), str(until)]
    running = [
        subprocess.Popen([*command, *shown, what], env={**os.environ, **ENVIRONMENT})
        for what in ["use"] * count + ["prune"]
    ]
    failed = sum(process.wait() != 0 for process in running)
    shared = Shared(Store(root / "store"), root / "log")
    left = len([item.entry.verify() for item in listed(shared.store)])
    trained, pruned = shared.count("trained"), shared.count("pruned")
    leftovers = sum(len(list((shared.store.root / name).glob("*"))) for name in ("tmp", "locks", "quarantine"))
    counts = {"read": shared.count("read"), "trained": trained, "pruned": pruned, "left": left}
    told("workers", of=count, failed=failed, **counts, most_growth_bytes=shared.most("grew"))
    if failed or shared.store.warnings or trained - pruned != left or leftovers:
        sys.exit(f"{failed} failed; {trained} trained, {pruned} pruned, {left} left; {leftovers} files left over")


class Filling(Store):
    """A store that is filled quickly: its disk is not tried before each entry, nor waited for."""

    def check_writable(self) -> None:
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)


def entries(root: Path, count: int, small: int) -> None:
    """What is done with a store of few entries and of many: by its commands, and by a session of 20 cases."""
    taken: dict[str, list[Sample]] = {}
    opened: list[int] = []
    place, filled = root / "store", 0
    folder = project(root / "cases", CONFTEST, cases=20, examples=EXAMPLES)
    pytest_in(folder, place)
    for size in between(small, count):
        os.fsync = lambda fd: None
        for number in range(filled, size):
            train(Filling(place), number)
        filled = size
        for command in ("ls", "verify", "prune --older-than=30d --dry-run"):
            taken.setdefault(f"ftcheck cache {command}", []).append(ftcheck(root, place, command))
        taken.setdefault("plain reading of the same files", []).append(run([sys.executable, "-c", READING, str(place)]))
        opened.append(counted(folder, place))
    for name, samples in taken.items():
        compared(name, between(small, count), samples)
    told("session of 20 cases: files and folders of the store opened", few=opened[0], many=opened[-1])
    old = time.time() - timedelta(days=60).total_seconds()
    for number in range(count // 2):
        os.utime(Store(place).place("runs", key(number).digest) / "manifest.json", (old, old))
    pruned = ftcheck(root, place, "prune --older-than=30d")
    told("prune of half", megabytes=pruned.peak_bytes / 1e6, milliseconds_each=1000 * pruned.cpu_seconds / (count // 2))
    left = sum(1 for _ in Store(place).keys("runs"))
    if opened[-1] > opened[0] or left != count - count // 2 + 20:
        sys.exit(f"{opened} opened, {left} of {count + 20} left")


def ftcheck(folder: Path, store: Path, command: str) -> Sample:
    """A whole `ftcheck cache` command."""
    main = "from ftcheck.cli import main; main()"
    words = [sys.executable, "-c", main, "cache", *command.split(), f"--cache-dir={store}"]
    return run(words, cwd=folder, env=ENVIRONMENT)


def counted(folder: Path, store: Path) -> int:
    """How often a session opens something of the store."""
    to = folder / "opened"
    pytest_in(folder, store, COUNT_BELOW=str(store), COUNT_TO=str(to))
    return int(to.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    given: dict[str, dict[str, Any]] = {
        "session": {"cases": 2000, "small": 200},
        "workers": {"workers": 16, "keys": 40, "seconds": 60},
        "entries": {"entries": 100_000, "small": 10_000},
    }
    for name, defaults in given.items():
        command = commands.add_parser(name)
        for option, default in defaults.items():
            command.add_argument(f"--{option}", type=int, default=default)
    one = commands.add_parser("one")  # of the workers' processes
    for name in ("root", "keys", "until", "what"):
        one.add_argument(name)
    options = parser.parse_args()
    if options.command == "one":
        what = {"use": use, "prune": prune_now_and_then}[options.what]
        what(Path(options.root), int(options.keys), float(options.until))
        return
    with tempfile.TemporaryDirectory(prefix="ftcheck-load-") as name:
        root = Path(name)
        if options.command == "session":
            session(root, options.cases, options.small)
        elif options.command == "workers":
            workers(root, options.workers, options.keys, options.seconds)
        else:
            entries(root, options.entries, options.small)


if __name__ == "__main__":
    main()
