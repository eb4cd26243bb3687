"""A user's function is its code, what it uses in its module and the values it holds; not how it is written."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import IdentityError
from ftcheck.keys import canonical, source_identity

MODULE = '''
import math
import re

SCALE = 2
PATTERN = re.compile("a+")
UNUSED = 3

class Rule:
    weight = 1

    def apply(self, x):
        return inner(x) * self.weight

def inner(x):
    return x + SCALE

def outer(x, power=2):
    """Doc."""
    return Rule().apply(x) ** power + math.floor(x) + len(PATTERN.findall("aa"))

def unrelated():
    return UNUSED

def closed_over(value):
    def function(x):
        return x + value
    return function

shift = lambda x: inner(x) - 1
'''


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Imports a module of the given source, each time under the same name, from a new file."""
    count = 0

    def loaded(source: str) -> Any:
        nonlocal count
        count += 1
        path = tmp_path / str(count) / "user_metric.py"
        path.parent.mkdir()
        path.write_text(source)
        found = importlib.util.spec_from_file_location("user_metric", path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules["user_metric"] = module
        found.loader.exec_module(module)
        return module

    yield loaded
    sys.modules.pop("user_metric", None)


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        pytest.param("** power", "* power", True, id="its body"),
        pytest.param("power=2", "power=3", True, id="a default"),
        pytest.param("x + SCALE", "x - SCALE", True, id="a function that it calls through a class"),
        pytest.param("weight = 1", "weight = 2", True, id="a class that it uses"),
        pytest.param("SCALE = 2", "SCALE = 3", True, id="a constant of the module"),
        pytest.param('compile("a+")', 'compile("a")', True, id="a constant that is no JSON"),
        pytest.param("import math", "import cmath as math", True, id="another module under the same name"),
        pytest.param("return UNUSED", "return 0", False, id="a function that it doesn't use"),
        pytest.param("UNUSED = 3", "UNUSED = 4", False, id="a constant that it doesn't use"),
        pytest.param(
            "    return x + SCALE", "    # a comment\n    return (x + SCALE)", False, id="comments and brackets"
        ),
    ],
)
def test_what_a_function_does_is_what_counts(load: Callable[[str], Any], old: str, new: str, differs: bool) -> None:
    assert old in MODULE
    before = canonical(source_identity(load(MODULE).outer))
    after = canonical(source_identity(load(MODULE.replace(old, new)).outer))
    assert (before != after) == differs


def test_the_values_of_a_closure_count(load: Callable[[str], Any]) -> None:
    module = load(MODULE)
    one, other, same = (source_identity(module.closed_over(value)) for value in (1, 2, 1))
    assert one != other
    assert one == same


def test_a_lambda_is_followed_too(load: Callable[[str], Any]) -> None:
    before = source_identity(load(MODULE).shift)
    assert source_identity(load(MODULE.replace("x + SCALE", "x * SCALE")).shift) != before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda module: len, "give a plain Python function", id="built in"),
        pytest.param(lambda module: functools.partial(module.outer, power=3), "no method, partial", id="partial"),
        pytest.param(lambda module: module.Rule().apply, "no method, partial", id="bound method"),
        pytest.param(lambda module: module.closed_over(object()), "closure value is a builtins.object", id="closure"),
        pytest.param(lambda module: eval("lambda x: x"), "has no source", id="made by eval"),
    ],
)
def test_what_cannot_be_fingerprinted_is_refused(
    load: Callable[[str], Any], make: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(IdentityError) as raised:
        source_identity(make(load(MODULE)))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
