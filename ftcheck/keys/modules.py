"""Which of the modules behind a result are the user's own, and what they are."""

from __future__ import annotations

import ast
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import metadata, util
from importlib.machinery import ModuleSpec
from pathlib import Path

from ftcheck.errors import IdentityError, shown

Digest = Callable[[Path], str]
"""A file's content hash."""


def identity(names: Iterable[str], digest: Digest) -> dict[str, str]:
    """`module NAME` -> its file's hash, for the modules `names` and, wherever in their source they are imported, those
    of the user's own; `library NAME` -> version, for the libraries that these import.

    Own are modules that aren't installed (nor part of Python or ftcheck), and those of the packages that `names` are
    of. Raises IdentityError for one of `names` that has no file.
    """
    names = tuple(names)
    packages = {_top(name) for name in names}
    found: dict[str, str] = {}
    waiting = [part for name in names for part in with_packages(name)]
    while waiting:
        name = waiting.pop()
        if f"module {name}" in found:
            continue
        path = file(name)
        if path is None:  # also what is no module but an attribute of one
            if name in names:
                raise IdentityError(f"the module {shown(name)} has no file, so that it can't be fingerprinted")
            continue
        try:
            found[f"module {name}"] = digest(path)
        except OSError as error:
            raise _unreadable(path, error) from None
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        imported = _imported(path, package) if path.suffix == ".py" else set()
        for other in sorted(imported):
            if _top(other) in packages or is_own(other):
                waiting.append(other)
            elif (version := library(other)) is not None:
                found[f"library {_top(other)}"] = version
    return found


def file(name: str) -> Path | None:
    """The file of a module, loaded or not; None where there is no such module, or none with a file."""
    spec = _spec(name)
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def library(name: str) -> str | None:
    """The version of the library that a module belongs to; None for Python's own modules and ftcheck's."""
    top = _top(name)
    return None if top in sys.stdlib_module_names or top == "ftcheck" else _version(top)


@cache
def is_own(name: str) -> bool:
    """Whether a module is the user's: not Python's, ftcheck's or an installed library's."""
    top = _top(name)
    if top in sys.stdlib_module_names or top == "ftcheck":
        return False
    spec = _spec(top)
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    return bool(places) and not any(Path(place).is_relative_to(folder) for place in places for folder in _installed())


def _top(name: str) -> str:
    return name.partition(".")[0]


@cache
def _installed() -> frozenset[Path]:
    paths = sysconfig.get_paths()
    return frozenset(
        Path(path) for path in (paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages())
    )


@cache
def _version(top: str) -> str:
    """Mostly a library's distribution is called as it is; else all distributions are asked, which takes longer."""
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        found = sorted(set(metadata.packages_distributions().get(top, ())))
        return " ".join(f"{name} {metadata.version(name)}" for name in found) or "not installed"


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, loaded or not; None where there is none. Imports the packages that it lies in."""
    package = name.rpartition(".")[0]
    if package and ((above := _spec(package)) is None or above.submodule_search_locations is None):
        return None
    try:
        return util.find_spec(name)
    except (ImportError, ValueError):
        # ValueError: something that isn't from an import stands under that name (`__main__`, say).
        return None


def libraries(path: Path) -> dict[str, str]:
    """The libraries that a source file imports anywhere, with their versions. Raises IdentityError."""
    found = ((_top(name), library(name)) for name in _imported(path, "") if not is_own(name))
    return {top: version for top, version in found if version is not None}


def _imported(path: Path, package: str) -> set[str]:
    """The modules that the source file of a module in `package` imports anywhere."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from None
    return {name for node in ast.walk(tree) for name in imports(node, package)}


def _unreadable(path: Path, error: Exception) -> IdentityError:
    return IdentityError(f"{shown(path, 300)}, which is part of the suite's code, can't be read: {shown(error)}")


def imports(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that a statement of a module in `package` imports, with the packages that they lie in; none where it
    is no import. `from a import b` may mean the module a.b, or nothing but an attribute."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from with_packages(alias.name)
    elif isinstance(node, ast.ImportFrom):
        above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
        base = ".".join(part for part in (above if node.level else "", node.module) if part)
        if base:
            yield from with_packages(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def with_packages(name: str) -> Iterator[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`: importing the last runs them all."""
    parts = name.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))
