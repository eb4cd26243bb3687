"""The fields of the installed `TrainingArguments`, read from the library's source without importing it.

Importing `transformers.TrainingArguments` takes seconds and pulls in torch; parsing its source takes 15 ms.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ftcheck.errors import UsageError, one_of
from ftcheck.spec.mistakes import said
from ftcheck.training_rules import FLAGS, OWNED, RANGES, RELATED, SUCCESSORS, conflicts

_ATOMS = {kind: kind for kind in ("int", "float", "bool", "str", "dict", "list")} | {"nonetype": "none"}
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "dict": "a mapping",
    "list": "a list of texts",
    "none": "null",
}
_FUNCTION = re.compile(r"^(| {4})(?:async )?def .*\n(?:(?!\1[^\s)]|[^\s)]).*\n)*", re.MULTILINE)
"""A function of a module or of a class, decorators left out: fields and enums stand in none, and three quarters of the
source do."""
_SCHEMA = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "none": "null", "dict": "object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingField:
    """One field: the kinds of value it takes (`int float bool str none dict list`), its texts where they are known."""

    name: str
    kinds: frozenset[str]
    default: Any = None
    choices: tuple[str, ...] = ()
    help: str = ""

    @property
    def expected(self) -> str:
        """What the field takes, as an error says it."""
        kinds = self.kinds - {"int"} if "float" in self.kinds else self.kinds
        words = {**_WORDS, "str": f"one of {', '.join(self.choices)}" if self.choices else "text"}
        return " or ".join(word for kind, word in words.items() if kind in kinds)

    def problem(self, value: Any) -> str:
        """What is wrong with `value` for this field; empty where nothing is."""
        if not self.kinds:
            return "takes a Python object, which a suite can't give"
        if self._takes(value):
            if isinstance(value, float) and not math.isfinite(value):
                return f"expected a finite number, got {value}"
            if isinstance(value, str) and self.choices and value not in self.choices:
                return f"expected {self.expected}, got {said(value)}; {_near(value, self.choices)}".rstrip("; ")
            return ""
        hint = ""
        if isinstance(value, str) and self.kinds & {"int", "float", "bool"} and _reads_as_plain(value):
            hint = ": leave out the quotes"
        return f"expected {self.expected}, got {said(value)}{hint}"

    def _takes(self, value: Any) -> bool:
        kind = "none" if value is None else type(value).__name__
        if kind in ("dict", "list") and not all(isinstance(item, str) for item in value):
            return False
        return kind in self.kinds or (kind == "int" and "float" in self.kinds)

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the field's values."""
        types: list[dict[str, Any]] = [
            {"type": _SCHEMA[kind]} for kind in _SCHEMA if kind in self.kinds and kind != "str"
        ]
        if "str" in self.kinds:
            types.append({"enum": list(self.choices)} if self.choices else {"type": "string"})
        if "list" in self.kinds:
            types.append({"type": "array", "items": {"type": "string"}})
        described: dict[str, Any] = {"description": self.help} if self.help else {}
        return {**described, **(types[0] if len(types) == 1 else {"anyOf": types})}


def _near(value: str, choices: tuple[str, ...]) -> str:
    hint = one_of(value, choices)
    return hint if hint.startswith("did you mean") else ""


def _reads_as_plain(text: str) -> bool:
    """Whether `text` without its quotes would be a number, true or false."""
    if text.lower() in ("true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


@dataclass(frozen=True)
class TrainingFields:
    """All fields of one version of transformers, and what a suite may say with them."""

    fields: Mapping[str, TrainingField]
    version: str = ""

    @cached_property
    def settable(self) -> Mapping[str, TrainingField]:
        """The fields that a suite may set: all but those that ftcheck sets itself."""
        return {name: known for name, known in self.fields.items() if name not in OWNED}

    def problems(self, given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
        """(field of `given`, what is wrong with it), all of them. The task's `defaults` hold where it is silent."""
        found = [(name, problem) for name, value in given.items() if (problem := self._problem(name, value))]
        wrong = {name for name, _ in found}
        if not wrong & RELATED and wrong <= self.fields.keys():
            library = {name: known.default for name, known in self.fields.items()}
            found += conflicts(given, {**library, **(defaults or {}), **given})
        return found

    def _problem(self, name: Any, value: Any) -> str:
        if not isinstance(name, str):
            return "expected the name of a TrainingArguments field"
        if name in OWNED:
            return OWNED[name]
        known = self.fields.get(name)
        if known is not None:
            return known.problem(value) or _range_problem(name, value)
        if name in SUCCESSORS:
            return f"not in transformers {self.version}: {SUCCESSORS[name]}"
        return f"no such TrainingArguments field; {one_of(name, self.settable)}".rstrip("; ")

    def schema(self) -> dict[str, Any]:
        """JSON Schema properties of the fields that a suite may set."""
        return {name: known.schema() for name, known in self.settable.items() if known.kinds}


def _range_problem(name: str, value: Any) -> str:
    if name not in RANGES or isinstance(value, bool | str | None):
        return ""
    words, holds = RANGES[name]
    return "" if holds(value) else f"expected {words}, got {said(value)}"


@cache
def installed() -> TrainingFields:
    """The fields of the installed transformers. Raises UsageError where it or its source is missing."""
    found = find_spec("transformers")
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise UsageError("transformers is not installed: pip install transformers")
    return read(Path(folders[0]))


def read(folder: Path) -> TrainingFields:
    """The fields in the source of the transformers package in `folder`. Raises UsageError."""
    try:
        reader = _Reader(folder)
        return TrainingFields(fields={known.name: known for known in reader.fields()}, version=reader.version())
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"the source of transformers' TrainingArguments can't be read: {error}") from None


@dataclass
class _Reader:
    """Walks the syntax tree of `training_args.py`, and of the modules that its enums come from."""

    folder: Path
    _choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _trees: dict[Path, ast.Module] = field(default_factory=dict)

    def version(self) -> str:
        """`__version__` in the package's `__init__.py`, found without parsing its 1,000 lines."""
        for line in (self.folder / "__init__.py").read_text("utf-8").splitlines():
            if line.startswith("__version__"):
                return line.partition("=")[2].strip().strip("\"'")
        return ""

    def _tree(self, path: Path) -> ast.Module:
        if path not in self._trees:
            text = path.read_text("utf-8")
            try:
                self._trees[path] = ast.parse(_FUNCTION.sub(r"\1def _(): ...\n", text))
            except SyntaxError:  # a text within a function looked like its end
                self._trees[path] = ast.parse(text)
        return self._trees[path]

    def fields(self) -> Iterator[TrainingField]:
        """Each annotated name of the class body that `__init__` takes. Raises SyntaxError without such a class."""
        self._module = self._tree(self.folder / "training_args.py")
        body = _class(self._module, "TrainingArguments")
        if body is None:
            raise SyntaxError("no class TrainingArguments")
        for node in body.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            details = _keywords(node.value)
            if _literal(details.get("init")) is False or node.target.id.startswith("_"):
                continue
            metadata = _mapping(details.get("metadata"))
            kinds, choices = self._kinds(node.annotation)
            if node.target.id in FLAGS:
                kinds, choices = frozenset({"bool", "none"}), ()
            listed = _literal(metadata.get("choices"))
            yield TrainingField(
                name=node.target.id,
                kinds=kinds,
                default=_literal(details.get("default")),
                choices=tuple(listed) if isinstance(listed, list) else choices,
                help=str(_literal(metadata.get("help")) or "").replace("%%", "%"),
            )

    def _kinds(self, annotation: ast.expr) -> tuple[frozenset[str], tuple[str, ...]]:
        """The kinds of value an annotation allows, and the texts of an enum in it; none for other classes.

        Where a field takes a mapping or the path of a file with one, only the mapping counts: a file's content would
        not be part of the run's key.
        """
        kinds: frozenset[str] = frozenset()
        choices: tuple[str, ...] = ()
        for part in _members(annotation):
            more, texts = self._kind(part)
            kinds, choices = kinds | more, choices + texts
        return (kinds - {"str"} if "dict" in kinds else kinds), choices

    def _kind(self, node: ast.expr) -> tuple[frozenset[str], tuple[str, ...]]:
        match node:
            case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
                return self._literal_kinds(inner)
            case ast.Subscript(value=ast.Name(id=name)) | ast.Name(id=name):
                return self._named(name)
        return frozenset({"none"} if isinstance(node, ast.Constant) else ()), ()

    def _named(self, name: str) -> tuple[frozenset[str], tuple[str, ...]]:
        if name.lower() in _ATOMS:
            return frozenset({_ATOMS[name.lower()]}), ()
        choices = self._enum(name)
        return frozenset({"str"} if choices else ()), choices

    def _literal_kinds(self, node: ast.expr) -> tuple[frozenset[str], tuple[str, ...]]:
        values = [_literal(part) for part in (node.elts if isinstance(node, ast.Tuple) else [node])]
        kinds = frozenset(_ATOMS[type(value).__name__.lower()] for value in values)
        return kinds, tuple(value for value in values if isinstance(value, str))

    def _enum(self, name: str) -> tuple[str, ...]:
        """The values of the enum `name`, from training_args.py or the module it is imported from; else nothing."""
        if name not in self._choices:
            self._choices[name] = self._enum_values(name)
        return self._choices[name]

    def _enum_values(self, name: str) -> tuple[str, ...]:
        found = _class(self._module, name)
        if found is None:
            for node in self._module.body:
                if isinstance(node, ast.ImportFrom) and node.level == 1 and any(one.name == name for one in node.names):
                    path = self.folder.joinpath(*(node.module or "").split(".")).with_suffix(".py")
                    found = _class(self._tree(path), name) if path.is_file() else None
        if found is None:
            return ()
        values = (_literal(node.value) for node in found.body if isinstance(node, ast.Assign))
        return tuple(value for value in values if isinstance(value, str))


def _class(module: ast.Module, name: str) -> ast.ClassDef | None:
    return next((node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _members(annotation: ast.expr) -> list[ast.expr]:
    """The members of `A | B`, `Union[A, B]`, `Optional[A]`, also quoted ones; any other annotation by itself."""
    match annotation:
        case ast.BinOp(left=left, right=right):
            return _members(left) + _members(right)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            return [member for part in parts for member in _members(part)]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return [*_members(inner), ast.Constant(None)]
        case ast.Constant(value=str(text)):
            return _members(ast.parse(text, mode="eval").body)
    return [annotation]


def _keywords(node: ast.expr | None) -> dict[str, ast.expr]:
    """The keyword arguments of `field(...)`; a bare default as one."""
    if isinstance(node, ast.Call):
        return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    return {} if node is None else {"default": node}


def _mapping(node: ast.expr | None) -> dict[str, ast.expr]:
    """A dict display's values by their literal keys."""
    if not isinstance(node, ast.Dict):
        return {}
    return {str(_literal(key)): value for key, value in zip(node.keys, node.values, strict=True) if key is not None}


def _literal(node: ast.expr | None) -> Any:
    """The value of a literal expression; None for any other."""
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
