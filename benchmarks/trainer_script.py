"""The hand-written script that ftcheck is measured against: fine-tune on a CSV with dynamic padding, predict the test
split, print accuracy and macro-F1, save the model. Plain transformers, as a careful engineer would write it.

`python benchmarks/trainer_script.py CHECKPOINT TRAIN.csv TEST.csv OUT --rows 2000 --epochs 1 --precision bf16`
"""

from __future__ import annotations

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("out")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()

    import numpy as np
    from datasets import load_dataset
    from sklearn.metrics import accuracy_score, f1_score
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(42)
    data = load_dataset("csv", data_files={"train": options.train, "test": options.test})
    data["train"] = data["train"].select(range(options.rows))
    names = sorted(set(data["train"]["category"]))
    ids = {name: i for i, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    data["test"] = data["test"].filter(lambda row: row["category"] in ids)
    encoded = data.map(
        lambda rows: {
            **tokenizer(rows["text"], truncation=True, padding=False),
            "labels": [ids[c] for c in rows["category"]],
        },
        batched=True,
        remove_columns=data["train"].column_names,
    )
    model = AutoModelForSequenceClassification.from_pretrained(options.checkpoint, num_labels=len(names))
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=options.out,
            num_train_epochs=options.epochs,
            learning_rate=1e-4,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=options.precision == "bf16",
        ),
        train_dataset=encoded["train"],
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(options.out)
    output = trainer.predict(encoded["test"])
    predicted = np.argmax(output.predictions, axis=-1)
    print("accuracy", accuracy_score(output.label_ids, predicted))
    print("macro_f1", f1_score(output.label_ids, predicted, average="macro"))


if __name__ == "__main__":
    main()
