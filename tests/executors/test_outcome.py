"""Which of several failures on several machines is told of: the one that the others follow from."""

from __future__ import annotations

from typing import Any

import pytest

from ftcheck.errors import TrainingError
from ftcheck.executors.launched import Broken, Part
from ftcheck.executors.outcome import Outcome, cause
from ftcheck.executors.slot import Failed


def broken(message: str, at: float, *, kind: str = "", follows: bool = False) -> Broken:
    return Broken(failed=Failed(kind=kind, message=message, traceback="a trace"), at=at, follows=follows)


def first(**found: Any) -> Outcome:
    return Outcome(ranks=range(2), address="10.0.0.1", **found)


def second(**found: Any) -> Outcome:
    return Outcome(ranks=range(2, 4), address="10.0.0.2", **found)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        pytest.param(
            [first(broken={0: broken("ZeroDivisionError: 1", 8)}), second(broken={2: broken("KeyError: 2", 7)})],
            r"^process 2 of the 4 \(0 to 3\) that trained together on the node 10.0.0.2 failed: KeyError: 2\na trace$",
            id="what-was-raised-first",
        ),
        pytest.param(
            [
                first(broken={0: broken("RuntimeError: closed", 6, follows=True)}),
                second(broken={2: broken("KeyError: 2", 7)}, printed={2: "a word"}),
            ],
            "^process 2 .* failed: KeyError: 2; the last that it printed: a word\n",
            id="not-what-speaks-of-another-whatever-its-clock",
        ),
        pytest.param(
            [
                first(broken={0: broken("RuntimeError: closed", 6, follows=True)}, codes={1: -15}),
                second(lost=[3], codes={3: -9}, printed={3: "a word"}),
            ],
            r"^process 3 of the 4 .* on the node 10.0.0.2 is gone: killed by SIGKILL \(.*\); the last .*: a word$",
            id="who-is-gone-by-itself",
        ),
        pytest.param(
            [first(lost=[1], codes={1: -9}), second(broken={2: broken("the loss is nan", 9, kind="TrainingError")})],
            r"^the loss is nan\n",
            id="ours-before-all",
        ),
        pytest.param(
            [first(), second(launcher="no such address")],
            "^torch.distributed's launcher ended without a result; the last that it printed: no such address$",
            id="a-launcher",
        ),
    ],
)
def test_one_failure_is_told_of(outcomes: list[Outcome], expected: str) -> None:
    with pytest.raises(TrainingError, match=expected):
        raise cause(outcomes, 4)


def test_a_machine_that_says_nothing_is_counted() -> None:
    assert "of the 4 (0 to 3)" in str(cause([first(codes={1: 3})], 4))


def test_the_parts_of_a_training_have_all_ranks_once() -> None:
    parts = [Part(processes=2, node=node, nodes=3, endpoint="10.0.0.1:5000") for node in range(3)]
    assert [rank for part in parts for rank in part.ranks] == list(range(6))
    assert [part.meeting("/place")["rdzv_configs"]["rank"] for part in parts] == [0, 1, 2]
    assert {part.meeting("/place")["rdzv_endpoint"] for part in parts} == {"10.0.0.1:5000"}
