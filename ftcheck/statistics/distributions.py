"""The normal distribution, Student's t and chi-squared, as far as verdicts need them.

SciPy has them, but a session that finds all it needs in the store would spend more on importing `scipy.special` (which
loads most of NumPy) than on judging hundreds of cases. The tests hold these against SciPy's to 12 digits.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray

_NORMAL = NormalDist()
_ROUNDING = 1e-17
"""A term that is this much smaller than the sum it is added to changes nothing."""
_CLOSE = 1e-8
"""A step of Newton's that is this small, relatively, leaves its square."""
_LARGE = 100.0
"""From here on the ratio of two gamma functions comes from its asymptotic series."""


def normal_below(x: FloatArray) -> FloatArray:
    """P(Z < x) of each x."""
    return np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in x.tolist()])


def upper_tail(x: float, nu: float) -> float:
    """P(T > x) with `nu` degrees of freedom (infinite: normal), to full relative precision where it is tiny, too."""
    if math.isinf(nu):
        return 0.5 * math.erfc(x / math.sqrt(2))
    if x < 0:
        return 1 - upper_tail(-x, nu)
    return 0.5 - _t_below(x, nu) if x * x < 6 else _t_beyond(x, nu)


@lru_cache(maxsize=1024)
def quantile(q: float, nu: float) -> float:
    """The q-quantile of Student's t with `nu` degrees of freedom, 1 or more; of the normal where `nu` is infinite."""
    p = min(q, 1 - q)
    if p <= 0:
        return math.copysign(math.inf, q - 0.5)
    t = z = -_NORMAL.inv_cdf(p)
    if z > 0 and not math.isinf(nu):
        # Cornish and Fisher's first terms, then Newton's steps, which can't miss: the tail is convex.
        t += (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
        step = t
        while abs(step) > _CLOSE * t:
            step = (upper_tail(t, nu) - p) / _t_density(t, nu)
            t += step
    return t if q > 0.5 else -t


@lru_cache(maxsize=64)
def chi2_middles(nu: int, parts: int) -> FloatArray:
    """The middles of `parts` equally likely parts of the chi-squared distribution with `nu` degrees of freedom."""
    a, p = nu / 2, (np.arange(parts) + 0.5) / parts
    # Newton's steps between logarithms, of which P is concave, from where the first term of its series alone is p.
    u = (np.log(p) + math.lgamma(a + 1)) / a
    step = np.ones(parts)
    while np.abs(step).max() > _CLOSE:
        x = np.exp(u)
        first = np.exp(a * u - x - math.lgamma(a + 1))
        total = _series(x, a)
        step = (np.log(p) - np.log(first * total)) * total / a
        u += step
    middles: FloatArray = 2 * np.exp(u)
    return middles


def _series(x: FloatArray, a: float) -> FloatArray:
    """Σ x^k / ((a + 1) ... (a + k)): P(a, x) is x^a e^-x / Γ(a + 1) of it."""
    term, total, k = np.ones_like(x), np.ones_like(x), a
    while (term > _ROUNDING * total).any():
        k += 1
        term = term * x / k
        total += term
    return total


def _t_density(x: float, nu: float) -> float:
    return _gamma_ratio(nu / 2) / math.sqrt(math.pi * nu) * math.exp(-(nu + 1) / 2 * math.log1p(x * x / nu))


def _t_below(x: float, nu: float) -> float:
    """P(0 < T < x), by the series of the incomplete beta function."""
    y = x * x / (nu + x * x)
    term = total = 1.0
    n = 0
    while term > _ROUNDING * total:
        term *= y * ((nu + 1) / 2 + n) / (1.5 + n)
        total += term
        n += 1
    return total * x * _t_density(x, nu)


def _t_beyond(x: float, nu: float) -> float:
    """P(T > x), by a continued fraction of the incomplete beta function (Didonato and Morris 1992, Lentz's way)."""
    a = nu / 2
    y = x * x / (nu + x * x)
    w = nu / (nu + x * x)  # 1 - y
    found = c = a * (a * y - w / 2 + 1) / (a + 1)
    d, m, more = 0.0, 0, 0.0
    while abs(more - 1) > 4e-16 and m < 1000:
        m += 1
        upper = (a + m - 1) * (a + m - 0.5) * m * (0.5 - m) * (w / (a + 2 * m - 1)) ** 2
        lower = m + m * (0.5 - m) * w / (a + 2 * m - 1)
        lower += (a + m) * (a * y - w / 2 + 1 + m * (1 + y)) / (a + 2 * m + 1)
        d, c = 1 / (lower + upper * d), lower + upper / c
        more = c * d
        found *= more
    return x * _t_density(x, nu) / (2 * found)


def _gamma_ratio(a: float) -> float:
    """Γ(a + 1/2) / Γ(a)."""
    if a < _LARGE:
        return math.gamma(a + 0.5) / math.gamma(a)
    b = 1 / (8 * a)
    return math.sqrt(a) * (1 + b * (-1 + b * (1 / 2 + b * (5 / 2 + b * (-21 / 8 - 399 / 8 * b)))))
