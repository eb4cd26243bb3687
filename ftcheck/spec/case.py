"""`Case` and its parts: frozen and complete. A Case that exists is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Precision = Literal["auto", "fp32", "bf16", "fp16"]


SHUFFLE_BUFFER = 10_000
"""Rows that a stream is shuffled among unless the suite says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCode:
    """Code that comes with a checkpoint."""

    revision: str
    """A commit of 40 hexadecimal digits; of a local folder, what `keys.own_code.revision` says of it."""
    repository: str | None = None
    """The Hub id where it is, if not with the checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model to start from: a Hub id (`local` is False) or the absolute path of a local folder."""

    path: str
    local: bool
    revision: str | None = None
    tokenizer: str | None = None
    """Where the tokenizer comes from, if not from `path`: a Hub id or the absolute path of a folder."""
    remote_code: RemoteCode | None = None
    """The Python code that may run to make its classes; None: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where rows come from and what they are for.

    `kind` decides what `path` is: `hub` an id, `local` the absolute path of a saved DatasetDict or of a file or folder
    whose reader follows from the suffix, `reader` one of READERS (rows come from `files`), `callable` the dotted name
    of `factory` (which returns a DatasetDict).
    """

    kind: Literal["hub", "local", "reader", "callable"]
    path: str
    name: str | None = None
    revision: str | None = None
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split name -> absolute paths, in order."""
    columns: Mapping[str, str | None] = field(default_factory=dict)
    """The task's column -> the data's column; those not named keep the task's name. None: an optional column that is
    not used, whether the data has it or not."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Role (`train`, `tune`, `eval`) -> split expression such as `train[:2000]`."""
    holdout: Mapping[str, float] = field(default_factory=dict)
    """Role (`eval`, `tune`) -> the part of train that is carved out for it, 0 < part < 1."""
    limit: Mapping[str, int] = field(default_factory=dict)
    """Role -> the most rows used (a seeded, class-blind sample of the role's rows, in their order)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the reader (e.g. `delimiter`)."""
    streaming: bool = False
    """Training rows are read while training, never all at once."""
    shuffle_buffer: int = SHUFFLE_BUFFER
    """With `streaming`: among how many rows the next ones are drawn; 0: as they come."""
    factory: Callable[[], Any] | None = field(default=None, compare=False)


READERS = ("csv", "tsv", "json", "jsonl", "parquet", "text", "conll", "squad")
ROLES = ("train", "tune", "eval")
EVAL_SPLITS = ("test", "validation", "valid", "dev")
"""What is judged where a suite names no split for it: the first of these that the data has."""
PARTS = ("length", "label")
"""What `slices.by` knows besides columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """How much a metric may differ from what it is compared with: absolute, or (`"2%"` is 0.02) a part of that."""

    value: float
    relative: bool = False

    def __str__(self) -> str:
        return f"{100 * self.value:g}%" if self.relative else f"{self.value:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Demands on one metric. `min` and `max` bound the mean over seeds; margins bound how it differs from another
    result: `max_regression` and `max_gain` from what the case is compared with, `max_drift` from the first accepted."""

    min: float | None = None
    max: float | None = None
    max_regression: Margin | None = None
    max_gain: Margin | None = None
    max_drift: Margin | None = None

    @property
    def compares(self) -> bool:
        return self.max_regression is not None or self.max_gain is not None or self.max_drift is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices(Bounds):
    """Demands on every part of the judged rows: by a column of the data, by `length` (characters) or by `label`."""

    by: str
    min_examples: int = 50
    """Smaller parts are named and not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Bounds):
    """Demands on one metric, on all judged rows and on parts of them."""

    metric: str
    confidence: float = 0.95
    """One-sided, of the bounds that a regression is told from noise by."""
    fail: Literal["measured", "proven"] = "measured"
    """What fails `max_regression`: a regression beyond doubt that measures more than the margin, or one that is beyond
    doubt more than the margin."""
    must_pass: tuple[str, ...] = ()
    """Ids of examples that every run must get wholly right."""
    slices: Slices | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """Stop when `patience` evaluations running on the tune split were no better by more than `threshold`, as
    `metric_for_best_model` tells."""

    patience: int
    threshold: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one run of a case asks of the machine."""

    gpus: float | None = None
    """A part of one device, below 1; or of how many it takes all: from 2 on, that many processes train the run
    together. None: of one device, what its memory needs."""
    nodes: int = 1
    """Over how many machines its processes are spread, as many on each."""
    memory: int | None = None
    """Bytes, of the device's memory; on a CPU, of the machine's. None: estimated."""
    cpus: int | None = None
    """Cores, for each process. None: an equal share."""

    @property
    def processes(self) -> int:
        """How many train one run together."""
        return max(1, int(self.gpus or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A pytest mark: `pytest.mark.NAME(*args, **kwargs)`."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fine-tune-then-assert case, complete and checked."""

    id: str
    """`name` and `parameters`: `[A-Za-z0-9][A-Za-z0-9._-]*`, unique in its file ignoring case."""
    name: str = ""
    """As the suite wrote it: the YAML key, or the test function's name."""
    parameters: tuple[str, ...] = ()
    """What tells the cases of one declaration apart, as shown: the matrix's values, then parametrize's."""
    suite: Path
    """Absolute."""
    line: int
    checkpoint: Checkpoint
    task: str
    task_options: Mapping[str, Any] = field(default_factory=dict)
    """Checked values of the task's Options model, defaults filled in."""
    data: Data
    training: Mapping[str, Any] | None = field(default_factory=dict)
    """TrainingArguments fields as the suite gave them; None (`training: false`): the checkpoint is judged as it is."""
    early_stopping: EarlyStopping | None = None
    techniques: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is done besides plain fine-tuning: technique -> its checked options, complete, as builtins."""
    parents: Mapping[str, Case] = field(default_factory=dict)
    """Technique -> the case whose trained model it needs. Cases form no cycle."""
    precision: Precision = "auto"
    seeds: tuple[int, ...] = (42,)
    """One run each; a single one where nothing is trained, since fixed weights have no seed noise."""
    max_seeds: int | None = None
    """As many runs are made until all gates are decided; None: `seeds` and no more."""
    collapsed: Literal["count", "drop", "fail"] = "count"
    """What happens to a run that learned nothing while the others did."""
    vs: str = "baseline"
    """What margins compare with: `baseline`, `base-checkpoint`, `case:ID` of the same file, or `git:REF`."""
    cluster: str | None = None
    """A column of the data: rows that share its value vary together."""
    metrics: tuple[str, ...] = ()
    """All metrics to compute, in the order shown: the task's defaults, then `metrics:`, then what gates name."""
    gates: tuple[Gate, ...] = ()
    resources: Resources = field(default_factory=Resources)
    on_oom: Literal["fail", "halve_batch"] = "fail"
    """What a training that runs out of the device's memory does: `halve_batch` begins anew with half the batch, and
    twice the accumulation."""
    timeout: float | None = None
    """Seconds that the training of a run may take, and its predicting."""
    keep_model: Literal["all", "first", "none"] = "all"
    marks: tuple[Mark, ...] = ()
    description: str = ""

    @property
    def columns_beside(self) -> tuple[str, ...]:
        """Columns of the data that judging needs besides the task's."""
        named = {self.cluster, *(gate.slices.by for gate in self.gates if gate.slices)}
        return tuple(sorted(name for name in named if name is not None and name not in PARTS))
