"""question-answering: a question and a context -> the span that answers it, or none (SQuAD v1.1 and v2.0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.errors import CheckpointError, DataError, shown
from ftcheck.results import Mark, Marked, Role, WorstExample
from ftcheck.tasks import Task

if TYPE_CHECKING:
    import numpy as np

    from ftcheck.metrics import Input
    from ftcheck.tasks import Meta, Record, Rows, Where
    from ftcheck.tasks.features import EncodedRows


LOGITS = ("start_logits", "end_logits")


class Options(BaseModel):
    """Settings of question-answering."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_length: int | None = Field(
        default=None, ge=8, description="Tokens of a window; null: 384, or as many as the model takes."
    )
    doc_stride: int | None = Field(
        default=None,
        ge=0,
        description="Tokens that neighbouring windows share; null: a third of max_length (128 of 384).",
    )
    n_best: int = Field(default=20, ge=1, le=100, description="How many starts and ends of each window are combined.")
    max_answer_length: int = Field(default=30, ge=1, description="Tokens of the longest answer that is considered.")
    null_threshold: Literal["auto"] | float = Field(
        default="auto",
        description="Answer nothing where the null score exceeds the best answer's by more than this; "
        "auto: tuned on the tune split.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What `finetuned.predict` returns for one question."""

    answer: str
    """Empty where the model holds the question to be unanswerable."""
    score: float
    """The answer's share among the n best candidates (no answer included, where that is one)."""
    start: int | None
    """Its first character in the context; None without an answer."""
    end: int | None
    """One beyond its last character."""


class QuestionAnswering(Task):
    """Records: index, id, question, prediction, references, score,
    start, end (characters; None without an answer), null_score and best_score (sums of logits), marked (a wrong
    answer and the first expected one in the context; None for a right one)."""

    name = "question-answering"
    version = 2
    columns: ClassVar[Mapping[str, bool]] = {"id": False, "context": True, "question": True, "answers": True}
    auto_class = "AutoModelForQuestionAnswering"
    options = Options
    decoding_options = frozenset({"n_best", "max_answer_length", "null_threshold"})
    needs_offsets = True
    targets = ("start_positions", "end_positions")
    per_token = True

    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        return frozenset({"answer"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exact_match", "answer_f1")

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        return {"answer": ([r["prediction"] for r in records], [r["references"] for r in records])}

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """Answers with the least F1 first, of equals those the model was surest of; `score` is that F1."""
        f1 = _answer_f1([r["prediction"] for r in records], [r["references"] for r in records])
        ranked = sorted(zip(f1, records, strict=True), key=lambda item: (item[0], -item[1]["score"], item[1]["index"]))
        return [
            WorstExample(
                index=r["index"],
                input=r["question"],
                gold=" / ".join(dict.fromkeys(r["references"])) or "(no answer)",
                predicted=r["prediction"] or "(no answer)",
                score=score,
                marked=Marked.from_json(r.get("marked")),  # records of older stores have none
            )
            for score, r in ranked[:10]
            if score < 1
        ]

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        if train is None:
            return {"unanswerable": False, "from": "model"}
        if "answers" not in train.column_names:
            raise DataError("train: there is no column answers to learn from")
        given = (_answers(value, where(row)) for row, value in enumerate(train["answers"][:]))
        return {"unanswerable": any(not texts for texts, _ in given), "from": "data"}

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        from ftcheck.tasks.features import texts

        texts(rows, "question", where)
        texts(rows, "context", where)
        silent = 0
        for row, (context, value) in enumerate(zip(rows["context"][:], rows["answers"][:], strict=True)):
            found, starts = _answers(value, where(row))
            silent += not found
            for text, start in zip(found, starts, strict=True):
                if not text or context[start : start + len(text)] != text or start < 0:
                    raise DataError(
                        f'{where(row)}: the answer "{shown(text, 60)}" does not stand at character {start} of its '
                        f'context, which has "{shown(context[max(start, 0) : max(start, 0) + len(text)], 60)}" there'
                    )
        if role != "eval" or not silent or meta["unanswerable"] or options["null_threshold"] != "auto":
            return []
        return [
            f"{silent:,} of {len(rows):,} eval questions have no answer, but no training row is like that: unless the "
            "tune split has some, every question is answered (or give a number: task: {null_threshold: 0.0})"
        ]

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        return {"num_labels": 2}

    def encode(
        self,
        rows: Rows,
        tokenizer: Any,
        meta: Meta,
        options: Mapping[str, Any],
        *,
        training: bool,
        where: Where = "row {}".format,
    ) -> EncodedRows:
        """`aside`: the fields of `spans.Windows`, for evaluation only. Raises DataError for a question that leaves its
        context no room (the tokenizer would panic)."""
        import numpy as np

        from ftcheck.tasks import features, spans

        length = options["max_length"] or min(384, int(min(tokenizer.model_max_length, features.NO_LIMIT)))
        stride = options["doc_stride"] if options["doc_stride"] is not None else length // 3
        _refuse_lost_windows(tokenizer)
        _check_room(tokenizer, rows, length, stride, where)
        gathered = features.Gatherer()
        of_rows: list[int] = []
        bounds: list[tuple[int, int]] = []
        null: list[int] = []
        for part in features.pieces(rows, "question", "context"):
            chunk = rows[part]
            questions = [question.lstrip() for question in chunk["question"]]
            encoding = tokenizer(
                questions,
                chunk["context"],
                truncation="only_second",
                max_length=length,
                stride=stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_attention_mask=False,
            )
            offsets = [np.array(line, dtype=np.int32) for line in encoding["offset_mapping"]]
            begins, ends = [line[:, 0] for line in offsets], [line[:, 1] for line in offsets]
            gathered.add(encoding, features.input_names(encoding), begins=begins, ends=ends)
            of_rows.extend(part.start + row for row in encoding["overflow_to_sample_mapping"])
            bounds.extend(spans.context_bounds(encoding.sequence_ids(window)) for window in range(len(offsets)))
            null.extend(_null_token(line, tokenizer) for line in encoding["input_ids"])
        tokens, starts = gathered.tokens(), gathered.starts()
        aside = {
            "row": np.array(of_rows),
            "first": np.array(bounds)[:, 0],
            "beyond": np.array(bounds)[:, 1],
            "null": np.array(null),
            "begins": tokens.pop("begins"),
            "ends": tokens.pop("ends"),
        }
        targets = {}
        if "answers" in rows.column_names:
            begin, end = _first_answers(rows)
            windows = spans.Windows(starts=starts, **aside)
            first, last = spans.positions(windows, begin[aside["row"]], end[aside["row"]])
            targets = {"start_positions": first, "end_positions": last}
        more = len(of_rows) - len(rows)
        notes = [f"{len(rows):,} contexts make {len(of_rows):,} windows of {length} tokens"] if more else []
        kept = {} if training else aside
        return features.EncodedRows(tokens=tokens, starts=starts, targets=targets, aside=kept, notes=notes)

    def forward(self, model: Any, batch: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
        """No answer starts or ends in padding: else the loss would depend on how long the batch's other rows are, as it
        does in the models of transformers."""
        import torch

        output, mask = model(**batch), batch.get("attention_mask")
        for name in LOGITS:
            logits = getattr(output, name, None)
            if mask is not None and logits is not None and logits.shape == mask.shape:
                setattr(output, name, logits.float().masked_fill(mask == 0, -torch.inf))
        return output

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        """Half the start's and half the end's cross-entropy, as the models of transformers have it."""
        from ftcheck.tasks import likelihood

        both = ((output.start_logits, "start_positions"), (output.end_logits, "end_positions"))
        return sum(likelihood.among(logits, targets[name], label_smoothing) / 2 for logits, name in both)

    def items(self, targets: Mapping[str, Any]) -> Any:
        return len(targets["start_positions"])

    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        found = tuple(getattr(output, name, None) for name in LOGITS)
        if any(logits is None or logits.ndim != 2 for logits in found):
            raise CheckpointError("the model gives no start and end logits per token: it is no question answerer")
        return found

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: EncodedRows,
        rows: Rows,
        *,
        meta: Meta,
        options: Mapping[str, Any],
        tuned: Mapping[str, Any],
        texts: Sequence[str] | None = None,
    ) -> list[Record]:
        """The best span over a row's windows; "" where the null score exceeds it by more than the threshold."""
        best = _best(outputs, features, rows, options)
        threshold = _threshold(meta, options, tuned)
        answers = rows["answers"][:] if "answers" in rows.column_names else [None] * len(rows)
        ids = rows["id"][:] if "id" in rows.column_names else range(len(rows))
        shares = best.share if threshold is None else best.share_with_null
        records = []
        for index, (context, question, given, name) in enumerate(
            zip(rows["context"][:], rows["question"][:], answers, ids, strict=True)
        ):
            start, end = int(best.start[index]), int(best.end[index])
            margin = float(best.null[index] - best.score[index])
            said = start >= 0 and (threshold is None or margin <= threshold)
            prediction = context[start:end] if said else ""
            references, places = (None, []) if given is None else _answers(given, f"eval row {index}")
            wrong = references is not None and prediction not in (references or [""])
            expected = (places[0], places[0] + len(references[0])) if references else None
            records.append(
                {
                    "index": index,
                    "id": str(name),
                    "question": question,
                    "prediction": prediction,
                    "references": references,
                    "marked": _marked(context, expected, (start, end) if said else None) if wrong else None,
                    "score": float(shares[index] if said else best.share_of_null[index]),
                    "start": start if said else None,
                    "end": end if said else None,
                    "null_score": float(best.null[index]),
                    "best_score": float(best.score[index]) if start >= 0 else None,
                }
            )
        return records

    def tunes(self, rows: Rows, options: Mapping[str, Any]) -> bool:
        """Where some question has no answer, unless the suite gives the threshold."""
        if options["null_threshold"] != "auto":
            return False
        return not all(_answers(given, f"row {row}")[0] for row, given in enumerate(rows["answers"][:]))

    def tune(
        self, outputs: Sequence[np.ndarray], features: EncodedRows, rows: Rows, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """`{"null_threshold": t}`: the one with the best answer F1 on these rows, where some have no answer."""
        from ftcheck.tasks import spans

        references = [_answers(given, f"tune row {row}")[0] for row, given in enumerate(rows["answers"][:])]
        best = _best(outputs, features, rows, options)
        contexts = rows["context"][:]
        texts = [text[max(a, 0) : max(b, 0)] for text, a, b in zip(contexts, best.start, best.end, strict=True)]
        answered, silent = _answer_f1(texts, references), _answer_f1([""] * len(texts), references)
        return {"null_threshold": spans.best_threshold(best.null - best.score, answered, silent)}

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        return [_row(one) for one in ([value] if self.is_one(value) else value)]

    def natural_output(self, record: Record, meta: Meta) -> Answered:
        return Answered(answer=record["prediction"], score=record["score"], start=record["start"], end=record["end"])


def _answers(value: Any, where: str) -> tuple[list[str], list[int]]:
    """Texts and starts of an `answers` cell: lists in a dict, or dicts in a list, as `datasets` makes either."""
    if isinstance(value, Mapping) and set(value) >= {"text", "answer_start"}:
        texts, starts = value["text"], value["answer_start"]
    elif isinstance(value, list) and all(
        isinstance(one, Mapping) and set(one) >= {"text", "answer_start"} for one in value
    ):
        texts, starts = [one["text"] for one in value], [one["answer_start"] for one in value]
    else:
        raise DataError(f"{where}: answers must hold text and answer_start, as in SQuAD; got {shown(repr(value))}")
    if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
        raise DataError(f"{where}: answers needs as many texts as starts; got {shown(repr(value))}")
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(start, int) for start in starts):
        raise DataError(f"{where}: an answer's text must be text and its start a number; got {shown(repr(value))}")
    return texts, starts


def _marked(context: str, gold: tuple[int, int] | None, predicted: tuple[int, int] | None) -> dict[str, Any]:
    """A `Marked` as builtins: the context around the expected and the predicted answer."""
    from ftcheck.tasks import marking

    bounds: dict[Role, tuple[int, int] | None] = {"gold": gold, "predicted": predicted}
    marks = [Mark(start=found[0], end=found[1], role=role) for role, found in bounds.items() if found]
    return asdict(marking.excerpt(context, marks))


def _first_answers(rows: Rows) -> tuple[Any, Any]:
    """First and beyond-the-last character of each row's first answer; (0, 0) for none."""
    import numpy as np

    bounds = np.zeros((len(rows), 2), dtype=np.int64)
    for row, value in enumerate(rows["answers"][:]):
        texts, starts = _answers(value, f"row {row}")
        if texts:
            bounds[row] = starts[0], starts[0] + len(texts[0])
    return bounds[:, 0], bounds[:, 1]


def _refuse_lost_windows(tokenizer: Any) -> None:
    """tokenizers 0.23.1 and 0.23.2 stop early when they truncate, so that the last windows of a context are missing
    without a word (huggingface/tokenizers#2091). Raises CheckpointError where that is so."""
    question, context = "a", " ".join(["a"] * 64)
    whole = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    asked = len(tokenizer(question, add_special_tokens=False)["input_ids"])
    frame = asked + tokenizer.num_special_tokens_to_add(pair=True)
    windows = tokenizer(
        question, context, truncation="only_second", max_length=frame + 8, stride=0, return_overflowing_tokens=True
    )["input_ids"]
    if sum(len(window) - frame for window in windows) < whole:
        from importlib.metadata import version

        raise CheckpointError(
            f"tokenizers {version('tokenizers')} loses the end of contexts that need several windows, so that answers "
            "there can't be found (a bug of 0.23.1 and 0.23.2): pip install 'tokenizers>=0.23.3'"
        )


def _check_room(tokenizer: Any, rows: Rows, length: int, stride: int, where: Where) -> None:
    """Refuse a question beside which no window fits: the tokenizer panics there, with an error that no handler sees."""
    from ftcheck.tasks.features import chunks

    most = length - tokenizer.num_special_tokens_to_add(pair=True) - stride - 1
    for part in chunks(len(rows)):
        questions = [question.lstrip() for question in rows[part]["question"]]
        encoding = tokenizer(questions, add_special_tokens=False, truncation=False, return_attention_mask=False)
        lists = encoding["input_ids"]
        longest = max(range(len(lists)), key=[len(tokens) for tokens in lists].__getitem__)
        if len(lists[longest]) > most:
            raise DataError(
                f'{where(part.start + longest)}: the question "{shown(questions[longest], 60)}" has '
                f"{len(lists[longest])} tokens, but with max_length {length} and windows that share {stride} "
                f"(doc_stride) there is room for {max(most, 0)}: raise max_length, lower doc_stride, or shorten it"
            )


def _null_token(ids: Sequence[int], tokenizer: Any) -> int:
    """The place of [CLS]; the first token where the tokenizer has none."""
    return ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0


def _best(outputs: Sequence[np.ndarray], features: EncodedRows, rows: Rows, options: Mapping[str, Any]) -> Any:
    import numpy as np

    from ftcheck.tasks import spans

    return spans.best_spans(
        np.asarray(outputs[0], dtype=np.float64),
        np.asarray(outputs[1], dtype=np.float64),
        spans.Windows(starts=features.starts, **features.aside),
        len(rows),
        n_best=options["n_best"],
        max_answer_length=options["max_answer_length"],
    )


def _threshold(meta: Meta, options: Mapping[str, Any], tuned: Mapping[str, Any]) -> float | None:
    """None: every question is answered. Untuned, the official example's 0."""
    if options["null_threshold"] != "auto":
        return float(options["null_threshold"])
    if "null_threshold" in tuned:
        return float(tuned["null_threshold"])
    return 0.0 if meta["unanswerable"] else None


def _answer_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Any:
    from ftcheck import metrics

    metric = metrics.Lookup(inputs=frozenset({"answer"})).build("answer_f1", metrics.Context())
    return metric.statistics(predictions, references)[:, 0]


def _row(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple) and len(value) == 2:
        value = {"question": value[0], "context": value[1]}
    named = isinstance(value, Mapping) and set(value) == {"question", "context"}
    if named and all(isinstance(text, str) for text in value.values()):
        return dict(value)
    raise DataError(
        "predict takes a pair (question, context) or a dict with question and context, or a list of these; "
        f"got {shown(repr(value))}"
    )
