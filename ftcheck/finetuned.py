"""The fixture's object: metrics, examples, and lazily the model. The only owner of a model between a case's stages."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ftcheck.errors import FtcheckError, StoreError, one_of
from ftcheck.executors.inline import has_model

if TYPE_CHECKING:
    from ftcheck.finetune.predict import Predictor
    from ftcheck.results import CaseResult, Interval, MetricResult
    from ftcheck.runs import Measured
    from ftcheck.store import Store

P = ParamSpec("P")
T = TypeVar("T")


class MetricValue(float):
    """A metric's mean over seeds, as a float that knows its interval and each seed's value."""

    interval: Interval | None
    per_seed: tuple[float, ...]

    def __new__(cls, metric: MetricResult) -> MetricValue:
        value = super().__new__(cls, metric.value)
        value.interval = metric.interval
        value.per_seed = metric.per_seed
        return value


class Metrics(Mapping[str, MetricValue]):
    """Metric name -> MetricValue. An unknown name is told which there are."""

    def __init__(self, result: CaseResult) -> None:
        self._values = {metric.name: MetricValue(metric) for metric in result.metrics}

    def __getitem__(self, name: str) -> MetricValue:
        __tracebackhide__ = True
        if name not in self._values:
            raise KeyError(
                f"this case has no metric {name!r}; {one_of(name, self._values)} (add it to the case's `metrics`)"
            )
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Metrics({', '.join(f'{name}={float(value):.4g}' for name, value in self._values.items())})"


def _blames_the_caller(method: Callable[P, T]) -> Callable[P, T]:
    """What a test's body asks wrongly is shown at its own line: no frame of ftcheck stands between."""

    @wraps(method)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        try:
            return method(*args, **kwargs)
        except FtcheckError as error:
            raise error.with_traceback(None) from None

    return asked


class Finetuned:
    """What a test function gets as `finetuned`: the judged case and, when asked for, its first seed's model."""

    def __init__(self, measured: Measured, store: Store | None = None) -> None:
        self._store = store
        self._measured: Measured | None = measured
        self._predictor: Predictor | None = None
        self.result = measured.result
        self.metrics = Metrics(measured.result)

    @property
    @_blames_the_caller
    def examples(self) -> list[dict[str, Any]]:
        """The first seed's predictions: one record per judged example, of plain values and lists."""
        return [
            {name: value.tolist() if isinstance(value, array) else value for name, value in record.items()}
            for record in self._open().runs[0].records()
        ]

    @property
    @_blames_the_caller
    def model(self) -> Any:
        """The first seed's model, in evaluation mode, on the device it was trained on."""
        return self._load().model

    @property
    @_blames_the_caller
    def tokenizer(self) -> Any:
        """The tokenizer that the model was trained with."""
        return self._load().tokenizer

    @_blames_the_caller
    def predict(self, value: Any) -> Any:
        """The first seed's answer to the task's natural input, one (str, pair or dict) or a list of them.

        Raises DataError for what isn't such an input, StoreError where the model was not kept.
        """
        return self._load().predict(value)

    @property
    def measured(self) -> Measured | None:
        """The case's runs; None once this object was closed."""
        return self._measured

    def close(self) -> Measured | None:
        """Give the model's memory back. A failed test's frames keep this object alive, so it must let go by itself.

        Returns the runs that it was opened for; None where it was closed already.
        """
        if self._predictor is not None:
            self._predictor.close()
        measured, self._predictor, self._measured = self._measured, None, None
        return measured

    def _open(self) -> Measured:
        if self._measured is None:
            raise RuntimeError("this model belonged to a test that is over")
        return self._measured

    def _load(self) -> Predictor:
        if self._predictor is None:
            from ftcheck.finetune.predict import Predictor

            run = self._open().runs[0]
            if run.run.parts:
                raise StoreError("a case with `folds` trains a model for each fold: none of them is the case's model")
            trained = run.trained
            if trained is not None and not has_model(trained) and self._store is not None:  # a remote may have it
                trained = self._store.get("runs", run.run.train.digest, model=True) or trained
            if trained is not None and not has_model(trained):
                raise StoreError(
                    "this run's model was taken out of the store (`keep_model` or `ftcheck cache prune --models`); "
                    "train it again with --ft-cache=refresh"
                )
            directory = trained.verify("model/") / "model" if trained is not None else None
            self._predictor = Predictor(
                run.run.job, directory, meta=dict(run.meta), tuned=dict(run.predicted.content["tuned"])
            )
        return self._predictor
