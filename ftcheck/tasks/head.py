"""Logits of some places at a time, where there is no room for those of all.

What a model makes of its last hidden states is its own affair: a head, a scale, a soft cap, a bias. So its forward runs
as always for each part of the places, but the body that hidden states come from (and the encoder before it) answers
what it answered the first time, cut to those places. Whether that gives the logits of these places, the model itself is
asked, with the beginning of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

ASKED_WITH = 16
"""Tokens."""
_ERROR = 0.05
"""How far logits may be from those of one forward, in parts of how far those of neighbouring places are from each
other: what bf16 rounds is below it, logits of another place are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The modules that needn't run again for other places."""

    last: Any
    """Whose first output are the hidden states that logits are made of."""
    before: tuple[Any, ...] = ()
    """Those whose output doesn't go to the head by itself."""


@dataclass(eq=False)
class Parts:
    """(batch, places, vocabulary) logits that are made some places at a time, whenever they are gone through."""

    forward: Callable[[], Any]
    """The model's output for the batch."""
    body: Body
    places: int
    """Of a part."""
    told: Any = None
    """What was made of them, and of what, so that they aren't gone through twice."""
    _said: dict[Any, Any] = field(default_factory=dict, init=False)
    """What each module of the body answered."""

    ndim = 3

    def __iter__(self) -> Iterator[Any]:
        """The parts: (batch, some places, vocabulary) tensors."""
        begin, width = 0, 1
        while begin < width:
            with self._answering_again(slice(begin, begin + self.places)):
                made = [self.forward().logits]
            width = _hidden(self._said[self.body.last]).shape[1]
            yield made.pop()  # held by nobody else while the next is made
            begin += self.places

    @contextmanager
    def _answering_again(self, part: slice) -> Iterator[None]:
        modules = dict.fromkeys(self.body.before) | {self.body.last: part}
        own = {module: vars(module).get("forward") for module in modules}
        try:
            for module, cut in modules.items():
                module.forward = self._remembered(module, module.forward, cut)
            yield
        finally:
            for module, forward in own.items():
                if forward is None:
                    del module.forward
                else:
                    module.forward = forward

    def _remembered(self, module: Any, forward: Callable[..., Any], part: slice | None) -> Callable[..., Any]:
        def again(*args: Any, **kwargs: Any) -> Any:
            if module not in self._said:
                self._said[module] = forward(*args, **kwargs)
            return self._said[module] if part is None else _cut(self._said[module], part)

        return again


def pairs(first: Any, second: Any) -> Iterator[tuple[Any, Any]]:
    """Two models' logits of the same places, all at once or some at a time; nothing where one has none."""
    if first is None or second is None:
        return
    sizes = [one.places for one in (first, second) if isinstance(one, Parts)]
    if not sizes:
        yield first, second
        return
    places = min(sizes)
    same = (replace(one, places=places) if isinstance(one, Parts) else one.split(places, 1) for one in (first, second))
    yield from zip(*same, strict=True)


def body(model: Any, forward: Callable[[], Any]) -> Body | None:
    """The model's body, found with `forward`, its output for the beginning of a text; None where there is none whose
    hidden states, cut to some places, give the logits of these places."""
    import torch

    whole = forward().logits
    if whole.shape[1] < 2:
        return None
    apart = (whole[:, 1:] - whole[:, :-1]).abs().max()
    for found in _bodies(model):
        try:
            parts = torch.cat(list(Parts(forward, found, places=max(1, whole.shape[1] // 3))), dim=1)
            if parts.shape == whole.shape and bool((parts - whole).abs().max() <= _ERROR * apart):
                return found
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            continue
    return None


def _bodies(model: Any) -> Iterator[Body]:
    """What may be the model's body. In PEFT's models it is that of the one that is adapted."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    base = getattr(model, "base_model", model)
    if base is not model:
        yield Body(last=base)
    if hasattr(model, "get_decoder"):
        coded = getattr(model.config, "is_encoder_decoder", False)
        yield Body(last=model.get_decoder(), before=(model.get_encoder(),) if coded else ())


def _hidden(output: Any) -> Any:
    return output[0]


def _cut(output: Any, part: slice) -> Any:
    """The output of a body with the first of its parts, the hidden states, at some places only."""
    hidden = _hidden(output)[:, part]
    if isinstance(output, tuple):
        return (hidden, *output[1:])
    return type(output)(**{**output, next(iter(output)): hidden})
