"""Trains with transformers' Trainer, with the traps closed that give wrong numbers silently.

- The loss is a sum over items divided by the items of *all* accumulated batches: the Trainer otherwise takes a model
  whose forward has `**kwargs` for one that does this itself, and multiplies the gradient.
- Evaluation during training is ours (`predict.run`), in the features' own order whatever the training's sampler, and
  leaves the random numbers alone, so that looking doesn't change the weights.
- A loss that isn't finite stops the training at once.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ftcheck import tasks
from ftcheck.errors import FtcheckError, TechniqueError, TrainingError, shown
from ftcheck.finetune import Job, OnProgress, Progress
from ftcheck.finetune.model import length_option
from ftcheck.finetune.predict import BATCH_SIZE, out_of_memory
from ftcheck.finetune.techniques import Technique, TrainerBase, user_code
from ftcheck.tasks import Task

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context, Loss, Optimized
    from ftcheck.tasks.features import EncodedRows

DEFAULTS: Mapping[str, Any] = {
    "report_to": "none",
    "logging_steps": 0.05,
    "per_device_eval_batch_size": BATCH_SIZE,
    "dataloader_pin_memory": False,
}
"""TrainingArguments fields whose defaults are ours: pinning pays off only for batches larger than token ids."""

TRACED_STEPS = 20
"""Steps whose losses are kept: two trainings that part from the start do so within them."""

Evaluate = Callable[[Any, int], dict[str, float]]
"""(model, global step) -> `loss` and the case's metrics on the tune split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a training took and said."""

    seconds: float
    samples_per_second: float
    log_history: tuple[dict[str, Any], ...]
    first_losses: tuple[float, ...]
    """Of the first TRACED_STEPS optimizer steps."""


def train(
    context: Context,
    techniques: Sequence[Technique],
    model: Any,
    features: EncodedRows | Any,
    *,
    evaluate: Evaluate | None,
    on_progress: OnProgress,
) -> Outcome:
    """Train `model` in place on `features`, which are a torch IterableDataset where rows are streamed; afterwards it is
    in evaluation mode, with the plain forward it came with.

    Raises TrainingError: arguments that the Trainer refuses, a loss that isn't finite, out of memory.
    """
    job, task = context.job, context.task
    multiple = 8 if job.device.startswith("cuda") and job.precision != "fp32" else None
    collator = task.collator(context.tokenizer, multiple)
    with tempfile.TemporaryDirectory(prefix="ftcheck-") as folder, _translated(job):
        for technique in techniques:
            outcome = technique.train(
                model, features, context, collator=collator, evaluate=evaluate, on_progress=on_progress
            )
            if outcome is not None:
                _refuse_broken(model)
                model.eval()
                return outcome
        base = next(filter(None, (technique.trainer() for technique in techniques)), TrainerBase())
        args = arguments(job, task, folder, techniques=techniques, context=context, base=base)
        if not job.case.data.streaming:
            _refuse_dropping_all(args, len(features))
        own_code = [path for technique in techniques for path in technique.own_code()]
        with user_code.explained(own_code):
            if base.inputs is None:
                given = {"model": model, "train_dataset": features, "data_collator": collator, "task": task}
            else:
                given = dict(base.inputs(model, context))
            made = (technique.optimizers(model, args, context) for technique in techniques)
            trainer = _trainer_class(base.kind, reads_rows=base.inputs is not None)(
                args=args,
                # Never asked for, but the Trainer wants to know that there is one.
                eval_dataset=given["train_dataset"] if evaluate is not None else None,
                optimizers=next((pair for pair in made if pair[0] is not None), (None, None)),
                techniques=techniques,
                context=context,
                score=None if evaluate is None else partial(evaluate, model),
                on_progress=on_progress,
                **given,
                **base.options,
            )
            _add_early_stopping(trainer, job)
            if job.tensorboard is not None:
                trainer.add_callback(_events(job.tensorboard))
            start = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - start
        # In bf16 and fp16 accelerate leaves its autocast wrapper on the model.
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        if base.finish is not None:
            base.finish(model)
    _refuse_broken(model)
    model.eval()
    history = tuple(_plain(entry) for entry in trainer.state.log_history)
    samples = next((e["train_samples_per_second"] for e in reversed(history) if "train_samples_per_second" in e), 0.0)
    return Outcome(
        seconds=seconds, samples_per_second=samples, log_history=history, first_losses=tuple(trainer.first_losses)
    )


def composed_loss(context: Context, model: Any, label_smoothing: float) -> Loss:
    """The task's loss, as the case's techniques change it."""

    def plain(output: Any, targets: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        return context.task.loss(output, targets, label_smoothing)

    loss: Loss = plain
    for technique in context.techniques:
        loss = technique.loss(loss, context, model)
    return loss


def arguments(
    job: Job,
    task: Task,
    folder: str,
    *,
    techniques: Sequence[Technique] = (),
    context: Context | None = None,
    base: TrainerBase | None = None,
) -> Any:
    """The TrainingArguments of a job. Raises whatever transformers raises for values it can't take."""
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
    if not given.get("load_best_model_at_end"):
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
        output_dir=folder,
        seed=job.seed,
        use_cpu=job.device == "cpu",
        bf16=job.precision == "bf16",
        fp16=job.precision == "fp16",
        disable_tqdm=True,
        logging_nan_inf_filter=False,
        save_only_model=True,
    )
    if made.device.type == "cuda":
        torch.cuda.set_device(made.device)
    return made


def _events(folder: str) -> Any:
    """The Trainer's callback for TensorBoard, which writes to `folder`."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(folder))


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


@cache
def _trainer_class(base: type | None, *, reads_rows: bool) -> Any:
    """The Trainer of this module, derived from `base`. A function, since transformers takes seconds to import.

    A `base` of the user's may compute the loss by itself: a mean over the batch's items, whatever is accumulated. One
    that reads rows by itself is only watched: batches, loss and what accumulates are its own.
    """
    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback
    from transformers.trainer_optimizer import is_optimizer_factory

    kind: Any = base or Trainer
    computes_loss = kind.compute_loss is not Trainer.compute_loss

    class Reporter(TrainerCallback):  # type: ignore[misc]
        """Tells where the training stands after each step."""

        def __init__(self, trainer: Any, on_progress: OnProgress) -> None:
            self.trainer = trainer
            self.on_progress = on_progress

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step <= TRACED_STEPS:
                self.trainer.first_losses.append(self.trainer.step_loss)
            self.on_progress(
                Progress(
                    stage="train",
                    done=state.global_step,
                    total=state.max_steps,
                    epoch=state.epoch,
                    loss=self.trainer.step_loss,
                    learning_rate=self.trainer._get_learning_rate(),
                )
            )

    class Watched(kind):  # type: ignore[misc]
        """Tells where it stands, stops at a loss that isn't finite, and looks at the tune rows as ftcheck does."""

        def __init__(
            self,
            *,
            techniques: Sequence[Technique],
            context: Context,
            score: Callable[[int], dict[str, float]] | None,
            on_progress: OnProgress,
            **kwargs: Any,
        ) -> None:
            _refuse_ignored(kind, techniques, computes_loss=computes_loss)
            super().__init__(**kwargs)
            self.techniques = techniques
            for technique in techniques:
                for callback in technique.callbacks(context, self.model):
                    self.add_callback(callback)
            self.score = score
            self.step_loss = 0.0
            self.first_losses: list[float] = []
            self.remove_callback(PrinterCallback)
            self.add_callback(Reporter(self, on_progress))

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
            self.step_loss = 0.0
            found: tuple[list[Any], Any] = super().get_batch_samples(epoch_iterator, num_batches, device)
            return found

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            """The Trainer's own; where a technique asks for it, with a group for each learning rate."""
            settings = [technique.optimized(self.model) for technique in self.techniques]
            if self.optimizer is None and any(settings):
                kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
                if is_optimizer_factory(kind) or {"params", "model", "optimizer_dict"} & set(options):
                    raise TechniqueError(
                        f"training.optim {self.args.optim.value} groups parameters in its own way, so that none can "
                        "have a learning rate or a weight decay of its own; leave it out"
                    )
                # What the Trainer takes from optimizers that make their own groups.
                self.optimizer_cls_and_kwargs = kind, {**options, "params": self._groups(settings)}
            return super().create_optimizer(*args, **kwargs)

        def _groups(self, settings: Sequence[Mapping[str, Optimized]]) -> list[dict[str, Any]]:
            """One group for all parameters of the same learning rate and weight decay. Factors are multiplied; of
            weight decays, a later technique's counts."""
            decayed = set(self.get_decay_parameter_names(self.model))
            groups: dict[tuple[float, float], list[Any]] = {}
            for name, parameter in self.model.named_parameters():
                if not parameter.requires_grad:
                    continue
                found = [of[name] for of in settings if name in of]
                factor = math.prod(one.factor for one in found)
                decay = self.args.weight_decay if name in decayed else 0.0
                for one in found:
                    decay = decay if one.weight_decay is None else one.weight_decay
                groups.setdefault((self.args.learning_rate * factor, decay), []).append(parameter)
            return [
                {"params": parameters, "lr": rate, "weight_decay": decay}
                for (rate, decay), parameters in groups.items()
            ]

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            loss = super().training_step(model, inputs, num_items_in_batch)
            value = float(loss)
            if not math.isfinite(value):
                epoch = f"{self.state.epoch:.2f}" if self.state.epoch else "0"
                raise TrainingError(
                    f"the loss is {value} at step {self.state.global_step + 1} of {self.state.max_steps} "
                    f"(epoch {epoch}): nothing of this training is kept; lower training.learning_rate or "
                    "max_grad_norm, or train in another precision"
                )
            self.step_loss += value
            return loss

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            """The weights for `load_best_model_at_end`, without the pickled arguments that the Trainer adds."""
            self.model.save_pretrained(output_dir)

        def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
            """Loss and metrics on the tune split, logged; draws no random numbers."""
            assert self.score is not None
            on_gpu = self.args.device.type == "cuda"
            with torch.random.fork_rng(devices=[self.args.device] if on_gpu else []):
                scores = self.score(self.state.global_step)
            found = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
            self.log(found)
            self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
            return found

    class OurTrainer(Watched):
        """See the module's docstring."""

        def __init__(self, *, task: Task, context: Context, **kwargs: Any) -> None:
            super().__init__(context=context, **kwargs)
            self.task = task
            names = (name for technique in self.techniques for name in technique.targets)
            self.targets = (*task.targets, *names)
            self.own_loss = composed_loss(context, self.model, self.args.label_smoothing_factor)
            self.loss_is_scaled_for_ga = True
            # The same said to versions that lack the attribute: there, a counted number of items decides.
            self.model_accepts_loss_kwargs = True

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
            """The batches of one optimizer step, and how many items they have together."""
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            return batches, sum(self.task.items(batch) for batch in batches)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """The batch's part of the mean loss over all items of the optimizer step."""
            given = dict(inputs)
            targets = {name: given.pop(name) for name in self.targets}
            items = self.task.items(targets) if num_items_in_batch is None else num_items_in_batch
            if computes_loss:
                mean = super().compute_loss(model, dict(inputs))
                return mean * (self.task.items(targets) / max(items, 1))
            output = self.task.forward(model, given, targets)
            loss = self.own_loss(output, targets, given) / max(items, 1)
            return (loss, output) if return_outputs else loss

    return Watched if reads_rows else OurTrainer


def _refuse_ignored(kind: Any, techniques: Sequence[Technique], *, computes_loss: bool) -> None:
    """Refuse a technique that a Trainer of the user's would leave without effect."""
    from transformers import Trainer

    for technique in techniques:
        if computes_loss and type(technique).loss is not Technique.loss:
            raise TechniqueError(
                f"{kind.__name__} computes the loss by itself, so that {technique.name} has no effect: leave one out"
            )
        if (
            kind.create_optimizer is not Trainer.create_optimizer
            and type(technique).optimized is not Technique.optimized
        ):
            raise TechniqueError(
                f"{kind.__name__} makes the optimizer by itself, so that {technique.name} has no effect: leave one out"
            )


def _add_early_stopping(trainer: Any, job: Job) -> None:
    from transformers import EarlyStoppingCallback

    stopping = job.case.early_stopping
    if stopping is not None:
        trainer.add_callback(
            EarlyStoppingCallback(
                early_stopping_patience=stopping.patience, early_stopping_threshold=stopping.threshold
            )
        )


def _refuse_dropping_all(args: Any, rows: int) -> None:
    """The Trainer would complain of something else, or with `max_steps` train nothing without a word."""
    if args.dataloader_drop_last and rows < args.train_batch_size:
        raise TrainingError(
            f"training.dataloader_drop_last drops all {rows:,} training rows: a batch is {args.train_batch_size:,} "
            "(per_device_train_batch_size)"
        )


def _refuse_broken(model: Any) -> None:
    """The last step may break weights after the last loss was seen."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise TrainingError(
                f"the training left weights that are no numbers ({name}): nothing of it is kept; lower "
                "training.learning_rate or max_grad_norm, or train in another precision"
            )


@contextmanager
def _translated(job: Job) -> Iterator[None]:
    """What the Trainer and its optimizers raise for a user's mistake, in one sentence."""
    try:
        yield
    except FtcheckError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        size = (job.case.training or {}).get("per_device_train_batch_size", 8)
        raise TrainingError(
            f"out of memory on {job.device}, training with per_device_train_batch_size {size}: halve it and double "
            "gradient_accumulation_steps (the result is the same), set activation_checkpointing: true, or lower "
            f"{length_option(job.case.task_options)}"
        ) from error
    except (ImportError, ValueError, TypeError, KeyError, AssertionError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise TrainingError(f"the Trainer refuses this training: {shown(text, 400)}") from error


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the log history as builtins; JSON has no NaN."""
    plain: dict[str, Any] = {}
    for name, value in entry.items():
        number = value.item() if hasattr(value, "item") else value
        plain[name] = str(number) if isinstance(number, float) and not math.isfinite(number) else number
    return plain
