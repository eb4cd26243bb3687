"""Checked fields -> the parts of a Case: what depends on files, tasks, metrics and training fields."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ftcheck.errors import TaskError, one_of, shown
from ftcheck.spec import processes, streaming
from ftcheck.spec.case import (
    EVAL_SPLITS,
    READERS,
    Checkpoint,
    Data,
    EarlyStopping,
    Gate,
    Margin,
    Mark,
    RemoteCode,
    Slices,
)
from ftcheck.spec.catalogue import Catalogue, Facts, TaskFacts
from ftcheck.spec.declaration import KeyPath
from ftcheck.spec.fields import (
    FIRST_SEED,
    BoundsFields,
    CaseFields,
    CheckpointFields,
    DataFields,
    GateFields,
    SeedRangeFields,
)
from ftcheck.spec.marks import read_mark
from ftcheck.spec.mistakes import problems
from ftcheck.spec.places import files, place, split_problem


@dataclass(frozen=True)
class Builder:
    """Builds the parts of one case. Every method reports all it finds to `report(path of the value, message)`."""

    fields: CaseFields
    folder: Path
    catalogue: Catalogue
    report: Callable[[KeyPath, str], None]
    judges_train: bool = False
    """Whether a technique judges the training rows."""
    incomplete: frozenset[str] = frozenset()
    """Top-level fields of which something wrong was left out: nothing can be said about what they lack."""

    @property
    def trains(self) -> bool:
        return self.fields.training is not False

    @cached_property
    def task(self) -> TaskFacts | None:
        """What is known of the task; None for one that can't be had."""
        try:
            return self.catalogue.task(self.fields.task.name)
        except TaskError as error:
            self.report(("task",), str(error))
            return None

    def checkpoint(self) -> Checkpoint:
        given = self.fields.checkpoint
        path, local = self._model_place(given.path, ("checkpoint", "path"), given)
        tokenizer = given.tokenizer
        if tokenizer is not None:
            tokenizer, _ = self._model_place(tokenizer, ("checkpoint", "tokenizer"), given)
        if local and given.revision is not None:
            self.report(("checkpoint", "revision"), "a local checkpoint has no revision; leave it out")
        code = given.trust_remote_code
        return Checkpoint(
            path=path,
            local=local,
            revision=given.revision,
            tokenizer=tokenizer,
            remote_code=RemoteCode(revision=code.revision, repository=code.repository) if code else None,
        )

    def _model_place(self, text: str, key: KeyPath, given: CheckpointFields) -> tuple[str, bool]:
        try:
            path, local = place(text, self.folder, "a model")
        except ValueError as error:
            self.report(key, str(error))
            return text, True
        if local and not os.path.isdir(path):
            self.report(key, f"{shown(path, 300)} is a file; a checkpoint is a folder with config.json and weights")
        return path, local

    @cached_property
    def task_options(self) -> Mapping[str, Any]:
        """The task's options with its defaults filled in, as builtins; where something is wrong, the defaults alone."""
        if self.task is None:
            return {}
        given = self.fields.task.model_extra or {}
        try:
            return self.task.options.model_validate(given).model_dump(mode="json")
        except ValidationError as error:
            for path, message in problems(error, given, self.task.options):
                self.report(("task", *path), message)
            return self.task.options().model_dump(mode="json")

    def data(self) -> Data | None:
        given = self.fields.data
        if callable(given.path):
            data = self._callable_data(given.path, given)
        elif given.path in READERS:
            data = Data(kind="reader", path=given.path, files=self._files(given), options=given.options)
            self._refuse_set(given, ("name", "revision"), "goes with a Hub id")
        else:
            data = self._placed_data(given.path, given)
        if data is None:
            return None
        single = data.kind == "local" and os.path.isfile(data.path)
        self._check_splits(given, frozenset({"train"} if single else data.files))
        shared = {name: getattr(given, name) for name in ("splits", "holdout", "limit", "streaming", "shuffle_buffer")}
        return replace(data, columns=self._columns(given), **shared)

    def _callable_data(self, function: Callable[..., Any], given: DataFields) -> Data | None:
        name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', repr(function))}"
        self._refuse_set(given, ("name", "revision", "files", "options"), "goes with a path, not with a function")
        try:
            inspect.signature(function).bind()
        except (TypeError, ValueError) as error:
            self.report(("data",), f"{shown(name)} must be callable without arguments: {error}")
            return None
        return Data(kind="callable", path=name, factory=function)

    def _placed_data(self, text: str, given: DataFields) -> Data | None:
        self._refuse_set(given, ("files",), f"goes with a reader ({', '.join(READERS)}) as `path`")
        try:
            path, local = place(text, self.folder, "a data set")
        except ValueError as error:
            self.report(("data", "path"), str(error))
            return None
        if local:
            self._refuse_set(given, ("name", "revision"), "goes with a Hub id")
            return Data(kind="local", path=path, options=given.options)
        self._refuse_set(given, ("options",), "goes with a reader or a local file")
        return Data(kind="hub", path=path, name=given.name, revision=given.revision)

    def _refuse_set(self, given: DataFields, names: tuple[str, ...], why: str) -> None:
        for name in names:
            if getattr(given, name):
                self.report(("data", name), f"{why}; this data comes from {shown(given.path, 100)}")

    def _files(self, given: DataFields) -> Mapping[str, tuple[str, ...]]:
        """Split -> absolute paths. At least one is needed."""
        if not given.files:
            self.report(("data",), f"`path: {given.path}` is a reader: give `files: {{train: ..., test: ...}}`")
        found: dict[str, tuple[str, ...]] = {}
        for split, texts in given.files.items():
            if split_problem(split) or "[" in split or "+" in split:
                self.report(("data", "files", split), f"{shown(split, 60)!r} is no name of a split")
            paths: list[str] = []
            for index, text in enumerate(texts):
                try:
                    paths += files(text, self.folder)
                except ValueError as error:
                    self.report(("data", "files", split, index), str(error))
            found[split] = tuple(paths)
        return found

    def _columns(self, given: DataFields) -> Mapping[str, str | None]:
        """The columns that aren't the task's own names, checked against the task's."""
        if self.task is None:
            return {}
        known = self.task.columns
        for column, name in given.columns.items():
            key = ("data", "columns", column)
            if column not in known:
                self.report(key, f"{self.fields.task.name} has no such column; {one_of(column, known)}")
            elif name is None and known[column]:
                self.report(key, f"{self.fields.task.name} needs this column: it can't be null")
            elif name == "":
                self.report(key, "expected the name of a column of the data, got empty text")
        return given.columns

    def _check_splits(self, given: DataFields, known: frozenset[str]) -> None:
        for role, expression in given.splits.items():
            if problem := split_problem(expression, known):
                self.report(("data", "splits", role), problem)
            if role in given.holdout:
                self.report(("data", "holdout", role), "`splits` says already where it comes from; give one of them")
        if sum(given.holdout.values()) >= 1:
            self.report(("data", "holdout"), "nothing is left to train on: the parts add up to 1 or more")
        if known and "data" not in self.incomplete:
            self._check_default_splits(given, known)

    def _check_default_splits(self, given: DataFields, known: frozenset[str]) -> None:
        """The splits that are used where the suite names none must be among those that it gives files for; all of a
        single file is `train`."""
        names = ", ".join(sorted(known))
        place = ("data", "files") if given.files else ("data", "path")
        if self.trains and "train" not in given.splits and "train" not in known:
            self.report(place, f"no split is called train; name one in data.splits.train ({names})")
        named = "eval" in given.splits or "eval" in given.holdout or self.judges_train
        if not named and not known.intersection(EVAL_SPLITS):
            self.report(
                place,
                f"no split to judge ({' or '.join(EVAL_SPLITS)}); name one in data.splits.eval ({names}), "
                "or carve one out of train: data.holdout: 0.2",
            )

    def training(self) -> Mapping[str, Any] | None:
        """TrainingArguments fields as given; None where nothing is trained."""
        if self.fields.training is False:
            return None
        given = self.fields.training
        defaults = self.task.training_defaults if self.task else {}
        for name, message in self.catalogue.training_problems(given, defaults):
            self.report(("training", name), message)
        return given

    @property
    def right_training(self) -> Mapping[str, Any]:
        """TrainingArguments fields with the task's defaults, without those that are wrong by themselves."""
        given = self.fields.training or {}
        defaults = self.task.training_defaults if self.task else {}
        wrong = {name for name, _ in self.catalogue.training_problems(given, defaults)}
        return {**defaults, **{name: value for name, value in given.items() if name not in wrong}}

    def early_stopping(self) -> EarlyStopping | None:
        given = self.fields.early_stopping
        return EarlyStopping(patience=given.patience, threshold=given.threshold) if given else None

    def techniques(self, given: Mapping[str, Any], metrics: tuple[str, ...]) -> Mapping[str, Mapping[str, Any]]:
        """The checked options of each technique that the case, which has these metrics, names."""
        found: dict[str, Mapping[str, Any]] = {}
        for name, value in given.items():
            kind = self.catalogue.technique(name)
            try:
                found[name] = kind.read(value)
            except ValidationError as error:
                spelled_out = kind.spelled_out(value)
                for path, message in problems(error, spelled_out, kind.options):
                    self.report((name, *(path if spelled_out is value else path[1:])), message)
        if self.task is None or self.incomplete & {"task", "training", "data", "seeds"}:
            return found
        fields, seeds = self.fields, self.fields.seeds
        facts = Facts(
            task=fields.task.name,
            task_options=self.task_options,
            training=None if fields.training is False else self.right_training,
            techniques=found,
            streaming=fields.data.streaming,
            tunes="tune" in fields.data.splits or "tune" in fields.data.holdout,
            seeds=seeds.min if isinstance(seeds, SeedRangeFields) else len(seeds),
            early_stopping=fields.early_stopping is not None,
            halves=fields.on_oom == "halve_batch",
            folder=self.folder,
            judges="eval" in {*fields.data.splits, *fields.data.holdout, *fields.data.limit},
            metrics=tuple(name for name in metrics if name not in self.catalogue.costs),
            processes=processes.count(fields),
            own_code=fields.checkpoint.trust_remote_code is not None,
        )
        for path, message in self.catalogue.technique_problems(facts):
            self.report(path, message)
        if len(found) == len(given):
            for key, text in self._named_metrics():
                if problem := self.catalogue.cost_problem(text, found):
                    self.report(key, problem)
        return found

    def demanded(self, gates: Sequence[Gate], techniques: Mapping[str, Mapping[str, Any]]) -> tuple[Gate, ...]:
        """The gates, with what techniques demand of costs; of several bounds of one cost the strictest holds."""
        found = {gate.metric: gate for gate in gates}
        for name, options in techniques.items():
            for cost, most in self.catalogue.technique(name).gates(options).items():
                gate = found.get(cost, Gate(metric=cost))
                found[cost] = replace(gate, max=most if gate.max is None else min(most, gate.max))
        return tuple(found.values())

    def metrics(self) -> tuple[str, ...]:
        """The task's defaults, then `metrics`, then what gates name; each once."""
        task = self.task
        if task is None:
            return ()
        named = self._named_metrics()
        for key, text in named:
            if problem := self._metric_problem(text, task):
                self.report(key, problem)
            elif not self.trains and text in self.catalogue.training_costs:
                self.report(key, f"with `training: false` nothing is trained, so there is no {text}")
        return tuple(dict.fromkeys([*task.default_metrics(self.task_options), *(text for _, text in named)]))

    def _named_metrics(self) -> list[tuple[KeyPath, str]]:
        """(where it stands, metric) of those that `metrics` and gates name."""
        named: list[tuple[KeyPath, str]] = [
            (("metrics", index), text) for index, text in enumerate(self.fields.metrics)
        ]
        return named + [(("gates", text), text) for text, gate in self.fields.gates.items() if gate is not None]

    def _metric_problem(self, text: str, task: TaskFacts) -> str:
        return self.catalogue.metric_problem(text, task, self.task_options, self.folder)

    def gates(self) -> tuple[Gate, ...]:
        found = []
        for metric, gate in self.fields.gates.items():
            if gate is None:
                continue
            self._check_bounds(metric, gate, ("gates", metric), f"{', '.join(_DEMANDS)}, must_pass or slices")
            slices = None
            if gate.slices is not None:
                self._check_bounds(metric, gate.slices, ("gates", metric, "slices"), ", ".join(_DEMANDS[:-1]))
                if gate.slices.max_drift is not None:
                    self.report(
                        ("gates", metric, "slices", "max_drift"), "goes with the whole gate, not with its slices"
                    )
                slices = Slices(by=gate.slices.by, min_examples=gate.slices.min_examples, **_bounds(gate.slices))
            self._check_comparable(metric, gate)
            found.append(
                Gate(
                    metric=metric,
                    **_bounds(gate),
                    confidence=gate.confidence,
                    fail=gate.fail,
                    must_pass=tuple(map(str, gate.must_pass)),
                    slices=slices,
                )
            )
        return tuple(found)

    def _check_bounds(self, metric: str, bounds: BoundsFields, key: KeyPath, demands: str) -> None:
        more = isinstance(bounds, GateFields) and (bounds.must_pass or bounds.slices)
        if all(getattr(bounds, name) is None for name in _DEMANDS) and not more:
            self.report(key, f"expected at least one of {demands}")
        elif bounds.min is not None and bounds.max is not None and bounds.min > bounds.max:
            self.report(key, f"min {bounds.min} is above max {bounds.max}: no value passes")
        elif self.task is not None and not self._metric_problem(metric, self.task):
            self._check_reachable(metric, bounds, key, self.task)

    def _check_reachable(self, metric: str, gate: BoundsFields, key: KeyPath, task: TaskFacts) -> None:
        """A gate that no value can pass is a mistake (per cent, mostly), better said before a training than after."""
        low, high = self.catalogue.metric_bounds(metric, task, self.task_options, self.folder)
        for bound, limit, beyond in (("min", gate.min, high), ("max", gate.max, low)):
            if limit is None or not (limit > high if bound == "min" else limit < low):
                continue
            hint = f"; for {limit:g} % write {limit / 100:g}" if high == 1 < limit <= 100 else ""
            how = "above" if bound == "min" else "below"
            self.report((*key, bound), f"{metric} is never {how} {beyond:g}, got {limit:g}{hint}")
        for bound in ("max_regression", "max_gain", "max_drift"):
            margin = getattr(gate, bound)
            if isinstance(margin, float | int) and margin > high - low:
                hint = f"; for {margin:g} points write {margin / 100:g}" if high == 1 < margin <= 100 else ""
                self.report((*key, bound), f"{metric} never differs by more than {high - low:g}, got {margin:g}{hint}")

    def _check_comparable(self, metric: str, gate: GateFields) -> None:
        """Margins and single examples need example statistics, which costs don't have."""
        if metric not in self.catalogue.costs:
            return
        parts = (("", gate), ("slices", gate.slices))
        for name in ("max_regression", "max_gain", "max_drift", "must_pass", "slices"):
            if any(getattr(bounds, name, None) for _, bounds in parts):
                self.report(("gates", metric, name), f"{metric} is a cost: it has min and max only")

    def seeds(self, techniques: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[int, ...], int | None]:
        """(those that are run in any case, the most runs where more may be added). A technique may say how many."""
        given = self.fields.seeds
        for name, options in techniques.items():
            option = self.catalogue.technique(name).runs
            if option is None or options[option] is None:
                continue
            if "seeds" in self.fields.model_fields_set:
                self.report(("seeds",), f"{name}.{option} says how many runs are made; leave one of the two out")
            return tuple(range(FIRST_SEED, FIRST_SEED + options[option])), None
        if not isinstance(given, SeedRangeFields):
            return tuple(given if self.trains else given[:1]), None
        if given.max <= given.min:
            self.report(("seeds",), f"max {given.max} must be above min {given.min}")
        if not self.trains:
            self.report(("seeds",), "with `training: false` there is one run: fixed weights have no seed noise")
        if not any(gate is not None and _compares(gate) for gate in self.fields.gates.values()):
            self.report(("seeds",), "{min, max} adds seeds until margins are decided, and no gate has one")
        return tuple(range(FIRST_SEED, FIRST_SEED + given.min)), given.max

    def marks(self) -> tuple[Mark, ...]:
        found = []
        for index, given in enumerate(self.fields.marks):
            try:
                found.append(read_mark(given))
            except ValueError as error:
                self.report(("marks", index), str(error))
        return tuple(found)

    def check_on_oom(self) -> None:
        """Smaller batches must come to the same examples a step."""
        given = {} if self.fields.training is False else self.fields.training
        if self.fields.on_oom == "halve_batch" and given.get("dataloader_drop_last"):
            message = "drops fewer rows where on_oom: halve_batch makes batches smaller; leave one of them out"
            self.report(("training", "dataloader_drop_last"), message)

    def check_tuning(self, metrics: tuple[str, ...]) -> None:
        """What looks at scores during training needs rows that are not judged, and a metric that the case has."""
        if self.incomplete & {"data", "training", "task", "metrics", "gates", "early_stopping"}:
            return
        stopping = self.fields.early_stopping is not None
        if self.fields.training is False:
            if stopping:
                self.report(("early_stopping",), "with `training: false` there is no training to stop")
            return
        given = {**(self.task.training_defaults if self.task else {}), **self.fields.training}
        evaluates = str(given.get("eval_strategy", "no")) != "no"
        if stopping and not evaluates:
            self.report(
                ("early_stopping",), "needs training.eval_strategy (steps or epoch): it looks at each evaluation"
            )
        if stopping and "metric_for_best_model" not in given:
            self.report(("early_stopping",), "needs training.metric_for_best_model: loss, or a metric of the case")
        off = (None, False, "no")
        looks = [
            name for name in ("eval_strategy", "load_best_model_at_end", "eval_on_start") if given.get(name) not in off
        ]
        if given.get("save_strategy") == "best":
            looks.append("save_strategy")
        tuned = "tune" in self.fields.data.splits or "tune" in self.fields.data.holdout
        if (looks or stopping) and not tuned:
            self.report(
                ("training", looks[0]) if looks else ("early_stopping",),
                "looks at scores during training, on rows that are not judged: give data.splits.tune or "
                "data.holdout.tune (naming the judged split there says that you mean it)",
            )
        self._check_best_metric(given.get("metric_for_best_model"), metrics)

    def check_streaming(self) -> None:
        """What doesn't go with a stream of training rows."""
        given = self.fields.data
        if not given.streaming:
            if "shuffle_buffer" in given.model_fields_set:
                self.report(("data", "shuffle_buffer"), "goes with `streaming: true`; else all rows are shuffled")
            return
        for path, message in streaming.data_problems(given):
            self.report(path, message)
        if self.incomplete & {"data", "training", "task"}:
            return
        at: KeyPath = ("data", "streaming")
        if self.fields.training is False:
            self.report(at, "with `training: false` there are no training rows to stream; leave it out")
            return
        given_or_default = self.right_training
        for name, message in streaming.training_problems(given_or_default):
            self.report(("training", name) if name in self.fields.training else at, message)

    def check_processes(self) -> None:
        """What doesn't go with a training in several processes, and what goes with nothing else."""
        if not self.incomplete & {"training", "task", "resources", "on_oom"}:
            for path, message in processes.problems(self.fields, self.right_training):
                self.report(path, message)

    def _check_best_metric(self, name: Any, metrics: tuple[str, ...]) -> None:
        if not isinstance(name, str) or self.task is None:
            return
        usable = [metric for metric in metrics if metric not in self.catalogue.costs]
        if name.removeprefix("eval_") not in ("loss", *usable):
            self.report(
                ("training", "metric_for_best_model"),
                f"expected loss or a metric of the case, got {shown(name, 60)!r}; {one_of(name, ['loss', *usable])} "
                "(`metrics` adds one)",
            )


_DEMANDS = ("min", "max", "max_regression", "max_gain", "max_drift")


def _bounds(given: BoundsFields) -> dict[str, Any]:
    """The demands, margins read."""
    margins = {name: _margin(getattr(given, name)) for name in _DEMANDS[2:]}
    return {"min": given.min, "max": given.max, **margins}


def _margin(given: float | str | None) -> Margin | None:
    if given is None:
        return None
    if isinstance(given, str):
        return Margin(value=float(given.removesuffix("%")) / 100, relative=True)
    return Margin(value=float(given))


def _compares(gate: BoundsFields) -> bool:
    named = any(getattr(gate, name) is not None for name in _DEMANDS[2:])
    return named or (isinstance(gate, GateFields) and gate.slices is not None and _compares(gate.slices))
