"""Levels and p-values corrected for looking more than once: at a growing result, or at several gates."""

from __future__ import annotations

from collections.abc import Sequence


def sequential_level(alpha: float, looks: int) -> float:
    """The 1 - q of each of `looks` looks, also the last, that keeps the whole at `alpha`: α·J^-0.7.

    Seeds added until a gate is decided, from `min` to `max`: J = max - min + 1 looks. Raises ValueError for fewer
    than 1.
    """
    if looks < 1:
        raise ValueError(f"a result is looked at once or more, got {looks} looks")
    return float(alpha * looks**-0.7)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's adjusted p-values (1979), in the order given: for the fails of several gates.

    That all gates pass needs no correction: each was to pass (intersection-union).
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)
