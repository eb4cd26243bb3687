"""`class_weights` and `focal`: losses as in the literature, that count what is trained on and find rare classes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ftcheck.errors import TechniqueError
from ftcheck.finetune.session import FineTuning
from tests.finetune.jobs import SENTENCES, TEXTS, Row, loaded
from tests.keys import inputs
from tests.techniques.trainings import a_job, case_of, mistakes, tuning

TOKENS = "token-classification"
SETS = {"problem_type": "multi_label_classification"}
LABELS = torch.tensor([0, 1, 1, 2, 1])
LOGITS = torch.tensor([[0.5, -1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 3.0, 0.0], [9.0, 0.0, -9.0], [40.0, -40.0, 0.0]])
FLAGS = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])


def summed(named: dict[str, Any], logits: Any, labels: Any, **fields: Any) -> Any:
    """The loss that a case with these techniques ends up with, of logits and labels."""
    job = a_job(named, **fields)
    count = 3 if labels.is_floating_point() else int(labels.max()) + 1
    context: Any = SimpleNamespace(job=job, meta={"labels": [f"c{number}" for number in range(count)]})
    loss: Any = None
    with FineTuning(job) as made:
        for technique in made.applied.techniques:
            given = np.asarray(labels if labels.is_floating_point() else labels.reshape(-1))
            technique.features(SimpleNamespace(targets={"labels": given}, tokens={}), None, context)  # type: ignore[arg-type]
            loss = technique.loss(loss, context, None)
    return loss(SimpleNamespace(logits=logits), {"labels": labels}, {})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_and_label_smoothing_are_torchs(smoothing: float) -> None:
    weights = [0.5, 2.0, 3.0]
    expected = cross_entropy(LOGITS, LABELS, weight=torch.tensor(weights), label_smoothing=smoothing, reduction="sum")
    training = {"label_smoothing_factor": smoothing}
    assert torch.equal(summed({"class_weights": weights}, LOGITS, LABELS, training=training), expected)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    weights = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    expected = cross_entropy(LOGITS, LABELS, weight=torch.tensor(weights).float(), reduction="sum")
    assert float(summed({"class_weights": "balanced"}, LOGITS, LABELS)) == pytest.approx(float(expected), rel=1e-6)
    assert weights[LABELS].mean() == pytest.approx(1)


def test_a_class_that_a_mapping_does_not_name_weighs_one() -> None:
    assert torch.equal(
        summed({"class_weights": {"c1": 2}}, LOGITS, LABELS), summed({"class_weights": [1, 2, 1]}, LOGITS, LABELS)
    )


def test_of_sets_of_classes_weights_are_of_positives() -> None:
    """torch's `pos_weight`; balanced: as many negatives as there are for each positive."""
    found = summed({"class_weights": "balanced"}, LOGITS, FLAGS, options=SETS)
    weight = torch.tensor([3 / 2, 2 / 3, 3 / 2])
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=weight, reduction="sum")(LOGITS, FLAGS)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 3.0]])
def test_the_focal_loss_is_its_formula(gamma: float, weights: list[float] | None) -> None:
    named: dict[str, Any] = {"focal": gamma} if weights is None else {"class_weights": weights, "focal": gamma}
    probabilities = LOGITS.double().softmax(-1)[torch.arange(5), LABELS]
    weight = torch.tensor([1.0] * 3 if weights is None else weights).double()[LABELS]
    expected = -(weight * (1 - probabilities) ** gamma * probabilities.log()).sum()
    assert float(summed(named, LOGITS, LABELS)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_focal_loss_of_sets_counts_each_class_of_its_own(gamma: float) -> None:
    given = LOGITS.double().sigmoid().clamp(1e-300)
    right = torch.where(FLAGS > 0, given, torch.special.expit(-LOGITS.double()))
    weight = 1 + (torch.tensor([0.5, 2.0, 3.0]) - 1) * FLAGS
    expected = -(weight * (1 - right) ** gamma * right.log()).sum()
    found = summed({"class_weights": [0.5, 2.0, 3.0], "focal": gamma}, LOGITS, FLAGS, options=SETS)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "named", [{"class_weights": "balanced"}, {"focal": 2}, {"class_weights": [1, 2, 3], "focal": 1}]
)
def test_tokens_without_a_label_count_nothing(named: dict[str, Any]) -> None:
    logits = torch.cat([LOGITS, 7 * LOGITS]).view(2, 5, 3)
    labels = torch.cat([LABELS, torch.full_like(LABELS, -100)]).view(2, 5)
    padded = summed(named, logits, labels, task=TOKENS)
    assert float(padded) == pytest.approx(float(summed(named, LOGITS, LABELS, task=TOKENS)), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_what_is_certain_has_a_finite_slope(gamma: float) -> None:
    logits = torch.tensor([[90.0, -90.0], [-90.0, 90.0]], requires_grad=True)
    summed({"focal": gamma}, logits, torch.tensor([0, 1])).backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.e2e
@pytest.mark.parametrize("named", [{"class_weights": "balanced"}, {"focal": 2}], ids=["class_weights", "focal"])
@pytest.mark.parametrize("task", ["text-classification", TOKENS])
def test_what_is_judged_is_what_was_kept(named: dict[str, Any], task: str, tmp_path: Path) -> None:
    rows = SENTENCES if task == TOKENS else TEXTS
    with tuning(named, rows, task=task) as made:
        made.train()
        made.save(tmp_path)
        records = made.predict().records
    with tuning(named, rows, task=task) as again:
        again.load(tmp_path)
        assert again.predict().records == records


@pytest.mark.e2e
def test_balanced_counts_the_rows_that_are_trained_on() -> None:
    rows: list[Row] = [*TEXTS[:8], *(row for row in TEXTS if row["label"] == "rests")]
    job = a_job({"class_weights": "balanced"})
    with FineTuning(job, loaded=loaded(train=rows, eval=TEXTS)) as made:
        made.train()
        counts = [sum(row["label"] == label for row in rows) for label in made.meta["labels"]]
        assert made.applied.techniques[0].weights(made._context(None)) == [  # type: ignore[attr-defined]
            pytest.approx(len(rows) / (2 * count)) for count in counts
        ]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        pytest.param({"mvoes": 2}, "class_weights: 'mvoes' is no class; did you mean moves?", id="unknown-class"),
        pytest.param([1, 2, 3], r"class_weights: 3 weights for 2 classes \(moves, rests\)", id="too-many"),
    ],
)
def test_weights_of_other_classes_are_an_error(weights: Any, message: str) -> None:
    with tuning({"class_weights": weights}) as made, pytest.raises(TechniqueError, match=message):
        made.train()


STREAMED = "data: {path: org/data, streaming: true, splits: {eval: test}}, training: {max_steps: 3}"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            "class_weights: heavy",
            "c.class_weights: expected balanced, or numbers above 0: a list of them by class, or {name: 2}, "
            "got 'heavy' (text)",
            id="another-word",
        ),
        pytest.param(
            "class_weights: {a: 0}",
            "c.class_weights: expected balanced, or numbers above 0: a list of them by class, or {name: 2}, "
            "got a mapping",
            id="no-weight",
        ),
        pytest.param(
            "class_weights: {c: 2}, task: {name: text-classification, labels: [a, b]}",
            "c.class_weights: 'c' is no class; known: a, b",
            id="class-that-the-suite-does-not-name",
        ),
        pytest.param(
            "class_weights: balanced, task: {name: text-classification, problem_type: regression}",
            "c.class_weights: goes with classes; problem_type regression has none",
            id="regression",
        ),
        pytest.param(
            "class_weights: balanced, task: question-answering",
            "c.class_weights: goes with text-classification, token-classification, not with question-answering",
            id="task",
        ),
        pytest.param(
            "class_weights: balanced, task: {name: text-classification, problem_type: multi_label_classification}, "
            "training: {label_smoothing_factor: 0.1}",
            "c.class_weights: training.label_smoothing_factor is for one class per text, not for sets of them; "
            "leave it out",
            id="smoothed-sets",
        ),
        pytest.param(
            f"class_weights: balanced, {STREAMED}",
            "c.class_weights: balanced counts all training rows at once; give weights, or leave out data.streaming",
            id="balanced-stream",
        ),
        pytest.param(
            "focal: 2, training: {label_smoothing_factor: 0.1}",
            "c.focal: training.label_smoothing_factor has no meaning here: the loss looks at the right class alone",
            id="smoothed-focal",
        ),
        pytest.param("focal: {gamma: -1}", "c.focal.gamma: expected a number of at least 0.0, got -1", id="gamma"),
        pytest.param(
            "focal: 2, training: false",
            "c.focal: with `training: false` nothing is trained; leave it out",
            id="untrained",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(fields: str, expected: str) -> None:
    assert mistakes(fields) == [expected]


def test_a_stream_may_have_weights() -> None:
    assert case_of(f"class_weights: [1, 2], focal: 2, {STREAMED}").techniques == {
        "class_weights": {"weights": [1.0, 2.0]},
        "focal": {"gamma": 2.0},
    }


def test_weights_and_gamma_are_part_of_the_training_key(tmp_path: Path) -> None:
    def digests(**techniques: Any) -> tuple[str, str]:
        train, predict = inputs.keys(inputs.case(tmp_path, techniques=techniques), tmp_path / "memo")
        assert (predict.components["train"], "techniques" in predict.components) == (train.digest, False)
        return train.digest, str(train.components.get("techniques"))

    balanced = {"weights": "balanced"}
    found = [
        digests(),
        digests(class_weights=balanced),
        digests(class_weights={"weights": [1.0, 2.0]}),
        digests(class_weights=balanced, focal={"gamma": 2.0}),
        digests(class_weights=balanced, focal={"gamma": 1.0}),
    ]
    assert len(set(found)) == len(found)
