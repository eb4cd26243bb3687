"""A matrix makes one case per combination, with ids that say what each is, and never one by position."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.spec import case_id
from ftcheck.spec.matrix import id_problem
from tests.spec.catalogue import cases, errors, suite


def ids(fields: str, folder: Path = Path("/suites")) -> list[str]:
    return [case.id for case in cases(suite(fields), folder)]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        pytest.param("training.learning_rate: [1e-4, 5.0e-5]", ["c-1e-4", "c-5.0e-5"], id="numbers-as-written"),
        pytest.param(
            "checkpoint: [org/a, distilbert/distilbert-base-uncased]",
            ["c-org-a", "c-distilbert-distilbert-base-uncased"],
            id="slashes-become-dashes",
        ),
        pytest.param(
            "checkpoint: [o/a, o/b], seeds: [1, 2]",
            ["c-o-a-1", "c-o-a-2", "c-o-b-1", "c-o-b-2"],
            id="last-varies-fastest",
        ),
        pytest.param("precision: [fp32, ~]", ["c-fp32", "c--"], id="null-as-written"),
        pytest.param("training.use_cache: [true, false]", ["c-true", "c-false"], id="booleans"),
        pytest.param(
            "training: {values: [{max_steps: 1}, {max_steps: 2}], ids: [short, long]}", ["c-short", "c-long"], id="ids"
        ),
        pytest.param(
            "seeds: [1, 2], precision: [fp32, bf16], exclude: [{seeds: 2, precision: bf16}]",
            ["c-1-fp32", "c-1-bf16", "c-2-fp32"],
            id="exclude",
        ),
        pytest.param(
            "seeds: [1], include: [{training.max_steps: 5, precision: bf16}, {id: big, data: {path: o/d, limit: 9}}]",
            ["c-1", "c-5-bf16", "c-big"],
            id="include",
        ),
        pytest.param("include: [{seeds: 1}, {seeds: 2}]", ["c-1", "c-2"], id="only-include"),
    ],
)
def test_ids_show_values_as_written(matrix: str, expected: list[str]) -> None:
    assert ids(f"matrix: {{{matrix}}}") == expected


def test_values_are_set_at_their_paths() -> None:
    text = suite(
        "training: {weight_decay: 0.1}, task: tagging, data: org/data,"
        " matrix: {training.learning_rate: [1e-4, 1e-3], task.max_length: [64], data.limit.train: [5],"
        " checkpoint.revision: [main]}"
    )
    first, second = cases(text)
    assert first.training == {"weight_decay": 0.1, "learning_rate": 1e-4}
    assert second.training == {"weight_decay": 0.1, "learning_rate": 1e-3}
    assert first.task_options["max_length"] == 64
    assert (first.data.path, first.data.limit) == ("org/data", {"train": 5})
    assert (first.checkpoint.path, first.checkpoint.revision) == ("org/model", "main")
    assert first.name == second.name == "c"
    assert first.parameters == ("1e-4", "64", "5", "main")


def test_a_matrix_in_defaults_holds_for_every_case() -> None:
    text = "defaults: {checkpoint: o/m, task: tagging, data: o/d, matrix: {seeds: [1, 2]}}\ncases: {a: {}, b: {}}"
    assert [case.id for case in cases(text)] == ["a-1", "a-2", "b-1", "b-2"]


def test_local_paths_show_their_last_component(tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny enc").mkdir(parents=True)
    (tmp_path / "models" / "big").mkdir()
    assert ids("matrix: {checkpoint: [./models/tiny enc, models/big, org/hub]}", tmp_path) == [
        "c-tiny-enc",
        "c-big",
        "c-org-hub",
    ]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        pytest.param(
            "{}", "matrix: expected a mapping of dotted paths to lists of values, got an empty mapping", id="empty"
        ),
        pytest.param("[1]", "matrix: expected a mapping of dotted paths to lists of values, got a list", id="list"),
        pytest.param("{seeds: 3}", "matrix.seeds: expected a list of at least one value, got 3", id="no-list"),
        pytest.param(
            "{seeds: []}", "matrix.seeds: expected a list of at least one value, got an empty list", id="empty-axis"
        ),
        pytest.param(
            "{sedes: [1]}",
            "matrix.sedes: a matrix sets fields of the case by dotted paths; did you mean seeds?",
            id="unknown-field",
        ),
        pytest.param("{training..x: [1]}", "matrix.training..x: 'training..x' is no dotted path", id="empty-component"),
        pytest.param(
            "{training: [{max_steps: 1}]}",
            "matrix.training[0]: a mapping has no short text for the case id: "
            "write training: {values: [...], ids: [...]}",
            id="mapping-without-id",
        ),
        pytest.param(
            "{seeds: [[1, 2]]}",
            "matrix.seeds[0]: a list has no short text for the case id: write seeds: {values: [...], ids: [...]}",
            id="list-without-id",
        ),
        pytest.param(
            "{seeds: {values: [1]}}",
            "matrix.seeds: expected a list of values, or {values: [...], ids: [...]}",
            id="values-without-ids",
        ),
        pytest.param(
            "{seeds: {values: [1, 2], ids: [a]}}",
            "matrix.seeds.ids: expected a list of 2 distinct texts, one for each value",
            id="too-few-ids",
        ),
        pytest.param(
            "{seeds: {values: [1, 2], ids: [a, a]}}",
            "matrix.seeds.ids: expected a list of 2 distinct texts, one for each value",
            id="equal-ids",
        ),
        pytest.param(
            "{seeds: [1, 2], exclude: [{precision: fp32}]}",
            "matrix.exclude[0].precision: not an axis of this matrix; known: seeds",
            id="exclude-other-field",
        ),
        pytest.param(
            "{seeds: [1, 2], exclude: [{seeds: 3}]}",
            "matrix.exclude[0]: excludes nothing: no combination has these values",
            id="exclude-nothing",
        ),
        pytest.param("{seeds: [1], exclude: [{seeds: 1}]}", "matrix: no combination is left", id="exclude-all"),
        pytest.param(
            "{seeds: [1], exclude: 3}",
            "matrix.exclude: expected a list of mappings from dotted paths to values, got 3",
            id="exclude-number",
        ),
        pytest.param(
            "{include: [{}]}",
            "matrix.include[0]: expected a mapping from dotted paths to values, got an empty mapping",
            id="include-empty",
        ),
        pytest.param("{include: [{id: x}]}", "matrix.include[0]: sets nothing", id="include-only-id"),
        pytest.param(
            "{include: [{id: 3, seeds: 1}]}", "matrix.include[0].id: expected text, got 3", id="include-id-number"
        ),
        pytest.param(
            "{include: [{training: {}}]}",
            "matrix.include[0].training: an empty mapping has no short text for the case id: give the entry an `id`",
            id="include-without-id",
        ),
        pytest.param(
            "{seeds: [1, 1]}",
            "the case id 'c-1' is taken by 'c-1' of the same case; give the values distinct `ids`",
            id="equal-values",
        ),
        pytest.param(
            "{precision.x: [1]}",
            "matrix.precision.x[0]: precision.x can't be set: `precision` is 'fp32' (text), not a mapping",
            id="path-through-text",
        ),
        pytest.param(
            "{" + ", ".join(f"training.f{i}: [1, 2, 3, 4]" for i in range(20)) + "}",
            "matrix: 1,099,511,627,776 combinations; at most 10,000 make sense in one case",
            id="too-many",
        ),
    ],
)
def test_a_wrong_matrix_is_one_clear_error(matrix: str, expected: str) -> None:
    (error,) = errors(suite(f"precision: fp32, matrix: {matrix}"))
    assert error.endswith(expected)


def test_the_error_of_a_value_stands_at_the_value() -> None:
    text = suite("matrix: {training.learning_rate: [1e-4,\n   high]}")
    assert errors(text) == ["4 cases.c.matrix.training.learning_rate[1]: expected a number, got 'high' (text)"]


def test_training_false_has_no_fields_to_vary() -> None:
    (error,) = errors(suite("training: false, matrix: {training.learning_rate: [1]}"))
    assert error.endswith("training.learning_rate can't be set: `training` is false, not a mapping")


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        pytest.param("a b", (), "a-b", id="space"),
        pytest.param("a", ("x/y", "1e-4"), "a-x-y-1e-4", id="values"),
        pytest.param("TestX::test_y", (), "TestX--test_y", id="node-id"),
        pytest.param("é", (), "-", id="letter-outside-ascii"),
        pytest.param("v1.2_x-y", (), "v1.2_x-y", id="allowed-characters"),
    ],
)
def test_other_characters_become_dashes(name: str, parameters: tuple[str, ...], expected: str) -> None:
    assert case_id(name, parameters) == expected


@pytest.mark.parametrize(
    ("id_", "expected"),
    [
        pytest.param("a", "", id="right"),
        pytest.param("A.b-c_9", "", id="all-kinds"),
        pytest.param("x" * 200, "", id="longest"),
        pytest.param("x" * 201, "201 characters, at most 200", id="too-long"),
        pytest.param("", "must start with a letter or digit", id="empty"),
        pytest.param(".a", "must start with a letter or digit", id="dot-first"),
        pytest.param("-a", "must start with a letter or digit", id="dash-first"),
        pytest.param("_a", "must start with a letter or digit", id="underscore-first"),
        pytest.param("..", "must start with a letter or digit", id="parent-folder"),
        pytest.param("a.", "ends with a dot", id="dot-last"),
        pytest.param("nul", "Windows has a device of that name", id="device"),
        pytest.param("COM1.x", "Windows has a device of that name", id="device-with-suffix"),
        pytest.param("CONSOLE", "", id="no-device"),
    ],
)
def test_a_case_id_is_a_file_name_everywhere(id_: str, expected: str) -> None:
    problem = id_problem(id_)
    assert (expected in problem) if expected else not problem


def test_ids_are_unique_ignoring_case() -> None:
    text = "defaults: {checkpoint: o/m, task: tagging, data: o/d}\ncases:\n  Ab: {}\n  aB: {}\n  a b: {}\n  a/b: {}\n"
    why = " (ids are file names, so upper and lower case are one)"
    assert errors(text) == [
        f"4 cases.aB: the case id 'aB' is taken by 'Ab' on line 3{why}",
        f"6 cases.a/b: the case id 'a-b' is taken by 'a-b' on line 5{why}",
    ]


def test_a_name_that_is_no_file_name_is_refused() -> None:
    text = "defaults: {checkpoint: o/m, task: tagging, data: o/d}\ncases: {../x: {}}"
    (error,) = errors(text)
    assert error.startswith("2 cases.../x: the case id '..-x' is no file name: it must start with a letter or digit")
