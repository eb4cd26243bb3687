"""Fine-tunes on a CSV with columns `text` and `category`, and judges it: accuracy and macro-F1.

`python benchmarks/scripts/text_classification.py good CHECKPOINT train.csv test.csv OUT --epochs 3 --precision bf16`
"""

from __future__ import annotations

from typing import Any

import common


def main() -> None:
    given = common.options(__doc__)

    import numpy as np
    from datasets import load_dataset
    from sklearn.metrics import accuracy_score, f1_score
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        set_seed,
    )

    set_seed(42)
    data = load_dataset("csv", data_files={"train": str(given.train), "test": str(given.test)})
    names = sorted(set(data["train"]["category"]))
    ids = {name: index for index, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(given.checkpoint)

    def encode(rows: Any) -> dict[str, Any]:
        encoded = tokenizer(rows["text"], **common.padding(given))
        return {**encoded, "labels": [ids[name] for name in rows["category"]]}

    encoded = data.map(encode, batched=True, remove_columns=data["train"].column_names)
    judged = encoded["test"] if given.recipe == "guide" else common.by_length(encoded["test"])
    trainer = Trainer(
        AutoModelForSequenceClassification.from_pretrained(given.checkpoint, num_labels=len(names)),
        common.arguments(given),
        train_dataset=encoded["train"],
        eval_dataset=judged,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )

    def values(output: Any) -> dict[str, float]:
        predicted = np.argmax(output.predictions, axis=-1)
        return {
            "accuracy": float(accuracy_score(output.label_ids, predicted)),
            "macro_f1": float(f1_score(output.label_ids, predicted, average="macro")),
        }

    common.judge(trainer, judged, given, values)


if __name__ == "__main__":
    main()
