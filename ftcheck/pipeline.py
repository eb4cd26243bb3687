"""The one orchestrator: Case -> keys -> store? -> fine-tune -> predict -> score -> judge -> CaseResult.

The first half of that way, up to the finished runs, is `production`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import gates, proposals, tasks, timing
from ftcheck.errors import BaselineError, FtcheckError, MetricError
from ftcheck.finetune import Progress, techniques
from ftcheck.production import Production
from ftcheck.results import CaseResult, Confusion, WorstExample
from ftcheck.runs import Finished, Measured, Scored, judged_data, notes, profile, run_result
from ftcheck.scoring import Scorer

if TYPE_CHECKING:
    from ftcheck.evidence import Missing
    from ftcheck.metrics import Context, Lookup, Metric
    from ftcheck.references import Other, Peers
    from ftcheck.spec import Case

REFERENCE, FIRST = "reference", "first"
"""The two that margins compare with (see `Evidence.pairs`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline(Production):
    """Measures and judges cases, one at a time."""

    def measure(
        self,
        case: Case,
        nodeid: str,
        on_progress: Callable[[int, Progress], None],
        on_wait: Callable[[str], None],
        *,
        peers: Peers = lambda name: None,
    ) -> Measured:
        """Bring every run of `case` into the store, score it, and judge the case.

        Raises FtcheckError for whatever keeps the case from being measured.
        """
        if not self.settings.profile:
            return self._measure(case, nodeid, on_progress, on_wait, peers=peers)
        with timing.recording() as recorder:
            measured = self._measure(case, nodeid, on_progress, on_wait, peers=peers)
        spent = profile(measured.runs, recorder)
        return replace(measured, result=replace(measured.result, profile=spent))

    def _measure(
        self,
        case: Case,
        nodeid: str,
        on_progress: Callable[[int, Progress], None],
        on_wait: Callable[[str], None],
        *,
        peers: Peers,
    ) -> Measured:
        from ftcheck import references
        from ftcheck.judging import judge

        finish = partial(self.finish, on_progress=on_progress, on_wait=on_wait)
        smoke = self.settings.limit is not None
        # Before the case itself: what can't be compared with is said before hours of training, and a run of the store
        # is what it was when the session began.
        others = {} if smoke else self._others(case, finish, peers)
        finished = finish(case)
        growing = case if self.settings.seeds is None else replace(case, max_seeds=None)
        while True:
            scored = self.scored(case, finished)
            try:
                judgement = judge(growing, scored, others, self.store, smoke=smoke)
            except BaselineError as error:
                others = dict.fromkeys(others, self._replaceable(error))
                continue
            last = max(run.run.job.seed for run in finished)
            most = growing.max_seeds or 0
            if len(finished) >= most or not gates.undecided(judgement.gates):
                break
            finished = (*finished, *finish(case, [last + 1]))
        if not smoke:  # `why` compares whole runs
            first = finished[0].run
            self.store.record_case(str(case.suite), case.id, {"train": first.train, "predict": first.predict})
        result = CaseResult(
            suite=str(case.suite),
            case_id=case.id,
            nodeid=nodeid,
            task=case.task,
            checkpoint=case.checkpoint.path,
            verdict="smoke" if smoke else gates.verdict(judgement.gates),
            device=str(self.device),
            precision=finished[0].run.job.precision,
            seeds=tuple(run.run.job.seed for run in judgement.scored.runs),
            metrics=tuple(judgement.values[name] for name in case.metrics if name in judgement.values),
            gates=judgement.gates,
            runs=tuple(run_result(run) for run in finished),
            examples=int(finished[0].predicted.content["rows"]["eval"]["count"]),
            notes=(*notes(finished), *judgement.notes, *self.warnings()),
            references=judgement.references,
            limited=self.settings.limit,
            data=judged_data(finished[0].run),
        )
        if self.settings.charted:
            from ftcheck import inspecting

            result = replace(result, breakdown=inspecting.breakdown(case, judgement, others, self.store))
        if self.chosen:
            from ftcheck import verifying

            result = verifying.verified(self, case, judgement.scored, result, on_progress=on_progress, on_wait=on_wait)
        proposal = None
        if self.settings.updates and not smoke and result.verdict != "error":
            proposal = proposals.propose(
                case.suite,
                case.id,
                self.device.kind,
                references.of_scored(judgement.scored, "", fixed=case.training is None),
                judgement.values,
                reason=self.settings.reason or "",
            )
            proposal = proposals.with_outlook(proposal, case, judgement.scored, judgement.values)
            result, proposal = proposals.settled(result, proposal, proposals.Rules.of(case, self.settings))
        if result.verdict == "fail":
            confusions, worst = self._errors(case, finished)
            result = replace(result, confusions=confusions, worst=worst)
        return Measured(result=result, runs=finished, scored=judgement.scored, proposal=proposal)

    def _others(
        self,
        case: Case,
        finish: Callable[[Case], tuple[Finished, ...]],
        peers: Peers,
    ) -> dict[str, Other | Missing]:
        """What the case's margins compare with; nothing where it has none."""
        from ftcheck import references

        bounds = [bounds for gate in case.gates for bounds in (gate, gate.slices) if bounds is not None]
        wanted: dict[str, Callable[[], Other | Missing]] = {}
        if any(bound.max_regression is not None or bound.max_gain is not None for bound in bounds):
            wanted[REFERENCE] = partial(self._reference, case, finish, peers)
        if any(bound.max_drift is not None for bound in bounds):
            wanted[FIRST] = partial(references.committed, case, self.device.kind, first=True)
        found: dict[str, Other | Missing] = {}
        for side, look in wanted.items():
            try:
                found[side] = look()
            except BaselineError as error:
                found[side] = self._replaceable(error)
        return found

    def _replaceable(self, error: BaselineError) -> Missing:
        """A baseline that can't be used is no hindrance where it is going to be replaced; else its error is raised."""
        from ftcheck.evidence import Missing

        if not self.settings.updates:
            raise error
        return Missing(verdict="incomparable", why=str(error))

    def _reference(self, case: Case, finish: Callable[[Case], tuple[Finished, ...]], peers: Peers) -> Other | Missing:
        from ftcheck import references

        device, to = self.device.kind, self.settings.compare
        if to is not None:
            from ftcheck import operands

            return operands.other(to, case, device, self.store, Path.cwd())
        kind, _, name = case.vs.partition(":")
        if kind == "git":
            return references.at_commit(case, device, name)
        if kind == "baseline":
            return references.committed(case, device)
        if kind == "case":
            other = peers(name)
            if other is None:
                raise MetricError(f"vs: no case of {case.suite.name} is called {name}")
            against = f"case {name}"
        else:
            data = case.data
            if techniques.folding(case) is not None:  # what the folds judge together
                data = replace(data, splits={**data.splits, "eval": data.splits.get("train", "train")})
            other = replace(
                case, training=None, early_stopping=None, seeds=case.seeds[:1], techniques={}, parents={}, data=data
            )
            against = "the base checkpoint"
        try:
            scored = self.scored(other, finish(other), named=case)
        except FtcheckError as error:
            raise type(error)(f"compared with {against}, which can't be measured: {error}") from error
        return references.of_scored(scored, against, fixed=other.training is None)

    @timing.phase("score")
    def scored(self, case: Case, finished: tuple[Finished, ...], *, named: Case | None = None) -> Scored:
        """The example statistics of the metrics of `case` (or those that another case names) for its runs.

        Raises MetricError: a metric that can't be computed, runs that were judged on different rows.
        """
        task = tasks.get(case.task)
        self._same_examples(finished)
        context = task.context(dict(finished[0].meta), case.task_options)
        built, left_out = _built(named or case, context, tasks.lookup(case))
        scorer = Scorer(task=task, options=case.task_options, lookup=tasks.lookup(case), store=self.store)
        found = [scorer.scores(run.run.predict, run.predicted, built, anew="predict" in run.made) for run in finished]
        return Scored(
            runs=finished,
            ids=found[0][0],
            metrics={metric.name: metric for metric in built},
            statistics={metric.name: tuple(statistics[metric.name] for _, statistics in found) for metric in built},
            left_out=tuple(left_out),
        )

    def warnings(self) -> tuple[str, ...]:
        """What the store has to tell the reader since it was asked last: entries set aside, what couldn't be noted."""
        said = tuple(self.store.warnings)
        del self.store.warnings[: len(said)]  # an upload may have added one meanwhile
        return said

    @staticmethod
    def _same_examples(finished: Sequence[Finished]) -> None:
        digests = {run.predicted.content["rows"]["eval"]["hashes"] for run in finished}
        if len(digests) > 1:
            raise MetricError("the seeds of this case were judged on different rows: is its data made at random?")

    @staticmethod
    def _errors(case: Case, finished: Sequence[Finished]) -> tuple[tuple[Confusion, ...], tuple[WorstExample, ...]]:
        """The commonest confusions over all runs, and the worst examples of the first."""
        task = tasks.get(case.task)
        counts: Counter[tuple[str, str]] = Counter()
        for run in finished:
            for confusion in task.confusions(run.records(), dict(run.meta)):
                counts[confusion.gold, confusion.predicted] += confusion.count
        first = finished[0]
        return (
            tuple(
                Confusion(gold=gold, predicted=predicted, count=n) for (gold, predicted), n in counts.most_common(10)
            ),
            tuple(task.worst(first.records(), dict(first.meta), case.task_options)),
        )


def _built(case: Case, context: Context, lookup: Lookup) -> tuple[list[Metric], list[str]]:
    """The case's metrics but costs, and what is to be said of a default one that doesn't fit the data (it is left out).

    Raises MetricError for one that a gate names.
    """
    defaults = set(tasks.get(case.task).default_metrics(case.task_options)) - {gate.metric for gate in case.gates}
    built, left_out = [], []
    for name in case.metrics:
        if lookup.is_cost(name):
            continue
        try:
            built.append(lookup.build(name, context))
        except MetricError as error:
            if name not in defaults:
                raise
            left_out.append(f"{name} is left out: {error}")
    return built, left_out
