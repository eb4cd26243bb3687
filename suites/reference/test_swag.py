"""SWAG, whose four choices stand in columns of their own: a function makes the rows that multiple-choice reads."""

import pytest

import ftcheck


def swag():
    """Training and validation rows; the labels of `test` are hidden."""
    from datasets import load_dataset

    def row(given):
        choices = [given[f"ending{place}"] for place in range(4)]
        return {"context": given["sent1"], "question": given["sent2"], "choices": choices}

    splits = load_dataset("allenai/swag", "regular", revision="main")
    columns = ["context", "question", "choices", "label"]
    return {name: splits[name].map(row).select_columns(columns) for name in ("train", "validation")}


@pytest.mark.hub
@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.parametrize(
    ("checkpoint", "training", "gates"),
    [
        # Recipe and figure: transformers, examples/pytorch/multiple-choice/README.md: accuracy 0.834.
        pytest.param(
            "FacebookAI/roberta-base",
            {"num_train_epochs": 3, "learning_rate": 5e-5, "per_device_train_batch_size": 16},
            {"accuracy": {"min": 0.83}},
            id="roberta",
        ),
        # Recipe and figure: Devlin et al. 2019, section 4.4: accuracy 81.6 on these rows.
        pytest.param(
            "google-bert/bert-base-uncased",
            {"num_train_epochs": 3, "learning_rate": 2e-5, "per_device_train_batch_size": 16},
            {"accuracy": {"min": 0.80}},
            id="bert",
        ),
    ],
)
@ftcheck.case(
    task={"name": "multiple-choice", "max_length": 128},
    data={"path": swag, "splits": {"eval": "validation"}},
    keep_model="none",
)
def test_swag(checkpoint, training, gates):
    """Which of four endings follows a sentence."""
