"""Windows, positions, answers and the null threshold of question answering."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import datasets
import numpy as np
import pytest

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError
from ftcheck.tasks.question_answering import Answered, Options

TASK: Any = tasks.get("question-answering")
CONTEXT = "Ann sleeps in Paris . the old cat runs to the river . Bob eats the big fish in Rome . Eve sees the moon ."


def rows(*answers: str | None, context: str = CONTEXT, question: str = "where does Ann sleep") -> datasets.Dataset:
    """A row per answer (None: none), as SQuAD has them."""
    made = [
        {
            "id": f"q{place}",
            "question": question,
            "context": context,
            "answers": {
                "text": [] if answer is None else [answer],
                "answer_start": [] if answer is None else [context.index(answer)],
            },
        }
        for place, answer in enumerate(answers)
    ]
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "question": datasets.Value("string"),
            "context": datasets.Value("string"),
            "answers": {
                "text": datasets.List(datasets.Value("string")),
                "answer_start": datasets.List(datasets.Value("int64")),
            },
        }
    )
    return datasets.Dataset.from_list(made, features=features)


def options(**given: Any) -> dict[str, Any]:
    return Options(**given).model_dump()


def perfect(features: Any, answers: list[str | None]) -> list[Any]:
    """Logits of a model that points at each row's answer wherever a window holds it, else at [CLS]."""
    start, end = (np.full(features.starts[-1], -10.0, dtype=np.float32) for _ in range(2))
    for window, row in enumerate(features.aside["row"]):
        base = features.starts[window]
        begin = -1 if answers[row] is None else CONTEXT.index(answers[row])
        held = features.targets["start_positions"][window] != features.aside["null"][window]
        where = (base + features.targets["start_positions"][window], base + features.targets["end_positions"][window])
        height = 10.0 if held or begin < 0 else 0.0
        start[base + features.aside["first"][window]] = end[base + features.aside["first"][window]] = -9.0
        start[where[0]], end[where[1]] = height, height
    return [start, end]


ANSWERS = ["Paris", "the old cat", "the river", "Bob", "Rome", "the moon"]


@pytest.mark.parametrize("length", [18, 24, 64])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_windows_positions_are_those_of_the_answers_tokens(tokenizer: Any, length: int, answer: str) -> None:
    features = TASK.encode(rows(answer), tokenizer, {}, options(max_length=length, doc_stride=4), training=False)
    begins, ends = features.aside["begins"], features.aside["ends"]
    held = 0
    for window in range(len(features)):
        base = features.starts[window]
        first = base + features.targets["start_positions"][window]
        last = base + features.targets["end_positions"][window]
        if features.targets["start_positions"][window] == 0:
            context = slice(base + features.aside["first"][window], base + features.aside["beyond"][window])
            where = CONTEXT.index(answer)
            assert not (begins[context][0] <= where and ends[context][-1] >= where + len(answer))
            continue
        held += 1
        assert CONTEXT[begins[first] : ends[last]].lower() == answer.lower()
    assert held >= 1


def test_windows_cover_the_context_and_share_the_stride(tokenizer: Any) -> None:
    features = TASK.encode(rows("Rome"), tokenizer, {}, options(max_length=20, doc_stride=6), training=False)
    assert len(features) > 2
    assert max(np.diff(features.starts)) == 20
    spans = [
        features.aside["begins"][
            features.starts[w] + features.aside["first"][w] : features.starts[w] + features.aside["beyond"][w]
        ]
        for w in range(len(features))
    ]
    for one, following in pairwise(spans):
        assert list(one[-6:]) == list(following[:6])
    assert features.notes == [f"1 contexts make {len(features)} windows of 20 tokens"]


@pytest.mark.parametrize("length", [20, 64])
def test_what_a_perfect_model_points_at_is_the_answer(tokenizer: Any, length: int) -> None:
    table = rows(*ANSWERS)
    chosen = options(max_length=length, doc_stride=6)
    features = TASK.encode(table, tokenizer, {}, chosen, training=False)
    records = TASK.decode(
        perfect(features, list(ANSWERS)), features, table, meta={"unanswerable": False}, options=chosen, tuned={}
    )
    assert [record["prediction"] for record in records] == ANSWERS
    assert [record["references"] for record in records] == [[answer] for answer in ANSWERS]
    assert [CONTEXT[record["start"] : record["end"]] for record in records] == ANSWERS
    assert [record["id"] for record in records] == [f"q{place}" for place in range(6)]


@pytest.mark.parametrize(
    ("given", "meta", "tuned", "expected"),
    [
        pytest.param({}, True, {}, ["Paris", "", "Rome", ""], id="unanswerable-data-untuned-zero"),
        pytest.param({}, False, {}, ["Paris", "?", "Rome", "?"], id="answerable-data-always-answers"),
        pytest.param({}, False, {"null_threshold": 0.0}, ["Paris", "", "Rome", ""], id="tuned"),
        pytest.param(
            {"null_threshold": 1000.0}, True, {"null_threshold": 0.0}, ["Paris", "?", "Rome", "?"], id="a-number-wins"
        ),
        pytest.param({"null_threshold": -1000.0}, False, {}, ["", "", "", ""], id="never-answers"),
    ],
)
def test_no_answer_is_given_where_its_score_exceeds_the_threshold(
    tokenizer: Any, given: dict[str, Any], meta: bool, tuned: dict[str, float], expected: list[str]
) -> None:
    answers = ["Paris", None, "Rome", None]
    table, chosen = rows(*answers), options(max_length=64, **given)
    features = TASK.encode(table, tokenizer, {}, chosen, training=False)
    records = TASK.decode(
        perfect(features, answers), features, table, meta={"unanswerable": meta}, options=chosen, tuned=tuned
    )
    said = [record["prediction"] for record in records]
    assert [text if want != "?" else bool(text) and "?" for text, want in zip(said, expected, strict=True)] == expected
    assert all((record["start"] is None) == (record["prediction"] == "") for record in records)


def test_the_threshold_is_tuned_to_part_answerable_from_not(tokenizer: Any) -> None:
    answers = ["Paris", None, "Rome", None]
    table, chosen = rows(*answers), options(max_length=64)
    features = TASK.encode(table, tokenizer, {}, chosen, training=False)
    assert TASK.tunes(table, chosen)
    tuned = TASK.tune(perfect(features, answers), features, table, chosen)
    records = TASK.decode(
        perfect(features, answers), features, table, meta={"unanswerable": True}, options=chosen, tuned=tuned
    )
    assert [record["prediction"] for record in records] == ["Paris", "", "Rome", ""]


@pytest.mark.parametrize(
    ("table", "given"),
    [
        pytest.param(rows("Paris", "Rome"), {}, id="every-question-has-an-answer"),
        pytest.param(rows("Paris", None), {"null_threshold": 1.5}, id="the-suite-gives-a-number"),
    ],
)
def test_nothing_is_tuned(table: datasets.Dataset, given: dict[str, Any]) -> None:
    assert not TASK.tunes(table, options(**given))


def test_answers_as_a_list_of_dicts_are_the_same(tokenizer: Any) -> None:
    listed = datasets.Dataset.from_list(
        [
            {
                "question": "where does Ann sleep",
                "context": CONTEXT,
                "answers": [{"text": "Paris", "answer_start": CONTEXT.index("Paris")}],
            }
        ]
    )
    one = TASK.encode(listed, tokenizer, {}, options(max_length=64), training=True)
    other = TASK.encode(rows("Paris"), tokenizer, {}, options(max_length=64), training=True)
    assert one.targets["start_positions"] == other.targets["start_positions"]
    assert TASK.check(listed, "train", {"unanswerable": False}, options(), "row {}".format) == []


def answers(value: Any) -> datasets.Dataset:
    return datasets.Dataset.from_list([{"question": "who", "context": "Ann runs", "answers": value}])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param(
            answers({"text": ["Bob"], "answer_start": [0]}),
            'd.csv:0: the answer "Bob" does not stand at character 0 of its context, which has "Ann" there',
            id="not-in-its-context",
        ),
        pytest.param(answers({"text": ["Ann"], "answer_start": [-1]}), "at character -1", id="negative-start"),
        pytest.param(answers({"text": ["runs"], "answer_start": [40]}), "at character 40", id="beyond-the-end"),
        pytest.param(answers({"text": [""], "answer_start": [0]}), 'the answer ""', id="empty-answer"),
        pytest.param(
            answers({"text": ["Ann\x00\u202e"], "answer_start": [0]}), r"Ann\x00\u202e", id="control-characters"
        ),
        pytest.param(answers({"text": ["Ann", "runs"], "answer_start": [0]}), "as many texts as starts", id="uneven"),
        pytest.param(answers("Ann"), "must hold text and answer_start", id="not-squads-form"),
        pytest.param(answers({"text": ["Ann"], "answer_start": ["0"]}), "its start a number", id="start-as-text"),
        pytest.param(
            datasets.Dataset.from_list(
                [{"question": 3, "context": "Ann", "answers": {"text": ["A"], "answer_start": [0]}}]
            ),
            "column question must be text, got 3",
            id="question-is-no-text",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named(table: datasets.Dataset, message: str) -> None:
    with pytest.raises(DataError) as raised:
        TASK.check(table, "train", {"unanswerable": False}, options(), "d.csv:{}".format)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"max_length": 64, "doc_stride": 60}, "room for", id="stride-beyond-the-room"),
        pytest.param({"max_length": 9, "doc_stride": 2}, "room for 3", id="question-beyond-max_length"),
    ],
)
def test_a_question_that_leaves_no_room_is_one_error(tokenizer: Any, given: dict[str, Any], message: str) -> None:
    """The tokenizer raises a PanicException, which is no Exception, or a bare Exception."""
    with pytest.raises(DataError) as raised:
        TASK.encode(rows("Paris"), tokenizer, {}, options(**given), training=True, where="d.csv:{}".format)
    assert "d.csv:0" in str(raised.value)
    assert message in str(raised.value)


def test_the_smallest_room_that_is_accepted_works(tokenizer: Any) -> None:
    """One token more than the stride beside the question: the bound is exact."""
    question = len(tokenizer("where does Ann sleep")["input_ids"]) - 2
    chosen = options(max_length=question + 3 + 5, doc_stride=4)
    assert len(TASK.encode(rows("Rome"), tokenizer, {}, chosen, training=False)) > 5
    with pytest.raises(DataError):
        TASK.encode(rows("Rome"), tokenizer, {}, options(max_length=question + 3 + 5, doc_stride=5), training=False)


@pytest.mark.parametrize(
    "context", [pytest.param("", id="empty"), pytest.param("\u200b\u200b", id="nothing-for-the-tokenizer")]
)
def test_a_context_without_tokens_has_no_answer(tokenizer: Any, context: str) -> None:
    table = rows(None, context=context)
    features = TASK.encode(table, tokenizer, {}, options(max_length=64), training=False)
    zeros = [np.zeros(features.starts[-1], dtype=np.float32) for _ in range(2)]
    record = TASK.decode(zeros, features, table, meta={"unanswerable": False}, options=options(), tuned={})[0]
    assert (record["prediction"], record["best_score"], record["score"]) == ("", None, 1.0)


def test_unanswerable_judged_rows_that_nothing_prepared_for_are_said() -> None:
    notes = TASK.check(rows("Paris", None), "eval", {"unanswerable": False}, options(), "row {}".format)
    assert notes[0].startswith("1 of 2 eval questions have no answer")
    assert TASK.check(rows("Paris", None), "eval", {"unanswerable": True}, options(), "row {}".format) == []


def test_a_wrong_answer_is_marked_in_its_context_beside_the_expected_one(tokenizer: Any) -> None:
    table = rows("Paris")
    context = table["context"][0]
    encoded = TASK.encode(table, tokenizer, {}, options(max_length=64), training=False)
    logits = [np.zeros(encoded.starts[-1], dtype=np.float32) for _ in range(2)]
    logits[0][encoded.aside["first"][0]] = logits[1][encoded.aside["first"][0]] = 9.0
    record = TASK.decode(logits, encoded, table, meta={"unanswerable": False}, options=options(), tuned={})[0]
    marked = TASK.worst([record], {}, options())[0].marked
    assert marked is not None
    assert marked.text == context
    assert [(mark.role, context[mark.start : mark.end]) for mark in marked.marks] == [
        ("gold", "Paris"),
        ("predicted", record["prediction"]),
    ]
    right = TASK.decode(
        logits,
        encoded,
        rows(record["prediction"], context=context),
        meta={"unanswerable": False},
        options=options(),
        tuned={},
    )[0]
    assert right["marked"] is None


def test_the_worst_answers_come_first_and_right_ones_not_at_all() -> None:
    base = {"id": "", "question": "q", "start": 0, "end": 1, "null_score": 0.0, "best_score": 0.0}
    records = [
        {**base, "index": 0, "prediction": "Rome", "references": ["Rome"], "score": 0.9},
        {**base, "index": 1, "prediction": "Rome", "references": ["Paris"], "score": 0.5},
        {**base, "index": 2, "prediction": "big cat", "references": ["cat"], "score": 0.9},
        {**base, "index": 3, "prediction": "Oslo", "references": [], "score": 0.8},
        {**base, "index": 4, "prediction": "", "references": ["Oslo"], "score": 0.1},
    ]
    worst = TASK.worst(records, {}, options())
    assert [one.index for one in worst] == [3, 1, 4, 2]
    assert (worst[0].gold, worst[2].predicted) == ("(no answer)", "(no answer)")
    assert TASK.worst([], {}, options()) == []


@pytest.mark.parametrize(
    ("value", "one"),
    [
        pytest.param(("who", "Ann runs"), True, id="pair"),
        pytest.param({"question": "who", "context": "Ann runs"}, True, id="dict"),
        pytest.param([("who", "Ann runs"), {"question": "who", "context": "Ann runs"}], False, id="list"),
    ],
)
def test_natural_input(value: Any, one: bool) -> None:
    made = TASK.rows_from_input(value)
    assert made == [{"question": "who", "context": "Ann runs"}] * len(made)
    assert TASK.is_one(value) is one


@pytest.mark.parametrize("value", ["who", {"question": "who"}, ("who", 3), 3, {"question": "a", "context": None}])
def test_what_is_no_question_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="predict takes a pair"):
        TASK.rows_from_input(value)


def test_natural_output() -> None:
    record = {"prediction": "Ann", "score": 0.5, "start": 0, "end": 3}
    assert TASK.natural_output(record, {}) == Answered(answer="Ann", score=0.5, start=0, end=3)


def test_a_model_without_span_logits_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no question answerer"):
        TASK.outputs(object(), {})


def test_a_tokenizer_that_loses_windows_is_refused(tokenizer: Any) -> None:
    class Losing:
        """As tokenizers 0.23.2: the last windows of a long context are missing."""

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __call__(self, *texts: Any, **how: Any) -> Any:
            encoding = tokenizer(*texts, **how)
            if how.get("return_overflowing_tokens"):
                encoding["input_ids"] = encoding["input_ids"][:-1]
            return encoding

    with pytest.raises(CheckpointError, match="loses the end of contexts that need several windows"):
        TASK.encode(rows("Rome"), Losing(), {}, options(max_length=64), training=False)
