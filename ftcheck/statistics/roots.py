"""Where a function crosses zero."""

from __future__ import annotations

from collections.abc import Callable

_CLOSE = 1e-15
"""Of the distance that is searched."""


def crossing(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where `rising`, which never falls, gets to zero: `low` or `high` where it has or doesn't in between.

    Chandrupatla's method (1997): inverse quadratic interpolation where that is safe, else a halving; some ten values of
    the function where fifty halvings would take fifty.
    """
    a, b = high, low
    at_a, at_b = rising(a), rising(b)
    if at_a <= 0 or at_b >= 0:
        return high if at_a <= 0 else low
    near = _CLOSE * (high - low)
    t = 0.5
    while True:
        x = a + t * (b - a)
        at_x = rising(x)
        if (at_x > 0) == (at_a > 0):
            c, at_c = a, at_a
        else:
            c, at_c, b, at_b = b, at_b, a, at_a
        a, at_a = x, at_x
        best = a if abs(at_a) < abs(at_b) else b
        least = near / abs(b - a) + 4e-16 * abs(best) / abs(b - a)
        if least > 0.5 or at_a == 0:
            return best
        xi, phi = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
        t = 0.5
        if phi**2 < xi and (1 - phi) ** 2 < 1 - xi:
            t = at_a / (at_b - at_a) * at_c / (at_b - at_c)
            t += (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b)
        t = min(1 - least, max(least, t))
