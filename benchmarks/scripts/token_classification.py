"""Fine-tunes a tagger on files in CoNLL's form (a word and its tag a line), and judges it: entity F1 by seqeval.

`python benchmarks/scripts/token_classification.py good CHECKPOINT train.conll test.conll OUT --precision bf16`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common


def sentences(path: Path) -> list[dict[str, list[str]]]:
    found = []
    for block in path.read_text(encoding="utf-8").replace("\t\n", "\n").split("\n\n"):
        lines = [line.split("\t") for line in block.split("\n") if "\t" in line]
        if lines:
            found.append({"tokens": [line[0] for line in lines], "tags": [line[1] for line in lines]})
    return found


def main() -> None:
    given = common.options(__doc__)

    import numpy as np
    from datasets import Dataset
    from seqeval.metrics import f1_score
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        set_seed,
    )

    set_seed(42)
    train, test = (Dataset.from_list(sentences(path)) for path in (given.train, given.test))
    names = sorted({tag for tags in train["tags"] for tag in tags})
    ids = {name: index for index, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(given.checkpoint)

    def encode(rows: Any) -> Any:
        encoded = tokenizer(rows["tokens"], is_split_into_words=True, **common.padding(given))
        encoded["labels"] = [
            [
                -100 if word is None or word == before else ids.get(tags[word], ids["O"])
                for before, word in zip([None, *words[:-1]], words, strict=True)
            ]
            for tags, words in ((tags, encoded.word_ids(row)) for row, tags in enumerate(rows["tags"]))
        ]
        return encoded

    train, test = (part.map(encode, batched=True, remove_columns=part.column_names) for part in (train, test))
    judged = test if given.recipe == "guide" else common.by_length(test)
    trainer = Trainer(
        AutoModelForTokenClassification.from_pretrained(given.checkpoint, num_labels=len(names)),
        common.arguments(given),
        train_dataset=train,
        eval_dataset=judged,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        processing_class=tokenizer,
    )

    def values(output: Any) -> dict[str, float]:
        rows = zip(np.argmax(output.predictions, axis=-1), output.label_ids, strict=True)
        both = [
            ([names[p] for p, w in zip(a, b, strict=True) if w != -100], [names[w] for w in b if w != -100])
            for a, b in rows
        ]
        return {"entity_f1": float(f1_score([wanted for _, wanted in both], [predicted for predicted, _ in both]))}

    common.judge(trainer, judged, given, values)


if __name__ == "__main__":
    main()
