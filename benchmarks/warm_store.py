"""A run whose every stage is in the store:
`python benchmarks/warm_store.py [--cases 200] [--examples 3000] [--runs 5] [--json] [--without-baselines]`.

Fills a store with CASES cases of EXAMPLES judged examples each (the training is faked by tests/fake.py; statistics,
store, keys and gates are real) and accepts baselines that a slightly different recipe made, so that every gate compares
example by example. Then times whole `pytest` processes that find everything, each beside a plain pytest of one empty
test, and lists heavy modules they imported. With `--json` each is timed beside one that writes a results file, with all
that charts are made of.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from measure import machine, median_and_range, run
from suite import project, suite

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
HEAVY = ("torch", "transformers", "datasets", "pyarrow", "sklearn", "pandas", "huggingface_hub")
CONFTEST = f"""
import os, sys
if os.environ.get("FILL"):
    from tests import fake
    fake.EXAMPLES = int(os.environ["FILL"])
    fake.install()
def pytest_unconfigure(config):
    print("HEAVY", [name for name in {HEAVY} if name in sys.modules])
"""


def fill(folder: Path, env: Mapping[str, str], *, cases: int, examples: int, baselines: bool) -> None:
    """Write suites to `folder` and have all that they ask for put into the store."""
    project(folder, CONFTEST, cases=cases, examples=examples)
    margin = 0.02 if baselines else None
    for rate, accepts in ((0.795, baselines), (0.8, False)):
        suite(folder, cases, rate=rate, max_regression=margin)
        update = ["--ft-update", "--ft-allow-ci-update"] if accepts else []
        run([*PYTEST, str(folder), *update], env={**env, "FILL": str(examples)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--without-baselines", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, plain = Path(name) / "suites", Path(name) / "plain"
        plain.mkdir()
        (plain / "test_nothing.py").write_text("def test_nothing(): pass\n")
        env = {"FTCHECK_CACHE_DIR": str(Path(name) / "store"), "PYTHONPATH": str(ROOT)}
        fill(folder, env, cases=options.cases, examples=options.examples, baselines=not options.without_baselines)
        command = [*PYTEST, str(folder)]
        seen = run([*command, "-s"], env=env).output
        measured = [[*PYTEST, "-p", "no:ftcheck", str(plain)], command]
        if options.json:
            measured.append([*command, f"--ft-json={folder / 'results.json'}"])
        samples = [[run(each, env=env) for each in measured] for _ in range(options.runs)]
    print(machine(), f"- {options.cases} cases of {options.examples} examples, all in the store")
    print("plain pytest: ", median_and_range([empty.seconds for empty, *_ in samples], "s"))
    print("whole process:", median_and_range([warm.seconds for _, warm, *_ in samples], "s"))
    ratios = [warm.seconds / empty.seconds for empty, warm, *_ in samples]
    print("as a multiple of plain pytest:", median_and_range(ratios, "times"))
    if options.json:
        ratios = [listing.cpu_seconds / warm.cpu_seconds for _, warm, listing in samples]
        print("processor time with a results file, as a multiple:", median_and_range(ratios, "times"))
    print(next(line for line in seen.splitlines() if line.startswith("HEAVY")))


if __name__ == "__main__":
    main()
