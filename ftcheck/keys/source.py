"""What a user's function or class is: its source, that of what it uses, and the values that it holds."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ftcheck.errors import IdentityError, shown
from ftcheck.keys import modules
from ftcheck.keys.canonical import plain_json
from ftcheck.keys.files import file_digest
from ftcheck.results import Json


def source_identity(value: Callable[..., Any]) -> dict[str, Json]:
    """Name -> its source, or its value where it is a constant, for all that a function or class uses.

    Functions and classes of the same module are followed, and those of the user's other modules; a module that is used
    whole, or imported only when it is needed, counts with all of its file. Of libraries the name and the version are
    recorded. Values of the closure and of defaults must be JSON, or functions of the user's. Comments and formatting
    don't count. Raises IdentityError for what has no Python source, or holds another value.
    """
    value = inspect.unwrap(value)
    if not isinstance(value, FunctionType | type):
        raise IdentityError(
            f"{shown(repr(value))} can't be fingerprinted: give a plain Python function (with `def`) or a class, "
            "no method, partial or callable object"
        )
    found: dict[str, Json] = {}
    _Reader(value.__module__, found).read(value, value.__qualname__)
    return found


class _Reader:
    """Walks over one module, and hands on to a reader of its own what stands in another. `found` collects."""

    def __init__(self, module: str, found: dict[str, Json], prefix: str = "") -> None:
        self._module = module
        self._globals = vars(sys.modules[module]) if module in sys.modules else {}
        self._found = found
        self._prefix = prefix
        self._statements: dict[str, ast.stmt] | None = None

    def read(self, value: FunctionType | type, name: str) -> None:
        """Record a function or class of this module, and what it uses."""
        source, tree = _source(value)
        self._found[self._prefix + name] = source
        names = _tree_names(tree)
        if isinstance(value, FunctionType):
            self._globals = self._globals or value.__globals__
            self._read_held(value, name)
            names |= {*_code_names(value.__code__)}
        self._read_names(names)
        for node in ast.walk(tree) if tree is not None else ():
            for imported in modules.imports(node, self._globals.get("__package__") or ""):
                self._read_module(imported)

    def _read_held(self, function: FunctionType, name: str) -> None:
        """The values of defaults and closure."""
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

    def _read_names(self, names: set[str]) -> None:
        for name in sorted(names):
            if name in self._globals:
                self._read_value(name, self._globals[name])

    def _read_value(self, name: str, value: Any) -> None:
        if self._prefix + name in self._found:
            return
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, ModuleType):
            self._found[self._prefix + name] = f"module {value.__name__}"
            for module in {value.__name__, *self._modules_called(name)}:
                self._read_module(module)
        elif isinstance(value, FunctionType | type) and value.__module__ == self._module:
            self.read(value, name)
        elif callable(value) and hasattr(value, "__qualname__") and hasattr(value, "__module__"):
            self._read_elsewhere(name, value)
        else:
            self._read_constant(name, value)

    def _read_elsewhere(self, name: str, value: Any) -> None:
        """A function or class of another module."""
        module = str(value.__module__)
        full = f"{module}.{value.__qualname__}"
        self._found[self._prefix + name] = full
        if isinstance(value, FunctionType | type) and modules.is_own(module):
            if full not in self._found:
                _Reader(module, self._found, f"{module}.").read(value, value.__qualname__)
        else:
            self._read_module(module)

    def _read_module(self, module: str) -> None:
        """What may be used of a module, not known in detail: all of it where it is the user's, else its version."""
        if modules.is_own(module):
            if modules.file(module) is not None:
                self._found.update(modules.identity((module,), file_digest))
        elif (version := modules.library(module)) is not None:
            self._found[f"library {module.partition('.')[0]}"] = version

    def _read_constant(self, name: str, value: Any) -> None:
        try:
            self._found[self._prefix + name] = plain_json(value, name)
        except IdentityError:
            # A compiled pattern, say: not JSON, but the statement that made it tells it as well.
            statement = self._module_statements().get(name)
            if statement is None:
                raise
            self._found[self._prefix + name] = ast.unparse(statement)
            self._read_names(_tree_names(statement))

    def _modules_called(self, name: str) -> set[str]:
        """The modules that `name` may lead to: after `import a.b` it is `a` that has a name."""
        found: set[str] = set()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import):
                bound = [alias.name for alias in node.names if (alias.asname or alias.name.partition(".")[0]) == name]
                found.update(module for full in bound for module in modules.with_packages(full))
        return found

    def _module_statements(self) -> dict[str, ast.stmt]:
        """Global name -> the one statement that assigns it; names that are assigned more than once are left out."""
        if self._statements is None:
            found: dict[str, list[ast.stmt]] = {}
            for statement in ast.walk(self._tree):
                for name in _assigned(statement):
                    found.setdefault(name, []).append(statement)  # type: ignore[arg-type]
            self._statements = {name: statements[0] for name, statements in found.items() if len(statements) == 1}
        return self._statements

    @cached_property
    def _tree(self) -> ast.Module:
        """The whole module; empty where it has no source."""
        try:
            return ast.parse(inspect.getsource(sys.modules[self._module]))
        except (KeyError, OSError, TypeError):
            return ast.Module([], [])


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
