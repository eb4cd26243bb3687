"""How time and memory grow outside the model: with rows, length, classes, seeds and cases.

    python benchmarks/growth.py measure [--axes rows length ...] [--only NAME ...] [--small] [--most N] [--out g.json]
    python benchmarks/growth.py draw g.json [more.json ...] [--to docs/pictures]

`measure` does each thing at several sizes and keeps its processor time (the best of some) and the memory that it took
at its peak, above what the process held; `sessions` are whole processes. It prints a line each, with the exponent
between the two largest sizes (1: linear) and what n log n would have there, and exits with 1 where something grows
faster by more than `--slack`, unless it is known to (`KNOWN`). `draw` makes a picture for each axis and a table, in
Markdown; needs matplotlib.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from growth_measures import MEASURES, SIZES, Act, Measure, Point, sessions
from measure import machine

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

KNOWN = {"ROUGE-L": "the longest common subsequence of two texts, whose table has a bit for each pair of places"}
LEAST = 0.01
"""Seconds below which nothing is said of growth: constants and noise are most of it."""
LEAST_MEMORY = 20.0
"""Megabytes. Memory that was freed before is used again, which the process's high-water mark doesn't show."""


def point(measure: Measure, size: int) -> Point:
    """One thing at one size: the best of up to five times within a second, and the peak of the first."""
    from ftcheck.finetune.environment import PeakMemory

    with tempfile.TemporaryDirectory(prefix="ftcheck-growth-") as name:
        act = measure.ready(size, Path(name))
        if size == SIZES[measure.axis][0]:
            act()  # imports
        gc.collect()
        peak = PeakMemory("cpu")
        peak.start()
        before = peak.bytes()
        taken = [seconds(act)]
        most = peak.bytes()
        while len(taken) < 5 and sum(taken) < 1:
            taken.append(seconds(act))
    return Point(measure.axis, measure.name, size, min(taken), (most - before) / 1e6)


def seconds(act: Act) -> float:
    """Of processor time."""
    started = time.process_time()
    act()
    return time.process_time() - started


def exponent(points: Sequence[Point], value: Callable[[Point], float], least: float) -> tuple[float, float] | None:
    """(the exponent between the two largest sizes, that of n log n there); None where it took next to nothing."""
    low, high = sorted(points, key=lambda one: one.size)[-2:]
    if value(low) < least or value(high) < least:
        return None
    sizes = math.log(high.size / low.size)
    bound = math.log(high.size * math.log(high.size) / (low.size * math.log(low.size))) / sizes
    return math.log(value(high) / value(low)) / sizes, bound


def growths(points: Sequence[Point]) -> dict[str, tuple[float, float] | None]:
    return {
        "time": exponent(points, lambda one: one.seconds, LEAST),
        "memory": exponent(points, lambda one: one.megabytes, LEAST_MEMORY),
    }


def series(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    found: dict[tuple[str, str], list[Point]] = {}
    for one in points:
        found.setdefault((one.axis, one.name), []).append(one)
    return found


def too_fast(points: Sequence[Point], slack: float) -> list[str]:
    """What grows faster than n log n."""
    return [
        f"{axis}: {name}: {what} grows as n^{found[0]:.2f}"
        for (axis, name), line in series(points).items()
        if len(line) > 1 and name not in KNOWN
        for what, found in growths(line).items()
        if found is not None and found[0] > found[1] + slack
    ]


def measured(options: argparse.Namespace) -> Iterator[list[Point]]:
    """Each thing at all sizes."""
    for axis in options.axes:
        sizes = [size for size in SIZES[axis] if size <= options.most][: 2 if options.small else None]
        for measure in MEASURES:
            if measure.axis == axis and (not options.only or measure.name in options.only):
                yield [point(measure, size) for size in sizes if size <= measure.most]
        if axis == "cases" and (not options.only or "sessions" in options.only):
            yield from series(list(sessions(sizes))).values()


def told(line: Sequence[Point]) -> None:
    """Print what was found of a thing."""
    shown = ", ".join(f"{one.size:,}: {1000 * one.seconds:.1f} ms {one.megabytes:.0f} MB" for one in line)
    found = {k: None if v is None else f"{v[0]:.2f} (n log n: {v[1]:.2f})" for k, v in growths(line).items()}
    print(f"{line[0].axis}: {line[0].name}: {shown}; {found}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--axes", nargs="+", choices=SIZES, default=list(SIZES))
    measuring.add_argument("--only", nargs="+", default=())
    measuring.add_argument("--small", action="store_true", help="two sizes each")
    measuring.add_argument("--most", type=int, default=10**9, help="the largest size")
    measuring.add_argument("--slack", type=float, default=0.15)
    measuring.add_argument("--out", type=Path)
    drawing = commands.add_parser("draw")
    drawing.add_argument("files", nargs="+", type=Path)
    drawing.add_argument("--to", type=Path, default=ROOT / "docs" / "pictures")
    options = parser.parse_args()
    if options.command == "draw":
        draw([Point(**one) for file in options.files for one in json.loads(file.read_text())], options.to)
        return
    print(machine())
    points: list[Point] = []
    for line in measured(options):
        told(line)
        points.extend(line)
        if options.out:  # after each: what was measured is kept whatever becomes of the rest
            options.out.write_text(json.dumps([vars(one) for one in points], indent=0) + "\n")
    faster = too_fast(points, options.slack)
    sys.exit("\n".join(faster) if faster else 0)


def draw(points: Sequence[Point], folder: Path) -> None:
    """A picture of each axis, time beside memory, and the table of all."""
    print("| against | what | largest | time | grows as | memory | grows as |\n|---|---|---|---|---|---|---|")
    for (axis, name), line in series(points).items():
        last, found = line[-1], growths(line)
        cells = {k: "-" if v is None else f"n^{v[0]:.2f}" for k, v in found.items()}
        amounts = f"{last.seconds:.2f} s | {cells['time']} | {last.megabytes:,.0f} MB | {cells['memory']}"
        print(f"| {axis} | {name} | {last.size:,} | {amounts} |")
    for axis in dict.fromkeys(one.axis for one in points):
        picture({name: line for (of, name), line in series(points).items() if of == axis}, axis, folder)


def picture(lines: Mapping[str, Sequence[Point]], axis: str, folder: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.hashsalt": "ftcheck", "svg.fonttype": "none", "font.size": 8})
    page = Figure(figsize=(9, 4.5), layout="constrained")
    both = page.subplots(1, 2)
    sizes = np.array(SIZES[axis], dtype=float)
    shapes = "osv^D*XP<>hd"
    kinds: dict[str, Callable[[Point], float]] = {
        "processor time, s": lambda one: one.seconds,
        "memory, MB": lambda one: one.megabytes if one.megabytes > 1 else 0.0,
    }
    for axes, (title, value) in zip(both, kinds.items(), strict=True):
        for place, (name, line) in enumerate(lines.items()):
            shown = [(one.size, value(one)) for one in line if value(one) > 0]
            look = {"color": f"C{place % 10}", "marker": shapes[place % len(shapes)], "markersize": 3, "lw": 1}
            axes.loglog([size for size, _ in shown], [amount for _, amount in shown], label=name, **look)
        top = max((value(one) for line in lines.values() for one in line), default=1.0)
        bound = sizes * np.log(sizes)
        axes.loglog(sizes, 2 * top * bound / bound[-1], "k--", lw=1, label="n log n")
        axes.set(xlabel=axis, title=title)
    handles, names = both[0].get_legend_handles_labels()
    page.legend(handles, names, loc="outside lower center", ncols=3, fontsize=7)
    page.savefig(folder / f"growth-{axis}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
