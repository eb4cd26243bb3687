"""`distill: {teacher: case:NAME, temperature: 2, alpha: 0.5}`: learn a larger model's answers, too.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; students of some of the layers: Sanh et al. 2019.
The teacher answers the training rows once, before the training; runs of other seeds that ask the same teacher of the
same rows find its logits in the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ftcheck.errors import TechniqueError, shown
from ftcheck.finetune import techniques
from ftcheck.finetune.techniques import Options, Problem, Technique

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.finetune.data import RoleRows
    from ftcheck.finetune.model import Source
    from ftcheck.finetune.techniques import Context, Loss
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Checkpoint, Facts
    from ftcheck.tasks import Task
    from ftcheck.tasks.features import EncodedRows

ROW = "teacher_row"
"""In a batch: which training row a feature is."""
PREFIX = "case:"
TEMPERATURE = 2.0
READ = (".json", ".safetensors", ".txt", ".model")
"""Suffixes of the files that a model and its tokenizer are read from."""


class DistillOptions(Options):
    teacher: str = Field(
        min_length=1,
        description="case:ID of the same file, a Hub id, or a local folder: a model of the same task and labels.",
    )
    temperature: float = Field(
        default=TEMPERATURE, gt=0, description="What logits are divided by, so that unlikely classes tell something."
    )
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="What the teacher's answers weigh; labels weigh the rest. 0: no teacher."
    )
    layers: int | None = Field(
        default=None, ge=1, description="Train as many of the checkpoint's layers only; null: all of them."
    )
    take: Literal["spaced", "first"] = Field(
        default="spaced", description="Which layers: evenly spaced, first and last among them, or the first ones."
    )


class Distill(Technique):
    """α T² KL(teacher ‖ student) + (1 - α) the loss that there is; in the first, both answer at temperature T. Of sets
    of classes it is the divergence of each class, of numbers the squared error."""

    name = "distill"
    description = "Learn the answers of a teacher, too: {teacher: case:ID or a checkpoint, temperature: 2, alpha: 0.5}."
    options = DistillOptions
    short = "teacher"
    tasks = ("text-classification", "token-classification")
    changes_rows = True
    parent = "teacher"
    targets = (ROW,)

    @classmethod
    def parent_problem(cls, case: Case, parent: Case) -> str:
        if parent.task != case.task:
            return f"{parent.id} is of the task {shown(parent.task, 60)}, this case of {shown(case.task, 60)}"
        kinds = [one.task_options.get("problem_type") for one in (parent, case)]
        if kinds[0] != kinds[1]:
            return f"{parent.id} has problem_type {kinds[0]}, this case {kinds[1]}"
        if parent.checkpoint.remote_code is not None:
            return f"{parent.id} runs its checkpoint's own code (trust_remote_code), which a teacher can't"
        for technique in techniques.of(parent):
            if technique.keeps:
                return f"{parent.id} keeps no whole model ({technique.name}) that could teach"
        return ""

    def problems(self, facts: Facts) -> Iterator[Problem]:
        regression = facts.task_options.get("problem_type") == "regression"
        if regression and self.given["temperature"] != TEMPERATURE:
            yield ("temperature",), "is for classes; problem_type regression has none: leave it out"
        if self.given["layers"] is not None and "peft" in facts.techniques:
            yield ("layers",), "can't be combined with peft: adapters belong to the whole checkpoint"
        if not self.given["teacher"].startswith(PREFIX):
            try:
                techniques.checkpoint(self.given["teacher"], facts.folder)
            except TechniqueError as error:
                yield ("teacher",), str(error)

    def checkpoints(self, case: Case) -> tuple[Checkpoint, ...]:
        teacher = self.given["teacher"]
        return () if teacher.startswith(PREFIX) else (techniques.checkpoint(teacher, case.suite.parent),)

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """The teacher's identity; another case's key is part of this one's anyway, and its name is not."""
        found = {name: value for name, value in self.given.items() if name != "teacher"}
        for checkpoint in self.checkpoints(case):
            found |= {"teacher": identifier.checkpoint(checkpoint), "tokenizer": identifier.tokenizer(checkpoint)}
        return found

    def adapt(self, model: Any, context: Context) -> Any:
        if self.given["layers"] is not None:
            keep_layers(model, self.given["layers"], spaced=self.given["take"] == "spaced")
        return model

    def features(self, features: EncodedRows, rows: RoleRows, context: Context) -> EncodedRows:
        """With each row's number, under which the loss finds the teacher's logits."""
        import numpy as np
        import torch

        if self.given["alpha"]:
            logits = _answers(self._source(context), features, rows, context)
            labels = features.tokens.get("labels")
            # Of tokens only those that are trained on.
            counted = np.ones(len(logits), dtype=bool) if labels is None else labels != -100
            starts = np.arange(len(features) + 1) if labels is None else features.starts
            self._logits = torch.from_numpy(logits[counted])
            self._starts = np.concatenate([[0], np.cumsum(counted)])[starts].tolist()
        return replace(features, targets={**features.targets, ROW: np.arange(len(features))})

    def _source(self, context: Context) -> Source:
        from ftcheck.finetune.model import Source

        if self.name in context.parents:
            return Source.folder(str(context.parents[self.name]))
        (checkpoint,) = self.checkpoints(context.job.case)
        return Source.of_other(checkpoint, context.job)

    def loss(self, loss: Loss, context: Context, model: Any) -> Loss:
        import torch

        alpha, temperature = self.given["alpha"], self.given["temperature"]
        if not alpha:
            return loss
        problem_type = context.job.case.task_options.get("problem_type", "")

        def distilled(output: Any, targets: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
            logits = output.logits.float()
            rows = targets[ROW].tolist()
            teacher = torch.cat([self._logits[self._starts[row] : self._starts[row + 1]] for row in rows])
            if logits.ndim == 3:
                logits = logits[targets["labels"] != -100]
            soft = divergence(logits, teacher.to(logits.device), temperature, problem_type)
            return alpha * soft + (1 - alpha) * loss(output, targets, inputs)

        return distilled


def divergence(student: Any, teacher: Any, temperature: float, problem_type: str) -> Any:
    """How far the student's answers are from the teacher's, summed over the items. Logits (items, classes) or
    (items, 1)."""
    from torch.nn.functional import binary_cross_entropy_with_logits, kl_div, log_softmax, mse_loss

    if problem_type == "regression":
        return mse_loss(student, teacher, reduction="sum")
    student, teacher = student / temperature, teacher / temperature
    if problem_type == "multi_label_classification":
        soft = teacher.sigmoid()
        entropy = binary_cross_entropy_with_logits(teacher, soft, reduction="sum")
        return temperature**2 * (binary_cross_entropy_with_logits(student, soft, reduction="sum") - entropy)
    both = log_softmax(student, dim=-1), log_softmax(teacher, dim=-1)
    return temperature**2 * kl_div(*both, reduction="sum", log_target=True)


def _answers(source: Source, features: EncodedRows, rows: RoleRows, context: Context) -> np.ndarray:
    """The teacher's logits: (rows, classes), or (tokens, classes) where tokens have labels; classes as here.

    Raises TechniqueError where it knows other classes, or splits words into other tokens.
    """
    import numpy as np

    from ftcheck.finetune import model as models

    task, options = context.task, context.job.case.task_options
    config = models.load_config(source)
    names = _classes(config, context, source)
    tokenizer, _ = models.load_tokenizer(source, task, config)
    own = task.encode(rows.dataset, tokenizer, context.meta, options, training=True, where=rows.place)
    if task.per_token and not np.array_equal(own.tokens["input_ids"], features.tokens["input_ids"]):
        raise TechniqueError(
            f"distill.teacher: {source.shown} splits words into other tokens than this case's checkpoint does, so its "
            "answers by token can't be learned: name one with the same tokenizer"
        )

    def make() -> dict[str, np.ndarray]:
        return {"logits": _asked(source, names, tokenizer, own, context)}

    components = _depends_on(source, own, context)
    found: np.ndarray = (context.share(components, make) if components is not None else make())["logits"]
    return found[:, [names.index(name) for name in context.meta["labels"]]] if names else found


def _asked(source: Source, names: list[str], tokenizer: Any, own: EncodedRows, context: Context) -> np.ndarray:
    """What the teacher says of its own encoding of the rows."""
    from ftcheck.finetune import memory, predict
    from ftcheck.finetune import model as models
    from ftcheck.finetune.environment import give_back

    job, task = context.job, context.task
    meta = {**context.meta, "labels": names} if names else context.meta
    teacher, _ = models.load_model(source, task, meta, tokenizer, training=False, more={})
    models.check_length(teacher, job.case.task_options, source)
    answers = predict.run(
        teacher.to(job.device),
        own,
        task.collator(tokenizer, None),
        _by_logits(task),
        device=job.device,
        precision=job.precision,
        batch_size=predict.BATCH_SIZE,
    )
    if answers.batch_size < predict.BATCH_SIZE:
        context.note(f"distill: {memory.told_of_answers(predict.BATCH_SIZE, answers.batch_size)}")
    del teacher
    give_back(job.device)
    found: np.ndarray = answers.arrays[0]
    return found


def _depends_on(source: Source, own: EncodedRows, context: Context) -> dict[str, Any] | None:
    """What a teacher's logits depend on; None where it can't be told which commit of the Hub it is."""
    from blake3 import blake3

    from ftcheck.keys import code, files

    job, task = context.job, context.task
    teacher: Any = job.parent_keys.get(Distill.name)
    if teacher is None and "revision" in source.arguments:
        if source.path not in job.revisions:
            return None
        teacher = [source.path, job.revisions[source.path]]
    elif teacher is None:
        folder = Path(source.path)
        teacher = {path.name: files.file_digest(path) for path in folder.iterdir() if path.suffix in READ}
    hasher = blake3(own.starts.tobytes())
    for name in sorted(own.tokens):
        hasher.update(own.tokens[name].tobytes())
    return {
        "teacher": teacher,
        "rows": hasher.hexdigest(),
        "device_type": job.device.partition(":")[0],
        "precision": job.precision,
        "versions": code.versions({}),
        "code": code.training_code(task, files.file_digest, scored=False, techniques=(Distill.name,)),
    }


def _classes(config: Any, context: Context, source: Source) -> list[str]:
    """The teacher's class names by its own ids, which must be the case's in some order; none of numbers."""
    labels = context.meta.get("labels")
    if labels is None:
        if config.num_labels != 1:
            raise TechniqueError(f"distill.teacher: {source.shown} gives {config.num_labels} numbers, not one")
        return []
    named = {int(place): str(name) for place, name in config.id2label.items()}
    names = [named[place] for place in sorted(named)]
    if sorted(names) != sorted(labels):
        raise TechniqueError(
            f"distill.teacher: {source.shown} knows the classes {shown(', '.join(names), 200)}; this case's are "
            f"{shown(', '.join(labels), 200)}: name one with the same (config.json's id2label)"
        )
    return names


def _by_logits(task: Task) -> Task:
    """The task, whose outputs are logits also by token."""
    if not task.per_token:
        return task

    class Logits(type(task)):  # type: ignore[misc]
        def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
            return (output.logits,)

    made: Task = Logits()
    return made


def keep_layers(model: Any, count: int, *, spaced: bool) -> None:
    """Leave `count` of the model's layers, in place. Raises TechniqueError where it hasn't as many, or no one stack."""
    import torch

    config = model.config
    total = config.num_hidden_layers
    stacks = [
        (owner, name, stack)
        for owner in model.base_model.modules()
        for name, stack in owner.named_children()
        if isinstance(stack, torch.nn.ModuleList) and len(stack) == total
    ]
    if len(stacks) != 1 or config.is_encoder_decoder:
        raise TechniqueError(
            f"distill.layers: {type(model).__name__} isn't one stack of layers that some can be kept of"
        )
    if count >= total:
        raise TechniqueError(f"distill.layers: the checkpoint has {total} layers: name fewer, or leave it out")
    chosen = [round(place * (total - 1) / max(count - 1, 1)) for place in range(count)] if spaced else range(count)
    ((owner, name, stack),) = stacks
    setattr(owner, name, torch.nn.ModuleList(stack[place] for place in chosen))
    for place, layer in enumerate(getattr(owner, name)):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[place] for place in chosen]
