"""Trains with transformers' Trainer, with the traps closed that give wrong numbers silently.

- The loss is a sum over items divided by the items of *all* accumulated batches: the Trainer otherwise takes a model
  whose forward has `**kwargs` for one that does this itself, and multiplies the gradient.
- Evaluation during training is ours (`predict.run`), in the features' own order whatever the training's sampler, and
  leaves the random numbers alone, so that looking doesn't change the weights.
- A loss that isn't finite stops the training: at once, or on an accelerator when losses are read (`losses.py`).
- Where several processes train together, the items are those of all of them, the first one evaluates for all, and each
  draws random numbers of its own. Where the model is spread over them, all evaluate the same together, and the first
  one has the whole model in the end.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ftcheck.errors import FtcheckError, TechniqueError, TrainingError, shown
from ftcheck.finetune import Job, OnProgress, Progress, memory, parts, resuming, spreading, together, workers
from ftcheck.finetune.arguments import training_arguments
from ftcheck.finetune.losses import Losses, Unread
from ftcheck.finetune.techniques import Technique, TrainerBase, user_code
from ftcheck.finetune.techniques.libraries import HALVES_NOTHING
from ftcheck.finetune.work import Tokens
from ftcheck.tasks import Task

if TYPE_CHECKING:
    from pathlib import Path

    from ftcheck.finetune.techniques import Context, Loss, Optimized
    from ftcheck.tasks.features import EncodedRows

Evaluate = Callable[[Any, int], dict[str, float]]
"""(model, global step) -> `loss` and the case's metrics on the tune split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a training made, took and said."""

    model: Any
    """The model that was given; where it was spread over several processes, another one like it."""
    seconds: float
    samples_per_second: float
    log_history: tuple[dict[str, Any], ...]
    first_losses: tuple[float, ...]
    """Of the first optimizer steps, as many as `losses.TRACED_STEPS`."""
    tokens: Tokens | None = None
    """What the model read; None where nobody counted."""


def train(
    context: Context,
    techniques: Sequence[Technique],
    model: Any,
    features: EncodedRows | Any,
    *,
    evaluate: Evaluate | None,
    on_progress: OnProgress,
    unfinished: Path | None = None,
) -> Outcome:
    """Train `model` in place on `features`, which are a torch IterableDataset where rows are streamed; afterwards it is
    in evaluation mode, with the plain forward it came with. One that was spread over processes (`spreading`) is not
    trained in place: what it became is the outcome's, in the first process. In `unfinished` lies what a training that
    was broken off left, to be gone on with.

    Raises TrainingError: arguments that the Trainer refuses, a loss that isn't finite, out of memory.
    """
    job, task = context.job, context.task
    multiple = 8 if job.device.startswith("cuda") and job.precision != "fp32" else None
    collator = task.collator(context.tokenizer, multiple)
    with _folder() as folder, _translated(job), ExitStack() as surroundings:
        for technique in techniques:
            surroundings.enter_context(technique.during(context))
        for technique in techniques:
            outcome = technique.train(
                model, features, context, collator=collator, evaluate=evaluate, on_progress=on_progress
            )
            if outcome is not None:
                _refuse_broken(model)
                model.eval()
                return outcome
        for technique in techniques:
            collator = technique.collator(collator, model)
        base = next(filter(None, (technique.trainer() for technique in techniques)), TrainerBase())
        if base.inputs is not None and job.case.on_oom != "fail":
            raise TechniqueError(f"the trainer {HALVES_NOTHING}")
        goes_on = resuming.resuming(unfinished, context, techniques, collator, features)
        args = training_arguments(job, task, folder, techniques=techniques, context=context, base=base, goes_on=goes_on)
        if not job.case.data.streaming:
            _refuse_dropping_all(args, len(features))
        own_code = [path for technique in techniques for path in technique.own_code()]
        with user_code.explained(own_code):
            if base.inputs is None:
                given = {"model": model, "train_dataset": features, "data_collator": collator, "task": task}
            else:
                given = dict(base.inputs(model, context))
            made = (technique.optimizers(model, args, context) for technique in techniques)
            kind = _trainer_class(base.kind, reads_rows=base.inputs is not None)
            whole = spreading.Whole(model) if spreading.asked(job) else None
            if goes_on is not None:
                kind = partial(resuming.trainer_class(kind), resuming=goes_on)
            trainer = kind(
                args=args,
                # Never asked for, but the Trainer wants to know that there is one.
                eval_dataset=given["train_dataset"] if evaluate is not None else None,
                optimizers=next((pair for pair in made if pair[0] is not None), (None, None)),
                techniques=techniques,
                context=context,
                score=None if evaluate is None else partial(evaluate, model),
                on_progress=on_progress,
                whole=whole,
                **given,
                **base.options,
            )
            _add_early_stopping(trainer, job)
            if job.tensorboard is not None and together.is_first():
                trainer.add_callback(_events(job.tensorboard))
            start = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - start + (goes_on.seconds if goes_on is not None else 0.0)
        model = _finished(model, trainer, whole, base)
    history = tuple(_plain(entry) for entry in trainer.state.log_history)
    samples = next((e["train_samples_per_second"] for e in reversed(history) if "train_samples_per_second" in e), 0.0)
    return Outcome(
        model=model,
        seconds=seconds,
        samples_per_second=samples,
        log_history=history,
        first_losses=tuple(trainer.losses.first),
        tokens=getattr(trainer, "tokens", None),
    )


def _finished(model: Any, trainer: Any, whole: spreading.Whole | None, base: TrainerBase) -> Any:
    """The model that was trained, in evaluation mode, without what trained it. Raises TrainingError."""
    if whole is not None:
        model = whole.filled(trainer)
    else:  # in bf16 and fp16 accelerate leaves its autocast wrapper on it
        trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if base.finish is not None:
        base.finish(model)
    if together.is_first():
        _refuse_broken(model)
    return model.eval()


@contextmanager
def _folder() -> Iterator[str]:
    """A temporary folder, the same one for all processes of a machine: what the first one saves, the others load."""
    with ExitStack() as stack:
        yield together.agreed_here(lambda: stack.enter_context(tempfile.TemporaryDirectory(prefix="ftcheck-")))
        together.wait()


def composed_loss(context: Context, model: Any, label_smoothing: float) -> Loss:
    """The task's loss, as the case's techniques change it."""

    def plain(output: Any, targets: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        return context.task.loss(output, targets, label_smoothing)

    loss: Loss = plain
    for technique in context.techniques:
        loss = technique.loss(loss, context, model)
    return loss


def _events(folder: str) -> Any:
    """The Trainer's callback for TensorBoard, which writes to `folder`."""
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(folder))


@cache
def _trainer_class(base: type | None, *, reads_rows: bool) -> Any:
    """The Trainer of this module, derived from `base`. A function, since transformers takes seconds to import.

    A `base` of the user's may compute the loss by itself: a mean over the batch's items, whatever is accumulated. One
    that reads rows by itself is only watched: batches, loss and what accumulates are its own.
    """
    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback, set_seed
    from transformers.trainer_optimizer import is_optimizer_factory

    kind: Any = base or Trainer
    computes_loss = kind.compute_loss is not Trainer.compute_loss

    class Reporter(TrainerCallback):  # type: ignore[misc]
        """Tells where the training stands after each step."""

        def __init__(self, trainer: Any, on_progress: OnProgress) -> None:
            self.trainer = trainer
            self.on_progress = on_progress

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not together.is_first():  # the order of rows, which is the same for all, is settled by now
                set_seed(together.own_seed(args.seed))

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            wanted = control.should_log or control.should_evaluate or control.should_save
            self.trainer.losses.step_ended(wanted=wanted or control.should_training_stop)
            self.on_progress(
                Progress(
                    stage="train",
                    done=state.global_step,
                    total=state.max_steps,
                    epoch=state.epoch,
                    loss=self.trainer.losses.last,
                    learning_rate=self.trainer._get_learning_rate(),
                )
            )

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.trainer.losses.read()

    class Watched(kind):  # type: ignore[misc]
        """Tells where it stands, stops at a loss that isn't finite, and looks at the tune rows as ftcheck does."""

        def __init__(
            self,
            *,
            techniques: Sequence[Technique],
            context: Context,
            score: Callable[[int], dict[str, float]] | None,
            on_progress: OnProgress,
            whole: spreading.Whole | None,
            **kwargs: Any,
        ) -> None:
            _refuse_ignored(kind, techniques, computes_loss=computes_loss)
            self.whole = whole
            super().__init__(**kwargs)
            self.techniques = techniques
            for technique in techniques:
                for callback in technique.callbacks(context, self.model):
                    self.add_callback(callback)
            self.score = score
            self.losses = Losses(waits=self.args.device.type != "cpu", refuse=self._not_finite)
            self.remove_callback(PrinterCallback)
            self.add_callback(Reporter(self, on_progress))

        def create_accelerator_and_postprocess(self) -> None:
            if self.whole is None:
                super().create_accelerator_and_postprocess()
                return
            # The Trainer refuses to load the best of checkpoints that are the model alone; `whole` does that.
            loads, self.args.load_best_model_at_end = self.args.load_best_model_at_end, False
            super().create_accelerator_and_postprocess()
            self.args.load_best_model_at_end = loads
            spreading.prepare(self)

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
            self.losses.add(self.state.global_step + 1, self.state.epoch or 0.0, loss)
            return loss

        def _not_finite(self, loss: float, where: Unread, before: float | None) -> TrainingError:
            return _not_finite(loss, where, before, self)

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            """The weights for `load_best_model_at_end`, without the pickled arguments that the Trainer adds."""
            if self.whole is not None:
                self.whole.keep(self, output_dir)
            elif together.is_first_here():
                self.model.save_pretrained(output_dir)

        def _load_best_model(self) -> None:
            if self.whole is None:
                super()._load_best_model()

        def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
            """Loss and metrics on the tune split, logged; draws no random numbers."""
            assert self.score is not None
            on_gpu = self.args.device.type == "cuda"
            with torch.random.fork_rng(devices=[self.args.device] if on_gpu else []):
                if spreading.is_spread(self.model):
                    scores = self.score(self.state.global_step)
                    scores = together.agreed(lambda: scores)
                else:
                    scores = together.agreed(partial(self.score, self.state.global_step))
            found = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
            self.log(found)
            self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
            return found

    class OurTrainer(Watched):
        """See the module's docstring."""

        def __init__(self, *, task: Task, context: Context, **kwargs: Any) -> None:
            super().__init__(context=context, **kwargs)
            self.task = task
            self.tokens = Tokens()
            names = (name for technique in self.techniques for name in technique.targets)
            self.targets = (*task.targets, *names)
            self.own_loss = composed_loss(context, self.model, self.args.label_smoothing_factor)
            self.loss_is_scaled_for_ga = True
            # The same said to versions that lack the attribute: there, a counted number of items decides.
            self.model_accepts_loss_kwargs = True

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
            """The batches of one optimizer step, and how many items they have together, in all processes."""
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            items = sum(self.task.items(part) for batch in batches for part in parts.of(batch))
            return batches, together.total(items)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            losses = []
            for part in parts.of(inputs):
                self.tokens.count(part)
                losses.append(super().training_step(model, part, num_items_in_batch))
            return sum(losses[1:], losses[0])

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            """A technique's, or the Trainer's own; one that would draw from numbers that each process has of its own
            gets some that all have."""
            features = self.train_dataset if train_dataset is None else train_dataset
            size = self.args.train_batch_size * self.args.gradient_accumulation_steps * together.size()
            made = (technique.sampler(features, size) for technique in self.techniques)
            sampler = next((one for one in made if one is not None), None)
            if sampler is None:
                sampler = super()._get_train_sampler(train_dataset)
            if together.size() > 1 and getattr(sampler, "generator", self) is None:
                sampler.generator = torch.Generator().manual_seed(self.args.seed)
            return sampler

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """The batch's part of the mean loss over all items of the optimizer step; times the number of processes,
            over which gradients and logged losses are averaged."""
            given = dict(inputs)
            targets = {name: given.pop(name) for name in self.targets}
            items = self.task.items(targets) if num_items_in_batch is None else num_items_in_batch
            items = _at_least_one(items)
            if computes_loss:
                mean = super().compute_loss(model, dict(inputs))
                return mean * (self.task.items(targets) / items)
            output = self.task.forward(model, given, targets)
            loss = self.own_loss(output, targets, given) / items * together.size()
            return (loss, output) if return_outputs else loss

    return Watched if reads_rows else OurTrainer


def _at_least_one(items: Any) -> Any:
    """What `max(items, 1)` is, of a tensor without reading it, which a device would have to be waited for."""
    return items.clamp(min=1) if hasattr(items, "clamp") else max(items, 1)


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
    batch = args.train_batch_size * together.size()
    if args.dataloader_drop_last and rows < batch:
        each = f" in each of {together.size()} processes" if together.size() > 1 else ""
        raise TrainingError(
            f"training.dataloader_drop_last drops all {rows:,} training rows: a batch is {args.train_batch_size:,} "
            f"(per_device_train_batch_size){each}"
        )


def _not_finite(loss: float, where: Unread, before: float | None, trainer: Any) -> TrainingError:
    """What is said of a loss that isn't finite: where, what came before, and what to set."""
    step = f"the loss is {loss} at step {where.step} of {trainer.state.max_steps} (epoch {where.epoch:.2f})"
    kept = "nothing of this training is kept"
    if before is not None:
        return TrainingError(f"{step}, after {before:.4g} at the step before: {kept}; {_calmer(trainer.args)}")
    broken = _broken(trainer.model)
    if broken is not None:
        return TrainingError(f"{step}: weights were no numbers before it ({broken}): look at the checkpoint")
    return TrainingError(
        f"{step}, of weights that are numbers: {kept}; look at the rows and their labels, or try precision: fp32"
    )


def _calmer(args: Any) -> str:
    """What to set where a training diverges."""
    clipped = "or max_grad_norm" if args.max_grad_norm else "or leave out max_grad_norm: 0, which clips nothing"
    return f"lower training.learning_rate (it is {args.learning_rate:g}) {clipped}, or train in another precision"


def _broken(model: Any) -> str | None:
    """The name of a weight that is no number; None where all are. Of a model that is spread, of this process's part."""
    for name, weight in model.named_parameters():
        own = weight.to_local() if hasattr(weight, "to_local") else weight
        if not bool(own.isfinite().all()):
            return name  # type: ignore[no-any-return]
    return None


def _refuse_broken(model: Any) -> None:
    """The last step may break weights after the last loss was seen."""
    broken = _broken(model)
    if broken is not None:
        raise TrainingError(
            f"the training left weights that are no numbers ({broken}): nothing of it is kept; lower "
            "training.learning_rate or max_grad_norm, or train in another precision"
        )


@contextmanager
def _translated(job: Job) -> Iterator[None]:
    """What the Trainer and its optimizers raise for a user's mistake, in one sentence."""
    try:
        with memory.training(job), workers.explained():
            yield
    except FtcheckError:
        raise
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
