"""Tests for reports: exact values, and agreement with SciPy, statsmodels and sacrebleu on the same data."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
from scipy import stats

from ftcheck.metrics import FloatArray, translation
from ftcheck.statistics import approximate_randomization, mcnemar, paired_bootstrap, seed_permutation, significance
from tests.statistics.test_estimate import f1, mean, scores

A = ("6665436543", "7764327654", "7776547654", "5654325432", "7776547654", "6665436543")
B = ("6653216543", "7776547654", "8752008765", "5653105432", "7764217654", "6653216543")


def digits(rows: tuple[str, ...]) -> FloatArray:
    return np.array([[float(digit) for digit in row] for row in rows])


@pytest.fixture
def systems() -> Iterator[tuple[FloatArray, FloatArray]]:
    """Two systems' sentences as sacrebleu's statistics (sys, ref, correct × 4, total × 4)."""
    with patch.dict(os.environ, {"SACREBLEU_SEED": "12345"}):
        yield digits(A), digits(B)


@pytest.mark.parametrize(
    ("broken", "fixed", "expected"),
    [
        pytest.param(3, 10, 0.092285, id="3-10"),
        pytest.param(10, 3, 0.092285, id="either-way"),
        pytest.param(0, 5, 0.0625, id="0-5"),
        pytest.param(12, 25, 0.047031, id="12-25"),
        pytest.param(4, 4, 1.0, id="even"),
        pytest.param(0, 0, 1.0, id="no-change"),
    ],
)
def test_mcnemar_is_exact(broken: int, fixed: int, expected: float) -> None:
    from statsmodels.stats.contingency_tables import mcnemar as reference

    assert mcnemar(broken, fixed) == pytest.approx(expected, abs=5e-7)
    if broken + fixed:
        assert mcnemar(broken, fixed) == pytest.approx(reference([[7, broken], [fixed, 9]], exact=True).pvalue)


def test_few_swaps_are_all_tried() -> None:
    p = approximate_randomization([scores("1111011011")], [scores("1010010110")], mean, seed=0)
    assert p == 0.375


def test_all_swaps_of_scores_are_scipy_s_exact_permutation_test() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.random(9), rng.random(9)
    reference = stats.permutation_test(
        (before, after), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples", n_resamples=np.inf
    )
    p = approximate_randomization([scores(before.tolist())], [scores(after.tolist())], mean, seed=0)
    assert p == pytest.approx(reference.pvalue)


def test_random_swaps_are_near_the_exact_p_and_repeat_with_their_seed() -> None:
    rng = np.random.default_rng(3)
    before, after = (scores((rng.random(12) + shift).tolist()) for shift in (0.15, 0.0))
    exact = approximate_randomization([before], [after], mean, seed=0)
    drawn = [approximate_randomization([before], [after], mean, seed=seed, resamples=4000) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn == pytest.approx([exact] * 3, abs=0.03)


def test_all_runs_of_an_example_are_swapped_together() -> None:
    before, after = scores("1111011011"), scores("1010010110")
    once = approximate_randomization([before], [after], mean, seed=0)
    assert approximate_randomization([before] * 3, [after] * 3, mean, seed=0) == once
    with pytest.raises(ValueError, match="as many runs a side, got 2 and 1"):
        approximate_randomization([before] * 2, [after], mean, seed=0)


def test_sides_that_do_not_differ_have_a_p_of_one() -> None:
    assert approximate_randomization([scores("1101")], [scores("1101")], mean, seed=0) == 1


def test_more_examples_may_differ_than_a_float_has_powers_of_two() -> None:
    before, after = scores("1" * 2000 + "0" * 1000), scores("0" * 2000 + "1" * 1000)
    assert approximate_randomization([before], [after], mean, seed=0, resamples=99) == 0.01


def test_approximate_randomization_of_bleu_is_sacrebleu_s(systems: tuple[FloatArray, FloatArray]) -> None:
    before, after = systems
    swaps = np.random.default_rng(12345).integers(2, size=(10_000, 6), dtype=bool)
    observed = abs(float(translation.bleu(before.sum(axis=0)) - translation.bleu(after.sum(axis=0))))
    # sacrebleu calls the swap that leaves all in place True.
    drawn = np.abs(significance.swapped_differences([before], [after], translation.bleu, ~swaps, [np.zeros(10)]))
    p = (int((drawn > observed * (1 + 1e-12)).sum()) + 1) / 10_001
    assert p == pytest.approx(0.063294, abs=5e-7)
    assert p == pytest.approx(sacrebleu_test("ar", 10_000)[0])


def test_paired_bootstrap_of_bleu_is_sacrebleu_s(systems: tuple[FloatArray, FloatArray]) -> None:
    before, after = systems
    values = [float(translation.bleu(side.sum(axis=0))) for side in systems]
    assert values == pytest.approx([90.894719, 53.145039], abs=5e-7)
    drawn = np.random.default_rng(12345).choice(6, size=(1000, 6), replace=True)
    weights = np.stack([np.bincount(row, minlength=6) for row in drawn]).astype(float)
    rows = np.hstack([before, after])
    differences = significance.resampled_differences(weights, rows, (1, 1), translation.bleu)
    p = significance.bootstrap_p(differences, values[0] - values[1])
    of_after = np.sort(translation.bleu(weights @ after))
    assert p == pytest.approx(0.011988, abs=5e-7)
    assert (of_after.mean(), (of_after[-26] - of_after[25]) / 2) == pytest.approx((51.82863, 26.44233), abs=2e-5)
    reference = sacrebleu_test("bs", 1000)
    assert (p, of_after.mean()) == pytest.approx((reference[0], reference[1]), rel=1e-6)


def sacrebleu_test(kind: str, samples: int) -> tuple[float, float]:
    """(p, mean score of the second system) by sacrebleu, of the two systems' statistics."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.significance import PairedTest

    rows: dict[str, list[list[int]]] = {"a": digits(A).astype(int).tolist(), "b": digits(B).astype(int).tolist()}

    class Stored(BLEU):  # type: ignore[misc]
        """BLEU of statistics that are there already."""

        def _extract_corpus_statistics(self, hypotheses: list[str], references: object) -> list[list[int]]:
            return rows[hypotheses[0]]

    metric = Stored(force=True)
    metric.num_refs, metric._ref_cache = 1, [{}]
    named = [(name, [name] * 6) for name in rows]
    results = PairedTest(named, {"BLEU": metric}, references=None, test_type=kind, n_samples=samples)()[1]
    second = results["BLEU"][1]
    return float(second.p_value), float(second.mean) if second.mean is not None else 0.0


def test_a_bootstrap_repeats_with_its_seed() -> None:
    rng = np.random.default_rng(0)
    before, after = (scores(rng.random(50).tolist()) for _ in range(2))
    first, again, other = (paired_bootstrap([before], [after], mean, seed=seed, resamples=500) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    "values", [pytest.param(6, id="few-different-rows"), pytest.param(10**6, id="hardly-any-twice")]
)
def test_a_bootstrap_s_interval_is_the_normal_one_for_many_examples(values: int) -> None:
    rng = np.random.default_rng(4)
    before, after = (rng.integers(values, size=800) / values + shift for shift in (0.05, 0.0))
    found = paired_bootstrap([scores(before.tolist())], [scores(after.tolist())], mean, seed=0)
    reference = stats.norm.interval(0.95, np.mean(before - after), stats.sem(before - after))
    assert found.difference == pytest.approx(float(np.mean(before - after)))
    assert (found.low, found.high) == pytest.approx(reference, abs=0.003)


def test_a_number_of_resamples_need_not_be_round() -> None:
    rng = np.random.default_rng(0)
    before, after = (scores((rng.random(50) + shift).tolist()) for shift in (2, 0))
    assert paired_bootstrap([before], [after], mean, seed=0, resamples=300).p_value == 1 / 301


def test_a_bootstrap_of_what_does_not_differ_is_not_significant() -> None:
    rows = scores(np.random.default_rng(0).random(50).tolist())
    found = paired_bootstrap([rows], [rows], mean, seed=0, resamples=300)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_bootstrap_of_several_runs_takes_their_mean() -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(1, 4, size=60)
    before, after = (
        [np.column_stack([rng.binomial(gold, p), gold, gold]).astype(float) for _ in range(k)]
        for p, k in ((0.9, 3), (0.6, 2))
    )
    found = paired_bootstrap(before, after, f1, seed=0, resamples=1000)
    means = [float(np.mean([f1(run.sum(axis=0)) for run in side])) for side in (before, after)]
    assert found.difference == pytest.approx(means[0] - means[1])
    assert found.low < found.difference < found.high
    assert found.p_value == pytest.approx(1 / 1001)


def test_a_permutation_of_seeds_is_scipy_s_and_has_a_floor() -> None:
    before, after = (0.861, 0.853, 0.866), (0.842, 0.851, 0.839)
    reference = stats.permutation_test(
        (before, after), lambda x, y: np.mean(x) - np.mean(y), alternative="greater", n_resamples=np.inf
    )
    assert seed_permutation(before, after, greater_is_better=True, seed=0) == pytest.approx(0.05)
    assert reference.pvalue == pytest.approx(0.05)
    assert seed_permutation(before, after, greater_is_better=False, seed=0) == 1
    assert seed_permutation([0.9] * 3, [0.9] * 3, greater_is_better=True, seed=0) == 1


def test_many_seeds_are_dealt_at_random() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(0.1, 0.2, size=12).tolist(), rng.normal(0, 0.2, size=12).tolist()
    p = seed_permutation(before, after, greater_is_better=True, seed=1)
    reference = stats.permutation_test(
        (before, after), lambda x, y: np.mean(x) - np.mean(y), alternative="greater", n_resamples=20_000, rng=0
    )
    assert p == pytest.approx(reference.pvalue, abs=0.01)


def test_seeds_dealt_at_random_are_dealt_a_part_at_a_time() -> None:
    """As all at once would be, by which 60 MB would be held."""
    before, after = np.random.default_rng(0).normal(size=(2, 20))
    values = np.concatenate([before, after])
    dealt = np.random.default_rng(3).permuted(np.tile(values, (200_000, 1)), axis=1)[:, :20].sum(axis=1)
    expected = (int((dealt <= after.sum() + 1e-9 * np.ptp(values)).sum()) + 1) / 200_001
    tracemalloc.start()
    try:
        assert seed_permutation(before.tolist(), after.tolist(), greater_is_better=True, seed=3) == expected
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6


def test_a_permutation_needs_seeds() -> None:
    with pytest.raises(ValueError, match="runs on both sides"):
        seed_permutation([], [0.5], greater_is_better=True, seed=0)


@pytest.mark.parametrize("examples", [91, 92])
@pytest.mark.parametrize("values", [3, 10**6], ids=["few-different-rows", "all-different"])
def test_resamples_are_the_same_however_many_are_held_at_a_time(
    examples: int, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    sides = [np.column_stack([rng.integers(values, size=examples), np.ones(examples)]) for _ in range(2)]
    drawn = np.concatenate(list(significance._poisson(np.random.default_rng(1), examples, 300)))
    given = [sides[0]], [sides[1]], mean
    whole = paired_bootstrap(*given, seed=1, resamples=300)
    swapped = approximate_randomization(*given, seed=1, resamples=300)
    monkeypatch.setattr(significance, "_NUMBERS_AT_ONCE", 7 * examples)
    parts = list(significance._poisson(np.random.default_rng(1), examples, 300))
    assert {len(part) for part in parts} == {6}
    assert np.array_equal(np.concatenate(parts), drawn)
    found = paired_bootstrap(*given, seed=1, resamples=300)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), rel=1e-5)
    assert (found.difference, found.p_value) == (whole.difference, whole.p_value)
    assert approximate_randomization(*given, seed=1, resamples=300) == swapped


def test_a_resampling_of_many_examples_is_held_a_part_at_a_time() -> None:
    sides = [np.random.default_rng(side).random((100_000, 2)) for side in range(2)]
    tracemalloc.start()
    try:
        paired_bootstrap([sides[0]], [sides[1]], mean, seed=0, resamples=250)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 250 * 100_000 * 4, "less than the weights of 250 resamples"
