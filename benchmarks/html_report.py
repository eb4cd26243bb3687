"""How long the page of a session takes, and how large it is: `python benchmarks/html_report.py [--cases 200]`.

The results are made up: of nine cases two failed, with flips and worst examples; all have three seeds of 120 logged
steps each, 3,000 judged examples, and what every chart needs. `--out PATH` keeps the page.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

from measure import machine, median_and_range

from ftcheck.breakdown import Breakdown, ClassScore, ConfusionMatrix, PartScore, PowerCurve, ReliabilityBin
from ftcheck.report import html
from ftcheck.report.jsonfile import Document
from ftcheck.results import (
    CaseResult,
    ComparisonResult,
    Confusion,
    Flip,
    GateResult,
    Interval,
    Mark,
    Marked,
    MetricResult,
    Reference,
    RunResult,
    StageOrigin,
    Verdict,
    WorstExample,
)

EXAMPLES = 3_000
TASKS = ("text-classification", "question-answering", "token-classification", "summarization")
VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "pass", "inconclusive", "pass", "pass", "fail", "new", "pass")
WORDS = [
    *("card", "payment", "account", "refund", "transfer", "pending", "declined", "morning", "station", "river"),
    *("bridge", "council", "report", "increase", "market", "harvest", "engine", "signal", "window", "letter"),
    *("answer", "question", "people", "country", "language", "science", "history", "music"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    print(machine())
    html.page(session(1))  # imports, and the template is compiled
    for cases in dict.fromkeys((50, chosen.cases)):
        document = session(cases)
        wall, cpu = [], []
        for _ in range(chosen.runs):
            started = time.perf_counter(), time.process_time()
            page = html.page(document)
            wall.append(time.perf_counter() - started[0])
            cpu.append(time.process_time() - started[1])
        took = f"{median_and_range(wall, 's', 2)}, of a processor {median_and_range(cpu, 's', 2)}"
        print(f"{cases} cases of {EXAMPLES:,} examples: {took}; {len(page.encode()) / 1e6:.2f} MB")
    if chosen.out:
        chosen.out.write_text(page, encoding="utf-8")


def session(cases: int) -> Document:
    """The same results for the same number."""
    random.seed(cases)
    results = [case(number) for number in range(cases)]
    return Document(results=results, complete=True, missing=(), created="2026-11-02T10:00:00+00:00", version="0.1.0")


def case(number: int) -> CaseResult:
    """One case; what kind depends on its number."""
    verdict, task = VERDICTS[number % len(VERDICTS)], TASKS[number % len(TASKS)]
    value = random.uniform(0.7, 0.95)
    metrics = tuple(metric(name, value - 0.01 * place) for place, name in enumerate(("accuracy", "macro_f1", "ece")))
    failed = verdict == "fail"
    return CaseResult(
        suite="/suites/many.ft.yaml",
        case_id=f"{random.choice(WORDS)}-{number}",
        nodeid=f"suites/many.ft.yaml::{number}",
        task=task,
        checkpoint="org/model",
        verdict=verdict,
        device="cuda:0",
        precision="bf16",
        seeds=(42, 43, 44),
        metrics=metrics,
        gates=(gate(value, verdict),),
        runs=tuple(run(seed) for seed in (42, 43, 44)),
        examples=EXAMPLES,
        references=(reference(task),) if failed else (),
        confusions=tuple(Confusion(gold=word, predicted=WORDS[-1], count=9) for word in WORDS[:10]) if failed else (),
        worst=tuple(worst(task, row) for row in range(10)) if failed else (),
        breakdown=breakdown(value),
    )


def breakdown(value: float) -> Breakdown:
    classes = tuple(WORDS[:10])
    counts = tuple(tuple(random.randrange(300 if a == b else 9) for b in range(11)) for a in range(10))
    lengths = [f"{2**n + 1}-{2 ** (n + 1)} characters" for n in range(4, 10)]
    return Breakdown(
        confusion=ConfusionMatrix(of="examples", classes=classes, left_out=0, now=counts, then=counts[::-1]),
        classes=tuple(
            ClassScore(
                name=name, support=300, precision=value, recall=value - 0.1, f1=value - 0.05, then=(0.8, 0.8, 0.8)
            )
            for name in classes
        ),
        classes_of="examples",
        parts=tuple(
            PartScore(metric="accuracy", part=f"label={name}", examples=300, value=value, low=value - 0.05, high=value)
            for name in classes
        ),
        lengths=tuple(
            PartScore(metric="accuracy", part=f"length={name}", examples=500, value=value, reference=value + 0.02)
            for name in lengths
        ),
        reliability=tuple(
            ReliabilityBin(low=n / 10, high=(n + 1) / 10, confidence=n / 10 + 0.05, accuracy=n / 10, count=300)
            for n in range(10)
        ),
        power=PowerCurve(
            metric="accuracy",
            margin=0.01,
            examples=(300, 600, 1500, 3000, 6000, 12000),
            seeds=(1, 3, 5),
            detectable=tuple(tuple(0.06 / (n * seeds) ** 0.5 for n in range(1, 7)) for seeds in (1, 3, 5)),
            now=(3000, 3),
        ),
    )


def metric(name: str, value: float) -> MetricResult:
    return MetricResult(
        name=name,
        value=value,
        per_seed=tuple(value + random.gauss(0, 0.004) for _ in range(3)),
        greater_is_better=name != "ece",
        signature=f"{name}|1",
        interval=Interval(low=value - 0.012, high=value + 0.012, confidence=0.95, method="jackknife+t", about="recipe"),
        examples=EXAMPLES,
    )


def gate(value: float, verdict: Verdict) -> GateResult:
    worse = 0.021 if verdict == "fail" else 0.002
    return GateResult(
        metric="accuracy",
        bound="max_regression",
        limit=0.01,
        value=value,
        verdict=verdict,
        message=f"accuracy is {worse} worse than the baseline",
        shown_limit="≤ 0.01 worse",
        comparison=ComparisonResult(
            against="baseline",
            reference=value + worse,
            value=value,
            difference=worse,
            low=worse - 0.008,
            high=worse + 0.008,
            confidence=0.95,
            p_value=0.004,
            p_worse=0.002,
            examples=EXAMPLES,
            runs=3,
            reference_runs=3,
            discordant=140,
            seed_source="runs",
            detectable=0.018,
            provable=0.014,
        ),
    )


def run(seed: int) -> RunResult:
    return RunResult(
        seed=seed,
        train=StageOrigin(source="computed", key=f"{random.getrandbits(256):064x}", seconds=412.0),
        predict=StageOrigin(source="computed", key=f"{random.getrandbits(256):064x}", seconds=9.0),
        costs={"train_seconds": 412.0, "peak_memory_bytes": 5.1e9, "parameters": 66_362_880.0},
        environment={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "gpu": "NVIDIA H200"},
        log_history=tuple({"step": 10 * step, "loss": 2.0 / step, "learning_rate": 1e-4} for step in range(1, 121)),
    )


def reference(task: str) -> Reference:
    examples = [worst(task, row) for row in range(10)]
    return Reference(
        against="baseline",
        described="cuda, accepted 2026-10-02 by Ada (a1b2c3d): new annotation guide",
        examples=EXAMPLES,
        common=EXAMPLES,
        changes=(
            "transformers 5.17 → 5.23",
            "learning_rate 2e-5 → 5e-5",
            "120 of 9,000 training rows (0 gone, 120 new)",
        ),
        broken=101,
        fixed=39,
        flips=tuple(
            Flip(
                id=str(one.index),
                input=one.input,
                gold=one.gold,
                before="right",
                after=one.predicted,
                change=-1.0,
                marked=one.marked,
            )
            for one in examples
        ),
        trace="the training differs from step 1 on (seed 42)",
    )


def worst(task: str, row: int) -> WorstExample:
    if task == "text-classification":
        return WorstExample(index=row, input=text(25), gold="card_lost", predicted="card_stolen", score=0.03)
    if task == "summarization":
        return WorstExample(index=row, input=text(40), gold=text(30), predicted=text(30), score=0.2)
    roles = ("gold", "predicted")
    context = text(60)
    label = "PER" if task == "token-classification" else ""
    marks = tuple(Mark(start=10 + 25 * n, end=24 + 25 * n, role=role, label=label) for n, role in enumerate(roles))
    return WorstExample(
        index=row,
        input=text(10),
        gold=text(3),
        predicted=text(4),
        score=0.0,
        marked=Marked(text=context, marks=marks),
    )


def text(words: int) -> str:
    return " ".join(random.choice(WORDS) for _ in range(words))


if __name__ == "__main__":
    main()
