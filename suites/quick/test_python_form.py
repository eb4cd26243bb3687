"""The quick suites' Python form: a case as a test function, whose body looks at what was judged."""

import ftcheck


@ftcheck.case(
    checkpoint="../../fixtures/encoder",
    task={"name": "text-classification", "max_length": 64},
    data={
        "path": "csv",
        "files": {
            "train": "../../fixtures/data/messages/train.csv",
            "test": "../../fixtures/data/messages/test.csv",
        },
        "columns": {"label": "intent"},
        "limit": {"train": 600},
    },
    training={"num_train_epochs": 3, "learning_rate": 1e-3, "per_device_train_batch_size": 32},
    precision="fp32",
    gates={"accuracy": {"min": 0.87}},  # five seeds: 0.942, standard deviation 0.017
)
def test_messages(finetuned):
    """Ten intents from half of the training rows."""
    assert finetuned.metrics["macro_f1"] > 0.86
    long = [record for record in finetuned.examples if record["length"] > 60]
    right = sum(record["prediction"] == record["reference"] for record in long)
    assert right > 0.8 * len(long) > 0, f"{right} of {len(long)} long messages were understood"
