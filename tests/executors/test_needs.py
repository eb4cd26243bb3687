"""What a run needs: its suite's word before what was measured, what was measured before what is estimated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.devices import Device
from ftcheck.executors import Work, needs
from ftcheck.executors.leases import Need
from ftcheck.finetune import Job
from ftcheck.keys import Key, hub
from ftcheck.spec import Case, Checkpoint, Data
from ftcheck.spec.case import Resources
from tests import tiny

GB = 10**9
GPU = Device(kind="cuda", memory=80 * GB)
CPU = Device(kind="cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("bert"))


def work(checkpoint: Path | str, *, peak: int | None = None, device: str = "cuda:0", **fields: Any) -> Work:
    case = Case(
        id="a",
        suite=Path("/suite"),
        line=1,
        checkpoint=Checkpoint(path=str(checkpoint), local=isinstance(checkpoint, Path)),
        task=fields.pop("task", "text-classification"),
        data=Data(kind="reader", path="csv"),
        **fields,
    )
    key = Key.of({"a": 1})
    job = Job(case=case, seed=1, device=device, precision="fp32", checkpoint_revision="0" * 40)
    return Work(job=job, train=key, predict=key, refuse_changed=lambda: None, peak=peak)


@pytest.mark.parametrize(
    ("asked", "device", "peak", "expected"),
    [
        pytest.param(
            Resources(memory=8 * GB), GPU, GB, Need(memory=8 * GB, cores=3, said=True), id="memory-before-a-measure"
        ),
        pytest.param(Resources(gpus=0.25), GPU, None, Need(part=0.25, cores=3), id="a-part-of-unknown-memory"),
        pytest.param(
            Resources(gpus=0.25), GPU, 4 * GB, Need(memory=5_400_000_000, part=0.25, cores=3), id="a-part-measured"
        ),
        pytest.param(
            Resources(gpus=0.25), GPU, 40 * GB, Need(memory=20 * GB, part=0.25, cores=3), id="a-part-is-the-users-word"
        ),
        pytest.param(Resources(cpus=2), GPU, None, Need(part=1.0, cores=2, said_cores=True), id="unknown-is-alone"),
        pytest.param(Resources(), CPU, None, Need(cores=3), id="unknown-on-a-cpu"),
        pytest.param(Resources(), GPU, 4 * GB, Need(memory=5_400_000_000, cores=3), id="measured"),
        pytest.param(Resources(), CPU, 4 * GB, Need(memory=4_600_000_000, cores=3), id="measured-on-a-cpu"),
        pytest.param(
            Resources(gpus=4, memory=GB, cpus=2),
            GPU,
            None,
            Need(memory=GB, part=1.0, devices=4, cores=8, said=True, said_cores=True),
            id="several-devices",
        ),
        pytest.param(
            Resources(gpus=2, memory=GB), CPU, None, Need(memory=2 * GB, cores=6, said=True), id="several-on-a-cpu"
        ),
        pytest.param(Resources(gpus=0.25), CPU, None, Need(cores=3), id="no-part-of-a-cpu"),
    ],
)
def test_the_order_of_sources(
    tmp_path: Path, asked: Resources, device: Device, peak: int | None, expected: Need
) -> None:
    """Of a checkpoint that can't be looked into."""
    assert needs.of(work(tmp_path, resources=asked, peak=peak), device, threads=3) == expected


def test_an_estimate_where_nothing_is_said_or_measured(checkpoint: Path) -> None:
    """44,866 parameters, 2 layers 32 wide: the context counts most."""
    small = needs.of(work(checkpoint), GPU, threads=1)
    assert needs.CONTEXT < small.memory < needs.CONTEXT + 50e6
    assert not small.said
    assert small.part == 0


@pytest.mark.parametrize(
    ("fields", "larger"),
    [
        pytest.param({"training": {"per_device_train_batch_size": 512}}, True, id="batch"),
        pytest.param({"training": {"per_device_eval_batch_size": 4096}}, True, id="batch-of-predicting"),
        pytest.param({"task_options": {"max_length": 8}}, False, id="length"),
        pytest.param({"task": "fill-mask"}, True, id="logits-of-every-token"),
        pytest.param({"task": "multiple-choice"}, True, id="several-texts-a-row"),
        pytest.param(
            {"training": {"per_device_train_batch_size": 512, "gradient_checkpointing": True}}, True, id="checkpointing"
        ),
    ],
)
def test_what_makes_an_estimate_larger(checkpoint: Path, fields: dict[str, Any], larger: bool) -> None:
    training: dict[str, Any] = {"training": {"per_device_eval_batch_size": 8}}
    usual = needs.of(work(checkpoint, **training), GPU, threads=1).memory
    found = needs.of(work(checkpoint, **(training | fields)), GPU, threads=1).memory
    assert (found > usual) is larger


def test_a_checkpoint_that_is_only_judged_takes_no_gradients(checkpoint: Path) -> None:
    batches = {"per_device_train_batch_size": 64}
    trained = needs.of(work(checkpoint, training=batches), GPU, threads=1).memory
    assert needs.of(work(checkpoint, training=None), GPU, threads=1).memory < trained


def test_a_measure_corrects_what_predicting_is_thought_to_take_too(checkpoint: Path) -> None:
    """Predicting is thought to take several times what training does, and was not measured."""
    batches = {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1024}
    measured = needs.of(work(checkpoint, training=batches, peak=GB), GPU, threads=1).memory
    assert measured > 5 * GB


def test_an_adapter_has_no_gradients_of_what_is_under_it(tmp_path: Path) -> None:
    wide = tiny.bert(tmp_path, hidden_size=256, intermediate_size=1024)
    short: dict[str, Any] = {"task_options": {"max_length": 4}, "training": {"per_device_eval_batch_size": 1}}
    whole = needs.of(work(wide, **short), GPU, threads=1).memory
    adapted = needs.of(work(wide, **short, techniques={"peft": {"method": "lora", "r": 4}}), GPU, threads=1).memory
    assert adapted < whole - 10e6


def test_a_checkpoint_of_the_hub_is_looked_into_once_it_is_here(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert needs.of(work("owner/name"), GPU, threads=1).part == 1.0
    place = hub.snapshot("owner/name", "0" * 40)
    place.parent.mkdir(parents=True)
    place.symlink_to(checkpoint)
    assert needs.of(work("owner/name"), GPU, threads=1) == needs.of(work(checkpoint), GPU, threads=1)


def test_a_run_that_starts_from_another_is_as_large_as_that(checkpoint: Path, tmp_path: Path) -> None:
    child = work(tmp_path / "nothing")
    child = replace(child, job=replace(child.job, parents={"init_from": checkpoint}))
    assert needs.of(child, GPU, threads=1) == needs.of(work(checkpoint), GPU, threads=1)


@pytest.mark.parametrize(
    ("said", "on_gpu", "expected"),
    [
        pytest.param(None, False, 8, id="all-cores"),
        pytest.param(None, True, 1, id="one-feeds-a-gpu"),
        pytest.param("3", False, 3, id="said"),
        pytest.param("64", True, 8, id="no-more-than-there-are"),
        pytest.param("many", False, 8, id="no-number"),
    ],
)
def test_threads_of_this_process(
    monkeypatch: pytest.MonkeyPatch, said: str | None, on_gpu: bool, expected: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert needs.own_threads(8, on_gpu=on_gpu) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"seed": 2}, True, id="seed"),
        pytest.param({"training": {"learning_rate": 2.0, "optim": "sgd"}}, True, id="learning-rate"),
        pytest.param({"training": {"learning_rate": 1.0, "optim": "adafactor"}}, False, id="optimizer"),
        pytest.param({"checkpoint": {"files": {}}}, False, id="checkpoint"),
        pytest.param({"device_type": "cpu"}, False, id="device"),
        pytest.param({"task": {"options": {"max_length": 9}}}, False, id="length"),
    ],
)
def test_which_trainings_take_the_same(changes: dict[str, Any], expected: bool) -> None:
    one = {
        "seed": 1,
        "training": {"learning_rate": 1.0, "optim": "sgd"},
        "checkpoint": {"files": {"a": "b"}},
        "device_type": "cuda",
        "task": {"options": {}},
    }
    assert needs.alike(one, {**one, **changes}) is expected
