"""`augment: {method: synonyms, copies: 2}`: more training rows, made of those that there are.

Easy data augmentation (Wei and Zou 2019, "EDA"), typing errors, back-translation (Sennrich et al. 2016), or a function
of the user's. Nothing but training rows is ever changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ftcheck import importpath
from ftcheck.errors import TechniqueError, one_of, shown
from ftcheck.finetune import techniques
from ftcheck.finetune.techniques import Options, Problem, Technique, edits, user_code
from ftcheck.spec.fields import import_path

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.finetune.techniques import Context
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Checkpoint, Facts

SYNONYMS, BACK_TRANSLATION = "synonyms", "back_translation"
METHODS = (SYNONYMS, *edits.BUILT_IN, BACK_TRANSLATION)
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "text-classification": ("text", "text_pair"),
    "summarization": ("document",),
    "translation": ("source",),
}
"""Task -> the columns whose texts may change a little and keep their labels."""


def _methods(value: Any) -> Any:
    """One method stands for a list of it."""
    found = [import_path(one) for one in (value if isinstance(value, list) and value else [value])]
    for name in found:
        if not isinstance(name, str) or not (name in METHODS or importpath.is_one(name)):
            hint = f"; {one_of(name, METHODS)}" if isinstance(name, str) else ""
            raise PydanticCustomError(
                "method", f"expected {', '.join(METHODS)}, package.module:function, or a list of these{hint}"
            )
    return found


class Through(Options):
    """One direction of a translation there and back."""

    checkpoint: str = Field(description="A Hub id or a folder of a sequence-to-sequence model.")
    task: dict[str, Any] = Field(default_factory=dict, description="Options of the task `translation`.")


def _through(value: Any) -> Any:
    """A checkpoint's name stands for it."""
    if not isinstance(value, list):
        return value
    return [{"checkpoint": one} if isinstance(one, str) else one for one in value]


class AugmentOptions(Options):
    method: Annotated[
        list[str],
        BeforeValidator(_methods, json_schema_input_type=str | list[str]),
        Field(
            description="synonyms, swap, delete, typos, back_translation, or package.module:function; of a list, each "
            "copy draws one."
        ),
    ]
    copies: int = Field(default=1, ge=1, le=100, description="Changed copies of each row.")
    keep: bool = Field(default=True, description="Whether the rows as they were are trained on, too.")
    probability: float = Field(default=1.0, gt=0, le=1, description="How likely each copy is made.")
    share: float = Field(default=0.1, gt=0, le=1, description="The part of a text's words that change; at least one.")
    columns: list[str] | None = Field(
        default=None, min_length=1, description="The task's columns whose texts change; null: all that there are."
    )
    synonyms: str | None = Field(
        default=None, description='A JSON file {"word": ["another", ...]}; null: WordNet, through nltk.'
    )
    through: Annotated[
        list[Through] | None,
        BeforeValidator(_through, json_schema_input_type=list[str | Through] | None),
        Field(description="Of back_translation: the checkpoint that translates, and the one that translates back."),
    ] = Field(default=None, min_length=2, max_length=2)


class Augment(Technique):
    """Draws by the run's seed, a row's place and the copy's number."""

    name = "augment"
    description = "Train on changed copies of the rows, too: synonyms, swap, delete, typos, back_translation, or yours."
    options = AugmentOptions
    short = "method"
    tasks = tuple(COLUMNS)
    changes_rows = True

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"method": value}

    @property
    def _translates(self) -> bool:
        return BACK_TRANSLATION in self.given["method"]

    def problems(self, facts: Facts) -> Iterator[Problem]:
        given = self.given
        for name in given["method"]:
            if importpath.is_one(name) and (found := user_code.problem(name)):
                yield ("method",), found
        for name in given["columns"] or ():
            if name not in COLUMNS[facts.task]:
                yield ("columns",), f"{shown(name, 60)!r} holds no text to change; {one_of(name, COLUMNS[facts.task])}"
        if given["synonyms"] is not None and SYNONYMS not in given["method"]:
            yield ("synonyms",), "goes with the method synonyms"
        if self._translates != (given["through"] is not None):
            yield ("through",), "two checkpoints, there and back, go with the method back_translation"
        yield from self._through_problems(facts)

    def _through_problems(self, facts: Facts) -> Iterator[Problem]:
        from pydantic import ValidationError

        sampled = True
        for number, one in enumerate(self.given["through"] or ()):
            try:
                sampled = _translation_options(one)["generation"]["do_sample"] is True and sampled
                techniques.checkpoint(one["checkpoint"], facts.folder)
            except ValidationError as error:
                yield ("through", number, "task"), f"the task translation refuses this: {error.errors()[0]['msg']}"
            except TechniqueError as error:
                yield ("through", number, "checkpoint"), str(error)
        if self.given["method"] == [BACK_TRANSLATION] and self.given["copies"] > 1 and not sampled:
            yield ("copies",), "all would be the same unless both models sample: task: {generation: {do_sample: true}}"

    def checkpoints(self, case: Case) -> tuple[Checkpoint, ...]:
        return tuple(techniques.checkpoint(one["checkpoint"], case.suite.parent) for one in self.given["through"] or ())

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """What stands for files, models and functions is what is in them."""
        found = dict(self.given)
        if SYNONYMS in self.given["method"]:
            own = self.given["synonyms"]
            if own is None:
                found["synonyms"] = {path.name: identifier.file(path) for path in edits.wordnet_files()}
                found["nltk"] = version("nltk")
            else:
                found["synonyms"] = identifier.file(case.suite.parent / own)
        if self._translates:
            found["through"] = [
                {
                    "checkpoint": identifier.checkpoint(checkpoint),
                    "tokenizer": identifier.tokenizer(checkpoint),
                    "task": one["task"],
                }
                for checkpoint, one in zip(self.checkpoints(case), self.given["through"], strict=True)
            ]
        found["method"] = [user_code.identity(name) if importpath.is_one(name) else name for name in found["method"]]
        return found

    def rows(self, rows: RoleRows, context: Context) -> RoleRows:
        """The rows, and after them the changed copies, which have their rows' places."""
        case = context.job.case
        named = self.given["columns"] or COLUMNS[case.task]
        columns = {name: rows.dataset[name][:] for name in named if name in rows.dataset.column_names}
        if not columns:
            raise TechniqueError(f"augment: the training rows have no column {' or '.join(named)}")
        drawn = list(self._drawn(len(rows.hashes), context.job.seed))
        methods = {name: self._method(name, context, columns) for name in dict.fromkeys(name for _, name, _ in drawn)}
        changed = {
            name: [methods[method](texts[row], random) for row, method, random in drawn]
            for name, texts in columns.items()
        }
        kept = list(range(len(rows.hashes))) if self.given["keep"] else []
        found = rows.take([*kept, *(row for row, _, _ in drawn)])
        if not len(found.hashes):
            raise TechniqueError("augment: no row is left: raise augment.probability, or let augment.keep be true")
        by = shown(", ".join(self.given["method"]))
        context.note(f"train: {len(drawn):,} changed copies of {len(rows.hashes):,} rows ({by})")
        return found.with_texts({name: [*(columns[name][row] for row in kept), *changed[name]] for name in columns})

    def _drawn(self, count: int, seed: int) -> Iterator[tuple[int, str, Random]]:
        """(row, method, random numbers) of each copy that is made."""
        for copy in range(self.given["copies"]):
            for row in range(count):
                random = Random(f"augment {seed} {row} {copy}")  # noqa: S311  not for secrets
                if random.random() < self.given["probability"]:
                    yield row, random.choice(self.given["method"]), random

    def _method(
        self, name: str, context: Context, columns: Mapping[str, Sequence[str]]
    ) -> Callable[[str, Random], str]:
        """What makes a changed text of a text."""
        if importpath.is_one(name):
            return _checked(name)
        if name == BACK_TRANSLATION:
            from ftcheck.finetune.techniques.translating import back_translated

            distinct = list(dict.fromkeys(text for texts in columns.values() for text in texts))
            legs = [
                (checkpoint, _translation_options(one))
                for checkpoint, one in zip(self.checkpoints(context.job.case), self.given["through"], strict=True)
            ]
            known = back_translated(distinct, self.given["copies"], legs, context)
            return lambda text, random: random.choice(known[text])
        edit = self._replacing(context) if name == SYNONYMS else edits.BUILT_IN[name]
        return lambda text, random: edits.edited(text, edit, self.given["share"], random)

    def _replacing(self, context: Context) -> edits.Edit:
        own = self.given["synonyms"]
        synonyms = edits.from_wordnet() if own is None else edits.from_file(context.job.case.suite.parent / own)
        return edits.replacing(synonyms)


def _translation_options(through: Mapping[str, Any]) -> dict[str, Any]:
    from ftcheck import tasks

    options: dict[str, Any] = tasks.get("translation").options(**through["task"]).model_dump()
    return options


def _checked(path: str) -> Callable[[str, Random], str]:
    """A function of the user's, whose mistakes are one sentence."""
    function = user_code.load(path)
    if not callable(function):
        raise TechniqueError(f"augment: {shown(path, 200)} is no function (text, random) -> text")

    def changed(text: str, random: Random) -> str:
        with user_code.explained((path,)):
            found = function(text, random)
        if not isinstance(found, str):
            raise TechniqueError(f"augment: {shown(path, 200)} must give a text, got {shown(repr(found))}")
        return found

    return changed
