"""What the Trainer is told: the suite's TrainingArguments fields, ours, and those of the job's device and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftcheck import tasks
from ftcheck.finetune import Job, resuming, spreading, together
from ftcheck.finetune.predict import BATCH_SIZE
from ftcheck.finetune.techniques import Technique, TrainerBase
from ftcheck.tasks import Task

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context

DEFAULTS: Mapping[str, Any] = {
    "report_to": "none",
    "logging_steps": 0.05,
    "per_device_eval_batch_size": BATCH_SIZE,
    "dataloader_pin_memory": False,
}
"""TrainingArguments fields whose defaults are ours: pinning pays off only for batches larger than token ids."""


def training_arguments(
    job: Job,
    task: Task,
    folder: str,
    *,
    techniques: Sequence[Technique] = (),
    context: Context | None = None,
    base: TrainerBase | None = None,
    goes_on: resuming.Resuming | None = None,
) -> Any:
    """The TrainingArguments of a job, whose checkpoints are written to `folder`, or so that it can go on from them.
    Raises whatever transformers raises for values it can't take."""
    import torch
    from transformers import TrainingArguments

    base = base or TrainerBase()
    kind: Any = base.arguments or TrainingArguments

    class Arguments(kind):  # type: ignore[misc]
        """On the job's one device, where the Trainer would take cuda:0, or all GPUs at once."""

        @property
        def device(self) -> Any:
            assert super().device is not None  # sets up accelerate's state on first use
            return torch.device(job.device)

        @property
        def n_gpu(self) -> int:
            return 0 if job.device == "cpu" else 1

    given = {**DEFAULTS, **task.training_defaults, **(job.case.training or {})}
    given["report_to"] = _trackers(given["report_to"], job)
    for technique in techniques:
        assert context is not None
        given |= technique.arguments(given, context)
    given |= spreading.arguments(given)
    given["save_only_model"] = True
    given["save_on_each_node"] = together.nodes() > 1
    if goes_on is not None:
        given |= goes_on.arguments
    elif not given.get("load_best_model_at_end"):
        given["save_strategy"] = "no"
    if job.case.data.streaming:
        # Else accelerate would put batches together anew, which takes nothing but tensors.
        given["accelerator_config"] = {"dispatch_batches": False, **(given.get("accelerator_config") or {})}
    best = given.get("metric_for_best_model")
    if best is not None and "greater_is_better" not in given:
        given["greater_is_better"] = best != "eval_loss" and _greater_is_better(best.removeprefix("eval_"), job)
    if base.inputs is None:
        given["remove_unused_columns"] = False
    made = Arguments(
        **given,
        **base.fields,
        output_dir=folder if goes_on is None else str(goes_on.folder),
        seed=job.seed,
        use_cpu=job.device == "cpu",
        bf16=job.precision == "bf16",
        fp16=job.precision == "fp16",
        disable_tqdm=True,
        logging_nan_inf_filter=False,
    )
    if made.device.type == "cuda":
        torch.cuda.set_device(made.device)
    for found in (made.world_size, together.size()):
        together.check(job.case.resources.processes, found)
    return made


def _trackers(asked: str | Sequence[str] | None, job: Job) -> list[str]:
    """`report_to` as it is handed on: TensorBoard has its folder from --ft-tensorboard where that is given."""
    names = [asked] if isinstance(asked, str) else list(asked or ())
    if job.tensorboard is None:
        return names
    from transformers.integrations import get_available_reporting_integrations

    names = get_available_reporting_integrations() if "all" in names else names
    return [name for name in names if name != "tensorboard"]


def _greater_is_better(name: str, job: Job) -> bool:
    return name != "loss" and tasks.lookup(job.case).describe(name).greater_is_better
