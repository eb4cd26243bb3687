"""What a suite is told, before anything is loaded, of what doesn't go with a training in several processes."""

from __future__ import annotations

import pytest

from tests.spec.catalogue import errors, one

CASE = "cases: {a: {checkpoint: o/m, task: tagging, data: o/d, "


def test_what_goes_with_several_processes() -> None:
    training = "{learning_rate: 0.1, gradient_accumulation_steps: 2, average_tokens_across_devices: true}"
    assert one(f"resources: {{gpus: 2}}, training: {training}").resources.processes == 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(
            "training: {fsdp: full_shard}",
            "training.fsdp: is not supported: with resources.gpus each process holds the whole model (DDP); leave it "
            "out",
            id="fsdp",
        ),
        pytest.param(
            "training: {deepspeed: {zero_optimization: {stage: 2}}}, resources: {gpus: 2}",
            "training.deepspeed: is not supported: with resources.gpus each process holds the whole model (DDP); leave "
            "it out",
            id="deepspeed",
        ),
        pytest.param(
            "training: false, resources: {gpus: 2}",
            "resources.gpus: with `training: false` nothing is trained, and one process predicts; leave it out",
            id="nothing-to-train",
        ),
        pytest.param(
            "on_oom: halve_batch, resources: {gpus: 2}",
            "on_oom: with resources.gpus: 2, one process may run out of memory alone; leave it out",
            id="halve_batch",
        ),
        pytest.param(
            "training: {average_tokens_across_devices: false}, resources: {gpus: 2}",
            "training.average_tokens_across_devices: with resources.gpus: 2, the loss is always the mean over the "
            "items of all processes; leave it out",
            id="average_tokens",
        ),
        pytest.param(
            "training: {train_sampling_strategy: batch_rebalance}, resources: {gpus: 2}",
            "training.train_sampling_strategy: with resources.gpus: 2, batch_rebalance is not known to be right: "
            "leave it out",
            id="batch_rebalance",
        ),
        pytest.param(
            "training: {accelerator_config: {even_batches: false}}, resources: {gpus: 2}",
            "training.accelerator_config: with resources.gpus: 2, each process takes batches of its own, of "
            "per_device_train_batch_size rows; leave it out",
            id="accelerator_config",
        ),
    ],
)
def test_what_does_not_go_with_them(said: str, expected: str) -> None:
    (error,) = errors(f"{CASE}{said}}}}}")
    assert error == f"1 cases.a.{expected}"
