"""Damage to any file that is read back: a session comes to the same numbers, or says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ftcheck.store import STAGES
from tests.store.damage import (
    BYTES,
    POSITIONS,
    Mutation,
    World,
    built,
    kinds,
    made_up_training,
    mutations,
    outcome,
)

COUNT, SEED = 63, 0
"""Each kind three times. `benchmarks/damaged_entries.py` does a thousand."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with made_up_training():
        yield built(tmp_path_factory.mktemp("damage") / "world")


def test_every_kind_of_file_is_there(world: World) -> None:
    found = kinds(world)
    stages = {kind.partition(":")[0] for kind in found}
    assert stages >= {*STAGES, "memo", "cases", "remote", "baseline", "certificate"} - {"searches"}
    assert {kind.rpartition("/")[2] for kind in found if "model/" in kind} == {
        "config.json",
        "ftcheck.json",
        "model.safetensors",
        "tokenizer.json",
    }


def test_damage_is_made_good_or_told(world: World, tmp_path: Path) -> None:
    wrong = []
    for number, mutation in enumerate(mutations(world, COUNT, SEED)):
        found = outcome(world, tmp_path / "damaged", mutation, SEED + number)
        if not found.good:
            wrong.append(f"{found.what}: {mutation}: {found.message}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("how", BYTES)
@pytest.mark.parametrize("where", POSITIONS)
def test_the_answers_are_never_those_of_damaged_weights(world: World, tmp_path: Path, how: str, where: str) -> None:
    file = kinds(world)["runs: model/model.safetensors"][0]
    found = outcome(world, tmp_path / "damaged", Mutation("runs: model/model.safetensors", how, where, file), SEED)
    assert found.what in ("the same numbers", "unchanged"), found.message


@pytest.mark.parametrize("kind", ["remote: manifest.json", "remote: a file by its hash"])
def test_a_device_behind_a_link_in_a_remote_is_not_read_without_end(world: World, tmp_path: Path, kind: str) -> None:
    mutation = Mutation(kind, "a link to /dev/zero", "", kinds(world)[kind][0])
    assert outcome(world, tmp_path / "damaged", mutation, SEED).what == "the same numbers"
