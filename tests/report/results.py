"""CaseResults to make reports of."""

from __future__ import annotations

from typing import Any

from ftcheck.results import (
    CaseResult,
    Confusion,
    GateResult,
    Interval,
    MetricResult,
    RunResult,
    StageOrigin,
    WorstExample,
)


def metric(name: str = "accuracy", value: float = 0.8424, half: float | None = 0.0171, **fields: Any) -> MetricResult:
    about = fields.pop("about", "recipe")
    interval = None
    if half is not None:
        interval = Interval(low=value - half, high=value + half, confidence=0.95, method="jackknife+t", about=about)
    defaults: dict[str, Any] = {
        "per_seed": (value,),
        "greater_is_better": True,
        "signature": f"{name}|1",
        "examples": 400,
        "scale": "proportion",
    }
    return MetricResult(name=name, value=value, interval=interval, **{**defaults, **fields})


def run(seed: int = 42, train: str = "computed", predict: str = "computed", seconds: float = 41.2) -> RunResult:
    return RunResult(
        seed=seed,
        train=StageOrigin(source=train, key="a" * 64, seconds=seconds),  # type: ignore[arg-type]
        predict=StageOrigin(source=predict, key="b" * 64, seconds=2.5),  # type: ignore[arg-type]
        costs={"train_seconds": seconds},
        warnings=("a library warned",),
        log_history=({"loss": 0.5, "step": 10},),
    )


def case(**fields: Any) -> CaseResult:
    defaults: dict[str, Any] = {
        "suite": "/project/suites/intents.ft.yaml",
        "case_id": "intents",
        "nodeid": "suites/intents.ft.yaml::intents",
        "task": "text-classification",
        "checkpoint": "org/model",
        "verdict": "fail",
        "device": "cpu",
        "precision": "fp32",
        "seeds": (42,),
        "metrics": (metric(), metric("macro_f1", 0.83, 0.02)),
        "gates": (
            GateResult(
                metric="accuracy",
                bound="min",
                limit=0.86,
                value=0.8424,
                verdict="fail",
                message="accuracy 0.8424 is below the minimum 0.86",
            ),
        ),
        "runs": (run(),),
        "examples": 400,
        "confusions": (Confusion(gold="lost_card", predicted="stolen_card", count=12),),
        "worst": (
            WorstExample(index=17, input="I \x1b[31mlost it", gold="lost_card", predicted="stolen_card", score=0.98),
        ),
    }
    return CaseResult(**{**defaults, **fields})
