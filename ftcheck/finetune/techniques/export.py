"""`export: onnx`: judge the file that will be deployed, run by onnxruntime, instead of the model that was trained."""

from __future__ import annotations

import tempfile
import time
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile, rmtree
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ftcheck.errors import FtcheckError, TechniqueError, shown
from ftcheck.finetune.techniques import Options, Problem, Technique, need

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Facts

MAX_DIFFERENCE = 1e-3
"""Of logits, where a suite doesn't say: float rounding stays a hundred times below it, a wrong operator doesn't."""

OPSET = 17
WARM_UP, TIMED = 10, 100
"""Single rows that are answered before, and while, latency is measured."""


class ExportOptions(Options):
    format: Literal["onnx"] = Field(description="What the judged model is exported to.")
    quantize: Literal["int8"] | None = Field(
        default=None, description="Quantize the file's weights in 8 bits (onnxruntime's dynamic quantization)."
    )
    max_difference: float | None = Field(
        default=None, gt=0, description="The most that logits may differ from the trained model's; 0.001 unquantized."
    )


class Export(Technique):
    """The file is made of the model that other techniques leave to be judged, when it first answers."""

    name = "export"
    description = "Judge the exported file instead of the model."
    options = ExportOptions
    short = "format"
    tasks = ("text-classification", "token-classification", "question-answering", "multiple-choice", "fill-mask")
    libraries = ("onnx", "onnxruntime")
    untrained = True

    @classmethod
    def gates(cls, given: Mapping[str, Any]) -> Mapping[str, float]:
        most = given["max_difference"]
        if most is None and given["quantize"] is None:
            most = MAX_DIFFERENCE
        return {} if most is None else {"parity_difference": most}

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if "quantization" in facts.techniques:
            yield (), "can't export what quantization rounds; quantize the file instead (export: {quantize: int8})"
        peft = facts.techniques.get("peft")
        if peft is not None and not peft.get("parity"):
            yield (), "exports a whole model; merge the adapter (peft: {parity: merged})"

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        return {}

    def predict_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        return {name: self.given[name] for name in ("format", "quantize") if self.given[name] is not None}

    def judged(self, model: Any, context: Context) -> Any:
        for library in ("onnx", "onnxruntime"):
            need(library, "export: onnx", "onnx")
        made = _exported_class()(model, quantize=self.given["quantize"] is not None)
        if context.features is not None:  # so that making the file is no part of the time that predicting takes
            made(**_single(context, 0))
        return made

    @property
    def afterwards(self) -> bool:
        return True

    @property
    def compares(self) -> bool:
        return True

    @property
    def measures(self) -> Collection[str]:
        return (*super().measures, "latency_p50_seconds", "latency_p95_seconds")

    def costs(self, model: Any, context: Context) -> dict[str, float]:
        found = {"model_bytes": float(model.path.stat().st_size)}
        return found | _latency(model, context) if context.features is not None else found


def _latency(model: Any, context: Context) -> dict[str, float]:
    """Seconds to answer one row, tokenized: the median and the 95th percentile over rows from all of the data."""
    import numpy as np
    import torch

    rows = np.linspace(0, len(context.features) - 1, TIMED).astype(int).tolist()
    batches = [_single(context, row) for row in rows]
    seconds = []
    with torch.inference_mode():
        for number, batch in enumerate([*batches[:WARM_UP], *batches]):
            start = time.perf_counter()
            model(**batch)
            if number >= WARM_UP:
                seconds.append(time.perf_counter() - start)
    low, high = np.percentile(seconds, (50, 95))
    return {"latency_p50_seconds": float(low), "latency_p95_seconds": float(high)}


def _single(context: Context, row: int) -> dict[str, Any]:
    """A batch of one judged row, without what it shall be answered with."""
    batch = context.task.collator(context.tokenizer, None)([context.features[row]])
    return {name: values for name, values in batch.items() if name not in context.task.targets}


def _exported_class() -> Any:
    """The class of the model that answers. A function, since torch takes a second to import."""
    import torch

    from ftcheck.finetune.predict import LOGITS

    class Inner(torch.nn.Module):  # type: ignore[misc]
        """The model with inputs by position and its logits as a tuple, as a graph has them."""

        def __init__(self, model: Any, inputs: list[str]) -> None:
            super().__init__()
            self.model, self.inputs, self.outputs = model, inputs, list[str]()

        def forward(self, *values: Any) -> tuple[Any, ...]:
            output = self.model(**dict(zip(self.inputs, values, strict=True)))
            self.outputs = [name for name in LOGITS if output.get(name) is not None]
            return tuple(output[name] for name in self.outputs)

    class Exported(torch.nn.Module):  # type: ignore[misc]
        """Answers as the model does, through onnxruntime on the CPU."""

        def __init__(self, model: Any, *, quantize: bool) -> None:
            super().__init__()
            self.config = model.config
            self._source: tuple[Any] = (model,)  # in a tuple it is no part of this module
            self._quantize = quantize
            self._folder = Path(tempfile.mkdtemp(prefix="ftcheck-"))
            weakref.finalize(self, rmtree, self._folder, ignore_errors=True)
            self._session: Any = None
            self._outputs: list[str] = []

        @property
        def path(self) -> Path:
            """The file, once something was answered."""
            return self._folder / "model.onnx"

        def save(self, path: str | Path) -> None:
            """Copy the file that answers to `path`. Raises TechniqueError before the first answer."""
            if self._session is None:
                raise TechniqueError("export: the file is made with the first answer; call `predict` before `save`")
            copyfile(self.path, path)

        def forward(self, **batch: Any) -> Any:
            given = {name: values.cpu() for name, values in batch.items()}
            if self._session is None:
                self._export(given)
            wanted = {one.name for one in self._session.get_inputs()}
            found = self._session.run(None, {name: v.numpy() for name, v in given.items() if name in wanted})
            device = next(iter(batch.values())).device
            answers = (torch.from_numpy(values).to(device) for values in found)
            return SimpleNamespace(**dict(zip(self._outputs, answers, strict=True)))

        def _export(self, batch: Mapping[str, Any]) -> None:
            import onnxruntime

            (model,) = self._source
            inner = Inner(model, list(batch)).eval()
            device = next(model.parameters()).device
            whole = self.path.with_stem("whole")
            with _translated(model), torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
                values = tuple(values.clone() for values in batch.values())
                inner.cpu()(*values)  # says which logits there are
                axes = {name: dict(enumerate(_axes(values))) for name, values in batch.items()}
                torch.onnx.export(
                    inner,
                    values,
                    str(whole),
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=list(batch),
                    output_names=inner.outputs,
                    dynamic_axes={**axes, **{name: {0: "rows"} for name in inner.outputs}},
                )
                model.to(device)
                if self._quantize:
                    _quantize(whole, self.path)
                else:
                    whole.rename(self.path)
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = torch.get_num_threads()
                options.log_severity_level = 3
                self._session = onnxruntime.InferenceSession(
                    str(self.path), options, providers=["CPUExecutionProvider"]
                )
            self._outputs = inner.outputs

    return Exported


def _axes(values: Any) -> list[str]:
    """Names of the axes whose size differs by batch: rows, tokens, and choices between them."""
    return ["rows", "tokens"] if values.ndim == 2 else ["rows", "choices", "tokens"]


def _quantize(whole: Path, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(whole), str(path), weight_type=QuantType.QInt8)
    whole.unlink()


@contextmanager
def _translated(model: Any) -> Iterator[None]:
    """What exporters raise for a model that they can't follow, in one sentence."""
    try:
        yield
    except FtcheckError:
        raise
    except Exception as error:  # each of three libraries has errors of its own
        raise TechniqueError(
            f"export: {type(model).__name__} can't be exported to ONNX: {shown(' '.join(str(error).split()), 300)}"
        ) from error
