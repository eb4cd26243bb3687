"""What YAML says and where: YAML 1.2 scalars, lines of keys, and one clear error for every trap of YAML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck.errors import SuiteErrors
from ftcheck.spec import expand
from ftcheck.suitefile import MAX_DEPTH, parse, read, scalar
from tests.spec.catalogue import CATALOGUE

PATH = Path("suites/a.ft.yaml")


def problems(content: bytes | str) -> list[str]:
    """What is wrong with a file of this content: `LINE KEY: message`."""
    with pytest.raises(SuiteErrors) as caught:
        parse(content if isinstance(content, bytes) else content.encode(), PATH)
    assert all(error.location.path == str(PATH) for error in caught.value.errors)
    return [f"{error.location.line} {error.location.key}: {error.message}" for error in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1e-4", 1e-4, id="exponent-without-dot"),
        pytest.param("5E5", 5e5, id="capital-exponent"),
        pytest.param("1.", 1.0, id="dot-at-end"),
        pytest.param(".5", 0.5, id="dot-first"),
        pytest.param("-12", -12, id="negative"),
        pytest.param("+3", 3, id="plus"),
        pytest.param("012", 12, id="leading-zero-is-not-octal"),
        pytest.param("0o14", 12, id="octal"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("yes", "yes", id="yes-is-text"),
        pytest.param("no", "no", id="no-is-text"),
        pytest.param("on", "on", id="on-is-text"),
        pytest.param("off", "off", id="off-is-text"),
        pytest.param("1:30", "1:30", id="sexagesimal-is-text"),
        pytest.param("1_000", "1_000", id="underscore-is-text"),
        pytest.param("2024-01-31", "2024-01-31", id="date-is-text"),
        pytest.param("true", True, id="true"),
        pytest.param("FALSE", False, id="false"),
        pytest.param("~", None, id="tilde"),
        pytest.param("null", None, id="null"),
        pytest.param("", None, id="empty"),
        pytest.param(".inf", math.inf, id="infinity"),
        pytest.param("-.INF", -math.inf, id="negative-infinity"),
        pytest.param("0b11", "0b11", id="no-binary"),
        pytest.param("-", "-", id="dash"),
        pytest.param("1e", "1e", id="cut-exponent"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(scalar(".nan"))


def test_quoted_scalars_stay_text() -> None:
    (declaration,) = parse(b"cases: {a: {x: '1e-4', y: \"true\"}}", PATH)
    assert declaration.fields == {"x": "1e-4", "y": "true"}


BLOCK = """\
defaults:
  seeds: 3
cases:
  one:
    training:
      learning_rate: 1e-4
    marks:
      - slow
      - skip: later
  two:
    gates:
      accuracy:
        min: 0.9
"""
FLOW = """\
{defaults: {seeds: 3},
 cases: {
  one: {training: {
          learning_rate: 1e-4},
        marks: [slow,
                {skip: later}]},
  two: {gates: {accuracy: {
          min: 0.9}}}}}
"""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param(BLOCK, [4, 5, 6, 8, 9, 10, 13], id="block"),
        pytest.param(FLOW, [3, 3, 4, 5, 6, 7, 8], id="flow"),
    ],
)
def test_every_key_path_has_its_line(text: str, lines: list[int]) -> None:
    one, two = parse(text.encode(), PATH)
    places = [
        one.source,
        one.source.at(("training",)),
        one.source.at(("training", "learning_rate")),
        one.source.at(("marks", 0)),
        one.source.at(("marks", 1, "skip")),
        two.source,
        two.source.at(("gates", "accuracy", "min")),
    ]
    assert [place.line for place in places] == lines
    assert places[2].key == "cases.one.training.learning_rate"
    assert places[4].key == "cases.one.marks[1].skip"
    assert one.fields == {"training": {"learning_rate": 1e-4}, "marks": ["slow", {"skip": "later"}]}
    assert one.defaults == two.defaults == {"seeds": 3}


def test_scalars_keep_their_source_text() -> None:
    (declaration,) = parse(b"cases: {a: {x: [1e-4, 1.0e-4, 0x10]}}", PATH)
    assert [declaration.source.at(("x", index)).text for index in range(3)] == ["1e-4", "1.0e-4", "0x10"]


def test_names_that_look_like_numbers_are_names() -> None:
    assert [declaration.name for declaration in parse(b"cases: {2024: {}, true: {}, 1e-4: }", PATH)] == [
        "2024",
        "true",
        "1e-4",
    ]


def test_byte_order_mark_and_schema_comment_are_allowed() -> None:
    text = "\ufeff# yaml-language-server: $schema=suite.schema.json\ncases: {a: {}}\n"
    assert [declaration.name for declaration in parse(text.encode(), PATH)] == ["a"]


def test_anchors_are_shared_and_keep_their_place() -> None:
    first, second = parse(b"cases:\n  a:\n    training: &t\n      x: 1\n  b: {training: *t}\n", PATH)
    assert second.fields == first.fields == {"training": {"x": 1}}
    assert second.source.at(("training", "x")).line == 4


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", ["1 : the file is empty; expected a mapping with `cases`"], id="empty"),
        pytest.param(
            "# only a comment\n", ["1 : the file is empty; expected a mapping with `cases`"], id="comment-only"
        ),
        pytest.param("- a\n", ["1 : expected a mapping with `cases`, got a list"], id="top-level-list"),
        pytest.param("text", ["1 : expected a mapping with `cases`, got 'text'"], id="top-level-text"),
        pytest.param(
            "defaults: {}\n",
            ["1 : expected `cases`, a mapping of at least one case by its name, got nothing"],
            id="no-cases",
        ),
        pytest.param(
            "defaults: {}\ncases: {}\n",
            ["2 cases: expected `cases`, a mapping of at least one case by its name, got an empty mapping"],
            id="empty-cases",
        ),
        pytest.param(
            "case: {}\ncases: [a]\ndefaults: 3\n",
            [
                "1 case: no such key at the top of a suite file; did you mean cases?",
                "3 defaults: expected a mapping of a case's fields, got '3'",
                "2 cases: expected `cases`, a mapping of at least one case by its name, got a list",
            ],
            id="all-of-the-top-level-at-once",
        ),
        pytest.param(
            "cases:\n  a: x\n  b: [1]\n",
            [
                "2 cases.a: expected a mapping of the case's fields, got 'x'",
                "3 cases.b: expected a mapping of the case's fields, got a list",
            ],
            id="cases-that-are-no-mappings",
        ),
        pytest.param(
            "cases:\n  a: {}\n  b: {x: 1, x: 2}\n  a: {}\n",
            [
                "3 cases.b.x: duplicate key; it is already on line 3",
                "4 cases.a: duplicate key; it is already on line 2",
            ],
            id="duplicate-keys-all-at-once",
        ),
        pytest.param(
            "cases: {a: {x: !!python/object/apply:os.system [ls]}}",
            [
                "1 cases.a.x: the tag tag:yaml.org,2002:python/object/apply:os.system is not used in suite files; "
                "leave it out"
            ],
            id="python-tag",
        ),
        pytest.param(
            "cases: {a: {x: !!str 3}}",
            ["1 cases.a.x: the tag tag:yaml.org,2002:str is not used in suite files; leave it out"],
            id="any-tag",
        ),
        pytest.param(
            "cases:\n  a: &a {}\n  b:\n    <<: *a\n",
            ["4 cases.b.<<: merge keys are not part of YAML 1.2; use `defaults` or an alias"],
            id="merge-key",
        ),
        pytest.param(
            "cases: {a: {? [x] : 1}}",
            ["1 cases.a: a key is a plain or quoted word, not a list, mapping, alias or tag"],
            id="list-as-key",
        ),
        pytest.param(
            'cases: {"\\e[31m": {"\\u202e": 1, "\\u202e": 1}}',
            ["1 cases.\\x1b[31m.\\u202e: duplicate key; it is already on line 1"],
            id="control-characters-in-a-key",
        ),
        pytest.param("cases: {a: {'': 1}}", ["1 cases.a: an empty key"], id="empty-key"),
        pytest.param(
            "cases: {a: {}}\n---\ncases: {b: {}}\n", ["2 : a second document: one suite to a file"], id="two-documents"
        ),
        pytest.param("cases: {a: *x}", ["1 cases.a: *x has no anchor &x before it"], id="unknown-alias"),
        pytest.param("cases: {a: &a {x: *a}}", ["1 cases.a.x: *a contains itself"], id="recursive-alias"),
        pytest.param(LAUGHS, ["5 a4[7]: aliases stand for more than 100,000 values"], id="alias-bomb"),
        pytest.param(
            "cases:\n  a: " + "[" * 5000,
            [f"2 cases.a{'[0]' * (MAX_DEPTH - 1)}: nested deeper than {MAX_DEPTH} levels"],
            id="too-deep",
        ),
        pytest.param(
            "cases: {a: {seeds: " + "9" * 5000 + "}}",
            ["1 cases.a.seeds: an integer of 5000 digits is no number that a suite can use"],
            id="absurd-integer",
        ),
        pytest.param(
            b"cases:\n  a: {x: \xff}\n",
            ["2 : not UTF-8: byte 0xff at offset 16; save the file as UTF-8"],
            id="invalid-utf-8",
        ),
        pytest.param(
            "cases: {}".encode("utf-16"), ["1 : not UTF-8: byte 0xff at offset 0; save the file as UTF-8"], id="utf-16"
        ),
        pytest.param("cases:\n  a: {x: \x00}\n", ["2 : the character \\x00 is not allowed in YAML"], id="nul"),
        pytest.param(
            "cases:\n\n  a: \x1b[31m\n", ["3 : the character \\x1b is not allowed in YAML"], id="control-character"
        ),
        pytest.param(
            "cases: {a: [}\n",
            ["1 : not YAML: while parsing a flow node did not find expected node content"],
            id="syntax",
        ),
        pytest.param("cases:\n  a: 1\n b: 2\n", ["3 : not YAML: did not find expected key"], id="indentation"),
        pytest.param(
            "cases:\n\ta: 1\n",
            ["2 : not YAML: a tab where there can be none; indent with spaces"],
            id="tab",
        ),
    ],
)
def test_what_is_no_suite_file_is_one_clear_error(content: bytes | str, expected: list[str]) -> None:
    found = [message.replace("while parsing a block mapping ", "") for message in problems(content)]
    assert found == expected


def test_a_file_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(SuiteErrors, match=r"nothing\.ft\.yaml: can't be read: No such file or directory"):
        read(tmp_path / "nothing.ft.yaml")


def test_line_ends_of_windows_count_once() -> None:
    _, second = parse(b"cases:\r\n  a: {}\r\n  b: {}\r\n", PATH)
    assert second.source.line == 3


_WORDS = st.sampled_from(
    [
        *("cases", "defaults", "a", "training", "matrix", "seeds", "data", "gates", "checkpoint", "task", "marks"),
        *("1e-4", "no", "~", "&a", "*a", "<<", "!!str", "---", "é", "- ", "? ", "\n  ", "\n    "),
        *"{}[]:,#|>'\"\t\n\0",
    ]
)


@settings(deadline=None)
@given(
    st.lists(_WORDS, max_size=60).map(" ".join) | st.lists(_WORDS, max_size=60).map("".join) | st.binary(max_size=200)
)
def test_any_content_gives_cases_or_our_errors(content: bytes | str) -> None:
    """Whatever stands in a file, collection ends with cases or with SuiteErrors: never with another exception."""
    data = content if isinstance(content, bytes) else content.encode()
    try:
        expand(parse(data, PATH), CATALOGUE)
    except SuiteErrors as error:
        said = str(error)
    else:
        said = ""
    assert said.replace("\n", "").isprintable()
