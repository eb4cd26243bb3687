"""Statistics that take a byte a number give what a table of floats gives, and nothing makes such a table of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ftcheck.metrics import Context, FloatArray, Lookup, Metric, NumberArray
from ftcheck.statistics import (
    approximate_randomization,
    blocks,
    compare,
    estimate,
    influence,
    of_each,
    paired_bootstrap,
    seed_noise,
    significance,
    totals,
    value,
)

LOOKUP = Lookup(inputs=frozenset({"label"}))
NAMES = ["macro_f1", "macro_precision", "weighted_recall", "mcc", "cohen_kappa", "balanced_accuracy"]
Ids = list[int]


def metric(name: str, classes: int) -> Metric:
    return LOOKUP.build(name, Context(labels=tuple(f"c{label}" for label in range(classes))))


def answers(examples: int, classes: int, seen: int, seed: int = 0, right: float = 0.7) -> tuple[Ids, Ids]:
    """Predictions and references, of the first `seen` classes only; the same references for every seed."""
    gold = np.random.default_rng(99).zipf(1.5, size=examples) % seen
    rng = np.random.default_rng(seed)
    return np.where(rng.random(examples) < right, gold, rng.integers(seen, size=examples)).tolist(), gold.tolist()


def written_out(predictions: Ids, references: Ids, classes: int) -> FloatArray:
    """The table as floats."""
    predicted, gold = np.eye(classes)[predictions], np.eye(classes)[references]
    return np.hstack([predicted * gold, predicted, gold, np.ones((len(predictions), 1))])


SHAPES = [
    pytest.param(300, 20, 20, id="many-classes"),
    pytest.param(90, 2, 2, id="many-alike"),
    pytest.param(40, 5, 1, id="one-class-of-five"),
    pytest.param(40, 1, 1, id="one-class"),
    pytest.param(60, 50, 7, id="classes-never-seen"),
    pytest.param(2, 3, 3, id="two-examples"),
]


@pytest.fixture(params=[1 << 17, 50], ids=["one-block", "blocks-of-few"])
def numbers_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_NUMBERS", request.param)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("examples", "classes", "seen"), SHAPES)
@pytest.mark.usefixtures("numbers_at_once")
def test_an_estimate_is_what_leaving_out_every_row_of_the_table_gives(
    name: str, examples: int, classes: int, seen: int
) -> None:
    given, built = answers(examples, classes, seen), metric(name, classes)
    rows, table = built.statistics(*given), written_out(*given, classes)
    assert np.array_equal(rows, table)
    whole = float(built.aggregate(table.sum(axis=0)))
    without = np.array([built.aggregate(table.sum(axis=0) - row) for row in table])
    added = (examples - 1) / examples * (whole - without)
    with np.errstate(invalid="ignore"):
        expected = added - added.mean()
        assert influence(rows, built.aggregate) == pytest.approx(expected, rel=1e-12, abs=1e-15, nan_ok=True)
    found = estimate([rows], built.aggregate, scale=built.scale, binary=False, fixed=True)
    assert found.value == pytest.approx(whole, rel=1e-12, nan_ok=True)
    if np.isfinite([whole, *without]).all():
        assert found.spread is not None
        v_e = examples / (examples - 1) * float((expected**2).sum())
        assert found.spread.v_e == pytest.approx(v_e, rel=1e-11, abs=1e-30)
    else:
        assert found.spread is None
    assert of_each(rows, built.aggregate) == pytest.approx(
        np.array([built.aggregate(row) for row in table]), rel=1e-12, nan_ok=True
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("examples", "classes", "seen"), SHAPES)
@pytest.mark.parametrize("clustered", [False, True], ids=["alone", "clusters"])
@pytest.mark.usefixtures("numbers_at_once")
def test_bytes_and_floats_give_one_result(name: str, examples: int, classes: int, seen: int, clustered: bool) -> None:
    built = metric(name, classes)
    sides = [[answers(examples, classes, seen, seed, right) for seed in range(2)] for right in (0.8, 0.6)]
    clusters = np.arange(examples) // 3 if clustered else None

    def judged(made: Callable[[Ids, Ids], NumberArray]) -> list[Any]:
        old, new = ([_padded(made(*given)) for given in side] for side in sides)
        scale, aggregate = built.scale, built.aggregate
        among = None if clusters is None else np.pad(clusters, 2, mode="edge")
        found: list[Any] = [estimate(new, aggregate, scale=scale, binary=False, fixed=False, clusters=among)]
        found.append(
            compare(
                old,
                new,
                aggregate,
                greater_is_better=True,
                scale=scale,
                fixed_baseline=False,
                fixed_candidate=False,
                clusters=among,
            )
        )
        if found[0].spread is not None:
            found.append(seed_noise(new, aggregate, clusters=among))
        found.append(approximate_randomization(old, new, aggregate, seed=1, resamples=70))
        found.append(paired_bootstrap(old, new, aggregate, seed=1, resamples=70))
        return found

    with np.errstate(all="ignore"):
        assert repr(judged(built.statistics)) == repr(
            judged(lambda predictions, references: written_out(predictions, references, classes))
        )


def _padded(rows: NumberArray) -> NumberArray:
    """With examples that don't count on either end."""
    return np.pad(rows, ((2, 2), (0, 0)))


def test_counts_beyond_a_byte_add_up() -> None:
    rows = np.full((1000, 2), 255, dtype=np.uint8)
    assert totals(rows).tolist() == [255_000, 255_000]
    assert totals(rows).dtype == np.float64
    assert value(rows, lambda added: added[..., 0] * added[..., 1]) == 255_000.0**2


def test_no_rows_have_a_total_and_none_of_each() -> None:
    built = metric("macro_f1", 3)
    rows = built.statistics([], [])
    assert rows.shape == (0, 10)
    assert np.isnan(value(rows, built.aggregate))
    assert of_each(rows, built.aggregate).shape == (0,)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.random.default_rng(0).integers(3, size=(500, 4)).astype(np.uint8), id="bytes"),
        pytest.param(np.random.default_rng(1).integers(-300, 300, size=(80, 1)).astype(np.int16), id="one-column"),
        pytest.param(np.random.default_rng(2).choice([-1.5, -0.0, 0.0, 1e300, np.inf], size=(400, 2)), id="floats"),
        pytest.param(np.asfortranarray(np.random.default_rng(3).integers(2, size=(90, 5)) * 1.0), id="by-column"),
        pytest.param(np.zeros((7, 3), dtype=np.uint8), id="all-alike"),
    ],
)
@pytest.mark.usefixtures("numbers_at_once")
def test_different_rows_are_numpy_s(rows: NumberArray) -> None:
    expected, counts = np.unique(rows, axis=0, return_counts=True)
    found = significance.distinct(rows, most=len(expected))
    assert found is not None
    assert np.array_equal(found[0], expected)
    assert np.array_equal(found[1], counts)
    assert significance.distinct(rows, most=len(expected) - 1) is None


@pytest.mark.parametrize("examples", [1, 31, 64, 1001])
def test_coins_are_the_same_however_many_are_drawn_at_once(examples: int) -> None:
    drawn, rng = significance._swaps(np.random.default_rng(5), examples, 530), np.random.default_rng(5)
    at_once = [rng.integers(2, size=(size, examples), dtype=bool) for size in (250, 250, 30)]
    assert np.array_equal(np.concatenate(list(drawn)), np.concatenate(at_once))


def test_a_table_of_many_classes_is_never_held_as_floats() -> None:
    examples, classes = 20_000, 100
    built, both = metric("macro_f1", classes), [answers(examples, classes, 5, seed) for seed in range(2)]
    tracemalloc.start()
    try:
        old, new = ([built.statistics(*given)] for given in both)
        estimate(new, built.aggregate, scale="proportion", binary=False, fixed=True)
        compare(
            old,
            new,
            built.aggregate,
            greater_is_better=True,
            scale="proportion",
            fixed_baseline=True,
            fixed_candidate=True,
        )
        of_each(new[0], built.aggregate)
        approximate_randomization(old, new, built.aggregate, seed=0, resamples=40)
        paired_bootstrap(old, new, built.aggregate, seed=0, resamples=40)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 8 * examples * (3 * classes + 1), "less than one side as floats"
