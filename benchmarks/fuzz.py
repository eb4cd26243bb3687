"""Feeds a reader of untrusted files with what libFuzzer makes of whole documents, guided by coverage.

    pip install atheris
    python benchmarks/fuzz.py suites --seconds 600

Targets: suites, baselines, results, manifests, history, compare, bisect (tests/fuzzing/targets.py). Only ftcheck's own
errors may come out. Any other exception is noted once for each place that raises it, with the input; so is what takes
longer than --patience or 2 GB, which ends the run. At the end inputs and findings are counted; the exit code is 1 where
there are any. --seconds are those of the processor: on a busy machine a run takes longer, and gets through as much.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import NoReturn

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["ftcheck", "yaml"]):
    from tests.fuzzing.mutations import mutated
    from tests.fuzzing.targets import TARGETS


class Findings:
    """Inputs by the place that raised something else than an error of ftcheck."""

    def __init__(self, name: str, folder: Path, seconds: float) -> None:
        self.end = time.process_time() + seconds
        self.target = TARGETS[name]
        self.name = name
        self.folder = folder
        self.inputs = 0
        self.places: dict[str, int] = {}

    def __call__(self, content: bytes) -> None:
        if time.process_time() > self.end:
            self.finish()
        self.inputs += 1
        try:
            self.target(content)
        except Exception as error:  # noqa: BLE001  that is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
            if place not in self.places:
                number = len(self.places)
                (self.folder / f"{self.name}-{number}.input").write_bytes(content)
                (self.folder / f"{self.name}-{number}.txt").write_text(traceback.format_exc())
                print(f"{place}: {str(error)[:200]!r}", file=sys.stderr)
            self.places[place] = self.places.get(place, 0) + 1

    def mutated(self, content: bytes, size: int, seed: int) -> bytes:
        """Half of the inputs are documents that were changed as such, half are bytes that were."""
        random = Random(seed)
        if random.random() < 0.5:
            other = mutated(bytes(content), random, text="yaml" if self.name == "suites" else "json")
            if len(other) <= size:
                return other
        return bytes(atheris.Mutate(content, size))

    def finish(self) -> NoReturn:
        """Say what was found and end the process, which libFuzzer doesn't return from."""
        print(f"{self.name}: {self.inputs:,} inputs, {len(self.places)} places that raise something else")
        for place, count in sorted(self.places.items(), key=lambda item: -item[1]):
            print(f"  {count:,} times {place}")
        sys.stdout.flush()
        os._exit(bool(self.places))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--patience", type=int, default=60, help="seconds, by the clock, that one input may take")
    parser.add_argument("--findings", type=Path, default=Path("fuzzing"), help="the folder for what is found")
    arguments = parser.parse_args()
    arguments.findings.mkdir(parents=True, exist_ok=True)
    findings = Findings(arguments.target, arguments.findings, arguments.seconds)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(findings.target.seeds()):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        limits = [
            f"-timeout={arguments.patience}",
            "-rss_limit_mb=2048",
            "-max_len=65536",
            "-print_final_stats=1",
            "-verbosity=1",
        ]
        atheris.Setup(
            [
                sys.argv[0],
                corpus,
                f"-artifact_prefix={arguments.findings}/{arguments.target}-",
                *limits,
            ],
            findings,
            custom_mutator=findings.mutated,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
