"""Fine-tunes on SQuAD's JSON, and judges it: exact match and F1 of the best span.

`python benchmarks/scripts/question_answering.py good CHECKPOINT train.json validation.json OUT --max-length 384`
"""

from __future__ import annotations

import collections
import json
import re
import string
from pathlib import Path
from typing import Any

import common

BEST, LONGEST = 20, 30


def questions(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "context": paragraph["context"],
            "question": asked["question"],
            "texts": [answer["text"] for answer in asked["answers"]],
            "start": asked["answers"][0]["answer_start"],
        }
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]


def main() -> None:
    given = common.options(__doc__)

    import numpy as np
    from datasets import Dataset
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer, DataCollatorWithPadding, Trainer, set_seed

    set_seed(42)
    train, test = (Dataset.from_list(questions(path)) for path in (given.train, given.test))
    tokenizer = AutoTokenizer.from_pretrained(given.checkpoint)

    def windows(rows: Any) -> Any:
        arguments = {**common.padding(given), "truncation": "only_second", "stride": given.max_length // 3}
        return tokenizer(
            rows["question"], rows["context"], **arguments, return_overflowing_tokens=True, return_offsets_mapping=True
        )

    def for_training(rows: Any) -> Any:
        encoded = windows(rows)
        places = []
        for index, row in enumerate(encoded.pop("overflow_to_sample_mapping")):
            start, end = rows["start"][row], rows["start"][row] + len(rows["texts"][row][0])
            inside = [
                place
                for place, (of, (low, high)) in enumerate(
                    zip(encoded.sequence_ids(index), encoded["offset_mapping"][index], strict=True)
                )
                if of == 1 and low < end and high > start
            ]
            offsets = encoded["offset_mapping"][index]
            whole = inside and offsets[inside[0]][0] <= start and offsets[inside[-1]][1] >= end
            places.append((inside[0], inside[-1]) if whole else (0, 0))
        encoded.pop("offset_mapping")
        return {**encoded, "start_positions": [low for low, _ in places], "end_positions": [high for _, high in places]}

    def for_judging(rows: Any, numbers: list[int]) -> Any:
        encoded = windows(rows)
        encoded["row"] = [numbers[row] for row in encoded.pop("overflow_to_sample_mapping")]
        encoded["offset_mapping"] = [
            [list(pair) if of == 1 else [-1, -1] for of, pair in zip(encoded.sequence_ids(index), pairs, strict=True)]
            for index, pairs in enumerate(encoded["offset_mapping"])
        ]
        return encoded

    trained = train.map(for_training, batched=True, remove_columns=train.column_names)
    asked = test.map(for_judging, batched=True, with_indices=True, remove_columns=test.column_names)
    if given.recipe == "good":
        asked = common.by_length(asked)
    inputs = asked.remove_columns(["row", "offset_mapping"])
    trainer = Trainer(
        AutoModelForQuestionAnswering.from_pretrained(given.checkpoint),
        common.arguments(given),
        train_dataset=trained,
        eval_dataset=test.map(for_training, batched=True, remove_columns=test.column_names),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )

    def values(output: Any) -> dict[str, float]:
        starts, ends = output.predictions
        best = [(-np.inf, "")] * len(test)
        for start, end, row, offsets in zip(starts, ends, asked["row"], asked["offset_mapping"], strict=True):
            for low in np.argsort(-start)[:BEST]:
                for high in np.argsort(-end)[:BEST]:
                    inside = max(low, high) < len(offsets) and offsets[low][0] >= 0 and offsets[high][0] >= 0
                    if inside and low <= high < low + LONGEST and start[low] + end[high] > best[row][0]:
                        text = test[row]["context"][offsets[low][0] : offsets[high][1]]
                        best[row] = (float(start[low] + end[high]), text)
        pairs = [(text, wanted) for (_, text), wanted in zip(best, test["texts"], strict=True)]
        return {
            "exact_match": float(np.mean([max(plain(t) == plain(w) for w in wanted) for t, wanted in pairs])),
            "answer_f1": float(np.mean([max(overlap(t, w) for w in wanted) for t, wanted in pairs])),
        }

    common.judge(trainer, inputs, given, values)


def plain(text: str) -> list[str]:
    """SQuAD's normalization."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def overlap(text: str, wanted: str) -> float:
    one, other = plain(text), plain(wanted)
    same = sum((collections.Counter(one) & collections.Counter(other)).values())
    return 2 * same / (len(one) + len(other)) if same else 0.0


if __name__ == "__main__":
    main()
