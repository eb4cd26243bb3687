"""Gates: bounds on the mean over seeds, margins to another result, parts of the rows; no value never passes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ftcheck import gates, statistics
from ftcheck.evidence import Arm, Evidence, Missing, Pair
from ftcheck.metrics import Context, Lookup, Metric
from ftcheck.results import GateResult, MetricResult, Verdict
from ftcheck.spec import Gate, Margin, Slices
from tests.report.results import metric

N = 400
ACCURACY: Metric = Lookup(inputs=frozenset({"label"})).build("accuracy", Context(labels=("a", "b")))
PERPLEXITY: Metric = Lookup(inputs=frozenset({"tokens"})).build("perplexity", Context())


def ids(start: int, count: int) -> Any:
    return np.array([list(i.to_bytes(16, "big")) for i in range(start, start + count)], dtype=np.uint8)


def right(*shares: float, n: int = N, offset: int = 0) -> list[Any]:
    """A run for each share: the first examples are right, `offset` of them moved to the end."""
    return [
        np.stack([np.roll(np.arange(n) < round(share * n), offset), np.ones(n)], axis=1).astype(float)
        for share in shares
    ]


def arm(runs: Sequence[Any], **fields: Any) -> Arm:
    defaults: dict[str, Any] = {
        "ids": ids(0, len(runs[0])),
        "metrics": {"accuracy": runs},
        "signatures": {"accuracy": ACCURACY.signature},
        "fixed": False,
        "keys": tuple(f"key{i}" for i in range(len(runs))),
    }
    return Arm(**{**defaults, **fields})


def again(found: Arm) -> Arm:
    """The same numbers out of other trainings."""
    return replace(found, keys=tuple(f"again-{key}" for key in found.keys))


def evidence(
    candidate: Arm,
    reference: Arm | Missing | None = None,
    *,
    beside: Sequence[Mapping[str, Any]] = (),
    known: Metric = ACCURACY,
    **fields: Any,
) -> Evidence:
    runs = candidate.metrics[known.name]
    found = statistics.estimate(runs, known.aggregate, scale=known.scale, binary=known.binary, fixed=candidate.fixed)
    values = {
        known.name: MetricResult(
            name=known.name,
            value=found.value,
            per_seed=found.per_run,
            greater_is_better=known.greater_is_better,
            signature=known.signature,
            interval=found.interval,
            examples=found.examples,
            scale=known.scale,
        )
    }
    pairs: dict[str, Pair | Missing] = {}
    if isinstance(reference, Missing):
        pairs["reference"] = reference
    elif reference is not None:
        pairs["reference"] = Pair(against="the baseline", reference=reference, candidate=candidate)
    return Evidence(
        metrics={known.name: known},
        candidate=candidate,
        values=values,
        pairs=pairs,
        beside=lambda: beside,
        names=lambda: {f"id{i}": i for i in range(len(candidate.ids))},
        prior=lambda scale, value: (0.012, "a guess"),
        **fields,
    )


def judge(gate: Gate, found: Evidence) -> list[GateResult]:
    return list(gates.judge([gate], found)[0])


def only_values(**values: MetricResult) -> Evidence:
    return replace(evidence(arm(right(0.9))), values=values)


def margin(value: float, *, relative: bool = False, **fields: Any) -> Gate:
    return Gate(metric="accuracy", max_regression=Margin(value=value, relative=relative), **fields)


@pytest.mark.parametrize(
    ("value", "gate", "expected"),
    [
        pytest.param(0.86, Gate(metric="accuracy", min=0.86), ["pass"], id="exactly-the-minimum"),
        pytest.param(0.8599, Gate(metric="accuracy", min=0.86), ["fail"], id="just-below"),
        pytest.param(0.86, Gate(metric="accuracy", max=0.86), ["pass"], id="exactly-the-maximum"),
        pytest.param(0.87, Gate(metric="accuracy", max=0.86), ["fail"], id="above-the-maximum"),
        pytest.param(0.7, Gate(metric="accuracy", min=0.8, max=0.9), ["fail", "pass"], id="both-bounds"),
        pytest.param(math.nan, Gate(metric="accuracy", min=0.0), ["fail"], id="nan-is-not-at-least"),
        pytest.param(math.nan, Gate(metric="accuracy", max=1.0), ["fail"], id="nan-is-not-at-most"),
        pytest.param(math.inf, Gate(metric="accuracy", max=1.0), ["fail"], id="infinite"),
        pytest.param(0.9, Gate(metric="accuracy"), [], id="no-bound"),
    ],
)
def test_a_bound_is_judged_on_the_mean(value: float, gate: Gate, expected: list[Verdict]) -> None:
    found = judge(gate, only_values(accuracy=metric(value=value, half=None)))
    assert [result.verdict for result in found] == expected


def test_a_gated_metric_that_is_missing_fails() -> None:
    (found,) = judge(Gate(metric="macro_f1", min=0.1), only_values(accuracy=metric()))
    assert found.verdict == "fail"
    assert found.message == "macro_f1 has no value, so it can't be at least 0.1"


def test_the_message_says_what_was_wanted_and_what_came() -> None:
    (found,) = judge(Gate(metric="accuracy", max=0.9), only_values(accuracy=metric(value=0.95)))
    assert found.message == "accuracy 0.950 is above the maximum 0.9"


def test_a_value_is_shown_with_enough_digits_to_differ_from_its_limit() -> None:
    (found,) = judge(Gate(metric="accuracy", min=0.86), only_values(accuracy=metric(value=0.8599996)))
    assert found.message == "accuracy 0.8599996 is below the minimum 0.86"


def result(verdict: Verdict) -> GateResult:
    return GateResult(metric="m", bound="min", limit=0.0, value=0.0, verdict=verdict, message="")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        pytest.param([], "pass", id="no-gates"),
        pytest.param(["pass", "fail", "pass"], "fail", id="one-fails"),
        pytest.param(["inconclusive", "pass"], "inconclusive", id="undecided"),
        pytest.param(["fail", "incomparable"], "incomparable", id="incomparable-is-worse"),
    ],
)
def test_a_case_is_as_bad_as_its_worst_gate(verdicts: list[Verdict], expected: Verdict) -> None:
    assert gates.verdict([result(verdict) for verdict in verdicts]) == expected


THREE = (0.89, 0.9, 0.91)


@pytest.mark.parametrize(
    ("candidate", "reference", "gate", "expected"),
    [
        pytest.param(arm(right(*THREE)), arm(right(*THREE)), margin(0.05), "pass", id="an-equal-retrain"),
        pytest.param(arm(right(0.7, 0.71, 0.72)), arm(right(*THREE)), margin(0.05), "fail", id="much-worse"),
        pytest.param(arm(right(*THREE)), arm(right(*THREE)), margin(0.001), "inconclusive", id="margin-too-narrow"),
        pytest.param(arm(right(0.88)), arm(right(0.9)), margin(0.01), "inconclusive", id="one-seed-a-side"),
        pytest.param(arm(right(0.5)), arm(right(0.9)), margin(0.01), "fail", id="beyond-any-seed-noise"),
        pytest.param(
            arm(right(0.895), fixed=True), arm(right(0.9), fixed=True), margin(0.02), "pass", id="fixed-weights"
        ),
        pytest.param(arm(right(0.9, n=20)), arm(right(0.1, n=20)), margin(0.5), "inconclusive", id="too-few-examples"),
        pytest.param(
            arm(right(0.7, 0.71, 0.72)), arm(right(*THREE)), margin(0.05, relative=True), "fail", id="per-cent"
        ),
        pytest.param(
            arm(right(*THREE)), arm(right(*THREE)), margin(0.05, relative=True), "pass", id="per-cent-of-an-equal-one"
        ),
        pytest.param(
            arm(right(0.85, 0.86, 0.87)),
            arm(right(*THREE)),
            margin(0.02, fail="proven"),
            "inconclusive",
            id="not-proven",
        ),
        pytest.param(
            arm(right(0.97, 0.98, 0.99)),
            arm(right(*THREE)),
            Gate(metric="accuracy", max_gain=Margin(value=0.02)),
            "fail",
            id="a-jump-upwards",
        ),
        pytest.param(
            arm(right(0.91)),
            arm(right(0.9)),
            Gate(metric="accuracy", max_gain=Margin(value=0.005)),
            "pass",
            id="no-alarm-without-proof",
        ),
    ],
)
def test_a_margin_is_judged_against_the_noise_of_examples_and_seeds(
    candidate: Arm, reference: Arm, gate: Gate, expected: Verdict
) -> None:
    (found,) = judge(gate, evidence(again(candidate), reference))
    assert found.verdict == expected, found.message
    assert found.comparison is not None


def test_the_same_result_passes_every_margin() -> None:
    (found,) = judge(margin(0.0), evidence(arm(right(0.9)), arm(right(0.9))))
    assert found.verdict == "pass"
    assert found.message == "accuracy 0.9000, baseline 0.9000: the same result"


def test_a_failed_margin_says_by_how_much_and_how_sure() -> None:
    candidate = again(arm(right(0.7, 0.71, 0.72)))
    (found,) = judge(margin(0.05), evidence(candidate, arm(right(*THREE))))
    expected = r"accuracy 0\.710, baseline 0\.900: −19\.0 pt \[−2\d\.\d, −1\d\.\d\], margin 5\.0; 3 seeds, n = 400"
    assert re.fullmatch(expected, found.message), found.message


def test_a_rare_single_seed_is_told_to_train_more() -> None:
    candidate = replace(arm(right(0.88)), keys=("a",))
    (found,) = judge(margin(0.01), evidence(candidate, arm(right(0.9))))
    assert "One trained seed a side can't tell the recipe from its luck" in found.message
    assert found.comparison is not None
    assert found.comparison.seed_source == "prior"


def test_less_is_better_for_perplexity() -> None:
    tokens = np.stack([np.full(N, 20.0), np.zeros(N), np.full(N, 10.0), np.full(N, 50.0)], axis=1)
    noise = np.random.default_rng(0).normal(size=(N, 4)) * [1, 0, 0, 0]
    worse = tokens * [1.5, 1, 1, 1]
    fields = {"signatures": {"perplexity": PERPLEXITY.signature}, "fixed": True}
    before = arm([tokens + noise], metrics={"perplexity": [tokens + noise]}, **fields)
    after = replace(before, metrics={"perplexity": [worse + noise]}, keys=("other",))
    gate = Gate(metric="perplexity", max_regression=Margin(value=0.1, relative=True))
    assert judge(gate, evidence(after, before, known=PERPLEXITY))[0].verdict == "fail"
    assert judge(gate, evidence(replace(before, keys=("k",)), after, known=PERPLEXITY))[0].verdict == "pass"


@pytest.mark.parametrize(
    ("reference", "expected", "why"),
    [
        pytest.param(Missing(verdict="new", why="nothing yet"), "new", "nothing yet", id="no-baseline"),
        pytest.param(
            replace(arm(right(*THREE)), signatures={"accuracy": "accuracy|0"}),
            "incomparable",
            "defined otherwise now",
            id="another-definition",
        ),
        pytest.param(
            replace(arm(right(*THREE)), ids=ids(N - 10, N)),
            "incomparable",
            "only 10 of its 400 judged examples",
            id="other-examples",
        ),
        pytest.param(
            replace(arm(right(*THREE)), metrics={}, signatures={}),
            "incomparable",
            "doesn't have accuracy",
            id="no-metric",
        ),
    ],
)
def test_what_cannot_be_compared_never_passes(reference: Arm | Missing, expected: Verdict, why: str) -> None:
    candidate = again(arm(right(*THREE)))
    (found,) = judge(margin(0.5), evidence(candidate, reference))
    assert found.verdict == expected
    assert why in found.message


def test_examples_are_paired_by_hash_and_the_common_ones_compared() -> None:
    """The other side has its rows in another order, ten of them gone: the same model is no worse by anything."""
    runs = right(*THREE)
    order = np.random.default_rng(0).permutation(N)[10:]
    candidate = again(arm(runs))
    reference = replace(
        arm([run[order] for run in runs]), ids=ids(0, N)[order], metrics={"accuracy": [run[order] for run in runs]}
    )
    found = evidence(candidate, reference)
    (judged,) = judge(margin(0.02), found)
    assert judged.comparison is not None
    assert (judged.comparison.examples, judged.comparison.difference) == (N - 10, 0.0)
    pair = found.pairs["reference"]
    assert isinstance(pair, Pair)
    assert pair.note == "compared with the baseline on the 390 examples that both judged (0 are gone, 10 are new)"


def test_equal_rows_are_paired_in_their_order() -> None:
    """Twice the same row: the first is right and the second wrong on both sides."""
    twins = ids(0, N)
    twins[1] = twins[0]
    runs = right(*THREE)
    candidate = replace(arm(runs), ids=twins, keys=("a", "b", "c"))
    reference = replace(
        arm([run[::-1] for run in runs]), ids=twins[::-1], metrics={"accuracy": [run[::-1] for run in runs]}
    )
    pair = Pair(against="x", reference=reference, candidate=candidate)
    assert pair.common == N
    assert sorted(pair.places[0].tolist()) == list(range(N))


def test_margins_are_judged_on_each_part() -> None:
    """Worse on the rows of one language only: the whole hides it, the slice doesn't."""
    language = [{"language": "en" if i < 340 else "de" if i < 395 else "fr"} for i in range(N)]
    before = right(*THREE, offset=40)
    after = [run.copy() for run in before]
    for run in after:
        run[340:380, 0] = 0
    gate = Gate(
        metric="accuracy", slices=Slices(by="language", min_examples=30, max_regression=Margin(value=0.2), min=0.2)
    )
    candidate = again(arm(after))
    results, notes = gates.judge([gate], evidence(candidate, arm(before), beside=language))
    verdicts = {(result.part, result.bound): result.verdict for result in results}
    assert verdicts == {
        ("language=de", "min"): "fail" if np.mean([run[340:395, 0].mean() for run in after]) < 0.2 else "pass",
        ("language=de", "max_regression"): "fail",
        ("language=en", "min"): "pass",
        ("language=en", "max_regression"): "pass",
    }
    assert notes == ("accuracy by language: fewer than 30 examples, not judged: fr (5)",)


@pytest.mark.parametrize(
    ("names", "expected", "message"),
    [
        pytest.param(("id0", "id5"), "pass", "all 2 examples that must be right are", id="right"),
        pytest.param(("id0", "id399"), "fail", "is not 1 in every run for id399", id="wrong"),
        pytest.param(("id358",), "fail", "is not 1 in every run for id358", id="wrong-in-one-run"),
        pytest.param(("id9999",), "fail", "names examples that were not judged: id9999", id="unknown"),
    ],
)
def test_examples_that_must_pass(names: tuple[str, ...], expected: Verdict, message: str) -> None:
    (found,) = judge(Gate(metric="accuracy", must_pass=names), evidence(arm(right(*THREE))))
    assert found.verdict == expected
    assert message in found.message


def test_rows_of_one_document_count_as_one() -> None:
    """Documents are right or wrong as a whole: 40 of them, not 400 examples, so the same difference decides less."""
    rng = np.random.default_rng(3)
    documents = np.repeat(np.arange(40), 10)
    before = [np.stack([np.repeat(rng.random(40) < 0.8, 10), np.ones(N)], axis=1).astype(float)]
    after = [np.stack([np.repeat(rng.random(40) < 0.7, 10), np.ones(N)], axis=1).astype(float)]
    sides = replace(arm(after, fixed=True), keys=("a",)), arm(before, fixed=True)
    (rows,) = judge(margin(0.0), evidence(*sides))
    (clustered,) = judge(margin(0.0), evidence(*sides, clusters=documents))
    assert rows.comparison is not None
    assert clustered.comparison is not None
    width, wider = (c.high - c.low for c in (rows.comparison, clustered.comparison))
    assert wider > 2 * width


def test_holm_takes_back_a_fail_that_many_margins_explain() -> None:
    candidate = again(arm(right(0.86, 0.87, 0.88)))
    (found,) = judge(margin(0.0), evidence(candidate, arm(right(*THREE))))
    assert found.verdict == "fail"
    assert found.comparison is not None
    passing = replace(found, verdict="pass", comparison=replace(found.comparison, p_worse=0.9))
    many = [[found]] + [[passing]] * 2000
    assert gates.corrected([[found]]) == [(found,)]
    corrected = gates.corrected(many)
    assert corrected[0][0].verdict == "inconclusive"
    assert "one of 2001 margins may look so bad by chance" in corrected[0][0].message
    assert all(results[0] == passing for results in corrected[1:])
