"""The runs of several folds as one run of all rows: an entry of the store like any other, without a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ftcheck import examples
from ftcheck.errors import DataError
from ftcheck.finetune import Predicted, Spent, Trained
from ftcheck.profile import together

if TYPE_CHECKING:
    from ftcheck.keys import Key
    from ftcheck.runs import Finished
    from ftcheck.store import Entry, Store

MEASURED_ONCE = ("parameters", "trainable_parameters", "model_bytes", "peak_memory_bytes")
"""Costs of which the largest stands for all folds; others add up."""


def publish(train: Key, predict: Key, parts: Sequence[Finished], store: Store) -> None:
    """Put the runs of all folds together, under the keys of the whole. Raises DataError where they don't fit."""
    metas = [dict(part.meta) for part in parts]
    if any(meta != metas[0] for meta in metas):
        raise DataError(
            "folds: the models don't know the same classes, since some of their training rows lack one; write "
            "by: stratified, or list the classes in the task's `labels`"
        )
    placed = sorted(
        (index, record)
        for part in parts
        for index, record in zip(part.predicted.content["rows"]["eval"]["index"], part.records(), strict=True)
    )
    records = [{**record, "index": row} if "index" in record else record for row, (_, record) in enumerate(placed)]
    hashes = [str(record["hash"]) for record in records]
    rows = {"count": len(records), "hashes": _digest(hashes)}
    with store.lock("runs", train.digest), store.publish("runs", train, replace=True) as publication:
        examples.write_hashes(hashes, publication.path / examples.TRAIN_ROWS)
        publication.content = asdict(_trained([part.trained for part in parts if part.trained], metas[0], rows))
        del publication.content["row_hashes"]
    with store.lock("predictions", predict.digest), store.publish("predictions", predict, replace=True) as publication:
        examples.write(records, publication.path / examples.FILE)
        publication.content = asdict(_predicted([part.predicted for part in parts], metas[0], rows))
        del publication.content["records"]


def _trained(parts: Sequence[Entry], meta: Mapping[str, Any], rows: Mapping[str, Any]) -> Trained:
    """What the trainings left, put together; what has no sum is the first fold's."""
    first = parts[0].content
    costs = _costs(parts)
    if costs.get("train_seconds"):
        each = [part.content["costs"] for part in parts]
        trained = math.fsum(cost["train_samples_per_second"] * cost["train_seconds"] for cost in each)
        costs["train_samples_per_second"] = trained / costs["train_seconds"]
    return Trained(
        meta=meta,
        tuned={},
        costs=costs,
        log_history=tuple(first["log_history"]),
        environment=first["environment"],
        rows={"train": rows},
        first_losses=tuple(first["first_losses"]),
        spent=_spent(parts),
        notes=_said(parts, "notes"),
        warnings=_said(parts, "warnings"),
        records={**first["records"], "folds": {"train_keys": [part.manifest["key"] for part in parts]}},
    )


def _predicted(parts: Sequence[Entry], meta: Mapping[str, Any], rows: Mapping[str, Any]) -> Predicted:
    costs = _costs(parts)
    costs["eval_samples_per_second"] = rows["count"] / max(costs["eval_seconds"], 1e-9)
    return Predicted(
        records=[],
        meta=meta,
        tuned={},
        costs=costs,
        rows={"eval": rows},
        spent=_spent(parts),
        notes=_said(parts, "notes"),
        warnings=_said(parts, "warnings"),
    )


def _costs(parts: Sequence[Entry]) -> dict[str, float]:
    values = {name: [float(part.content["costs"][name]) for part in parts] for name in parts[0].content["costs"]}
    return {name: max(all_) if name in MEASURED_ONCE else math.fsum(all_) for name, all_ in values.items()}


def _spent(parts: Sequence[Entry]) -> Spent | None:
    """All folds together; None where one was made before this was counted."""
    each = [part.content["spent"] for part in parts if part.content.get("spent")]
    if len(each) < len(parts):
        return None
    seconds, peaks = together(each)
    return Spent(seconds=seconds, peak_bytes=peaks, work=_work([spent["work"] for spent in each]))


def _work(each: Sequence[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    """All folds together; None where one's wasn't counted."""
    told = [work for work in each if work is not None]
    if len(told) < len(each):
        return None
    known = all(work["operations"] is not None for work in told)
    return {
        "tokens": sum(work["tokens"] for work in told),
        "places": sum(work["places"] for work in told),
        "operations": math.fsum(work["operations"] for work in told) if known else None,
        "limit": told[0]["limit"],
    }


def _said(parts: Sequence[Entry], kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for part in parts for text in part.content[kind]))


def _digest(hashes: Sequence[str]) -> str:
    from ftcheck.finetune.data.rows import digest

    return digest(hashes)
