"""The distributions of verdicts are SciPy's to 12 digits, over all that a verdict can ask of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import gammaincinv, ndtr, ndtri, stdtr, stdtrit

from ftcheck.statistics.distributions import chi2_middles, normal_below, quantile, upper_tail
from ftcheck.statistics.roots import crossing

DEGREES = (1.0, 1.5, 2.0, 3.0, 7.25, 29.0, 99.9, 199.0, 201.0, 2999.0, 123_456.7, 5e7)
CLOSE = 1e-12


def reference_tail(x: float, nu: float) -> float:
    return float(ndtr(-x) if math.isinf(nu) else stdtr(nu, -x))


@pytest.mark.parametrize("nu", [*DEGREES, math.inf])
@pytest.mark.parametrize("q", [1e-6, 0.05, 0.3, 0.5, 0.500001, 0.8, 0.95, 0.975, 0.995, 0.9999, 1 - 1e-9])
def test_quantiles(q: float, nu: float) -> None:
    expected = float(ndtri(q) if math.isinf(nu) else stdtrit(nu, q))
    assert quantile(q, nu) == pytest.approx(expected, rel=CLOSE, abs=1e-15)


@pytest.mark.parametrize("nu", [*DEGREES, math.inf])
@pytest.mark.parametrize("x", [-40.0, -2.0, -0.1, 0.0, 0.7, 1.7, 2.44, 2.46, 3.3, 5.0, 8.2, 40.0])
def test_tails_also_tiny_ones(x: float, nu: float) -> None:
    assert upper_tail(x, nu) == pytest.approx(reference_tail(x, nu), rel=CLOSE, abs=1e-300)


def test_of_certainty_there_is_no_quantile() -> None:
    assert quantile(1.0, 5.0) == math.inf
    assert quantile(0.0, math.inf) == -math.inf


def test_shares_below() -> None:
    x = np.array([-1e300, -9.0, -1.0, 0.0, 0.3, 5.0, 1e300])
    np.testing.assert_allclose(normal_below(x), ndtr(x), rtol=CLOSE)


@pytest.mark.parametrize(("nu", "close"), [*((nu, CLOSE) for nu in (1, 2, 3, 4, 7, 12, 40, 99)), (999, 10 * CLOSE)])
def test_middles_of_chi_squared(nu: int, close: float) -> None:
    expected = 2 * gammaincinv(nu / 2, (np.arange(400) + 0.5) / 400)
    np.testing.assert_allclose(chi2_middles(nu, 400), expected, rtol=close)


@pytest.mark.parametrize("power", [1, 3, 21])
def test_a_crossing_is_found_to_the_last_digits_with_few_values(power: int) -> None:
    asked = []

    def rising(x: float) -> float:
        asked.append(x)
        return math.copysign(abs(x - 0.3) ** (1 / power), x - 0.3)

    assert crossing(rising, -7.0, 2.0) == pytest.approx(0.3, abs=1e-14)
    assert len(asked) < 70


def test_where_nothing_crosses_the_nearer_end_is_given() -> None:
    assert crossing(lambda x: x + 5, 0.0, 1.0) == 0.0
    assert crossing(lambda x: x - 5, 0.0, 1.0) == 1.0
    assert crossing(lambda x: 1.0 if x > 0.25 else -1.0, 0.0, 1.0) == pytest.approx(0.25, abs=1e-14)
