"""Metrics of the user's own, named by import path: functions, and classes that follow `Metric`.

A function takes (predictions, references) and returns one score per example, whose mean is the metric, or one number
for all, which is treated as not adding up over examples (`leave_one_out`). What it is computed from, which way is
better and what it lies between says `ftcheck.metric`. Its source is part of its signature, so that editing it makes
scores anew, and a result of another definition is never compared with one of this.
"""

from __future__ import annotations

import inspect
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from ftcheck import importpath
from ftcheck.errors import IdentityError, MetricError, shown
from ftcheck.metrics import NATURAL, Context, Definition, Input, Scale, leave_one_out

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Metric, NumberArray

BOUNDS: Final[Mapping[Scale, tuple[float, float]]] = {
    "proportion": (0.0, 1.0),
    "perplexity": (1.0, math.inf),
    "unbounded": (-math.inf, math.inf),
}

Compute = Callable[[Sequence[Any], Sequence[Any]], Any]
"""(predictions, references) -> one number, or one per example."""


Own = TypeVar("Own", bound=Callable[..., Any])


def metric(
    *, input: Input | None = None, greater_is_better: bool = True, scale: Scale = "unbounded"
) -> Callable[[Own], Own]:
    """Say of a metric function what it is computed from, which way is better, and what its values lie between.

    `input`: the first of NATURAL that the task gives, unless it is named. `scale`: `proportion` (within [0, 1]),
    `perplexity` (exp of a mean) or `unbounded`. The function stays as it is. Raises ValueError for other values.
    """
    if input is not None and input not in NATURAL:
        raise ValueError(f"input must be one of {', '.join(NATURAL)}, got {input!r}")
    if scale not in get_args(Scale):
        raise ValueError(f"scale must be one of {', '.join(get_args(Scale))}, got {scale!r}")

    def described(function: Own) -> Own:
        for name, value in (("input", input), ("greater_is_better", greater_is_better), ("scale", scale)):
            setattr(function, name, value)
        return function

    return described


def _lists(predictions: Sequence[Any]) -> Sequence[Any]:
    """Lists of floats, which records may have as arrays, as what they are said to be."""
    return [value.tolist() if isinstance(value, array) else value for value in predictions]


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """What a function gives: the mean of one score per example, or one number for all of them."""

    name: str
    signature: str
    ready: Callable[[], AbstractContextManager[Compute]]
    """Makes the function ready for as long as it is used."""
    greater_is_better: bool
    scale: Scale
    binary: bool = False

    def statistics(self, predictions: Sequence[Any], references: Sequence[Any]) -> FloatArray:
        """(examples, 2): [score, 1], or (examples, 3) as `leave_one_out` makes them; of more examples than it is done
        for, all alike."""
        import numpy as np

        if len(predictions) != len(references):
            raise MetricError(f"{self.name}: {len(predictions)} predictions for {len(references)} references")
        n = len(references)
        if n == 0:
            return np.zeros((0, 2))
        predictions = _lists(predictions)
        with self.ready() as compute:
            found = self._numbers(compute, predictions, references, "")
            if found.ndim == 1:
                return np.stack([found, np.ones(n)], axis=1)
            without = np.full(n, found)
            if 1 < n <= leave_one_out.MOST:
                for left in range(n):
                    rest = [[*given[:left], *given[left + 1 :]] for given in (predictions, references)]
                    without[left] = self._numbers(compute, rest[0], rest[1], f" without example {left}")
        return leave_one_out.statistics(float(found), without)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return leave_one_out.aggregate(totals)

    def value(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """One call, whatever the function returns."""
        if not len(references):
            return math.nan
        with self.ready() as compute:
            return float(self._numbers(compute, _lists(predictions), references, "").mean())

    def no_interval(self, statistics: NumberArray) -> str:
        """Too many examples for one number for all; the mean of their scores has an interval in any case."""
        return leave_one_out.too_many(len(statistics)) if statistics.shape[1] == leave_one_out.COLUMNS else ""

    def _numbers(
        self, compute: Compute, predictions: Sequence[Any], references: Sequence[Any], when: str
    ) -> FloatArray:
        """What the function returns, checked: () or (examples,)."""
        import numpy as np

        try:
            found = compute(predictions, references)
        except MetricError:
            raise
        except Exception as error:
            raise MetricError(
                f"{self.name} fails{when}{importpath.where(error)}: {type(error).__name__}: {shown(error, 300)}"
            ) from error
        try:
            numbers = np.asarray(found, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.zeros((0, 0))
        if numbers.shape not in ((), (len(references),)):
            raise MetricError(
                f"{self.name} must return a number, or one for each of the {len(references):,} examples{when}; "
                f"got {shown(repr(found))}"
            )
        if numbers.ndim and not np.isfinite(numbers).all():
            first = int(np.argmin(np.isfinite(numbers)))
            raise MetricError(
                f"{self.name} gives example {first} the score {numbers[first]}, which is no finite number"
            )
        low, high = BOUNDS[self.scale]
        if bool((numbers < low).any() or (numbers > high).any()):
            worst = float(numbers.min() if (numbers < low).any() else numbers.max())
            raise MetricError(
                f"{self.name} returned {worst:g}{when}, which is not {self.scale} (from {low:g} to {high:g}): "
                "say what its values lie between, @ftcheck.metric(scale=...)"
            )
        return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A metric of the user's class under its import path, with a signature that holds its source."""

    name: str
    signature: str
    inner: Metric
    greater_is_better: bool
    scale: Scale
    binary: bool

    def statistics(self, predictions: Sequence[Any], references: Sequence[Any]) -> FloatArray:
        """What the class gives, which must be (examples, k)."""
        import numpy as np

        found = np.asarray(self._called("statistics", _lists(predictions), references))
        if found.ndim != 2 or len(found) != len(references) or found.dtype.kind not in "biuf":
            raise MetricError(
                f"{self.name}.statistics must return ({len(references):,}, k) numbers, got {found.dtype} {found.shape}"
            )
        return found.astype(np.float64)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        """What the class gives, which must be (...) for totals (..., k)."""
        import numpy as np

        found = np.asarray(self._called("aggregate", totals), dtype=np.float64)
        if found.shape != totals.shape[:-1]:
            raise MetricError(
                f"{self.name}.aggregate must turn totals {totals.shape} into {totals.shape[:-1]}, got {found.shape}"
            )
        return found

    def _called(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self.inner, method)(*arguments)
        except MetricError:
            raise
        except Exception as error:
            raise MetricError(
                f"{self.name}.{method} fails{importpath.where(error)}: {type(error).__name__}: {shown(error, 300)}"
            ) from error


@cache
def define(path: str, default: Input) -> Definition:
    """The metric at an import path; `default` is its input unless it says one. Raises MetricError."""
    from ftcheck.keys.source import source_identity

    try:
        found = importpath.load(path)
        code = source_identity(found)
    except (ValueError, IdentityError) as error:
        raise MetricError(f"the metric {shown(path, 200)}: {error}") from None
    if isinstance(found, type) and not (hasattr(found, "statistics") and hasattr(found, "aggregate")):
        raise MetricError(
            f"{shown(path, 200)} is a class without the methods statistics and aggregate of ftcheck.Metric"
        )
    input_: Input | None = getattr(found, "input", None)
    scale: Scale = getattr(found, "scale", "unbounded")
    if input_ not in (None, *NATURAL) or scale not in get_args(Scale):
        raise MetricError(
            f"{shown(path, 200)} says input={shown(input_)} and scale={shown(scale)}: "
            f"input is one of {', '.join(NATURAL)}, scale one of {', '.join(get_args(Scale))}"
        )
    greater_is_better = bool(getattr(found, "greater_is_better", True))
    return Definition(
        name=path,
        input=input_ or default,
        summary=(inspect.getdoc(found) or path).splitlines()[0],
        make=_make,
        greater_is_better=greater_is_better,
        bounds=BOUNDS[scale],
        fingerprint=fingerprint({"code": code, "better": greater_is_better, "scale": scale}),
    )


def fingerprint(parts: Mapping[str, Any]) -> str:
    """A short hash (64 bits) of JSON values: it tells versions of one metric apart."""
    from ftcheck.keys.canonical import canonical

    return sha256(canonical(parts)).hexdigest()[:16]


def _make(known: Definition, argument: str | None, context: Context) -> Metric:
    found = importpath.load(known.name)
    scale: Scale = getattr(found, "scale", "unbounded")
    signature = f"{known.signature}|{known.input}"
    asks = "context" in inspect.signature(found).parameters
    if asks:
        signature += f"|{fingerprint({'labels': context.labels, 'options': dict(context.options)})}"
    if not isinstance(found, type):

        def compute(predictions: Sequence[Any], references: Sequence[Any]) -> Any:
            return found(predictions, references, **({"context": context} if asks else {}))

        return Computed(
            name=known.name,
            signature=signature,
            ready=lambda: nullcontext(compute),
            greater_is_better=known.greater_is_better,
            scale=scale,
        )
    try:
        inner = found(context=context) if asks else found()
    except Exception as error:
        raise MetricError(
            f"{known.name}() fails{importpath.where(error)}: {type(error).__name__}: {shown(error, 300)}"
        ) from error
    return Wrapped(
        name=known.name,
        signature=signature,
        inner=inner,
        greater_is_better=known.greater_is_better,
        scale=scale,
        binary=bool(getattr(found, "binary", False)),
    )
