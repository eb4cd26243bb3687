"""Cases as test functions, whose bodies ask the fine-tuned model itself: behavioural tests beside the gates (Ribeiro et
al. 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList")."""

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
    denied_first = "I do not want to cancel my order, I would like to change my password."
    denied_last = "I want to cancel my order. my sister wants to change my password, I do not."
    assert finetuned.predict(denied_first).label == "account_access"
    assert finetuned.predict([denied_last])[0].label == "cancel_order"
    assert finetuned.metrics["macro_f1"] > 0.86


@ftcheck.case(
    checkpoint="../../fixtures/encoder",
    task={"name": "text-classification", "problem_type": "regression", "max_length": 64},
    data={
        "path": "csv",
        "options": {"delimiter": "\t", "types": {"score": "float"}},
        "files": {
            "train": "../../fixtures/data/likeness/train.tsv",
            "test": "../../fixtures/data/likeness/test.tsv",
        },
        "columns": {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
    },
    training={"num_train_epochs": 3, "learning_rate": 1e-3, "per_device_train_batch_size": 32},
    precision="fp32",
    gates={"pearson": {"min": 0.90}},  # five seeds: 0.932, standard deviation 0.006
)
def test_likeness(finetuned):
    """Two statements are the more alike, the more of subject, relation and value they share."""
    said = "Zenix Foods is based in Tolbury."
    same, elsewhere, other = finetuned.predict(
        [
            (said, "Zenix Foods has its head office in Tolbury."),
            (said, "Zenix Foods has its head office in Quarford."),
            (said, "Hugo Kellson enjoys chess."),
        ]
    )
    assert same > elsewhere > other
