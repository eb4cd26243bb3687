"""The row of a training: what it says, how often, and what is left out on a narrow terminal."""

from __future__ import annotations

from typing import Any

import pytest

from ftcheck.finetune import Progress
from ftcheck.report import cells, pace

STEP = Progress(stage="train", done=120, total=300, epoch=1.2, loss=0.3412, learning_rate=1e-4)
SPEED = (3.21, 56.1)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        pytest.param(
            None,
            "intents, seed 42: train 120/300, epoch 1.2, loss 0.341, lr 1.0e-04, 3.21 steps/s, 56 s left",
            id="all",
        ),
        pytest.param(80, "intents, seed 42: train 120/300, epoch 1.2, loss 0.341, 3.21 steps/s, 56 s left", id="80"),
        pytest.param(60, "intents, seed 42: train 120/300, loss 0.341, 56 s left", id="60"),
        pytest.param(45, "intents, seed 42: train 120/300, 56 s left", id="45"),
    ],
)
def test_what_matters_least_is_left_out(width: int | None, expected: str) -> None:
    assert pace.row("intents", 42, STEP, SPEED, width) == expected


def test_a_long_name_gives_way_to_the_numbers() -> None:
    text = pace.row("a-checkpoint-with-a-name-that-goes-on-and-on-finetuned-5e-5", 42, STEP, SPEED, 60)
    assert text.endswith("…, seed 42: train 120/300, 56 s left")
    assert cells.width(text) <= 60


class Clock:
    """Seconds that a test turns on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def test_a_log_gets_ever_fewer_lines(clock: Clock) -> None:
    """An hour of training is a dozen lines, a night a hundred."""
    paced, said = pace.Pace(None), []
    for second in range(3600):
        clock.now = float(second)
        if paced.due():
            said.append(second)
    assert said[:5] == [30, 90, 210, 450, 750]
    assert len(said) == 14


def test_a_terminal_is_drawn_as_often_as_it_is_seen(clock: Clock) -> None:
    paced = pace.Pace(0.5)
    due = []
    for tick in range(8):
        clock.now = tick / 4
        due.append(paced.due())
    assert due == [False, False, True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([(0.0, 42, "train", 0), (10.0, 42, "train", 100)], (10.0, 20.0), id="since-the-first"),
        pytest.param([(5.0, 42, "train", 50), (10.0, 42, "train", 100)], (10.0, 20.0), id="resumed"),
        pytest.param([(0.0, 42, "train", 1)], None, id="one-step"),
        pytest.param([(0.0, 42, "train", 9), (9.0, 43, "train", 9)], None, id="another-seed"),
        pytest.param([(0.0, 42, "train", 9), (9.0, 42, "predict", 9)], None, id="another-stage"),
    ],
)
def test_speed_and_time_left(clock: Clock, steps: list[tuple[float, int, Any, int]], expected: Any) -> None:
    speed, told = pace.Speed(), None
    for clock.now, seed, stage, done in steps:
        told = speed.told(seed, Progress(stage=stage, done=done, total=300))
    assert told == expected


def test_a_stage_of_no_known_length_has_no_time_left() -> None:
    speed = pace.Speed()
    speed.told(42, Progress(stage="load"))
    assert speed.told(42, Progress(stage="load")) is None
