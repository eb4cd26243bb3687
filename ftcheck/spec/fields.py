"""The shape of what a case may say, as pydantic models: types, ranges, names. JSON Schema comes from here.

What depends on the rest of ftcheck or on files (tasks, metrics, training fields, paths) is checked in `build`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from ftcheck import durations, sizes
from ftcheck.errors import shown
from ftcheck.spec.case import SHUFFLE_BUFFER, Precision
from ftcheck.spec.trust import TrustedCode

MAX_SEEDS = 1000
FIRST_SEED = 42
_PART = Annotated[float, Field(gt=0, lt=1)]
_Role = Literal["train", "tune", "eval"]


class Fields(BaseModel):
    """Strict: text is no number, and an unknown key is an error. A validator of its own is made only of what is
    validated by itself (`CaseFields`, when the first case comes): each takes milliseconds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


def _short_for(key: str, short: type | tuple[type, ...] = str) -> Callable[[Any], Any]:
    """A validator that takes a plain value for a mapping with only `key`."""
    return lambda value: {key: value} if isinstance(value, short) or callable(value) else value


def import_path(value: Any) -> Any:
    """A function or class, in a Python suite, stands for its import path."""
    if not isinstance(value, FunctionType | type):
        return value
    if "<" in value.__qualname__:
        raise PydanticCustomError("own", "expected what stands at the top of a module, so that it can be imported")
    return f"{value.__module__}:{value.__qualname__}"


def _import_paths(value: Any) -> Any:
    """The same for the keys of a mapping."""
    return {import_path(key): item for key, item in value.items()} if isinstance(value, dict) else value


_Named = Annotated[str, BeforeValidator(import_path)]


def _seconds(value: Any) -> Any:
    """A duration -> seconds."""
    try:
        return None if value is None else durations.seconds(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{expected}", {"expected": str(error).partition(", got")[0]}) from None


def _bytes(value: Any) -> Any:
    """A size -> bytes."""
    try:
        return None if value is None else sizes.in_bytes(value)
    except ValueError as error:
        raise PydanticCustomError("size", "{expected}", {"expected": str(error).partition(", got")[0]}) from None


def _devices(value: float) -> float:
    """A part of one device, or a whole number of them."""
    if value > 1 and value != int(value):
        raise PydanticCustomError("devices", "expected a part of one device (0.25), or how many (2)")
    return value


def _seed_list(value: Any) -> Any:
    """N -> N consecutive seeds; a list stays one."""
    if isinstance(value, bool) or not isinstance(value, int | list):
        raise PydanticCustomError("seeds", "expected how many seeds, a list of them, or {min: 2, max: 8}")
    if isinstance(value, int):
        if not 1 <= value <= MAX_SEEDS:
            raise PydanticCustomError("seeds", f"expected 1 to {MAX_SEEDS} seeds")
        return list(range(FIRST_SEED, FIRST_SEED + value))
    if not 1 <= len(value) <= MAX_SEEDS:
        raise PydanticCustomError("seeds", f"expected a list of 1 to {MAX_SEEDS} seeds")
    seen = set()
    for seed in value:
        if isinstance(seed, int) and seed in seen:
            raise PydanticCustomError("complete", f"expected distinct seeds, but {shown(seed, 20)} is there twice")
        if isinstance(seed, int):
            seen.add(seed)
    return value


_SeedList = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**32)]],
    BeforeValidator(
        _seed_list,
        json_schema_input_type=Annotated[int, Field(ge=1, le=MAX_SEEDS)]
        | Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1, max_length=MAX_SEEDS)],
    ),
]


def _training(value: Any) -> Any:
    """A mapping, or False."""
    if isinstance(value, dict) or value is False:
        return value
    raise PydanticCustomError("training", "expected a mapping of TrainingArguments fields, or false to train nothing")


def _files(value: Any) -> Any:
    """One file of a split stands for a list of it."""
    if not isinstance(value, dict):
        return value
    return {split: [files] if isinstance(files, str) else files for split, files in value.items()}


class CheckpointFields(Fields):
    path: Annotated[
        str, Field(min_length=1, description="A Hub id (org/name), or a local folder relative to the suite file.")
    ]
    revision: Annotated[
        str | None, Field(description="A commit, tag or branch of a Hub checkpoint; a commit pins it.")
    ] = None
    tokenizer: Annotated[
        str | None, Field(description="Where the tokenizer comes from, if not from the checkpoint.")
    ] = None
    trust_remote_code: TrustedCode = None


class TaskFields(BaseModel):
    """The task's own options are checked by the task's model."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, defer_build=True)

    name: Annotated[_Named, Field(description="The task.")]


class DataFields(Fields):
    path: Annotated[
        Annotated[str, Field(min_length=1)] | SkipJsonSchema[Callable[..., Any]],
        Field(
            description="A Hub id, a local file or folder (relative to the suite file), or a reader: "
            "csv, tsv, json, jsonl, parquet, text, conll, squad (rows come from `files`)."
        ),
    ]
    name: Annotated[str | None, Field(description="A configuration of a Hub dataset.")] = None
    revision: Annotated[str | None, Field(description="A commit, tag or branch of a Hub dataset.")] = None
    files: Annotated[
        dict[str, Annotated[list[str], Field(min_length=1)]],
        BeforeValidator(_files, json_schema_input_type=dict[str, str | list[str]]),
        Field(description="With a reader: split name -> file or files, relative to the suite file; * matches names."),
    ] = Field(default_factory=dict)
    columns: Annotated[
        dict[str, str | None],
        Field(
            description="The task's column -> the data's column, or a key within one (translation.en); "
            "null: an optional column that is not used."
        ),
    ] = Field(default_factory=dict)
    splits: Annotated[
        dict[_Role, str],
        Field(description="Role -> split of the data, e.g. train[:2000], train[10%:20%], train+validation."),
    ] = Field(default_factory=dict)
    holdout: Annotated[
        dict[Literal["eval", "tune"], _PART],
        BeforeValidator(
            _short_for("eval", (int, float)), json_schema_input_type=_PART | dict[Literal["eval", "tune"], _PART]
        ),
        Field(description="The part of train that is carved out for eval (a number alone) or tune."),
    ] = Field(default_factory=dict)
    limit: Annotated[
        dict[_Role, Annotated[int, Field(ge=1)]],
        BeforeValidator(
            _short_for("train", int),
            json_schema_input_type=Annotated[int, Field(ge=1)] | dict[_Role, Annotated[int, Field(ge=1)]],
        ),
        Field(description="The most rows used for a role (a number alone: train)."),
    ] = Field(default_factory=dict)
    options: Annotated[dict[str, Any], Field(description="Arguments of the reader, e.g. {delimiter: ';'} for csv.")] = (
        Field(default_factory=dict)
    )
    streaming: Annotated[
        bool, Field(description="Read training rows while training, never all at once; needs training.max_steps.")
    ] = False
    shuffle_buffer: Annotated[
        int, Field(ge=0, description="With streaming: among how many rows the next ones are drawn; 0: as they come.")
    ] = SHUFFLE_BUFFER


def _margin(value: Any) -> Any:
    """0.01, or "2%" as text."""
    if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?\s?%", value):
        raise PydanticCustomError("margin", "expected a number such as 0.01, or a percentage such as '2%'")
    return value


_Margin = Annotated[
    Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s?%$")],
    BeforeValidator(_margin, json_schema_input_type=Annotated[float, Field(ge=0)] | str),
]


class BoundsFields(Fields):
    min: Annotated[float | None, Field(description="Fail where the mean over seeds is below this.")] = None
    max: Annotated[float | None, Field(description="Fail where the mean over seeds is above this.")] = None
    max_regression: Annotated[
        _Margin | None,
        Field(description="How much worse than what it is compared with the metric may be: 0.01, or '2%' of that."),
    ] = None
    max_gain: Annotated[
        _Margin | None, Field(description="Fail where the metric is better by more than this: a jump smells of a leak.")
    ] = None
    max_drift: Annotated[
        _Margin | None, Field(description="How much worse than the first accepted result the metric may be.")
    ] = None


class SlicesFields(BoundsFields):
    by: Annotated[
        str,
        Field(min_length=1, description="A column of the data, or length (in characters), or label (the gold one)."),
    ]
    min_examples: Annotated[int, Field(ge=1, description="Smaller parts are named and not judged.")] = 50


class GateFields(BoundsFields):
    confidence: Annotated[
        float, Field(gt=0.5, lt=1, description="One-sided, of the bounds that tell a regression from noise.")
    ] = 0.95
    fail: Annotated[
        Literal["measured", "proven"],
        Field(
            description="measured: fail where it is worse beyond doubt, and measured worse by more than the margin. "
            "proven: fail where it is worse by more than the margin beyond doubt."
        ),
    ] = "measured"
    must_pass: Annotated[
        list[str | int], Field(description="Ids of examples that every run must get wholly right.")
    ] = Field(default_factory=list)
    slices: Annotated[SlicesFields | None, Field(description="Bounds on every part of the judged rows.")] = None


class EarlyStoppingFields(Fields):
    patience: Annotated[int, Field(ge=1, description="Evaluations without an improvement before training stops.")]
    threshold: Annotated[float, Field(ge=0, description="By how much a better score must be better.")] = 0.0


class ResourcesFields(Fields):
    gpus: Annotated[
        Annotated[float, Field(gt=0), AfterValidator(_devices)] | None,
        Field(
            description="A part of one device (0.25: four runs at once on one), or how many one run is trained on, "
            "by a process each.",
        ),
    ] = None
    nodes: Annotated[
        int,
        Field(
            ge=1,
            description="Over how many machines of a Ray cluster (--ft-executor=ray) these devices are spread, as many "
            "on each.",
        ),
    ] = 1
    memory: Annotated[
        int | None,
        BeforeValidator(_bytes, json_schema_input_type=str | int | None),
        Field(
            description="What a run needs of its device's memory, of the machine's on a CPU: 8GB. Default: estimated."
        ),
    ] = None
    cpus: Annotated[int | None, Field(ge=1, description="Cores for each process. Default: an equal share.")] = None


class SeedRangeFields(Fields):
    min: Annotated[int, Field(ge=1, le=MAX_SEEDS, description="Runs that are made in any case.")]
    max: Annotated[int, Field(ge=2, le=MAX_SEEDS, description="The most, however undecided the gates are.")]


class CaseFields(Fields):
    """One case, as merged from defaults, the case itself, one combination of its matrix, and parametrize."""

    checkpoint: Annotated[
        CheckpointFields,
        BeforeValidator(_short_for("path"), json_schema_input_type=str | CheckpointFields),
        Field(description="The model to start from: a Hub id, a local folder, or {path, revision, tokenizer}."),
    ]
    task: Annotated[
        TaskFields,
        BeforeValidator(_short_for("name"), json_schema_input_type=str | TaskFields),
        Field(description="The task's name or import path, or {name: ..., and its options}."),
    ]
    data: Annotated[
        DataFields,
        BeforeValidator(_short_for("path"), json_schema_input_type=str | DataFields),
        Field(description="Where rows come from and what they are for."),
    ]
    training: Annotated[
        dict[str, Any] | Literal[False],
        BeforeValidator(_training, json_schema_input_type=dict[str, Any] | Literal[False]),
        Field(description="TrainingArguments fields, or false to judge the checkpoint as it is."),
    ] = Field(default_factory=dict)
    early_stopping: Annotated[
        EarlyStoppingFields | None,
        Field(description="Stop when metric_for_best_model on the tune split no longer gets better."),
    ] = None
    precision: Annotated[Precision, Field(description="auto: bf16 where the device is good at it, else fp32.")] = "auto"
    seeds: Annotated[
        Annotated[_SeedList, Tag("list")] | Annotated[SeedRangeFields, Tag("range")],
        Discriminator(lambda value: "range" if isinstance(value, dict | SeedRangeFields) else "list"),
        Field(
            description="How many seeds (42, 43, ...), or a list of them: each makes one run. {min, max}: min runs, "
            "then one more at a time until every gate is decided."
        ),
    ] = Field(default_factory=lambda: [FIRST_SEED])
    collapsed: Annotated[
        Literal["count", "drop", "fail"],
        Field(
            description="A run that learned nothing while the others did: counts like any other, is left out (and the "
            "rate is said), or fails the case."
        ),
    ] = "count"
    vs: Annotated[
        str,
        Field(
            pattern=r"^(baseline|base-checkpoint|case:.+|git:.+)$",
            description="What margins compare with: baseline (the committed one), base-checkpoint (the checkpoint as "
            "it is), case:ID (another case of this file), git:REF (the baseline as committed there).",
        ),
    ] = "baseline"
    cluster: Annotated[
        str | None,
        Field(description="A column of the data: rows that share its value (a document, a dialogue) vary together."),
    ] = None
    metrics: Annotated[
        list[_Named], Field(description="Metrics to compute besides the task's own and those of gates.")
    ] = Field(default_factory=list)
    gates: Annotated[
        dict[str, GateFields | None],
        BeforeValidator(_import_paths),
        Field(description="Metric -> what it must reach: {min: ..., max: ...}. null removes a default."),
    ] = Field(default_factory=dict)
    resources: Annotated[
        ResourcesFields, Field(description="What one run asks of the machine: {gpus: 0.25, memory: 8GB, cpus: 2}.")
    ] = Field(default_factory=ResourcesFields)
    on_oom: Annotated[
        Literal["fail", "halve_batch"],
        Field(
            description="What a training that runs out of memory does: halve_batch begins it anew with half the batch "
            "and twice the gradient_accumulation_steps."
        ),
    ] = "fail"
    timeout: Annotated[
        float | None,
        BeforeValidator(_seconds, json_schema_input_type=str | float | None),
        Field(description="The most time (90s, 30min, 2h) that the training of a run may take, and its predicting."),
    ] = None
    keep_model: Annotated[
        Literal["all", "first", "none"], Field(description="Which seeds' models stay in the run store.")
    ] = "all"
    marks: Annotated[
        list[str | dict[str, Any]],
        Field(description="pytest marks: slow, gpu, hub, {skip: reason}, {xfail: reason}."),
    ] = Field(default_factory=list)
    description: Annotated[str, Field(description="One line about the case.")] = ""


def keys_of(techniques: Iterable[str]) -> tuple[str, ...]:
    """All that a case may say, where these techniques are known."""
    return (*CaseFields.model_fields, *techniques)
