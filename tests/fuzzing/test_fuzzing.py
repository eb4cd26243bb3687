"""Whatever stands in a suite file, a baseline, a results file or a manifest: only ftcheck's own errors come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck.errors import FtcheckError
from tests.fuzzing.mutations import mutated
from tests.fuzzing.targets import SEPARATOR, TARGETS
from tests.store.damage import BYTES

SEEDS = {name: target.seeds() for name, target in TARGETS.items()}


@pytest.mark.parametrize("name", TARGETS)
def test_the_documents_to_begin_with_are_read(name: str) -> None:
    """Else every mutation would fail at the same place."""
    for seed in SEEDS[name]:
        if name == "suites":
            TARGETS[name](seed)
        else:
            TARGETS[name].read(seed)


@pytest.mark.parametrize("name", TARGETS)
@given(seed=st.integers(0, 99), number=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_document_with_other_values_is_read_or_refused(name: str, seed: int, number: int) -> None:
    content = SEEDS[name][seed % len(SEEDS[name])]
    TARGETS[name](mutated(content, Random(number), text="yaml" if name == "suites" else "json"))


@pytest.mark.parametrize("name", TARGETS)
@given(seed=st.integers(0, 99), number=st.integers(0, 2**32 - 1), how=st.sampled_from(sorted(BYTES)))
@settings(max_examples=60, deadline=None)
def test_a_document_with_other_bytes_is_read_or_refused(name: str, seed: int, number: int, how: str) -> None:
    content = SEEDS[name][seed % len(SEEDS[name])]
    random = Random(number)
    TARGETS[name](BYTES[how](content, random.randrange(len(content)), random))


def edited(change: Callable[[Any], object]) -> bytes:
    """The whole baseline, changed and without its checksum."""
    document, separator, statistics = SEEDS["baselines"][1].partition(SEPARATOR)
    found = json.loads(document)
    del found["entries"]["cpu"]["checksum"]
    change(found["entries"]["cpu"])
    return json.dumps(found).encode() + separator + statistics


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(edited(lambda e: e["metrics"]["accuracy"].update(interval=[0.1])), id="half-an-interval"),
        pytest.param(edited(lambda e: e["metrics"]["accuracy"].update(value=10**400)), id="a-huge-value"),
        pytest.param(edited(lambda e: e["metrics"]["accuracy"].update(value="nan")), id="a-number-as-text"),
        pytest.param(edited(lambda e: e["power"]["accuracy"].update(provable=10**400)), id="a-huge-margin"),
        pytest.param(edited(lambda e: e["calibration"]["accuracy"].update(s2={})), id="noise-that-is-none"),
        pytest.param(edited(lambda e: e.update(seeds=[float("inf")])), id="an-infinite-seed"),
        pytest.param(edited(lambda e: e.update(examples=float("inf"))), id="infinitely-many-examples"),
        pytest.param(edited(lambda e: e.update(history=["abc"])), id="a-history-of-text"),
        pytest.param(edited(lambda e: e["accepted"].update(date=3)), id="a-date-that-is-a-number"),
        pytest.param(edited(lambda e: e["accepted"].update(commit=[])), id="a-commit-that-is-a-list"),
        pytest.param(edited(lambda e: e["keys"].pop("predict")), id="no-predict-keys"),
        pytest.param(edited(lambda e: e["components"].pop("train")), id="no-components"),
        pytest.param(edited(lambda e: e["components"].update(train=["a"])), id="components-that-are-a-list"),
        pytest.param(edited(lambda e: e["statistics"].update(file="..")), id="statistics-that-are-the-folder"),
    ],
)
def test_what_fuzzing_found_in_baselines_is_refused(content: bytes) -> None:
    with pytest.raises(FtcheckError):
        TARGETS["baselines"].read(content)


def altered(change: Callable[[Any], object]) -> bytes:
    """A results file, changed."""
    found = json.loads(SEEDS["results"][0])
    change(found["results"][0])
    return json.dumps(found).encode()


def test_a_seed_without_a_value_has_no_deviation() -> None:
    """Fuzzing found that the standard library's raises something odd."""
    TARGETS["results"].read(altered(lambda r: r["metrics"][0].update(per_seed=[0.5, None, 0.5])))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(altered(lambda r: r.update(verdict="good")), id="an-unknown-verdict"),
        pytest.param(altered(lambda r: r.update(error=None)), id="an-error-of-nothing"),
        pytest.param(altered(lambda r: r["metrics"][0].update(value="a")), id="a-value-of-text"),
        pytest.param(altered(lambda r: r["metrics"][0].update(scale=[])), id="an-unknown-scale"),
        pytest.param(altered(lambda r: r["metrics"][0].update(per_seed=[0.5])), id="fewer-values-than-seeds"),
        pytest.param(altered(lambda r: r["metrics"].clear()), id="gates-without-their-metrics"),
        pytest.param(altered(lambda r: r["runs"][0]["train"].update(seconds=[1])), id="seconds-that-are-a-list"),
        pytest.param(altered(lambda r: r["runs"][0]["log_history"][0].update(loss=10**400)), id="a-huge-loss"),
        pytest.param(altered(lambda r: r["breakdown"]["power"].update(now=[1, 1])), id="power-of-other-seeds"),
        pytest.param(altered(lambda r: r["breakdown"]["confusion"]["now"].pop()), id="half-a-matrix"),
    ],
)
def test_what_fuzzing_found_in_results_is_refused(content: bytes) -> None:
    with pytest.raises(FtcheckError):
        TARGETS["results"].read(content)
