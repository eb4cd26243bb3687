"""What all tests share."""

from __future__ import annotations

import gc
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from _pytest.pytester import SysModulesSnapshot

import ftcheck
from tests import warm

pytest_plugins = ["pytester", "tests.cli.faked"]

LIBRARIES = (
    str(Path(ftcheck.__file__).parent),
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def _installed(module: ModuleType) -> bool:
    """Whether it is a library: its file, or its folder where it is a namespace, lies where those are."""
    spec = getattr(module, "__spec__", None)
    places = (spec.origin, *(spec.submodule_search_locations or ())) if spec else ()
    return any(place is not None and place.startswith(LIBRARIES) for place in places)


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C is heard, and by all that tests start, where a shell has these in the background and it would be
    ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(Collections())


def pytest_unconfigure() -> None:
    warm.end()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker waits for another's at the end: those of real data, and those that
    train."""
    marked = {mark: {item.path for item in items if item.get_closest_marker(mark)} for mark in ("real", "e2e")}
    items.sort(key=lambda item: (item.path not in marked["real"], item.path not in marked["e2e"]))


MANY = 100
"""Modules whose objects are worth leaving out of collections."""


class Collections:
    """Of garbage, which trainings and sessions of pytest ask for by the thousand: 0.2 s each where they look through
    what torch and transformers brought, and all tests that were collected. What is there for good is left out."""

    def __init__(self) -> None:
        self.modules = 0

    def pytest_runtest_logfinish(self) -> None:
        if len(sys.modules) >= self.modules + MANY:
            gc.collect()
            gc.freeze()
            self.modules = len(sys.modules)


@pytest.fixture(autouse=True, scope="session")
def libraries_stay() -> Iterator[None]:
    """pytester forgets what was first imported while a pytest of its ran in this process, and in a test that has it.
    Of a library that is loaded twice each class is another one, and what it has registered is there already."""
    forget = SysModulesSnapshot.restore

    def restore(snapshot: SysModulesSnapshot) -> None:
        loaded = sys.modules.copy()
        forget(snapshot)
        new = {name: loaded[name] for name in loaded.keys() - sys.modules.keys()}
        sys.modules.update(new)  # where a namespace lies is asked of its parent
        for name in [name for name, module in new.items() if not _installed(module)]:
            del sys.modules[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SysModulesSnapshot, "restore", restore)
        yield


@pytest.fixture(autouse=True, scope="session")
def packages_are_read_once() -> Iterator[None]:
    """Each pytest in this process reads what all installed packages say of themselves, and parses it, three times:
    two fifths of a short session."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("entry_points", "files", "metadata"):
            patch.setattr(Distribution, name, _read_once(getattr(Distribution, name).fget))
        yield


def _read_once(read: Callable[[Distribution], Any]) -> property:
    """A property that is read once for each package that is installed, and anew for what a test makes."""
    known: dict[str, Any] = {}

    def value(package: Distribution) -> Any:
        place = str(getattr(package, "_path", ""))
        if not place.startswith(LIBRARIES):
            return read(package)
        if place not in known:
            known[place] = read(package)
        return known[place]

    return property(value)


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Places for run stores. Numbered here: pytest counts all folders beside a new one, and there are thousands."""
    folder = tmp_path_factory.mktemp("ftcheck-caches")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def own_cache(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's run store, none inherits the developer's settings, or waits for leases of
    another."""
    path = next(caches)
    path.mkdir()
    for name in (
        "DEVICE",
        "CACHE",
        "SEEDS",
        "LIMIT",
        "PLAN",
        "OFFLINE",
        "JSON",
        "DETAILS",
        "HISTORY",
        "TENSORBOARD",
        "MLFLOW",
        "REMOTE",
        "EXECUTOR",
        "RAY_ADDRESS",
        "VENDOR",
    ):
        monkeypatch.delenv(f"FTCHECK_{name}", raising=False)
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(path))
    monkeypatch.setenv("FTCHECK_RUNTIME_DIR", f"{path}-runtime")
    return path


@contextmanager
def as_they_were() -> Iterator[None]:
    """What ftcheck's modules name at the beginning is what they name at the end: functions, classes and constants. What
    a module looks up when it is asked for is its own again."""
    ours = [module for name, module in sys.modules.items() if name.startswith("ftcheck")]
    known = [(vars(module), vars(module).copy()) for module in ours]
    try:
        yield
    finally:
        for now, before in known:
            for name, value in before.items():
                if now.get(name) is not value and (callable(value) or name.isupper()):
                    now[name] = value
            if "__getattr__" in before:
                for name in [name for name in now if name not in before and not isinstance(now[name], ModuleType)]:
                    del now[name]


@pytest.fixture(autouse=True)
def no_fake_stays() -> Iterator[None]:
    """What a project's conftest.py, loaded into this process by a command or a pytest of its own, puts in the place of
    what trains, or of anything else, is taken away again: other tests of this process want the real ones."""
    with as_they_were():
        yield
