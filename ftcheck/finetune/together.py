"""Processes that train one model together: what they tell each other while they do. For one alone, nothing happens.

What goes over is numbers and JSON in tensors of the CPU: nothing is unpickled, and no device has to wait.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any, TypeVar

from ftcheck.errors import TrainingError

T = TypeVar("T")

PATIENCE = timedelta(days=365)
"""How long one waits for the others: one that is gone ends all from outside, one that is slow evaluates."""


def join(meeting: str, *, rank: int, processes: int, device: str) -> None:
    """Meet the other processes at the URL `meeting` (torch's `init_method`): over gloo on CPUs, with NCCL beside it on
    CUDA."""
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=processes, timeout=PATIENCE)


def check(wanted: int, found: int) -> None:
    """Raise TrainingError where a training isn't done by as many processes as its key says."""
    if found != wanted:
        raise TrainingError(
            f"{found} processes train together where resources.gpus asks for {wanted}: nothing of this training is kept"
        )


def size() -> int:
    """How many processes train together."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, counted from 0: the one that saves, evaluates and is heard."""
    import torch.distributed as dist

    return dist.get_rank() if size() > 1 else 0


def is_first() -> bool:
    return rank() == 0


def node() -> int:
    """On which of their machines this one is, counted from 0, as torch.distributed.run's launcher says."""
    return int(os.environ.get("GROUP_RANK", "0")) if size() > 1 else 0


def nodes() -> int:
    """How many machines train together."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1")) if size() > 1 else 1


def is_first_here() -> bool:
    """Whether this is the first process of its machine."""
    return rank() % (size() // nodes()) == 0


def total(value: float) -> float:
    """The sum of what each process has."""
    import torch
    import torch.distributed as dist

    if size() == 1:
        return value
    added = torch.tensor(value, dtype=torch.float64)  # whole numbers stay exact to 2**53
    dist.all_reduce(added)
    return float(added)


def most(value: float) -> float:
    """The largest of what each process has."""
    import torch
    import torch.distributed as dist

    if size() == 1:
        return value
    found = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return float(found)


def agreed(make: Callable[[], T], by: int = 0) -> T:
    """What the first process (or the one of rank `by`) makes, as JSON can say it; the others wait for it."""
    import torch
    import torch.distributed as dist

    if size() == 1:
        return make()
    made: T | None = None
    said = b""
    if rank() == by:
        made = make()
        said = json.dumps(made).encode()
    length = torch.tensor(len(said))
    dist.broadcast(length, src=by)
    text = torch.frombuffer(bytearray(said), dtype=torch.uint8) if said else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(text, src=by)
    return made if rank() == by else json.loads(bytes(text.tolist()))  # type: ignore[return-value]


def agreed_here(make: Callable[[], T]) -> T:
    """What the first process of this machine makes, as JSON can say it; all wait for all machines."""
    made = [agreed(make, by=first) for first in range(0, size(), size() // nodes())]
    return made[node()]


def wait() -> None:
    """Until all processes are here."""
    total(0.0)


def own_seed(seed: int) -> int:
    """What the random numbers of this process's batches (dropout, masking) start from: in the first one `seed`."""
    return seed if is_first() else Random(f"{seed} {rank()}").getrandbits(32)  # noqa: S311  not for secrets


def described() -> dict[str, Any]:
    """What is recorded with a run that several processes trained."""
    import torch.distributed as dist

    if size() == 1:
        return {}
    return {"processes": size(), "backend": dist.get_backend(), **({"nodes": nodes()} if nodes() > 1 else {})}
