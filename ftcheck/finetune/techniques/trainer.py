"""`trainer: package.module:Class`: a Trainer of the user's or a library's, from which ftcheck's own is derived."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue

from ftcheck import training_fields
from ftcheck.errors import TechniqueError, shown
from ftcheck.finetune.techniques import Options, Problem, Technique, TrainerBase, get, libraries, need, user_code
from ftcheck.finetune.techniques.libraries import HALVES_NOTHING, LIBRARIES
from ftcheck.spec import Facts

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.finetune.techniques import Context
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case
    from ftcheck.tasks.features import EncodedRows


class TrainerOptions(Options):
    path: user_code.ImportPath = Field(description="The class's import path, package.module:Class.")
    options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Arguments that the class takes besides; of a library's, fields of its config.",
    )


class Trainer(Technique):
    """What the class does differently is done, within what ftcheck makes sure of (see `finetune.trainer`)."""

    name = "trainer"
    description = "A subclass of transformers' Trainer, by its import path: your own, or one of TRL's and its like."
    options = TrainerOptions
    resumes = False
    short = "path"
    excludes = {"loop": "a loop stands in the Trainer's place"}  # noqa: RUF012  declared as a ClassVar in the base

    @property
    def alone(self) -> str:
        return "a Trainer of your own divides its loss by the items of one"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        path = self.given["path"]
        if libraries.known(path) is not None:
            yield from _library_problems(self.given, facts)
        elif libraries.foreign(path):
            yield (), f"{shown(path, 200)} takes rows that no task has; {_those_known()}"
        elif found := user_code.problem(path):
            yield (), found

    def halving_problem(self) -> str:
        name = libraries.known(self.given["path"])
        return "" if name is None else f"{name} {HALVES_NOTHING}"

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """The class's source instead of its name, or a library's version, and its options."""
        from ftcheck.keys import modules

        path = self.given["path"]
        name = libraries.known(path)  # known without an import of what takes seconds
        code = (
            user_code.identity(path)
            if name is None
            else {"name": name, "library": modules.library(path.partition(":")[0])}
        )
        return {"code": code, "options": self.given["options"]}

    def own_code(self) -> Sequence[str]:
        return (self.given["path"],)

    def features(self, features: EncodedRows, rows: RoleRows, context: Context) -> EncodedRows:
        """As they are. A library's Trainer reads the rows themselves."""
        self._rows, self._context = rows, context
        return features

    def trainer(self) -> TrainerBase:
        import transformers

        path, options = self.given["path"], self.given["options"]
        name = libraries.known(path)
        if name is not None:
            need(LIBRARIES[name].module, self.name, LIBRARIES[name].extra)
        found = user_code.load(path)
        if not (isinstance(found, type) and issubclass(found, transformers.Trainer)):
            raise TechniqueError(f"trainer: {shown(path, 200)} is no subclass of transformers.Trainer")
        if name := libraries.above(found):
            if LIBRARIES[name].task != self._context.task.name:
                raise TechniqueError(f"trainer: {shown(path, 200)} {_goes_with(name, self._context.task.name)}")
            return libraries.base(name, found, options, self._rows, self._context)
        if any(libraries.foreign(f"{kind.__module__}:") for kind in found.__mro__):
            raise TechniqueError(f"trainer: {shown(path, 200)} takes rows that no task has; {_those_known()}")
        if issubclass(found, transformers.Seq2SeqTrainer):
            raise TechniqueError(
                f"trainer: {shown(path, 200)} is a Seq2SeqTrainer, which generates when it evaluates; ftcheck does "
                "that by itself: derive the class from Trainer"
            )
        return TrainerBase(kind=found, options=options)


def _library_problems(given: Mapping[str, Any], facts: Facts) -> Iterator[Problem]:
    """What a library's Trainer can't be combined with."""
    name = str(libraries.known(given["path"]))
    library = LIBRARIES[name]
    if facts.task != library.task:
        yield (), f"{name} {_goes_with(name, facts.task)}"
    if facts.streaming:
        yield (), f"{name} reads all training rows by itself; leave out data.streaming"
    if library.wraps and facts.own_code:
        yield (), f"{name} loads no checkpoint's own code; leave out checkpoint.trust_remote_code"
    for other in facts.techniques:
        kind = get(other)
        if kind.only_looks:
            yield (), f"can't be combined with {other}, which tests ftcheck's own Trainer"
        elif kind.loss is not Technique.loss:
            yield (), f"{name} computes the loss by itself, so that {other} has no effect: leave one out"
        elif library.wraps and (kind.optimized is not Technique.optimized or kind.keeps):
            yield (), f"can't be combined with {other}: {name} trains the model within one of its own"
    if library.wraps and (facts.training or {}).get("load_best_model_at_end"):
        yield (), f"{name} keeps checkpoints of a kind of its own; leave out training.load_best_model_at_end"
    for option in given["options"]:
        if option in training_fields.installed().fields:
            yield ("options", option), "is a field of TrainingArguments: write it under training"


def _goes_with(name: str, task: str) -> str:
    return f"goes with the task {LIBRARIES[name].task}, not with {shown(task, 60)}"


def _those_known() -> str:
    return f"known: {', '.join(f'{library.module}:{name}' for name, library in LIBRARIES.items())}"
