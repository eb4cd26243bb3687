"""Which of two answers is likelier: counted as TRL counts, with margins in nats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Lookup, value

LOGPS = [[-4.0, -9.0], [-8.0, -6.0], [-5.0, -5.0], [-30.0, -20.0]]
TOKENS = [[2, 3], [4, 4], [1, 1], [30, 10]]
LOOKUP = Lookup(inputs=frozenset({"preference"}))


def score(name: str, predictions: Any = LOGPS, references: Any = TOKENS) -> float:
    return value(LOOKUP.build(name, Context()), predictions, references)


def test_accuracy_counts_rows_whose_chosen_answer_is_likelier() -> None:
    """As `(chosen_rewards > rejected_rewards).float().mean()` in TRL: equal ones are wrong."""
    found = np.array(LOGPS)
    assert score("preference_accuracy") == (found[:, 0] > found[:, 1]).mean() == 0.25
    assert score("preference_accuracy[per_token]") == 0.5


def test_margins_are_means_in_nats() -> None:
    assert score("preference_margin") == pytest.approx((5 - 2 + 0 - 10) / 4)
    assert score("preference_margin[per_token]") == pytest.approx((1 - 0.5 + 0 + 1) / 4)


def test_rewards_are_of_another_input() -> None:
    lookup = Lookup(inputs=frozenset({"preference", "reward"}))
    assert value(lookup.build("reward_accuracy", Context()), LOGPS, TOKENS) == 0.25
    assert "this task gives preferences" in str(LOOKUP.check("reward_accuracy"))
    assert LOOKUP.check("preference_accuracy[tokens]") is not None


def test_nothing_and_what_is_no_number_are_undefined() -> None:
    assert math.isnan(score("preference_accuracy", [], []))
    assert math.isnan(score("preference_accuracy", [[math.nan, -1.0]], [[1, 1]]))
    with pytest.raises(MetricError, match="example 0 needs two log-probabilities"):
        score("preference_accuracy", [[1.0]], [[1, 1]])
    with pytest.raises(MetricError, match="1 predictions for 2 references"):
        score("preference_accuracy", [[1.0, 2.0]], [[1, 1], [1, 1]])
