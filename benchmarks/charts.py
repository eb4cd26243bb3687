"""What a chart costs: `python benchmarks/charts.py [--classes 12] [--seeds 3] [--runs 15] [--matplotlib]`.

Draws every chart of a case with all that there is to draw, and says processor time and size of each. With
`--matplotlib` (which must be installed) three of them also by its SVG backend: one figure used again, text as text.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from measure import machine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ftcheck.report.charts import CHARTS, figures
from tests.report.charts.test_figures import whole


def cost(draw: Callable[[], Any], runs: int) -> float:
    """Milliseconds of processor time, the median; the first draw doesn't count."""
    draw()
    times = []
    for _ in range(runs):
        before = time.process_time()
        draw()
        times.append(time.process_time() - before)
    return 1000 * median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--matplotlib", action="store_true")
    options = parser.parse_args()
    result = whole(tuple(f"class number {i}" for i in range(options.classes)), options.seeds)
    print(machine(), f"- {options.classes} classes, {options.seeds} seeds")
    for name, draw in CHARTS.items():
        figure = draw(result, name)
        assert figure is not None, "the case has something for every chart"
        spent = cost(lambda draw=draw, name=name: draw(result, name), options.runs)
        print(f"{name:12} {spent:7.2f} ms {len(figure.svg.encode()) / 1000:7.1f} KB")
    every = sum(len(figure.svg.encode()) for figure in figures(result))
    print(f"{'all':12} {cost(lambda: figures(result), options.runs):7.2f} ms {every / 1000:7.1f} KB")
    if options.matplotlib:
        by_matplotlib(options.runs)


def by_matplotlib(runs: int) -> None:
    """Charts of the same kind by matplotlib."""
    import matplotlib
    import numpy as np
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ftcheck"})
    page = Figure(figsize=(6.4, 3))
    FigureCanvasSVG(page)
    axes = page.add_axes((0.15, 0.15, 0.8, 0.8))
    values = np.linspace(0.8, 0.9, 4)

    def forest() -> None:
        axes.add_collection(LineCollection([[(v - 0.02, y), (v + 0.02, y)] for y, v in enumerate(values)]))
        axes.scatter(values, range(4))
        axes.set_yticks(range(4), ["accuracy", "macro_f1", "precision", "recall"])

    def training() -> None:
        for seed in range(3):
            axes.plot(range(40), np.linspace(2 + seed / 10, 0.3, 40))

    def confusion() -> None:
        axes.pcolormesh(np.eye(12))
        names = [f"class number {i}" for i in range(12)]
        axes.set_xticks(np.arange(12) + 0.5, names, rotation=90)
        axes.set_yticks(np.arange(12) + 0.5, names)

    for name, draw in (("forest", forest), ("training", training), ("confusion", confusion)):
        written = ""

        def once(draw: Callable[[], None] = draw) -> None:
            nonlocal written
            axes.clear()
            draw()
            out = io.StringIO()
            page.savefig(out, format="svg", metadata={"Date": None})
            written = out.getvalue()

        print(f"matplotlib's {name:12} {cost(once, runs):7.2f} ms {len(written.encode()) / 1000:7.1f} KB")


if __name__ == "__main__":
    main()
