"""The keys of the three stages: train, predict, score."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from ftcheck.keys import arguments
from ftcheck.keys.canonical import Key
from ftcheck.keys.roles import EVALUATION_ROLES, ROLES, TRAINING_ROLES

if TYPE_CHECKING:
    from ftcheck.keys.identity import Identifier
    from ftcheck.spec import Case
    from ftcheck.tasks import Task

FORMAT = 1
"""Raised when the meaning of a component changes, so that no older key can be mistaken for a newer one."""


SCORES_LAYOUT = 2
"""Raised when what a scores entry holds changes."""


def train_key(
    case: Case,
    seed: int,
    *,
    device_type: str,
    precision: str,
    identifier: Identifier,
    limit: int | None = None,
    parents: Mapping[str, Key] | None = None,
    fold: int | None = None,
) -> Key:
    """What the model of one run of `case` depends on; without `fold`, of a case that has folds, the models of all.
    `parents`: technique -> train key of the run of `case.parents`
    whose model it takes. Raises FtcheckError for an input without an identity.

    Left out on purpose: the case's id, suite, marks, gates, metrics and description, `keep_model`, output and logging
    arguments, thread count, GPU model and driver (recorded with the run), and whatever only the evaluation reads.
    With `training: false` it is the checkpoint, the tokenizer and the task; and, where settings are tuned on a split,
    also what that depends on.
    """
    from ftcheck import tasks

    task = tasks.get(case.task)
    components: dict[str, Any] = {
        "format": FORMAT,
        "stage": "train",
        "checkpoint": identifier.checkpoint(case.checkpoint),
        "tokenizer": identifier.tokenizer(case.checkpoint),
        "task": {
            "name": task.name,
            "class": tasks.import_path(case.task),
            "version": task.version,
            "options": _task_options(case, task),
        },
    }
    used = _techniques(case, identifier, "train")
    if used:
        components["techniques"] = used
    if fold is not None:
        components["fold"] = fold
    if case.parents:
        components["parents"] = {technique: (parents or {})[technique].digest for technique in case.parents}
    if case.training is not None:
        given = _arguments(case, task)
        components |= {
            "training": arguments.for_training(given),
            "early_stopping": asdict(case.early_stopping) if case.early_stopping else {},
            "best_metric": _own_best_metric(case, given),
            "seed": seed,
            # A smoke run learns its classes from all rows, since a handful of training rows hasn't all of them.
            "data": identifier.data(case.data, TRAINING_ROLES if limit is None else ROLES),
        }
        if case.resources.processes > 1:  # each takes a batch of its own
            components["processes"] = case.resources.processes
        if case.on_oom != "fail":  # what is trained then depends on the memory that there is
            components["on_oom"] = case.on_oom
    elif _scored(case):
        components["data"] = identifier.data(case.data, ("tune",))
    if "data" in components:
        components |= _environment(
            case, task, identifier, used, device_type=device_type, precision=precision, limit=limit
        )
    return Key.of(components)


def predict_key(
    train: Key, case: Case, *, device_type: str, precision: str, identifier: Identifier, limit: int | None = None
) -> Key:
    """What the predictions of one run depend on: its train key and the evaluation rows. Raises as `train_key` does."""
    from ftcheck import tasks
    from ftcheck.finetune import techniques

    task = tasks.get(case.task)
    return Key.of(
        {
            "format": FORMAT,
            "stage": "predict",
            "train": train.digest,
            "data": identifier.data(case.data, TRAINING_ROLES if techniques.folding(case) else EVALUATION_ROLES),
            "decoding": {name: value for name, value in case.task_options.items() if name in task.decoding_options},
            "evaluation": arguments.for_prediction(_arguments(case, task)),
            **({"techniques": used} if (used := _techniques(case, identifier, "predict")) else {}),
            **({"columns_beside": list(case.columns_beside)} if case.columns_beside else {}),
            **_environment(
                case, task, identifier, case.techniques, device_type=device_type, precision=precision, limit=limit
            ),
        }
    )


def search_key(train: Key) -> Key:
    """What a search depends on that all runs of a case share: what the model of one run of its own depends on."""
    return Key.of({**train.components, "stage": "search"})


def parent_seed(parent: Case, seed: int) -> int:
    """Which of its parent's runs the run of this seed needs: that of the same seed, or else the first."""
    return seed if seed in parent.seeds else parent.seeds[0]


def _techniques(case: Case, identifier: Identifier, stage: Literal["train", "predict"]) -> dict[str, Any]:
    """What a stage depends on, of each technique that has a part in it."""
    from ftcheck.finetune import techniques

    found = {}
    for technique in techniques.of(case):
        part = (technique.train_key if stage == "train" else technique.predict_key)(identifier, case)
        if part:
            found[technique.name] = part
    return found


def score_key(predict: Key, signatures: Mapping[str, str]) -> Key:
    """What the example statistics of one run depend on: its predictions, and each metric's definition."""
    return Key.of(
        {
            "format": FORMAT,
            "stage": "score",
            "layout": SCORES_LAYOUT,
            "predict": predict.digest,
            "metrics": dict(signatures),
        }
    )


def _task_options(case: Case, task: Task) -> dict[str, Any]:
    """What of the task's options a trained model depends on: how answers are read only where they are looked at."""
    scored = _scored(case)
    return {name: value for name, value in case.task_options.items() if scored or name not in task.decoding_options}


def _scored(case: Case) -> bool:
    """Whether scores are looked at while training, or a setting is tuned for them."""
    return "tune" in case.data.splits or "tune" in case.data.holdout


def _own_best_metric(case: Case, given: Mapping[str, Any]) -> str | None:
    """The definition of a metric of the user's that chooses the best checkpoint; ftcheck's are part of `code`."""
    from ftcheck import tasks

    name = str(given.get("metric_for_best_model") or "").removeprefix("eval_")
    return tasks.lookup(case).describe(name).signature if ":" in name else None


def _arguments(case: Case, task: Task) -> dict[str, Any]:
    """The arguments in force: the suite's before the task's defaults."""
    return {**task.training_defaults, **(case.training or {})}


def _environment(
    case: Case,
    task: Task,
    identifier: Identifier,
    techniques: Collection[str],
    *,
    device_type: str,
    precision: str,
    limit: int | None,
) -> dict[str, Any]:
    """Versions and code, of techniques those of `techniques`."""
    return {
        "device_type": device_type,
        "precision": precision,
        "limit": limit,
        "versions": identifier.versions(_arguments(case, task), _libraries(case, techniques)),
        "code": identifier.training_code(task, scored=_scored(case), techniques=tuple(techniques)),
    }


def _libraries(case: Case, among: Collection[str]) -> tuple[str, ...]:
    """Distributions that only these techniques of the case bring in."""
    from ftcheck.finetune import techniques

    used = [technique for technique in techniques.of(case) if technique.name in among]
    return tuple(sorted({library for technique in used for library in technique.libraries}))
