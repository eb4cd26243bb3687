"""What makes `model.generate` faster and leaves what it writes as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from typing import Any

from ftcheck.finetune import spreading

LEAVING = 1 / 8
"""Finished rows leave a batch when they are this part of it: leaving copies the cache of those that stay."""

MEMORY_BYTES = 4 * 2**30
"""For the caches of texts that are written at the same time."""

SCORES = 4
"""Copies of a token's scores that a step has at the same time."""

BY_ROW = (
    *("input_ids", "attention_mask", "position_ids", "token_type_ids"),
    *("decoder_input_ids", "decoder_attention_mask", "decoder_position_ids"),
)
"""Arguments of a decoding step with a line a row."""


def rows_that_fit(model: Any, longest: int, arguments: Mapping[str, Any]) -> int:
    """For how many rows, with prompts of `longest` tokens, keys, values and scores take MEMORY_BYTES, as the model's
    config tells; at least 1. The same on every machine, since what is drawn depends on it."""
    wanted, config = settings(model, arguments), model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    keys = config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * width
    values = 2 * keys * (longest + (wanted.max_new_tokens or 0)) + SCORES * config.vocab_size
    if not model.config.is_encoder_decoder and "logits_to_keep" not in signature(_whole(model).forward).parameters:
        values += longest * config.vocab_size  # scores of all of the prompt's tokens
    return max(1, MEMORY_BYTES // int(4 * values * (wanted.num_beams or 1)))


@contextmanager
def finished_rows_leave(model: Any, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Within, the model computes nothing for rows of a batch that have their end, until all have it.

    `generate` goes on with the whole batch, and gets zeros for the logits of rows that have left, whose tokens it
    replaces by padding anyway: what it draws where it samples doesn't change either. `arguments` are those of
    `generate`. Nothing changes for beam search, whose rows don't end one by one; and on anything but a CPU, where it
    has not been measured.
    """
    model = _whole(model)
    if model.device.type != "cpu" or not _one_by_one(model, arguments):
        yield
        return
    leaving = _Leaving(model.generation_config.eos_token_id)
    hooks = [
        model.register_forward_pre_hook(leaving.before, with_kwargs=True),
        model.register_forward_hook(leaving.after),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _one_by_one(model: Any, arguments: Mapping[str, Any]) -> bool:
    """Whether each row is one text that an end can be told of."""
    from transformers.generation import GenerationMode

    config = settings(model, arguments)
    modes = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
    in_one_step = config.prefill_chunk_size is None  # else prompts come in several, and may hold an end
    return config.eos_token_id is not None and in_one_step and config.get_generation_mode() in modes


class _Leaving:
    """Hooks of a model's forward: the steps of one call of `generate`."""

    def __init__(self, ends: int | list[int]) -> None:
        import torch

        self._ends = torch.tensor(ends).flatten()
        self._rows = 0
        """Of the batch; 0 before its first step, and where it isn't made of what can be taken apart."""
        self._begun = False
        self._done: Any = None
        """By row of the batch, whether it has its end."""
        self._here: Any = None
        """The rows that are computed; None: all."""
        self._chosen: dict[str, tuple[Any, Any]] = {}
        """Argument -> (as it came, its lines for `_here`): some are the same in each step, and large."""

    def before(self, model: Any, given: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
        """The arguments of the rows that are left."""
        import torch

        tokens: Any = arguments.get("decoder_input_ids", arguments.get("input_ids"))
        if not self._begun:  # the prompts
            self._begun = True
            if not given and tokens is not None and len(tokens) > 1 and _separable(arguments, len(tokens)):
                self._rows = len(tokens)
                self._done = torch.zeros(self._rows, dtype=torch.bool)
            return None
        if not self._rows:
            return None
        assert tokens is not None
        self._done |= torch.isin(tokens[:, -1], self._ends)
        self._leave(arguments["past_key_values"])
        if self._here is None:
            return None
        return given, {name: self._lines(name, value) for name, value in arguments.items()}

    def after(self, model: Any, given: tuple[Any, ...], output: Any) -> Any:
        """The logits, with zeros for rows that have left."""
        if self._here is not None:
            logits = output.logits.new_zeros(self._rows, *output.logits.shape[1:])
            logits[self._here] = output.logits
            output.logits = logits
        return output

    def _leave(self, cache: Any) -> None:
        import torch

        here = torch.arange(self._rows) if self._here is None else self._here
        places = (~self._done[here]).nonzero().flatten()
        if 0 < len(places) <= len(here) * (1 - LEAVING):
            cache.batch_select_indices(places)
            self._here = here[places]
            self._chosen.clear()

    def _lines(self, name: str, value: Any) -> Any:
        if name not in (*BY_ROW, "encoder_outputs") or value is None:
            return value
        came, chosen = self._chosen.get(name, (None, None))
        if came is not value:
            if name == "encoder_outputs":
                chosen = type(value)(last_hidden_state=value.last_hidden_state[self._here])
            else:
                chosen = value if len(value) == 1 else value[self._here]
            self._chosen[name] = (value, chosen)
        return chosen


def _separable(arguments: Mapping[str, Any], rows: int) -> bool:
    """Whether all that a step is given is known to have a line a row, or to be the same for all."""
    import torch

    for name, value in arguments.items():
        if name in BY_ROW:
            known = value is None or (value.ndim == 2 and len(value) in (1, rows))
        elif name == "encoder_outputs":
            known = getattr(value, "last_hidden_state", None) is not None and len(value.last_hidden_state) == rows
        elif name == "past_key_values":
            known = _selectable(value)
        else:
            known = not isinstance(value, torch.Tensor | tuple | list)
        if not known:
            return False
    return arguments.get("past_key_values") is not None


def _selectable(cache: Any) -> bool:
    """Whether rows can be taken out of the cache."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer, EncoderDecoderCache

    if isinstance(cache, EncoderDecoderCache):
        return _selectable(cache.self_attention_cache) and _selectable(cache.cross_attention_cache)
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    return isinstance(cache, DynamicCache) and all(type(layer) in known for layer in cache.layers)


def _whole(model: Any) -> Any:
    """The model whose `generate` runs: PEFT's hands on to the one that it adapts."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def settings(model: Any, arguments: Mapping[str, Any]) -> Any:
    """The checkpoint's `generation_config`, with `arguments` instead of what it says."""
    config = deepcopy(_whole(model).generation_config)
    config.update(**arguments)
    return config


@contextmanager
def weights_cast_once(model: Any) -> Iterator[None]:
    """Within, autocast keeps each weight as it has cast it: it casts those that want no gradient (of an adapter's
    base, say) anew for each token, and under `torch.inference_mode` all."""
    import torch

    frozen = [
        weight
        for weight in (() if spreading.is_spread(model) else model.parameters())
        if weight.dtype == torch.float32 and not weight.requires_grad
    ]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        with torch.no_grad():
            yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
