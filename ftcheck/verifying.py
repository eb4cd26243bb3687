"""`--ft-verify`: results of the run store made once more, in a store of their own, and compared. Imports no torch.

Which ones is decided before anything is made, by whichever process of the session comes first, and told to the others
through the session's folder. What the store has stays as it is.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from filelock import FileLock

from ftcheck.errors import FtcheckError, UsageError, shown
from ftcheck.report import numbers
from ftcheck.results import CaseResult, Verification
from ftcheck.runs import Finished
from ftcheck.store import Store
from ftcheck.writing import appear

if TYPE_CHECKING:
    from ftcheck.finetune import Progress
    from ftcheck.pipeline import Pipeline
    from ftcheck.runs import Run, Scored
    from ftcheck.settings import Settings
    from ftcheck.spec import Case
    from ftcheck.store import Entry, Stage

TOLERANCE: Final = 0.05
"""How far a metric of a repeated training may be off where it need not be bit-identical: this part of its value, or
this much where the value is below 1 (see docs/reliability.md, Determinism)."""
_FILE: Final = "verify.json"
_WANTED: Final = re.compile(r"(?P<count>all|[1-9][0-9]{0,8})(?::(?P<seed>[0-9]{1,9}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which runs of a session are made once more."""

    predict: tuple[str, ...]
    """Digests of their predict keys."""
    found: int
    """How many the store had."""
    option: str
    """`3:48213`: the value of --ft-verify that chooses the same."""


def check(settings: Settings) -> None:
    """Raise UsageError for a --ft-verify that can't be followed."""
    if settings.verify is None:
        return
    if _WANTED.fullmatch(settings.verify) is None:
        raise UsageError(
            f"--ft-verify={shown(settings.verify)}: expected how many of the store's results to make once more, "
            "or `all`; 3:SEED chooses the same three again"
        )
    if settings.cache != "use":
        why = "trains nothing" if settings.cache == "only" else "takes nothing out of the store"
        raise UsageError(f"--ft-verify makes results of the store once more, and --ft-cache={settings.cache} {why}")


def choice(pipeline: Pipeline, cases: Iterable[Case], wanted: str, folder: Path) -> Choice:
    """The choice among the runs of `cases` that are in the store now; of several processes, the first one's, which it
    leaves in `folder`."""
    place = folder / _FILE
    with FileLock(place.with_suffix(".lock")):
        if not place.is_file():
            appear(place, json.dumps(asdict(_chosen(pipeline, cases, wanted))))
    known = known_choice(folder)
    assert known is not None
    return known


def known_choice(folder: Path) -> Choice | None:
    """What `choice` chose; None before that."""
    place = folder / _FILE
    if not place.is_file():
        return None
    found = json.loads(place.read_bytes())
    return Choice(predict=tuple(found["predict"]), found=found["found"], option=found["option"])


def _chosen(pipeline: Pipeline, cases: Iterable[Case], wanted: str) -> Choice:
    match = _WANTED.fullmatch(wanted)
    assert match is not None, "checked when the session began"
    there: dict[str, None] = {}
    for case in cases:
        try:
            there |= {run.predict.digest: None for run in pipeline.runs(case) if pipeline.there(run)}
        except FtcheckError:
            continue  # told when its turn comes
    if match["count"] == "all":
        return Choice(predict=tuple(there), found=len(there), option="all")
    count, seed = int(match["count"]), int(match["seed"] or secrets.randbelow(10**6))
    chosen = Random(seed).sample(sorted(there), min(count, len(there)))  # noqa: S311  no secret
    return Choice(predict=tuple(chosen), found=len(there), option=f"{count}:{seed}")


def verified(
    pipeline: Pipeline,
    case: Case,
    scored: Scored,
    result: CaseResult,
    *,
    on_progress: Callable[[int, Progress], None],
    on_wait: Callable[[str], None],
) -> CaseResult:
    """`result` with what came of making those of its runs once more that were chosen. Where one is other than the store
    has it, the verdict is `error`."""
    told: dict[int, Verification] = {}
    wrong = []
    for index, run in enumerate(scored.runs):
        if run.made or run.run.predict.digest not in pipeline.chosen:
            continue
        with TemporaryDirectory(prefix="ftcheck-verify-") as folder:
            again = _again(pipeline, run, Path(folder), on_progress=on_progress, on_wait=on_wait)
            found = _compared(pipeline, case, scored, index, again)
        told[run.run.job.seed] = found
        if found.outcome == "different":
            wrong.append(_difference(run, found, _values(scored, index)))
    result = replace(result, runs=tuple(replace(one, verified=told.get(one.seed)) for one in result.runs))
    return replace(result, verdict="error", error="\n".join(wrong)) if wrong else result


class _Apart(Store):
    """A store of its own, but for what a training builds on: what a search found, what a teacher said."""

    def __init__(self, root: Path, behind: Store) -> None:
        super().__init__(root)
        self._behind = behind

    def get(self, stage: Stage, digest: str, *, used: bool = True, model: bool = False) -> Entry | None:
        found = super().get(stage, digest, used=used, model=model)
        if found is None and stage in ("searches", "answers"):
            return self._behind.get(stage, digest, used=used, model=model)
        return found


def _again(
    pipeline: Pipeline,
    run: Finished,
    folder: Path,
    *,
    on_progress: Callable[[int, Progress], None],
    on_wait: Callable[[str], None],
) -> tuple[Pipeline, Finished]:
    """The run made once more in a store below `folder`, and the pipeline of that store. Raises FtcheckError."""
    from ftcheck import folding
    from ftcheck.executors.inline import InlineExecutor

    apart = replace(pipeline, store=_Apart(folder, pipeline.store), executor=InlineExecutor())
    parts = []
    for part in run.run.parts or (run.run,):
        pipeline.require_parents(part.job)
        made = apart.executor.produce(
            pipeline.work_again(part), apart.store, lambda progress: on_progress(run.run.job.seed, progress), on_wait
        )
        parts.append(_finished(apart.store, part, made))
    if run.run.parts:
        folding.publish(run.run.train, run.run.predict, parts, apart.store)
    return apart, _finished(apart.store, run.run, frozenset(("train", "predict")))


def _finished(store: Store, run: Run, made: frozenset[str]) -> Finished:
    trained = store.get("runs", run.train.digest) if run.job.case.training is not None else None
    predicted = store.get("predictions", run.predict.digest)
    assert predicted is not None, "it was made just now"
    return Finished(run=run, trained=trained, predicted=predicted, made=made)


def _compared(
    pipeline: Pipeline, case: Case, scored: Scored, index: int, made: tuple[Pipeline, Finished]
) -> Verification:
    apart, again = made
    run = scored.runs[index]
    values = _values(apart.scored(case, (again,)), 0)
    # As text, every float differs from every other, and NaN is what it is.
    rows = sum(repr(then) != repr(now) for then, now in zip(run.records(), again.records(), strict=True))
    exact = pipeline.device.kind == "cpu" and _environment(run) == _environment(again)
    within = all(_close(values[name], value) for name, value in _values(scored, index).items())
    outcome = "identical" if rows == 0 else "close" if within and not exact else "different"
    return Verification(outcome=outcome, metrics=values, rows=rows, exact=exact)  # type: ignore[arg-type]


def _environment(run: Finished) -> object:
    """What the run was trained on; of a checkpoint judged as it is nothing is recorded, so that nothing is known."""
    return run.trained.content["environment"] if run.trained else object()


def _values(scored: Scored, index: int) -> dict[str, float]:
    """Each metric's value of one run."""
    from ftcheck import statistics

    return {
        name: statistics.value(scored.statistics[name][index], metric.aggregate)
        for name, metric in scored.metrics.items()
    }


def _close(now: float, then: float) -> bool:
    if math.isnan(now) or math.isnan(then):
        return math.isnan(now) and math.isnan(then)
    return math.isclose(now, then, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _difference(run: Finished, found: Verification, stored: Mapping[str, float]) -> str:
    """What is to be said of a run that is other than the store has it."""
    differing = [name for name, value in stored.items() if found.metrics[name] != value] or list(stored)
    values = ", ".join(f"{shown(name, 60)} {found.metrics[name]:.6g}, stored {stored[name]:.6g}" for name in differing)
    same = ", on the machine, libraries and threads that it was made with" if found.exact else ""
    return (
        f"seed {run.run.job.seed}: made once more{same}, it is not what the store has: {values}; "
        f"{numbers.count(found.rows, 'prediction')} of {len(run.records()):,} differ "
        f"(run {run.run.train.digest[:12]}, predictions {run.run.predict.digest[:12]}). Either that is wrong, or the "
        "training can't be repeated: make it anew with --ft-cache=refresh, and see whether --ft-verify agrees then"
    )


def summary(results: Sequence[CaseResult], known: Choice | None) -> str:
    """The session's line on what was made once more; empty where nothing was to be."""
    if known is None:
        return ""
    found = Counter(run.verified.outcome for result in results for run in result.runs if run.verified)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.items())) or "none"
    what = numbers.count(known.found, "stored run")
    return f"verified: {found.total()} of {what} made once more: {said} (--ft-verify={known.option})"
