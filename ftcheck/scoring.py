"""Example statistics of one run's metrics: out of the store, or computed from its predictions and kept. Imports no
torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import arrays, examples, keys

if TYPE_CHECKING:
    from ftcheck.keys import Key
    from ftcheck.metrics import Lookup, Metric, NumberArray
    from ftcheck.store import Entry, Store
    from ftcheck.tasks import Task

STATISTICS = "statistics.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """What the records of one case mean."""

    task: Task
    options: Mapping[str, Any]
    """The task's, complete."""
    lookup: Lookup
    store: Store

    def scores(
        self, key: Key, predicted: Entry, built: Sequence[Metric], *, anew: bool = False
    ) -> tuple[Any, dict[str, NumberArray]]:
        """(the judged rows' hashes, example statistics of every metric) for the run with this predict key.

        `anew` looks for nothing in the store: the predictions were made just now. Raises MetricError for a metric that
        can't be computed.
        """
        score_key = keys.score_key(key, {metric.name: metric.signature for metric in built})
        found = None if anew else self.store.get("scores", score_key.digest)
        if found is not None:
            stored = arrays.load_npz(found.read(STATISTICS))
            return stored["ids"], {name: stored[f"metric{i}"] for i, name in enumerate(found.content["metrics"])}
        records = examples.read(predicted.read(examples.FILE))
        inputs = self.task.score_inputs(records, dict(predicted.content["meta"]), self.options)
        statistics = {
            metric.name: arrays.small(metric.statistics(*inputs[self.lookup.describe(metric.name).input]))
            for metric in built
        }
        ids = examples.hash_bytes([record["hash"] for record in records])
        if self.store.writable:
            with self.store.publish("scores", score_key, replace=True) as publication:
                # A metric's name may hold any text (f1[a/b]), a member's may not.
                members = {f"metric{i}": rows for i, rows in enumerate(statistics.values())}
                (publication.path / STATISTICS).write_bytes(arrays.dump_npz({"ids": ids, **members}))
                publication.content = {"metrics": list(statistics)}
        return ids, statistics
