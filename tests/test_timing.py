"""Each phase is told what passed in it, and not what passed in phases within."""

from __future__ import annotations

import pytest

from ftcheck import timing
from ftcheck.timing import phase, recording


class Clock:
    """Stands still but for `pass_`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class Memory:
    def __init__(self, laps: list[int]) -> None:
        self.laps = iter(laps)

    def start(self) -> None:
        pass

    def lap(self) -> int:
        return next(self.laps)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "perf_counter", made)
    return made


def test_a_phase_is_told_without_those_within_it(clock: Clock) -> None:
    with recording() as recorder:
        with phase("train"):
            clock.pass_(5)
            with phase("evaluate"):
                clock.pass_(2)
            clock.pass_(1)
        clock.pass_(0.5)
    assert recorder.seconds == pytest.approx({"train": 6.0, "evaluate": 2.0, "other": 0.5})


def test_a_phase_that_comes_again_adds_up_and_what_raises_counts_too(clock: Clock) -> None:
    @phase("tokenize")
    def tokenize(seconds: float) -> None:
        clock.pass_(seconds)
        if seconds > 2:
            raise ValueError("too long")

    with recording() as recorder:
        tokenize(1)
        with pytest.raises(ValueError, match="too long"):
            tokenize(3)
        clock.pass_(1)
    assert recorder.seconds == pytest.approx({"tokenize": 4.0, "other": 1.0})


def test_a_recorder_outside_sees_one_phase(clock: Clock) -> None:
    with recording() as outer, phase("run"), recording() as inner, phase("train"):
        clock.pass_(3)
    assert outer.seconds == pytest.approx({"other": 0.0, "run": 3.0})
    assert inner.seconds == pytest.approx({"train": 3.0, "other": 0.0})


def test_memory_is_the_most_of_any_lap_of_a_phase() -> None:
    with recording() as recorder:
        recorder.watch(Memory([10, 70, 40, 50, 20]))
        with phase("train"), phase("evaluate"):  # 10 before it, 70 within train, 40 within evaluate, 50 after that
            pass  # and 20 at the end
    assert recorder.peak_bytes == {"other": 20, "train": 70, "evaluate": 40}


def test_without_a_recorder_a_phase_is_nothing() -> None:
    with phase("train"):
        assert timing._recorder.get() is None
