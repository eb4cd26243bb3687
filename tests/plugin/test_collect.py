"""Both forms of a suite become the same items: node ids, marks, parametrize, and all errors of a file at once."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project

HEAD = """
import ftcheck
import pytest

DATA = {"path": "csv", "files": {"train": "train.csv", "test": "test.csv"}}
FIELDS = dict(checkpoint="./checkpoint", task="text-classification", data=DATA, precision="fp32")
"""


def collected(project: Project, *arguments: str) -> list[str]:
    result = project.run("--collect-only", "-q", *arguments)
    return [line for line in result.outlines if "::" in line]


def python(project: Project, body: str) -> None:
    (project.path / "test_suite.py").write_text(HEAD + body)


def test_yaml_cases_are_items_with_the_matrix_in_brackets(project: Project) -> None:
    project.suite(
        "  one: {}\n  two:\n    matrix: {training.learning_rate: [1e-4, 5e-5], training.warmup_steps: [0, 10]}\n"
    )
    assert collected(project) == [
        "suite.ft.yaml::one",
        "suite.ft.yaml::two[1e-4-0]",
        "suite.ft.yaml::two[1e-4-10]",
        "suite.ft.yaml::two[5e-5-0]",
        "suite.ft.yaml::two[5e-5-10]",
    ]
    assert len(collected(project, "suite.ft.yaml::two")) == 4
    assert collected(project, "suite.ft.yaml::two[5e-5-0]") == ["suite.ft.yaml::two[5e-5-0]"]


def test_an_item_stands_where_its_case_is_written(project: Project) -> None:
    project.suite("  one: {}\n  two: {gates: {accuracy: {min: 0.99}}}\n")
    project.run("--junitxml=junit.xml", "-o", "junit_family=xunit1")
    text = (project.path / "junit.xml").read_text()
    assert 'name="two" file="suite.ft.yaml" line="' in text


def test_marks_select_and_need_no_registration(project: Project) -> None:
    project.suite(
        "  one: {}\n  two: {marks: [slow]}\n  three: {marks: [slow], matrix: {training.warmup_steps: [0, 1]}}\n"
    )
    assert collected(project, "-m", "slow") == [
        "suite.ft.yaml::two",
        "suite.ft.yaml::three[0]",
        "suite.ft.yaml::three[1]",
    ]
    assert collected(project, "-m", "not slow") == ["suite.ft.yaml::one"]


def test_marks_need_no_registration_in_a_test_file_either(project: Project) -> None:
    """Its marks are used while it is imported."""
    fields = (
        "checkpoint='./checkpoint', task='text-classification', data={'path': 'csv', 'files': {'test': 'test.csv'}}"
    )
    (project.path / "test_marked.py").write_text(
        "import ftcheck, pytest\n\n\n"
        f"@pytest.mark.slow\n@pytest.mark.gpu\n@ftcheck.case({fields}, training=False)\ndef test_marked(): ...\n"
    )
    assert collected(project, "-m", "slow and gpu") == ["test_marked.py::test_marked"]


def test_a_decorated_function_is_judged_before_its_body_runs(project: Project) -> None:
    python(
        project,
        """
@ftcheck.case(**FIELDS, training={"learning_rate": 0.9}, gates={"accuracy": {"min": 0.8}})
def test_good(finetuned):
    assert finetuned.metrics["accuracy"] > 0.85
    assert finetuned.metrics["accuracy"].interval.low < finetuned.metrics["accuracy"]
    assert finetuned.metrics["accuracy"].per_seed == (0.89,)
    assert [example["scores"] for example in finetuned.examples] == [[0.1, 0.9]] * 100

@ftcheck.case(**FIELDS, training={"learning_rate": 0.6}, gates={"accuracy": {"min": 0.8}})
def test_gate_fails():
    raise RuntimeError("the body ran")

@ftcheck.case(**FIELDS, training={"learning_rate": 0.9})
def test_body_fails(finetuned):
    assert finetuned.metrics["accuracy"] > 0.99

@ftcheck.case(**FIELDS, training={"learning_rate": 0.9}, gates={"accuracy": {"min": 0.8}})
def test_gates_only(): ...
""",
    )
    result = project.run("--ft-json=out.json")
    result.assert_outcomes(passed=2, failed=2)
    assert "the body ran" not in result.stdout.str()
    verdicts = {name: found["verdict"] for name, found in project.results().items()}
    assert verdicts == {
        "test_good": "pass",
        "test_gate_fails": "fail",
        "test_body_fails": "fail",
        "test_gates_only": "pass",
    }


def test_matrix_and_parametrize_work_on_functions(project: Project) -> None:
    python(
        project,
        """
@ftcheck.case(**FIELDS, matrix={"training.learning_rate": [0.9, 0.8]})
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("word", ["a", "b"])
def test_both(finetuned, seeds, word):
    assert len(finetuned.result.seeds) == seeds
    assert word in "ab"
""",
    )
    names = collected(project)
    assert len(names) == 8
    result = project.run("--ft-json=out.json")
    result.assert_outcomes(passed=8)
    assert project.stages().count("train test_both 42") == 2, "words are no case field: they share their runs"
    assert len(project.results()) == 8


def test_a_matrix_works_where_parametrize_gives_a_required_field(project: Project) -> None:
    python(
        project,
        """
FIELDS.pop("task")

@ftcheck.case(**FIELDS, matrix={"training.learning_rate": [0.9, 0.8]}, marks=["slow"])
@pytest.mark.parametrize("task", ["text-classification"])
def test_both(task): ...
""",
    )
    assert len(collected(project, "-m", "slow")) == 2
    project.run().assert_outcomes(passed=2)


def test_an_unknown_metric_in_the_body_is_told_what_there_is(project: Project) -> None:
    python(
        project,
        """
@ftcheck.case(**FIELDS)
def test_typo(finetuned):
    finetuned.metrics["accurracy"]
""",
    )
    project.run().stdout.fnmatch_lines(["*this case has no metric 'accurracy'; did you mean accuracy?*"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            "@ftcheck.case(**FIELDS)\n@ftcheck.case(**FIELDS)\ndef test_x(): ...\n",
            "*test_x has @ftcheck.case twice*",
            id="twice",
        ),
        pytest.param(
            "@ftcheck.case(**FIELDS)\nclass TestX: ...\n",
            "*@ftcheck.case decorates a function, not type*",
            id="class",
        ),
        pytest.param(
            "class TestX:\n    @ftcheck.case(**FIELDS)\n    def test_x(self): ...\n",
            "*decorates functions of a module, not methods: TestX.test_x*",
            id="method",
        ),
        pytest.param(
            "@ftcheck.case(**FIELDS)\n@pytest.mark.parametrize('training', [{}])\ndef test_x(training): ...\n",
            "*training*positional id; give `ids`*",
            id="positional-id",
        ),
        pytest.param(
            "@ftcheck.case(**FIELDS, matrix={'seeds': [[1], [2]]})\ndef test_x(): ...\n",
            "*matrix.seeds*ids*",
            id="wrong-matrix",
        ),
        pytest.param(
            "@ftcheck.case(**FIELDS, gate={})\ndef test_x(): ...\n",
            "*gate*did you mean gates?*",
            id="unknown-field",
        ),
    ],
)
def test_a_wrong_decorator_is_one_error_without_a_traceback(project: Project, body: str, message: str) -> None:
    python(project, body)
    result = project.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    assert "Traceback" not in result.stdout.str()
    assert "_pytest" not in result.stdout.str()


def test_all_errors_of_a_yaml_file_come_at_once(project: Project) -> None:
    project.suite("  one: {gates: {acuracy: {min: 0.5}}}\n  two: {training: {epochs: 3}}\n  three: {taks: x}\n")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*suite.ft.yaml:8 *acuracy*did you mean accuracy?*",
            "*suite.ft.yaml:9 *epochs*num_train_epochs*",
            "*suite.ft.yaml:10 *taks*did you mean task?*",
        ]
    )


def test_all_errors_of_a_python_file_come_at_once(project: Project) -> None:
    python(
        project,
        """
@ftcheck.case(**FIELDS, gates={"acuracy": {"min": 0.5}})
def test_one(): ...

@ftcheck.case(**FIELDS, training={"epochs": 3})
def test_two(): ...
""",
    )
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*test_suite.py:8 *acuracy*did you mean accuracy?*", "*test_suite.py:11 *epochs*num_train_epochs*"]
    )


def test_an_error_in_one_file_leaves_the_others_alone(project: Project) -> None:
    project.suite("  one: {taks: x}\n", "broken.ft.yaml")
    project.suite("  one: {}\n")
    project.run("--continue-on-collection-errors").assert_outcomes(errors=1, passed=1)


def test_the_fixture_without_a_case_says_what_is_missing(project: Project) -> None:
    (project.path / "test_plain.py").write_text("def test_plain(finetuned): ...\n")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*decorate this test with @ftcheck.case*"])


def test_folders_with_a_conftest_of_their_own_are_no_trouble(project: Project) -> None:
    for folder in ("one", "two"):
        (project.path / folder).mkdir()
        (project.path / folder / "conftest.py").write_text("")
        (project.path / folder / f"test_{folder}.py").write_text(f"def test_{folder}(): ...\n")
    project.suite("  one: {}\n")
    project.run().assert_outcomes(passed=3)
    assert project.run("--ft-plan").ret == pytest.ExitCode.OK


def test_plain_tests_and_their_fixtures_stand_beside_cases(project: Project) -> None:
    python(
        project,
        """
@pytest.fixture
def skipping():
    pytest.skip("not today")

@ftcheck.case(**FIELDS)
def test_skipped_by_a_fixture(skipping): ...

def test_plain():
    assert True
""",
    )
    project.run().assert_outcomes(skipped=1, passed=1)
    assert project.stages() == [], "a case was trained although a fixture skips it"


def test_a_gpu_case_is_skipped_where_there_is_none(project: Project) -> None:
    project.suite("  one: {marks: [gpu]}\n")
    result = project.run("--ft-device=cpu", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*marked gpu*"])
    assert project.stages() == []
