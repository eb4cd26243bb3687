"""One module per technique: what a case does to a training besides plain fine-tuning, as one key of a suite.

Adding a technique is adding a module with a subclass of `Technique`, and its line in `BUILT_IN`. Importing this package
or a technique's module imports no torch, transformers, NumPy or any technique's library.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ftcheck.errors import MissingExtraError, TechniqueError, one_of, shown
from ftcheck.spec import Facts
from ftcheck.spec.processes import SPREADS

if TYPE_CHECKING:
    from pathlib import Path

    from ftcheck.finetune import Found, Job, OnProgress, Share
    from ftcheck.finetune.data import RoleRows
    from ftcheck.finetune.trainer import Evaluate, Outcome
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Checkpoint
    from ftcheck.tasks import Meta, Task
    from ftcheck.tasks.features import EncodedRows

Problem = tuple[tuple[str | int, ...], str]
"""(path below the technique's key, what is wrong there)."""
Loss = Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Any]
"""(the model's output, the batch's targets, its other inputs) -> the loss *summed* over the batch's items."""


class Options(BaseModel):
    """What a technique's key may say. Strict: text is no number, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a technique may know of the run that it takes part in."""

    job: Job
    task: Task
    meta: Meta
    tokenizer: Any
    train: RoleRows | None
    """The training rows before any technique changed them."""
    note: Callable[[str], None]
    """Says something to the reader, with the run."""
    record: Callable[[str, Any], None]
    """Keeps JSON of a technique with the run: (its name, what to keep)."""
    share: Share
    """Keeps arrays that are the same for several runs."""
    load_base: Callable[[], Any]
    """The case's checkpoint as its task's model, on the CPU, its new head the one that the run's seed draws."""
    features: Any = None
    """The rows that the judged model answers, encoded (`EncodedRows`); None where they aren't known yet."""
    parents: Mapping[str, Path] = field(default_factory=dict)
    """Technique -> the folder of the model of the case that it names."""
    techniques: Sequence[Technique] = ()
    """All of the case, in the order in which they are applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimized:
    """How a parameter is optimized: the learning rate's factor, and a weight decay of its own."""

    factor: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerBase:
    """What ftcheck's Trainer is derived from."""

    kind: type | None = None
    """A subclass of transformers' Trainer; None: that itself."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it takes besides a Trainer's own."""
    arguments: type | None = None
    """Its subclass of TrainingArguments, which `fields` are of; None: TrainingArguments."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    inputs: Callable[[Any, Context], Mapping[str, Any]] | None = None
    """(the task's model, context) -> model, rows and what goes with them, of a Trainer that reads rows by itself and
    computes the loss in its own way; None: features, as ftcheck's takes them."""
    finish: Callable[[Any], None] | None = None
    """Takes away what it left on the task's model."""


class Technique(ABC):
    """One technique of one case, with its checked options. Hooks are called in the order of `BUILT_IN`; what a hook
    isn't overridden for stays as it is."""

    name: ClassVar[str]
    """The key of a case."""
    description: ClassVar[str]
    """One line, for the schema."""
    options: ClassVar[type[BaseModel]]
    short: ClassVar[str | None] = None
    """A plain value stands for `{short: value}`."""
    excludes: ClassVar[Mapping[str, str]] = {}
    """Technique that it can't be combined with -> why, as the end of a sentence."""
    tasks: ClassVar[Collection[str] | None] = None
    """Built-in tasks that it knows; None: all, and a user's own."""
    untrained: ClassVar[bool] = False
    """Whether it makes sense with `training: false`."""
    changes_rows: ClassVar[bool] = False
    """Whether it needs all training rows at once, which a stream doesn't have."""
    libraries: tuple[str, ...] = ()
    """Distributions whose versions a result depends on."""
    keeps: ClassVar[bool] = False
    """Whether `save` and `load` are its own."""
    parent: ClassVar[str | None] = None
    """The option that may name another case of the file, as `case:NAME`, whose model it needs."""
    runs: ClassVar[str | None] = None
    """The option that says how many runs a case makes, in the place of `seeds`."""
    column: ClassVar[str | None] = None
    """The option that may name a column of the training rows, whose values `rows` finds beside them."""
    targets: ClassVar[tuple[str, ...]] = ()
    """What `features` adds to batches: for `loss`, not for the model."""
    searches: ClassVar[bool] = False
    """Whether `search` finds something before the first run, which all runs of the case share."""
    judges_train: ClassVar[bool] = False
    """Whether it judges the training rows, so that the case needs no others."""
    only_looks: ClassVar[bool] = False
    """Whether it leaves the training as it is; a search's trials go without it."""
    resumes: bool = True
    """Whether a training that was broken off can go on from a checkpoint: the technique holds nothing while training
    that isn't in the model, the optimizer or the step."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        """The checked options, complete, as builtins."""

    @classmethod
    def read(cls, value: Any) -> dict[str, Any]:
        """The options that a suite's value stands for, complete, as builtins. Raises pydantic.ValidationError."""
        return cls.options.model_validate(cls.spelled_out(value)).model_dump(mode="json")

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """`value` as a mapping, where it is the short form."""
        return {cls.short: value} if cls.short is not None and not isinstance(value, dict) else value

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON Schema of what a suite may write."""
        whole = cls.options.model_json_schema()
        if cls.short is None:
            return {**whole, "description": cls.description}
        short = {key: value for key, value in whole["properties"][cls.short].items() if key != "default"}
        definitions = {"$defs": whole.pop("$defs")} if "$defs" in whole else {}
        return {"anyOf": [short, whole], "description": cls.description, **definitions}

    @classmethod
    def gates(cls, given: Mapping[str, Any]) -> Mapping[str, float]:
        """Cost -> the most that it may be, which these options demand beside the case's gates."""
        return {}

    @classmethod
    def parent_problem(cls, case: Case, parent: Case) -> str:
        """Why the model of `parent` doesn't serve `case`; empty where it does."""
        return ""

    def problems(self, facts: Facts) -> Iterator[Problem]:
        """What is wrong with it in this case, beyond its own options."""
        yield from ()

    @property
    def alone(self) -> str:
        """Why only one process trains with it, as the end of a sentence; empty where several may do it together."""
        return ""

    @property
    def whole(self) -> str:
        """Why the model that it trains can't be spread over processes, as the end of a sentence; empty where it can."""
        return ""

    def halving_problem(self) -> str:
        """Why half the batch with twice the accumulation would not train the same; empty where it does."""
        return ""

    def checkpoints(self, case: Case) -> tuple[Checkpoint, ...]:
        """Models besides the case's own that it loads. Raises TechniqueError for a name that is none."""
        return ()

    # What results depend on

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """What a trained model depends on, of this technique; empty where training knows nothing of it, so that neither
        its code nor its libraries count. Raises FtcheckError for an input without an identity."""
        return dict(self.given)

    def predict_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """What predictions depend on besides the trained model."""
        return {}

    # What is judged

    @property
    def folds(self) -> int:
        """How many runs each seed makes, which judge a part of the training rows each; 0: one, on rows of their own."""
        return 0

    @property
    def group(self) -> str | None:
        """The column of the data whose rows `split` keeps together."""
        return None

    def split(
        self, fold: int, seed: int, labels: Any | None, groups: Sequence[Any] | None, size: int
    ) -> tuple[Any, Any]:
        """(positions to train on, positions to judge) of `size` training rows, in order. Only where it has `folds`."""
        raise NotImplementedError

    # What it does, in the order in which it is called

    @property
    def search_seed(self) -> int:
        """The seed of the runs that `search` makes. Only where it `searches`."""
        raise NotImplementedError

    def search(self, job: Job, folder: Path, on_progress: OnProgress) -> Found:
        """What all runs of the case share, found with runs of its own that are like `job`. `folder` is kept when it is
        broken off, and given again. Only where it `searches`."""
        raise NotImplementedError

    def arguments(self, given: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """TrainingArguments fields that it sets, over `given`."""
        return {}

    def model_kwargs(self, context: Context) -> dict[str, Any]:
        """What `from_pretrained` of the case's checkpoint is called with besides the task's own."""
        return {}

    def rows(self, rows: RoleRows, context: Context) -> RoleRows:
        """The training rows that are used instead of `rows`."""
        return rows

    def features(self, features: EncodedRows, rows: RoleRows, context: Context) -> EncodedRows:
        """The encoded training rows that are used instead of `features`, which were made of `rows`. Not called where
        rows are streamed."""
        return features

    def sampler(self, features: Any, size: int) -> Any:
        """What says in which order features are trained on, `size` at a step, in all processes together; None: this
        technique leaves that alone. Where its attribute `generator` is None, it may be given one."""
        return None

    def collator(self, collate: Any, model: Any) -> Any:
        """What makes training batches of features instead of `collate`."""
        return collate

    def adapt(self, model: Any, context: Context) -> Any:
        """The model that is trained instead of `model`, which is on the CPU. May draw from torch's random numbers."""
        return model

    def optimized(self, model: Any) -> Mapping[str, Optimized]:
        """Parameter's name -> how it is optimized, of those that aren't as the arguments say."""
        return {}

    def loss(self, loss: Loss, context: Context, model: Any) -> Loss:
        """The loss that is used instead of `loss`."""
        return loss

    def during(self, context: Context) -> AbstractContextManager[None]:
        """What surrounds the training."""
        return nullcontext()

    def callbacks(self, context: Context, model: Any) -> list[Any]:
        """transformers' TrainerCallbacks."""
        return []

    def optimizers(self, model: Any, arguments: Any, context: Context) -> tuple[Any, Any]:
        """(optimizer, schedule) that the Trainer steps, each None where it makes its own."""
        return None, None

    def trainer(self) -> TrainerBase | None:
        """What ftcheck's Trainer is derived from; None: this technique leaves that alone."""
        return None

    def own_code(self) -> Sequence[str]:
        """Import paths of what the Trainer runs of the user's: an exception of theirs is explained."""
        return ()

    def train(
        self,
        model: Any,
        features: Any,
        context: Context,
        *,
        collator: Any,
        evaluate: Evaluate | None,
        on_progress: OnProgress,
    ) -> Outcome | None:
        """Trains `model` in place, instead of ftcheck's Trainer; None: this technique leaves that alone."""
        return None

    def finish(self, model: Any, context: Context) -> Any:
        """The model that is kept, after the training."""
        return model

    def judged(self, model: Any, context: Context) -> Any:
        """The model that answers: of the kept one, in evaluation mode on the run's device, which stays as it is."""
        return model

    def save(self, model: Any, directory: Path, context: Context) -> None:
        """Leave in `directory` what `load` needs (safetensors and JSON). Only where `keeps`."""
        raise NotImplementedError

    def load(self, directory: Path, context: Context) -> Any:
        """The kept model, on the CPU. Only where `keeps`."""
        raise NotImplementedError

    @property
    def afterwards(self) -> bool:
        """Whether the training's key knows nothing of what `judged` makes, so that settings which are tuned at its end
        must not depend on it either."""
        return False

    @property
    def compares(self) -> bool:
        """Whether the model that answers differs from the kept one, so that it is measured how far their outputs lie
        apart (`parity_difference`)."""
        return False

    @property
    def measures(self) -> Collection[str]:
        """Those of MEASURED_BY that the runs have."""
        return ("parity_difference",) if self.compares else ()

    def costs(self, model: Any, context: Context) -> dict[str, float]:
        """Measures of the model that answers, as costs of the run: `measures`, and what replaces the run's own."""
        return {}


MEASURED_BY: Mapping[str, str] = {
    "latency_p50_seconds": "export",
    "latency_p95_seconds": "export",
    "adapter_bytes": "peft",
    "sparsity": "prune",
    "parity_difference": "export, with quantization: qat or post, and with peft: {parity: merged}",
}
"""Cost that not every run has -> the techniques that measure it."""


BUILT_IN: Mapping[str, str] = {
    "init_from": "ftcheck.finetune.techniques.init_from:InitFrom",
    "folds": "ftcheck.finetune.techniques.folds:Folds",
    "search": "ftcheck.finetune.techniques.search:Search",
    "few_shot": "ftcheck.finetune.techniques.few_shot:FewShot",
    "sampling": "ftcheck.finetune.techniques.sampling:Sampling",
    "augment": "ftcheck.finetune.techniques.augment:Augment",
    "class_weights": "ftcheck.finetune.techniques.class_loss:ClassWeights",
    "focal": "ftcheck.finetune.techniques.class_loss:Focal",
    "distill": "ftcheck.finetune.techniques.distill:Distill",
    "peft": "ftcheck.finetune.techniques.peft:Peft",
    "quantization": "ftcheck.finetune.techniques.quantization:Quantization",
    "freeze": "ftcheck.finetune.techniques.freeze:Freeze",
    "layer_lr_decay": "ftcheck.finetune.techniques.layer_lr_decay:LayerLRDecay",
    "parameter_groups": "ftcheck.finetune.techniques.parameter_groups:ParameterGroups",
    "padding": "ftcheck.finetune.techniques.padding:Padding",
    "dropout": "ftcheck.finetune.techniques.dropout:Dropout",
    "attention": "ftcheck.finetune.techniques.attention:Attention",
    "prune": "ftcheck.finetune.techniques.prune:Prune",
    "lr_finder": "ftcheck.finetune.techniques.lr_finder:LrFinder",
    "callbacks": "ftcheck.finetune.techniques.callbacks:Callbacks",
    "optimizers": "ftcheck.finetune.techniques.optimizers:Optimizers",
    "trainer": "ftcheck.finetune.techniques.trainer:Trainer",
    "loop": "ftcheck.finetune.techniques.loop:Loop",
    "export": "ftcheck.finetune.techniques.export:Export",
}
"""Key of a case -> where its class is. In the order in which techniques are applied."""


def names() -> tuple[str, ...]:
    """The keys of a case that are techniques."""
    return tuple(BUILT_IN)


def get(name: str) -> type[Technique]:
    """The class of a technique. Raises TechniqueError for an unknown name."""
    if name not in BUILT_IN:
        raise TechniqueError(f"no technique is called {shown(name, 60)!r}; {one_of(name, BUILT_IN)}")
    module, _, attribute = BUILT_IN[name].partition(":")
    found: type[Technique] = getattr(import_module(module), attribute)
    return found


def of(case: Case) -> tuple[Technique, ...]:
    """The techniques of a case, in the order in which they are applied."""
    return tuple(get(name)(case.techniques[name]) for name in BUILT_IN if name in case.techniques)


def columns(case: Case) -> dict[str, str]:
    """The columns of the training rows that techniques need besides the task's -> what names them."""
    named = [(f"{t.name}.{t.column}", t.given[t.column]) for t in of(case) if t.column is not None]
    return {column: option for option, column in named if column is not None}


def folding(case: Case) -> Technique | None:
    """The technique of a case that makes several runs of each seed."""
    return next((technique for technique in of(case) if technique.folds), None)


def searching(case: Case) -> Technique | None:
    """The technique of a case that searches before the first run."""
    return next((technique for technique in of(case) if technique.searches), None)


def answers_with_parents(case: Case) -> bool:
    """Whether predicting takes the models of other cases besides the one that was trained."""
    from ftcheck import tasks

    return any(technique.keeps for technique in of(case)) or tasks.get(case.task).wants_reference(case.task_options)


def problems(facts: Facts) -> Iterator[Problem]:
    """What is wrong with a case's techniques: (path from the case's top, sentence)."""
    for name in facts.techniques:
        kind = get(name)
        if facts.training is None and not kind.untrained:
            yield (name,), "with `training: false` nothing is trained; leave it out"
            continue
        if kind.tasks is not None and facts.task not in kind.tasks:
            yield (name,), f"goes with {', '.join(kind.tasks)}, not with {shown(facts.task, 60)}"
            continue
        if kind.changes_rows and facts.streaming:
            yield (name,), "needs all training rows at once; leave out data.streaming"
        for other, why in kind.excludes.items():
            if other in facts.techniques:
                yield (name,), f"can't be combined with {other}: {why}"
        technique = kind(facts.techniques[name])
        if facts.processes > 1 and technique.alone:
            yield (name,), f"can't be trained in {facts.processes} processes (resources.gpus): {technique.alone}"
        for spreads in SPREADS:
            if (facts.training or {}).get(spreads) and technique.whole:
                yield (name,), f"can't be combined with training.{spreads}: {technique.whole}"
        for path, message in technique.problems(facts):
            yield (name, *path), message
        if facts.halves and (problem := technique.halving_problem()):
            yield (name,), problem


def cost_problem(cost: str, given: Mapping[str, Any]) -> str:
    """Why no run of a case with these techniques has this cost; empty where it has, and for any other metric."""
    if cost not in MEASURED_BY or any(cost in get(name)(options).measures for name, options in given.items()):
        return ""
    return f"no run of this case has {cost}: it is measured with {MEASURED_BY[cost]}"


def checkpoint(text: str, folder: Path) -> Checkpoint:
    """The model that a suite in `folder` names: a Hub id, or a folder. Raises TechniqueError for what is neither."""
    from ftcheck.spec import Checkpoint
    from ftcheck.spec.places import place

    try:
        path, local = place(text, folder, "a model")
    except ValueError as error:
        raise TechniqueError(str(error)) from None
    return Checkpoint(path=path, local=local)


def need(library: str, technique: str, extra: str | None = None) -> Any:
    """The module `library`. Raises MissingExtraError where it isn't installed."""
    try:
        return import_module(library)
    except ImportError as error:
        if error.name != library.partition(".")[0]:  # it is there, and broken
            raise TechniqueError(f"{technique} needs {library}, whose import fails: {shown(error, 300)}") from error
        raise MissingExtraError(technique, library, extra or library) from None
