"""A model's card: its measured results as `model-index` metadata and as a section, in a README.md that is kept.

Both stand between marks of their own, so that a second run replaces them and leaves every other byte as it was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from ftcheck.errors import UsageError, shown
from ftcheck.report import numbers
from ftcheck.report.markup import escaped, markdown_table
from ftcheck.results import CaseResult, MetricResult

if TYPE_CHECKING:
    import yaml
    from huggingface_hub import EvalResult

BEGIN, END = "ftcheck: begin", "ftcheck: end"
"""The marks' text: a comment of YAML above, of Markdown below."""

_FRONT: Final = re.compile(r"\A(\ufeff?\s*---[ \t]*\r?\n)(.*?)(^---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE)
_OWN_YAML: Final = re.compile(
    rf"^([ \t]*)# {BEGIN}\r?\n(.*?)^[ \t]*# {END}[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE
)
_OWN_TEXT: Final = re.compile(rf"<!-- {BEGIN} -->.*?<!-- {END} -->", re.DOTALL)


def update(card: str, name: str, results: Sequence[CaseResult], *, version: str, measured: str) -> str:
    """The card with the results of a model called `name`; an empty one is begun. `measured` is a day, ISO 8601.

    Raises UsageError: the card's metadata can't be read, or is written in a way that nothing can be added to.
    """
    newline = "\r\n" if "\r\n" in card else "\n"
    found = _FRONT.match(card)
    head, metadata, tail = found.groups() if found else ("---\n".replace("\n", newline), "", f"---{newline}")
    body = card[found.end() :] if found else card
    if not found:
        body = f"{newline}{body}" if body else f"{newline}# {name}{newline}"
    evaluated = [entry for result in results for entry in _evaluated(result)]
    front = head + _metadata(metadata, name, evaluated, newline) + tail
    whole = front + _body(body, _section(results, version, measured), newline)
    _check(whole, evaluated)
    return whole


def _evaluated(result: CaseResult) -> list[EvalResult]:
    """A result's metrics as the Hub's model index has them; the interval is in the metric's name and its arguments."""
    from huggingface_hub import EvalResult

    data = result.data
    assert data is not None, "callers refuse results without data"
    return [
        EvalResult(
            task_type=result.task,
            dataset_type=shown(data.name, 200),
            dataset_name=shown(f"{data.name} ({data.config})" if data.config else data.name, 200),
            dataset_config=data.config or None,
            dataset_split=data.split or None,
            dataset_revision=data.revision or None,
            metric_type=metric.name,
            metric_name=_metric_name(metric, result),
            metric_value=round(metric.value, 6),
            metric_args=_arguments(metric, result),
        )
        for metric in _measured(result)
    ]


def _measured(result: CaseResult) -> list[MetricResult]:
    """Metrics that were estimated from examples: no costs, nothing that is no number."""
    return [metric for metric in result.metrics if metric.examples and math.isfinite(metric.value)]


def _metric_name(metric: MetricResult, result: CaseResult) -> str:
    """`accuracy (95 % interval 0.902 to 0.921, mean of 3 seeds)`."""
    told = []
    if metric.interval is not None:
        low, high = (numbers.plain(v, numbers.places(metric)) for v in (metric.interval.low, metric.interval.high))
        told.append(f"{100 * metric.interval.confidence:g} % interval {low} to {high}")
    if len(result.seeds) > 1:
        told.append(f"mean of {len(result.seeds)} seeds")
    return shown(f"{metric.name} ({', '.join(told)})" if told else metric.name, 300)


def _arguments(metric: MetricResult, result: CaseResult) -> dict[str, Any]:
    found: dict[str, Any] = {"verdict": result.verdict, "examples": metric.examples}
    if metric.interval is not None:
        found |= {
            "low": round(metric.interval.low, 6),
            "high": round(metric.interval.high, 6),
            "confidence": metric.interval.confidence,
        }
    return found


def _metadata(metadata: str, name: str, evaluated: Sequence[EvalResult], newline: str) -> str:
    """The YAML with these results in its model index: where they were, else among others', else in an index of their
    own."""
    from huggingface_hub.repocard_data import eval_results_to_model_index

    index = eval_results_to_model_index(name, list(evaluated))
    own = _OWN_YAML.search(metadata)
    if own is not None:
        whole = own[2].lstrip().startswith("model-index:")
        block = _block({"model-index": index} if whole else index[0]["results"], own[1], newline)
        return metadata[: own.start()] + block + metadata[own.end() :]
    place = _results_of(metadata, name)
    if place is None:
        return metadata + _block({"model-index": index}, "", newline)
    block = _block(index[0]["results"], place.indent, newline)
    before = metadata[: place.start]
    if not before.endswith(newline):
        before = before.rstrip() + newline
    return before + block + metadata[place.end :].removeprefix(newline if place.emptied else "")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the metadata results are to be put: from `start` to `end` is taken out."""

    start: int
    end: int
    indent: str
    emptied: bool
    """Whether an empty list (`[]`) stands there, with the line's end after it."""


def _results_of(metadata: str, name: str) -> _Place | None:
    """Where the results of a model end in a model index that the card has; None where it has none.

    Of several models the one called `name`, else the first. Raises UsageError.
    """
    import yaml

    try:
        tree = yaml.compose(metadata, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"the card's metadata is no YAML: {shown(error, 300)}") from None
    if tree is not None and not isinstance(tree, yaml.MappingNode):
        raise UsageError("the card's metadata is none that the Hub reads: it is no mapping of keys to values")
    models = _value(tree, "model-index")
    if models is None:
        return None
    entries = models.value if isinstance(models, yaml.SequenceNode) else []
    named = [entry for entry in entries if getattr(_value(entry, "name"), "value", None) == name]
    found = _value((named or entries)[0], "results") if entries else None
    if not isinstance(found, yaml.SequenceNode) or (found.flow_style and found.value):
        raise UsageError(
            "the card's model-index is written in a way that no results can be added to: give its model a list "
            "`results:` with an entry a line, or take it out"
        )
    if found.flow_style:  # `results: []`, as the Trainer writes it
        start = found.start_mark.index
        column = metadata.rfind("\n", 0, start) + 1
        indent = re.match(r"[ \t-]*", metadata[column:start])
        return _Place(start, found.end_mark.index, " " * len(indent[0] if indent else ""), emptied=True)
    # A block's end mark is where the next thing begins, behind blank lines and comments.
    last = _last_line(metadata, found)
    return _Place(last, last, " " * found.start_mark.column, emptied=False)


def _last_line(metadata: str, node: yaml.SequenceNode) -> int:
    """Where the line behind the last one of a block begins."""
    end = len(metadata[: node.end_mark.index].rstrip())
    line = metadata.find("\n", end)
    return len(metadata) if line < 0 else line + 1


def _value(node: Any, key: str) -> Any:
    """The node under `key` of a mapping node; None where there is none."""
    import yaml

    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _block(content: Any, indent: str, newline: str) -> str:
    """YAML between marks, every line of it indented."""
    import yaml

    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    lines = [f"# {BEGIN}", *text.splitlines(), f"# {END}"]
    return "".join(f"{indent}{line}{newline}" for line in lines)


def _body(body: str, section: Sequence[str], newline: str) -> str:
    """The text with the section where it was, else at its end."""
    block = newline.join((f"<!-- {BEGIN} -->", *section, f"<!-- {END} -->"))
    if _OWN_TEXT.search(body):
        return _OWN_TEXT.sub(lambda _: block, body, count=1)
    gap = "" if body.endswith(2 * newline) else newline if body.endswith(newline) else 2 * newline
    return f"{body}{gap}{block}{newline}"


def _section(results: Sequence[CaseResult], version: str, measured: str) -> list[str]:
    lines = ["## Evaluation", ""]
    for result in results:
        lines += [*_case(result), ""]
    day = date.fromisoformat(measured[:10])
    lines.append(f"Measured with ftcheck {escaped(version)}, results of {day}.")
    return lines


def _case(result: CaseResult) -> list[str]:
    data = result.data
    assert data is not None, "callers refuse results without data"
    on = escaped(data.name) + (f" ({escaped(data.config)})" if data.config else "")
    on += f", split {escaped(data.split)}" if data.split else ""
    on += f" at {escaped(data.revision[:10])}" if data.revision else ""
    seeds = numbers.count(len(result.seeds), "seed")
    suite = PurePath(result.suite).name
    metrics = _measured(result)
    header = ["metric", "value", "interval", "demanded"]
    rows = [
        [
            metric.name,
            numbers.value(metric),
            numbers.interval(metric.interval, numbers.places(metric)) if metric.interval else "none",
            ", ".join(
                f"{gate.demand}: {gate.verdict}"
                for gate in result.gates
                if gate.metric == metric.name and not gate.part
            ),
        ]
        for metric in metrics
    ]
    lines = [
        f"**{result.verdict}**: `{suite}::{result.case_id}`, {escaped(result.task)} on {on}, "
        f"{numbers.count(result.examples, 'example')}, {seeds}, {escaped(result.device)} {escaped(result.precision)}.",
        "",
        *markdown_table(header, rows, right=[False, True, False, False]),
    ]
    intervals = [metric.interval for metric in metrics if metric.interval is not None]
    if not intervals:
        return lines
    of = "the recipe, over seeds" if intervals[0].about == "recipe" else "this model"
    mean = "Values are means over seeds. " if len(result.seeds) > 1 else ""
    return [*lines, "", f"{mean}Intervals (of {100 * intervals[0].confidence:g} %) are those of {of}."]


def _check(card: str, evaluated: Sequence[EvalResult]) -> None:
    """Raise UsageError unless the Hub's own reader finds all these results in the card."""
    import yaml
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import model_index_to_eval_results

    try:
        data = ModelCard(card).data
        read = data.eval_results or model_index_to_eval_results(data.to_dict()["model-index"])[1]
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UsageError(f"the card's metadata is none that the Hub reads: {shown(error, 300)}") from None
    missing = [entry for entry in evaluated if entry not in read]
    if missing:
        raise UsageError(
            f"the Hub's reader does not find {shown(missing[0].metric_type)} in this card: is its model-index in order?"
        )
