"""One change of a case since its baseline, put back: arguments out of the baseline's recipe, files out of git."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from ftcheck import git, recipes, tasks, training_fields
from ftcheck.errors import BaselineError, shown
from ftcheck.finetune import techniques
from ftcheck.git import Commit
from ftcheck.keys.files import file_digest
from ftcheck.spec import Case, Checkpoint, EarlyStopping

if TYPE_CHECKING:
    from ftcheck.baselines import Entry
    from ftcheck.results import Json

Variant = Callable[[Case], Case]
"""A case -> the same with something put back."""

MOST_COMMITS = 100
"""Of a file's history that are searched for the content it had."""


def cause_of(path: str) -> str:
    """What a changed component (`training.learning_rate`, `data.rows.train[0].blake3`) is put back with."""
    stage, part, below, *_ = [*re.split(r"[.\[]", path), "", ""]
    if stage == "tokenizer":
        return "checkpoint"
    if stage in ("training", "evaluation") and part:
        return f"training.{part}"
    if stage == "decoding" or (stage == "task" and part == "options"):
        return f"task.{part if stage == 'decoding' else below}"
    if stage == "techniques" and part:
        return f"techniques.{part}.code" if below == "code" else f"techniques.{part}"
    if stage == "data":
        return f"data.rows.{below}" if part == "rows" else f"data.{part}"
    return stage


def put_back(name: str, entry: Entry, past: Past) -> Variant:
    """What puts the change `name` (see `cause_of`) back to what it was for `entry`. Raises BaselineError where that
    can't be done here."""
    if not entry.recipe:
        raise BaselineError("the baseline doesn't keep its recipe: accept a result anew (--ft-update)")
    try:
        return _put_back(name, recipes.checked(entry.recipe), entry, past)
    except (AttributeError, LookupError, TypeError, ValueError, OSError) as error:  # what components say isn't checked
        raise BaselineError(f"the baseline says of it what ftcheck did not write: {shown(error, 200)}") from None


def _put_back(name: str, recipe: Mapping[str, Any], entry: Entry, past: Past) -> Variant:
    kind, _, below = name.partition(".")
    if name == "checkpoint":
        return partial(_with, checkpoint=_checkpoint(recipe["checkpoint"], entry, past))
    if kind == "data" and below:
        return _data(below, recipe["data"], entry, past)
    if kind == "training":
        _check_arguments(recipe["training"])
        return partial(_training, name=below, old=recipe["training"])
    if kind == "task" and below and below in recipe["task_options"]:
        return partial(_task_option, name=below, value=recipe["task_options"][below])  # checked with its task
    if kind == "techniques" and below.endswith(".code"):
        raise BaselineError("it names code of your own, which was edited: the suite has no value that puts it back")
    if kind == "techniques" and below:
        old = recipe["techniques"]
        if any(str(value).startswith("case:") for value in old.get(below, {}).values()):
            raise BaselineError(f"{below} took another case's model, as that case was then")
        whole = (
            {below: techniques.get(below).options.model_validate(old[below]).model_dump(mode="json")}
            if below in old
            else {}
        )
        return partial(_technique, name=below, old=whole)
    if name in ("precision", "early_stopping"):
        old = recipe[name]
        found: Any = EarlyStopping(**old) if isinstance(old, Mapping) else old
        return lambda case: _with(case, **{name: found})
    raise BaselineError("no value of the suite puts it back: another environment might")


def _with(case: Case, **changes: Any) -> Case:
    return replace(case, **changes)


def _check_arguments(training: Mapping[str, Json] | None) -> None:
    """Raise BaselineError for an argument that no suite can set so: nobody validated a baseline's."""
    known = training_fields.installed().settable
    for name, value in (training or {}).items():
        if name not in known:
            raise BaselineError(f"it sets training.{shown(name, 60)}, which no suite can")
        if problem := known[name].problem(value):
            raise BaselineError(f"it sets training.{shown(name, 60)} to what no suite can: {problem}")


def _training(case: Case, *, name: str, old: Mapping[str, Json] | None) -> Case:
    """One argument as it was, or (where only one side trains) all of them."""
    if case.training is None or old is None or not name:
        return replace(case, training=old)
    kept = {key: value for key, value in case.training.items() if key != name}
    return replace(case, training={**kept, name: old[name]} if name in old else kept)


def _technique(case: Case, *, name: str, old: Mapping[str, Any]) -> Case:
    kept = {key: value for key, value in case.techniques.items() if key != name}
    parents = {key: parent for key, parent in case.parents.items() if key != name}
    return replace(case, techniques={**kept, name: old[name]} if name in old else kept, parents=parents)


def _task_option(case: Case, *, name: str, value: Json) -> Case:
    try:
        made = tasks.get(case.task).options(**{**case.task_options, name: value})
    except ValueError as error:
        raise BaselineError(f"it sets {shown(name, 60)} to what no suite can: {shown(error, 200)}") from None
    return replace(case, task_options={**case.task_options, name: made.model_dump()[name]})


_SELECTION = {
    "name": ("name",),
    "columns": ("columns",),
    "splits": ("splits",),
    "holdout": ("holdout",),
    "limit": ("limit",),
    "options": ("options",),
    "commit": ("kind", "path", "revision", "files"),
    "hub": ("kind", "path", "revision", "files"),
}
"""Component of the data -> the fields of `Data` that it follows from."""


def _data(part: str, old: Mapping[str, Json], entry: Entry, past: Past) -> Variant:
    whole, _, split = part.partition(".")
    components = [entry.components.get(stage, {}).get("data", {}) for stage in ("train", "predict")]
    if whole == "rows" and old["kind"] == "reader":
        known: list[Json] = next((one["rows"][split] for one in components if split in one.get("rows", {})), [])
        names = old["files"].get(split, [])
        # Nothing read a split without an identity, so that it need not be what it was.
        files = [past.file(name, known[index]["blake3"] if known else "") for index, name in enumerate(names)]
        return partial(_split, split=split, files=tuple(map(str, files)))
    file, folder = components[0].get("rows", {}).get(split), components[0].get("files")
    if whole == "rows" and old["kind"] == "local" and isinstance(file, list):
        return partial(_data_path, path=str(past.file(old["path"], file[0]["blake3"])))
    if whole == "files" and old["kind"] == "local" and isinstance(folder, dict):
        return partial(_data_path, path=str(past.tree(old["path"], folder)))
    if part not in _SELECTION or old["kind"] == "callable":
        raise BaselineError("where the rows come from has changed in a way that can't be put back by itself")
    fields = {name: old[name] for name in _SELECTION[part]}
    return lambda case: replace(case, data=replace(case.data, **fields))


def _split(case: Case, *, split: str, files: tuple[str, ...]) -> Case:
    others = {name: paths for name, paths in case.data.files.items() if name != split}
    return replace(case, data=replace(case.data, files={**others, split: files} if files else others))


def _data_path(case: Case, *, path: str) -> Case:
    return replace(case, data=replace(case.data, kind="local", path=path))


def _checkpoint(old: Mapping[str, Json], entry: Entry, past: Past) -> Checkpoint:
    if not old["local"]:
        return Checkpoint(path=old["path"], local=False, revision=old["revision"], tokenizer=past.tokenizer(old))
    train = entry.components["train"]
    tokenizer = train["tokenizer"].get("files", {}) if old["tokenizer"] in (None, old["path"]) else {}
    place = past.tree(old["path"], {**train["checkpoint"]["files"], **tokenizer})
    return Checkpoint(path=str(place), local=True, tokenizer=past.tokenizer(old))


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Files as they were when a baseline was accepted: found by their content, here or in git's history."""

    commit: str
    """What was checked out then; empty outside git."""
    suite: Path
    folder: Path
    """An empty one for what has to be written out."""

    def tokenizer(self, old: Mapping[str, Json]) -> str | None:
        """Where a tokenizer of its own came from."""
        name = old["tokenizer"]
        if name is None or name == old["path"]:
            return None
        local = self._place(name)
        return str(local) if local.exists() else str(name)

    def file(self, name: str, digest: str) -> Path:
        """The file `name` (relative to the suite) with the content of this blake3; empty: any. Raises BaselineError."""
        place = self._place(name)
        if not digest or _holds(place, digest):
            return place
        target = self.folder / blake3(name.encode()).hexdigest()[:16] / place.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self._content(place, name, digest))
        return target

    def tree(self, name: str, digests: Mapping[str, str]) -> Path:
        """The folder `name` with these files (name below it -> blake3). Raises BaselineError."""
        place = self._place(name)
        if all(_holds(place / below, digest) for below, digest in digests.items()):
            return place
        target = self.folder / place.name
        for below, digest in digests.items():
            if any(part in ("", ".", "..") for part in below.split("/")) or set(below) & set("\\:\0"):
                raise BaselineError(f"it names a file {shown(below)}, which is in no folder")
            (target / below).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.file(f"{name}/{below}", digest), target / below)
        return target

    def _place(self, name: str) -> Path:
        return Path(os.path.abspath(self.suite.parent / name))

    def _content(self, place: Path, name: str, digest: str) -> bytes:
        """What the file held, out of git: at the baseline's commit, else at the latest commit that has it."""
        around = next(parent for parent in place.parents if parent.is_dir())
        touched = git.ask(around, "log", f"--max-count={MOST_COMMITS}", "--format=%H", "--", str(place)).split()
        for ref in dict.fromkeys([*([self.commit] if self.commit else []), *touched]):
            content = Commit(ref=ref, folder=around).read(place)
            if content is not None and blake3(content).hexdigest() == digest:
                return content
        raise BaselineError(f"{shown(name)} has changed, and git has no commit with what the baseline was made with")


def _holds(place: Path, digest: str) -> bool:
    return place.is_file() and file_digest(place) == digest
