"""Texts translated into another language and back by two sequence-to-sequence models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context
    from ftcheck.spec import Checkpoint

Leg = tuple["Checkpoint", Mapping[str, Any]]
"""A model, and the options of the task `translation` that it translates with."""


def back_translated(texts: Sequence[str], copies: int, legs: Sequence[Leg], context: Context) -> dict[str, list[str]]:
    """Text -> what came back, as many times as models that sample make other texts; once where they don't."""
    sampled = all(options["generation"]["do_sample"] for _, options in legs)
    found = [text for text in texts for _ in range(copies if sampled else 1)]
    for number, (checkpoint, options) in enumerate(legs):
        found = _translated(found, checkpoint, options, number, context)
    times = copies if sampled else 1
    return {text: found[place * times : (place + 1) * times] for place, text in enumerate(texts)}


def _translated(
    texts: Sequence[str], checkpoint: Checkpoint, options: Mapping[str, Any], number: int, context: Context
) -> list[str]:
    """Each text as the model writes it, drawn by the run's seed where it samples."""
    import datasets

    from ftcheck import tasks
    from ftcheck.finetune import memory, predict
    from ftcheck.finetune import model as models
    from ftcheck.finetune.environment import give_back
    from ftcheck.finetune.generating import Writer

    job, task = context.job, tasks.get("translation")
    source = models.Source.of_other(checkpoint, job)
    tokenizer, _ = models.load_tokenizer(source, task, models.load_config(source))
    model, _ = models.load_model(source, task, {}, tokenizer, training=False, more={})
    models.check_length(model, options, source)
    model.to(job.device)
    prompts = task.prompts(datasets.Dataset.from_dict({"source": list(texts)}), tokenizer, {}, options)
    assert prompts is not None
    given = task.generation(tokenizer, {}, options)
    seed = given.get("seed", 0) + 2 * job.seed + number
    generated = Writer(
        model,
        tokenizer,
        prompts,
        {**given, "seed": seed},
        device=job.device,
        precision=job.precision,
        batch_size=predict.BATCH_SIZE,
    ).finish()
    notes = [*prompts.notes, *generated.notes]
    if generated.batch_size < predict.BATCH_SIZE:
        notes.append(memory.told_of_answers(predict.BATCH_SIZE, generated.batch_size))
    for note in notes:
        context.note(f"augment, {('there', 'back')[number]}: {note}")
    del model
    give_back(job.device)
    return generated.texts
