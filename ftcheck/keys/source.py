"""What a user's function is: its source, that of what it uses in its own module, and the values that it holds."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ftcheck.errors import IdentityError, shown
from ftcheck.keys.canonical import plain_json
from ftcheck.results import Json


def source_identity(function: Callable[..., Any]) -> dict[str, Json]:
    """Name in the function's module -> its source, or its value where it is a constant, for all that `function` uses.

    Functions and classes of the same module are followed; of other modules only the name is recorded (libraries are
    told apart by their versions). Values of the closure and of defaults must be JSON, or functions of the same module.
    Comments and formatting don't count. Raises IdentityError for what has no Python source, or holds another value.
    """
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType):
        raise IdentityError(
            f"{shown(repr(function))} can't be fingerprinted: give a plain Python function (with `def`), "
            "no method, partial or callable object"
        )
    found: dict[str, Json] = {}
    _Reader(function, found).read_function(function, function.__qualname__)
    return found


class _Reader:
    """Walks from one function over its own module. `found` collects what was read."""

    def __init__(self, function: FunctionType, found: dict[str, Json]) -> None:
        self._module = function.__module__
        self._globals = function.__globals__
        self._found = found
        self._statements: dict[str, ast.stmt] | None = None

    def read_function(self, function: FunctionType, name: str) -> None:
        source, tree = _source(function)
        self._found[name] = source
        for index, value in enumerate(function.__defaults__ or ()):
            self._read_value(f"{name} default {index}", value)
        for parameter, value in (function.__kwdefaults__ or {}).items():
            self._read_value(f"{name} default {parameter}", value)
        for free, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                raise IdentityError(f"{name} uses {free}, which has no value yet") from None
            self._read_value(f"{name} closure {free}", value)
        self._read_names({*_code_names(function.__code__), *_tree_names(tree)})

    def _read_names(self, names: set[str]) -> None:
        for name in sorted(names):
            if name in self._globals and name not in self._found:
                self._read_value(name, self._globals[name])

    def _read_value(self, name: str, value: Any) -> None:
        if name in self._found:
            return
        if isinstance(value, ModuleType):
            self._found[name] = f"module {value.__name__}"
        elif isinstance(value, FunctionType | type) and value.__module__ == self._module:
            self._read_own(name, value)
        elif callable(value) and hasattr(value, "__qualname__") and hasattr(value, "__module__"):
            self._found[name] = f"{value.__module__}.{value.__qualname__}"
        else:
            self._read_constant(name, value)

    def _read_own(self, name: str, value: FunctionType | type) -> None:
        if isinstance(value, FunctionType):
            self.read_function(value, name)
            return
        source, tree = _source(value)
        self._found[name] = source
        self._read_names(_tree_names(tree))

    def _read_constant(self, name: str, value: Any) -> None:
        try:
            self._found[name] = plain_json(value, name)
        except IdentityError:
            # A compiled pattern, say: not JSON, but the statement that made it tells it as well.
            statement = self._module_statements().get(name)
            if statement is None:
                raise
            self._found[name] = ast.unparse(statement)
            self._read_names(_tree_names(statement))

    def _module_statements(self) -> dict[str, ast.stmt]:
        """Global name -> the one statement that assigns it; names that are assigned more than once are left out."""
        if self._statements is None:
            module = sys.modules.get(self._module)
            tree = ast.parse(inspect.getsource(module)) if module is not None else ast.Module([], [])
            found: dict[str, list[ast.stmt]] = {}
            for statement in ast.walk(tree):
                for name in _assigned(statement):
                    found.setdefault(name, []).append(statement)  # type: ignore[arg-type]
            self._statements = {name: statements[0] for name, statements in found.items() if len(statements) == 1}
        return self._statements


def _assigned(node: ast.AST) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def _source(value: FunctionType | type) -> tuple[str, ast.AST | None]:
    """The source without comments and formatting, and its tree; a lambda's lines as they are where they don't parse."""
    try:
        text = textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):
        raise IdentityError(
            f"{shown(value.__qualname__)} has no source that can be read (made with exec, or at a prompt?): "
            "put it into a module"
        ) from None
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text, None
    return ast.unparse(tree), tree


def _tree_names(tree: ast.AST | None) -> set[str]:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree is not None else set()
    return names - set(dir(builtins))


def _code_names(code: CodeType) -> set[str]:
    """Every name in a function's code and in what is nested in it: at least the globals it uses."""
    nested = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names}.union(*(_code_names(inner) for inner in nested))
