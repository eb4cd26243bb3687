"""Example statistics come out of the store as they were when they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ftcheck import examples, tasks
from ftcheck.keys import Key
from ftcheck.metrics import Context, Lookup
from ftcheck.scoring import Scorer
from ftcheck.store import Store

LABELS = ("a", "b", "c")


def test_statistics_out_of_the_store_are_those_that_were_made_and_take_no_more(tmp_path: Path) -> None:
    store, key = Store(tmp_path), Key.of({"predictions": 1})
    records = [
        {"index": i, "prediction": i % 3, "reference": i % 2, "scores": [0.2, 0.3, 0.5], "hash": f"{i:032x}"}
        for i in range(20)
    ]
    with store.publish("predictions", key) as publication:
        examples.write(records, publication.path / examples.FILE)
        publication.content = {"meta": {"problem_type": "single_label_classification", "labels": list(LABELS)}}
    predicted = store.get("predictions", key.digest)
    assert predicted is not None
    task, lookup = tasks.get("text-classification"), Lookup(inputs=frozenset({"label", "scores"}))
    scorer = Scorer(task=task, options=task.options().model_dump(), lookup=lookup, store=store)
    built = [lookup.build(name, Context(labels=LABELS)) for name in ("accuracy", "macro_f1", "log_loss")]
    made, found = (scorer.scores(key, predicted, built, anew=anew)[1] for anew in (True, False))
    for name, kind in (("accuracy", np.uint8), ("macro_f1", np.uint8), ("log_loss", np.float64)):
        np.testing.assert_array_equal(made[name], found[name], strict=True)
        assert made[name].dtype == kind
