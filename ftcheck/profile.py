"""Where the time and the memory of a case went: plain data, a part of its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What was spent on one thing, by all runs together that were made in this session."""

    name: str
    seconds: float
    """Without phases within it."""
    peak_bytes: int | None = None
    """The most memory in use meanwhile, as `peak_memory_bytes` counts it; None where nobody looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How fast the model worked in one stage: of the first run, when it was made."""

    stage: str
    """`train` or `predict`."""
    tokens_per_second: float
    """Without padding."""
    padding: float
    """The part of what the model read that was padding."""
    operations_per_second: float | None = None
    """Floating-point operations for those tokens; None where they can't be told."""
    limit: float | None = None
    """Operations a second that the device reaches, multiplying matrices; None where it wasn't measured."""

    @property
    def share(self) -> float | None:
        """The part of the limit that was reached: the model FLOPs utilization."""
        if self.operations_per_second is None or not self.limit:
            return None
        return self.operations_per_second / self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Where the time and the memory of a case went."""

    phases: tuple[Phase, ...]
    """The longest first."""
    throughput: tuple[Throughput, ...] = ()

    @property
    def seconds(self) -> float:
        """All phases together."""
        return sum(phase.seconds for phase in self.phases)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Profile:
        """Raises KeyError or TypeError where `value` is none."""
        return cls(
            phases=tuple(Phase(**phase) for phase in value["phases"]),
            throughput=tuple(Throughput(**found) for found in value["throughput"]),
        )


def together(spent: Sequence[Mapping[str, Mapping[str, Any]]]) -> tuple[dict[str, float], dict[str, int]]:
    """(phase -> seconds, all of them; phase -> bytes, the most of any) of stages with `seconds` and `peak_bytes`."""
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}
    for one in spent:
        for name, value in one["seconds"].items():
            seconds[name] = seconds.get(name, 0.0) + value
        for name, value in one["peak_bytes"].items():
            peaks[name] = max(peaks.get(name, 0), value)
    return seconds, peaks
