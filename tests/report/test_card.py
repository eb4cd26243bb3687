"""The model card: the Hub's own library reads what is written, a second run replaces it, the rest stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from ftcheck.errors import UsageError
from ftcheck.report import card
from ftcheck.results import CaseResult, JudgedData
from tests.report import results

DATA = JudgedData(name="PolyAI/banking77", hub=True, config="en", revision="a1b2c3d4e5f6", split="test")
RESULT = results.case(verdict="pass", data=DATA, seeds=(42, 43), metrics=(results.metric(), results.metric("mcc", 0.7)))
OTHERS = """\
model-index:
- name: someone-else-s
  results:
  - task:
      type: text-classification
    dataset:
      name: IMDb
      type: imdb
    metrics:
    - type: accuracy
      value: 0.5
# a comment of the author's
"""
CARDS = {
    "empty": "",
    "text-only": "# A model\n\nIt   knows  intents.  \n",
    "no-index": "---\nlicense: apache-2.0   # odd   spacing\ntags: [ a,b ]\n---\n\n# A model\n",
    "trainer-s": "---\nmodel-index:\n- name: intents\n  results: []\nlicense: mit\n---\n# intents\n",
    "others": f"---\nlicense: mit\n{OTHERS}tags: [a]\n---\n# A model\n",
    "dashed-comes-first": "---\nmodel-index:\n- results: []\n  name: intents\n---\n",
    "no-end-of-line": "---\nlicense: mit\n---\n# A model",
    "windows": "---\r\nlicense: mit\r\n---\r\n\r\n# A model\r\n",
}
each_card = pytest.mark.parametrize("before", [pytest.param(text, id=name) for name, text in CARDS.items()])


def updated(before: str, *found: CaseResult) -> str:
    return card.update(before, "intents", found or [RESULT], version="0.1.0", measured="2026-11-02T10:00:00+00:00")


def read(text: str) -> list[Any]:
    """The `EvalResult`s, as the Hub does."""
    from huggingface_hub import ModelCard

    return list(ModelCard(text).data.eval_results or ())


@each_card
def test_the_hub_s_library_reads_each_metric_with_its_interval_and_data(before: str) -> None:
    found = [entry for entry in read(updated(before)) if entry.dataset_type != "imdb"]
    assert [(entry.metric_type, entry.metric_value) for entry in found] == [("accuracy", 0.8424), ("mcc", 0.7)]
    first = found[0]
    assert first.metric_name == "accuracy (95 % interval 0.825 to 0.860, mean of 2 seeds)"
    assert first.metric_args == {
        **{"verdict": "pass", "examples": 400, "low": 0.8253, "high": 0.8595, "confidence": 0.95},
    }
    assert (first.task_type, first.dataset_type, first.dataset_config, first.dataset_split, first.dataset_revision) == (
        *("text-classification", "PolyAI/banking77", "en", "test"),
        "a1b2c3d4e5f6",
    )


@each_card
def test_a_second_run_replaces_the_first_and_nothing_else(before: str) -> None:
    once = updated(before)
    assert updated(once) == once
    worse = replace(RESULT, verdict="fail", metrics=(results.metric(value=0.5),))
    twice = updated(once, worse)
    assert [entry.metric_value for entry in read(twice) if entry.dataset_type != "imdb"] == [0.5]
    assert updated(twice) == once
    assert "**fail**" in twice
    assert "**pass**" not in twice


@each_card
def test_every_line_that_was_there_stays_as_it_was(before: str) -> None:
    kept = iter(updated(before).splitlines(keepends=True))
    lines = [line for line in before.splitlines(keepends=True) if "results: []" not in line]
    for line in lines:
        assert any(line.rstrip("\r\n") == candidate.rstrip("\r\n") for candidate in kept), line
    assert ("\r\n" in before) == ("\r\n" in updated(before))
    assert "\r" not in updated(before).replace("\r\n", "")


def test_others_results_and_comments_stay() -> None:
    text = updated(CARDS["others"])
    assert OTHERS.partition("# a comment")[0] in text
    assert [entry.dataset_type for entry in read(text)] == ["imdb", "PolyAI/banking77", "PolyAI/banking77"]
    assert "# a comment of the author's\n" in text


def test_the_section_says_verdict_data_intervals_and_demands() -> None:
    text = updated("").partition("<!-- ftcheck: begin -->")[2]
    assert text.splitlines()[1:] == [
        "## Evaluation",
        "",
        "**pass**: `intents.ft.yaml::intents`, text-classification on PolyAI/banking77 (en), split test at a1b2c3d4e5, "
        "400 examples, 2 seeds, cpu fp32.",
        "",
        "| metric | value | interval | demanded |",
        "| --- | ---: | --- | --- |",
        "| accuracy | 0.842 | \\[0.825, 0.860\\] | ≥ 0.86: fail |",
        "| mcc | 0.700 | \\[0.683, 0.717\\] |  |",
        "",
        "Values are means over seeds. Intervals (of 95 %) are those of the recipe, over seeds.",
        "",
        "Measured with ftcheck 0.1.0, results of 2026-11-02.",
        "<!-- ftcheck: end -->",
    ]


def test_text_of_the_data_s_own_is_no_markup_and_ends_no_comment() -> None:
    hostile = replace(RESULT, data=JudgedData(name="<!-- ftcheck: end --><script>\n---\n|x|"), task="a|b")
    once = updated("# A model\n", hostile)
    assert updated(once, hostile) == once
    assert "<script>" not in once.partition("# A model")[2]
    assert len(read(once)) == 2


def test_several_cases_stand_in_one_card() -> None:
    other = replace(RESULT, case_id="typos", data=JudgedData(name="typos.csv"))
    text = updated(CARDS["no-index"], RESULT, other)
    assert {entry.dataset_type for entry in read(text)} == {"PolyAI/banking77", "typos.csv"}
    (index,) = yaml.safe_load(text.split("---\n")[1])["model-index"]
    assert (index["name"], len(index["results"])) == ("intents", 2)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param("---\nlicense: [mit\n---\n", "the card's metadata is no YAML", id="no-yaml"),
        pytest.param("---\n- mit\n---\n", "it is no mapping of keys to values", id="a-list"),
        pytest.param(
            "---\nmodel-index: [{name: x, results: [{task: {type: a}}]}]\n---\n",
            "written in a way that no results can be added to",
            id="flow-style",
        ),
        pytest.param("---\nmodel-index: none\n---\n", "written in a way that no results can be added to", id="a-word"),
    ],
)
def test_a_card_that_nothing_can_be_added_to_is_refused(before: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        updated(before)
