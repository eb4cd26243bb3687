"""What a suite is told, before anything is loaded, of what doesn't go with a training in several processes."""

from __future__ import annotations

from typing import Any

import pytest

from ftcheck.spec import processes
from tests.spec.catalogue import errors, one

CASE = "cases: {a: {checkpoint: o/m, task: tagging, data: o/d, "


def test_what_goes_with_several_processes() -> None:
    training = "{learning_rate: 0.1, gradient_accumulation_steps: 2, average_tokens_across_devices: true}"
    assert one(f"resources: {{gpus: 2}}, training: {training}").resources.processes == 2


@pytest.mark.parametrize(
    "training",
    [
        "fsdp: true",
        "fsdp: true, fsdp_config: {reshard_after_forward: false, cpu_offload: true}",
        "deepspeed: {zero_optimization: {stage: 3, offload_optimizer: {device: cpu}}}",
    ],
)
def test_what_spreads_a_model_goes_with_several_processes(training: str) -> None:
    assert one(f"resources: {{gpus: 4}}, training: {{{training}}}").resources.processes == 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, 1, 1)),
        ({"fsdp": True}, (4, 4, 4)),
        ({"deepspeed": {"zero_optimization": {"stage": 1}}}, (1, 1, 4)),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, (1, 4, 4)),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, (4, 4, 4)),
    ],
)
def test_what_is_spread(given: dict[str, Any], expected: tuple[int, int, int]) -> None:
    assert processes.spread_over(given, 4) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(
            "training: {fsdp: true}",
            "training.fsdp: spreads a model over several processes: say how many with resources.gpus, or leave it out",
            id="fsdp-alone",
        ),
        pytest.param(
            "training: {fsdp: full_shard}, resources: {gpus: 2}",
            "training.fsdp: expected true or false or null, got 'full_shard' (text)",
            id="fsdp-as-it-was-written",
        ),
        pytest.param(
            "training: {fsdp_config: {reshard_after_forward: false}}, resources: {gpus: 2}",
            "training.fsdp_config: has no effect without fsdp: true",
            id="fsdp_config-alone",
        ),
        pytest.param(
            "training: {fsdp: true, fsdp_config: {xla: true}}, resources: {gpus: 2}",
            "training.fsdp_config: xla is none of activation_checkpointing, auto_wrap_policy, cpu_offload, "
            "min_num_params, reshard_after_forward, transformer_layer_cls_to_wrap, version; leave it out",
            id="fsdp_config-unknown",
        ),
        pytest.param(
            "training: {fsdp: true, fsdp_config: {version: 1}}, resources: {gpus: 2}",
            "training.fsdp_config: version: only 2 is supported (torch's fully_shard); leave it out",
            id="fsdp-1",
        ),
        pytest.param(
            "training: {fsdp: true, deepspeed: {zero_optimization: {stage: 2}}}, resources: {gpus: 2}",
            "training.deepspeed: can't be combined with fsdp; leave one out",
            id="fsdp-and-deepspeed",
        ),
        pytest.param(
            "training: {deepspeed: {gradient_clipping: 1.0, zero_optimization: {stage: 2}}}, resources: {gpus: 2}",
            "training.deepspeed: gradient_clipping is none of communication_data_type, gradient_predivide_factor, "
            "prescale_gradients, zero_allow_untested_optimizer, zero_force_ds_cpu_optimizer, zero_optimization; batch "
            "sizes, optimizer, schedule, clipping and precision are what the case says elsewhere",
            id="deepspeed-said-elsewhere",
        ),
        pytest.param(
            "training: {deepspeed: {prescale_gradients: true}}, resources: {gpus: 2}",
            "training.deepspeed: zero_optimization: {stage: 1, 2 or 3} is missing: say what is spread",
            id="deepspeed-of-nothing",
        ),
        pytest.param(
            "training: {deepspeed: {zero_optimization: {stage: 3, offload_param: {device: nvme, nvme_path: /x}}}}, "
            "resources: {gpus: 2}",
            "training.deepspeed: zero_optimization.offload_param.device: expected cpu or none; nothing is put on disks",
            id="deepspeed-on-disks",
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


@pytest.mark.parametrize("wrong", ["fsdp: 3", "fsdp: true, fsdp_config: x", "deepspeed: 3", "accelerator_config: 3"])
def test_what_is_wrong_by_itself_is_all_that_is_said(wrong: str) -> None:
    (message,) = errors(f"{CASE}training: {{{wrong}}}, resources: {{gpus: 2}}}}}}")
    assert ": expected " in message
