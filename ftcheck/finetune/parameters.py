"""A model's parameters: how many, of which names, and how deep."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ftcheck.errors import TechniqueError, one_of, shown


def matching(pattern: str, names: Sequence[str], key: str) -> list[str]:
    """The names that a pattern of a shell (`*`, `?`, `[...]`) matches. Raises TechniqueError where it is none."""
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        plain = pattern.replace("*", "").strip(".")
        raise TechniqueError(
            f"{key}: no parameter's name matches {shown(pattern, 80)!r}; {one_of(plain, _parts(names))}"
        )
    return found


def _parts(names: Collection[str]) -> list[str]:
    """The names of parameters and of the modules that they are in, the shortest first."""
    found = dict.fromkeys(
        ".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 2)
    )
    return sorted(found, key=lambda name: (name.count("."), name))


def count(parameter: Any) -> int:
    """How many numbers a parameter holds: bitsandbytes packs two of 4 bits into one."""
    packed = getattr(parameter, "quant_state", None)
    return int(parameter.numel()) if packed is None else math.prod(packed.shape)


def bytes_of(model: Any) -> int:
    """Of all weights as they are saved, shared ones once."""
    weights = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())


def heads(model: Any) -> list[str]:
    """Names of the modules on top of the base; classifiers may have several (DistilBERT)."""
    return [
        name
        for name, module in model.named_children()
        if module is not model.base_model and any(True for _ in module.parameters())
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """How deep each parameter of a model lies."""

    layers: int
    of: Mapping[str, int]
    """Name -> 0 for embeddings, 1 to `layers` for layers, one more for what comes after them (pooler, head)."""


def depths(model: Any) -> Depths:
    """Layers are the members of the outermost lists of modules, in the order of the parameters: an encoder-decoder's
    decoder goes on where its encoder ends. Raises TechniqueError for a model without such a list."""
    stacks = _stacks(model)
    names = [name for name, _ in model.named_parameters()]
    layer = {name: found for name in names if (found := _layer(name, stacks)) is not None}
    number = {found: place for place, found in enumerate(dict.fromkeys(layer.values()), start=1)}
    if not number:
        raise TechniqueError(f"{type(model).__name__} has no list of layers, so that nothing lies deeper than another")
    of: dict[str, int] = {}
    depth = 0
    for name in names:
        if name in layer:
            of[name] = depth = number[layer[name]]
        elif depth == 0 or "embed" in name:
            of[name] = 0
        else:  # an encoder's last norm belongs to its last layer
            of[name] = depth if depth < len(number) else depth + 1
    return Depths(layers=len(number), of=of)


def _stacks(model: Any) -> list[str]:
    """Names of the lists of modules that are in no other."""
    from torch.nn import ModuleList

    found: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


def _layer(name: str, stacks: Sequence[str]) -> tuple[str, str] | None:
    """(what the layer's list is in, its number): lists side by side, as XLM has them, make up the same layers."""
    for stack in stacks:
        if name.startswith(f"{stack}."):
            return stack.rpartition(".")[0], name[len(stack) + 1 :].partition(".")[0]
    return None


def sizes(model: Any) -> dict[str, float]:
    """Parameters, those that training changes, and the bytes of all weights as they are saved."""
    parameters = list(model.parameters())
    return {
        "parameters": float(sum(map(count, parameters))),
        "trainable_parameters": float(sum(count(p) for p in parameters if p.requires_grad)),
        "model_bytes": float(bytes_of(model)),
    }
