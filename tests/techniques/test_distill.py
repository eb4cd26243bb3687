"""`distill`: the student learns what its teacher says of each training row, and is what is judged and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import softmax

import ftcheck
from ftcheck import catalogue
from ftcheck.errors import CheckpointError, SuiteErrors, TechniqueError
from ftcheck.executors.sharing import sharing
from ftcheck.finetune import techniques
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques import distill
from ftcheck.finetune.techniques.distill import ROW, divergence, keep_layers
from ftcheck.keys import Identifier, Key, train_key
from ftcheck.spec import expand, link
from ftcheck.store import Store
from ftcheck.suitefile import parse
from tests import tiny
from tests.finetune.jobs import SENTENCES, TEXTS, Row, loaded
from tests.keys import inputs
from tests.techniques.trainings import a_job, mistakes, tuning

TOKENS = "token-classification"
TAGS = ("B-LOC", "B-PER", "O")
REGRESSION = {"problem_type": "regression"}
SETS = {"problem_type": "multi_label_classification"}
NUMBERS: list[Row] = [{"text": row["text"], "label": float(len(row["text"])) / 10} for row in TEXTS]
LETTERS: list[Row] = [
    {"text": row["text"], "label": [row["label"], "all"][: place % 3]} for place, row in enumerate(TEXTS)
]

Teachers = Callable[..., Path]


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Teachers:
    """Random models that answer surely."""
    made: dict[str, Path] = {}

    def teacher(labels: tuple[str, ...] | None, head: str = "Sequence", **config: Any) -> Path:
        name = f"{labels} {head} {config}"
        if name not in made:
            path = tmp_path_factory.mktemp("teacher")
            settings = {"initializer_range": 0.5, **({} if labels else {"num_labels": 1}), **config}
            made[name] = tiny.bert(path, head=f"BertFor{head}Classification", labels=labels, **settings)
        return made[name]

    return teacher


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("student"), num_hidden_layers=3)


def own_logits(path: Path, rows: list[Row], auto: str, **given: Any) -> Any:
    """What a model says of each row, one at a time."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = getattr(transformers, auto).from_pretrained(path).eval()
    with torch.inference_mode():
        return [
            model(**tokenizer(row["tokens" if given else "text"], return_tensors="pt", **given)).logits[0]
            for row in rows
        ]


def test_of_one_class_it_is_hintons_divergence() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = softmax(teacher / 3, -1), softmax(student / 3, -1)
    expected = 9 * (p * (p / q).log()).sum()
    assert float(divergence(student, teacher, 3.0, "single_label_classification")) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_of_sets_it_is_the_divergence_of_each_class() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    pairs = zip(student.flatten(), teacher.flatten(), strict=True)
    each = [
        divergence(torch.stack([s, 0 * s])[None], torch.stack([t, 0 * t])[None], 2.0, "single_label_classification")
        for s, t in pairs
    ]
    found = divergence(student, teacher, 2.0, "multi_label_classification")
    assert float(found) == pytest.approx(float(sum(each)), rel=1e-5)


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification", "regression"])
def test_who_answers_as_the_teacher_does_has_nothing_to_learn(problem_type: str) -> None:
    logits = torch.tensor([[30.0, -30.0], [0.0, 0.1]], requires_grad=True)
    found = divergence(logits, logits.detach(), 2.0, problem_type)
    found.backward()
    assert float(found.detach()) == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-6


def taught(made: FineTuning) -> tuple[Any, Any, Any]:
    """(technique, features, the student's loss) of a fine-tuning that is about to train."""
    with made._stage():
        rows = made._rows()
        made._start(rows)
        context = made._context(rows)
        features = made._training_features(rows, context)
        (technique,) = made.applied.techniques
        plain: Any = lambda output, targets, inputs: made.task.loss(output, targets, 0.0)  # noqa: E731
        return technique, features, technique.loss(plain, context, made.model)


@pytest.mark.e2e
@pytest.mark.parametrize("order", [("moves", "rests"), ("rests", "moves")], ids=["same-order", "other-order"])
def test_each_row_has_the_teachers_logits_by_the_names_of_classes(
    order: tuple[str, ...], teachers: Teachers, student: Path
) -> None:
    path = teachers(order)
    with tuning({"distill": str(path)}, path=student) as made:
        technique, features, _ = taught(made)
    expected = torch.stack(own_logits(path, TEXTS, "AutoModelForSequenceClassification"))
    expected = expected[:, [order.index(name) for name in ("moves", "rests")]]
    torch.testing.assert_close(technique._logits, expected, atol=1e-5, rtol=0)
    assert features.targets[ROW].tolist() == list(range(len(TEXTS)))


@pytest.mark.e2e
def test_each_token_that_has_a_label_has_the_teachers_logits(teachers: Teachers, student: Path) -> None:
    path = teachers(TAGS, "Token")
    with tuning({"distill": str(path)}, SENTENCES, task=TOKENS, path=student) as made:
        technique, features, _ = taught(made)
    whole = own_logits(path, SENTENCES, "AutoModelForTokenClassification", is_split_into_words=True)
    starts = features.starts
    for row, logits in enumerate(whole):
        labelled = features.tokens["labels"][starts[row] : starts[row + 1]] != -100
        found = technique._logits[technique._starts[row] : technique._starts[row + 1]]
        torch.testing.assert_close(found, logits[torch.from_numpy(labelled)], atol=1e-5, rtol=0)


@pytest.mark.e2e
def test_a_teacher_is_asked_once_for_all_seeds(
    teachers: Teachers, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for other temperatures; not for other rows, nor after its weights changed."""
    path = Path(shutil.copytree(teachers(("moves", "rests")), tmp_path / "teacher"))
    asked: list[int] = []
    ask = distill._asked

    def counted(*given: Any) -> Any:
        asked.append(1)
        return ask(*given)

    monkeypatch.setattr(distill, "_asked", counted)
    share = sharing(Store(tmp_path / "store"), lambda holder: None)

    def logits(rows: list[Row] = TEXTS, **fields: Any) -> Any:
        named = {"distill": {"teacher": str(path), **fields.pop("options", {})}}
        job = a_job(named, path=student, **fields)
        with FineTuning(job, loaded=loaded(train=rows, eval=rows), share=share) as made:
            return taught(made)[0]._logits

    first = logits(seed=1)
    assert torch.equal(first, logits(seed=2))
    assert torch.equal(first, logits(seed=3, options={"temperature": 5.0, "alpha": 0.9}))
    assert len(asked) == 1
    assert torch.equal(first[:20], logits(TEXTS[:20]))
    assert len(asked) == 2
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "model.safetensors")
    save_file({name: tensor * 1.1 for name, tensor in weights.items()}, path / "model.safetensors", {"format": "pt"})
    assert not torch.equal(first, logits(seed=1))
    assert len(asked) == 3


@pytest.mark.e2e
def test_the_loss_is_the_weighted_sum_of_both(teachers: Teachers, student: Path) -> None:
    path = teachers(("moves", "rests"))
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    targets = {"labels": torch.tensor([1, 0, 0]), ROW: torch.tensor([7, 0, 19])}
    found = {}
    for alpha in (0.0, 0.25, 1.0):
        named = {"distill": {"teacher": str(path), "alpha": alpha, "temperature": 4.0}}
        with tuning(named, path=student) as made:
            technique, _, loss = taught(made)
            found[alpha] = float(loss(SimpleNamespace(logits=logits), targets, {}))
    soft = divergence(logits, technique._logits[[7, 0, 19]], 4.0, "single_label_classification")
    hard = torch.nn.functional.cross_entropy(logits, targets["labels"], reduction="sum")
    assert found[0.0] == pytest.approx(float(hard), rel=1e-6)
    assert found[1.0] == pytest.approx(float(soft), rel=1e-6)
    assert found[0.25] == pytest.approx(0.25 * float(soft) + 0.75 * float(hard), rel=1e-6)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("task", "options", "rows", "labels"),
    [
        pytest.param("text-classification", {}, TEXTS, ("moves", "rests"), id="classes"),
        pytest.param("text-classification", SETS, LETTERS, ("all", "moves", "rests"), id="sets"),
        pytest.param("text-classification", REGRESSION, NUMBERS, None, id="numbers"),
        pytest.param(TOKENS, {}, SENTENCES, TAGS, id="tags"),
    ],
)
def test_a_student_comes_to_answer_as_its_teacher_and_is_kept(
    task: str,
    options: Mapping[str, Any],
    rows: list[Row],
    labels: tuple[str, ...] | None,
    teachers: Teachers,
    student: Path,
    tmp_path: Path,
) -> None:
    """A random teacher: what it says can be learned from nobody else."""
    path = teachers(labels, "Token" if task == TOKENS else "Sequence")
    named = {"distill": {"teacher": str(path), "alpha": 1.0, "layers": 2}}
    training = {"max_steps": 40, "learning_rate": 3e-3, "per_device_train_batch_size": 12}
    fields: dict[str, Any] = {"task": task, "options": options, "path": student, "training": training}
    with tuning(named, rows, **fields) as made:
        trained = made.train()
        made.save(tmp_path)
        predicted = made.predict()
        assert made.model.config.num_hidden_layers == 2
    losses = trained.first_losses
    assert trained.log_history[-2]["loss"] < 0.5 * losses[0]
    with tuning(named, rows, **fields) as again:
        again.load(tmp_path)
        assert again.predict().records == predicted.records


def learns(training: ftcheck.Training) -> None:
    """A loop of one's own: a few steps on all rows."""
    optimizer = torch.optim.Adam(training.model.parameters(), lr=3e-3)
    batch = training.collator(list(training.features))
    for step in range(1, 6):
        optimizer.zero_grad()
        loss = training.loss(batch)
        loss.backward()
        optimizer.step()
        training.report(step, 5, loss=float(loss.detach()))


@pytest.mark.e2e
def test_a_loop_of_ones_own_learns_from_the_teacher(teachers: Teachers, student: Path) -> None:
    named = {
        "distill": {"teacher": str(teachers(("moves", "rests"))), "alpha": 1.0},
        "loop": "tests.techniques.test_distill:learns",
    }
    with tuning(named, path=student) as made:
        losses = made.train().first_losses
    assert losses[-1] < losses[0]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(("moves", "sits"), "knows the classes moves, sits; this case's are moves, rests", id="others"),
        pytest.param(("a", "moves", "rests"), "knows the classes a, moves, rests", id="more"),
    ],
)
def test_a_teacher_of_other_classes_is_an_error(
    labels: tuple[str, ...], message: str, teachers: Teachers, student: Path
) -> None:
    with tuning({"distill": str(teachers(labels))}, path=student) as made, pytest.raises(TechniqueError, match=message):
        made.train()


@pytest.mark.e2e
def test_a_checkpoint_without_a_head_teaches_nothing(student: Path) -> None:
    import transformers

    labels = {0: "moves", 1: "rests"}
    config = transformers.AutoConfig.from_pretrained(student)
    config.id2label, config.label2id = labels, {name: place for place, name in labels.items()}
    config.save_pretrained(student)
    with (
        tuning({"distill": str(student)}, path=student) as made,
        pytest.raises(CheckpointError, match="no trained head"),
    ):
        made.train()


@pytest.mark.e2e
def test_a_teacher_of_texts_may_have_a_tokenizer_of_its_own(student: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {"id2label": {0: "moves", 1: "rests"}, "label2id": {"moves": 0, "rests": 1}}
    path = tiny.gpt2(tmp_path, head="GPT2ForSequenceClassification", **names)
    with tuning({"distill": str(path)}, path=student) as made:
        technique, features, _ = taught(made)
    assert technique._logits.shape == (len(TEXTS), 2)
    assert len(features) == len(TEXTS)


@pytest.mark.e2e
def test_a_teacher_of_tags_must_see_the_same_tokens(student: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {
        "id2label": dict(enumerate(TAGS)),
        "label2id": {name: place for place, name in enumerate(TAGS)},
    }
    path = tiny.gpt2(tmp_path, head="GPT2ForTokenClassification", **names)
    named = {"distill": str(path)}
    with (
        tuning(named, SENTENCES, task=TOKENS, path=student) as made,
        pytest.raises(TechniqueError, match="other tokens"),
    ):
        made.train()


@pytest.mark.parametrize(
    ("count", "spaced", "kept"),
    [
        pytest.param(1, True, [0], id="one"),
        pytest.param(2, True, [0, 5], id="first-and-last"),
        pytest.param(3, True, [0, 2, 5], id="spaced"),
        pytest.param(3, False, [0, 1, 2], id="first"),
    ],
)
@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "GPT2"])
def test_the_layers_that_stay_are_the_checkpoints(kind: str, count: int, spaced: bool, kept: list[int]) -> None:
    import transformers

    sizes = {
        "Bert": {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 6},
        "DistilBert": {"dim": 8, "n_heads": 2, "hidden_dim": 8, "n_layers": 6},
        "GPT2": {"n_embd": 8, "n_head": 2, "n_layer": 6, "n_positions": 8},
    }
    config = getattr(transformers, f"{kind}Config")(vocab_size=20, **sizes[kind])
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    (before,) = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    keep_layers(model, count, spaced=spaced)
    (after,) = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    assert [list(before).index(layer) for layer in after] == kept
    assert model.config.num_hidden_layers == count
    model.config.pad_token_id = 0
    assert model.eval()(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 2)
    assert all(
        m.layer_idx == place for place, layer in enumerate(after) for m in layer.modules() if hasattr(m, "layer_idx")
    )


@pytest.mark.e2e
def test_more_layers_than_there_are_is_an_error(teachers: Teachers, student: Path) -> None:
    named = {"distill": {"teacher": str(teachers(("moves", "rests"))), "layers": 3}}
    with tuning(named, path=student) as made, pytest.raises(TechniqueError, match="has 3 layers: name fewer"):
        made.train()


STREAMED = "data: {path: org/data, streaming: true, splits: {eval: test}}, training: {max_steps: 3}"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param("distill: {alpha: 0.5}", "distill.teacher: is missing", id="nobody"),
        pytest.param(
            "distill: {teacher: org/t, alpha: 2}", "distill.alpha: expected a number of at most 1.0, got 2", id="alpha"
        ),
        pytest.param(
            "distill: org/t, task: question-answering",
            "distill: goes with text-classification, token-classification, not with question-answering",
            id="task",
        ),
        pytest.param(
            "distill: {teacher: org/t, temperature: 3}, task: {name: text-classification, problem_type: regression}",
            "distill.temperature: is for classes; problem_type regression has none: leave it out",
            id="temperature-of-numbers",
        ),
        pytest.param(
            f"distill: org/t, {STREAMED}",
            "distill: needs all training rows at once; leave out data.streaming",
            id="stream",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(fields: str, expected: str) -> None:
    assert mistakes(fields) == [f"c.{expected}"]


def test_a_teacher_that_is_not_there_is_told_at_collection() -> None:
    (found,) = mistakes("distill: ./nowhere")
    assert found.startswith("c.distill.teacher: ")
    assert "does not exist" in found


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        pytest.param(
            "task: token-classification",
            "teacher is of the task token-classification, this case of text-classification",
            id="task",
        ),
        pytest.param(
            "task: {name: text-classification, problem_type: regression}",
            "teacher has problem_type regression, this case single_label_classification",
            id="problem-type",
        ),
        pytest.param(
            f"task: text-classification, checkpoint: {{path: org/own, trust_remote_code: {{revision: {'a' * 40}}}}}",
            "teacher runs its checkpoint's own code (trust_remote_code), which a teacher can't",
            id="own-code",
        ),
    ],
)
def test_another_case_that_cannot_teach_is_one_sentence(teacher: str, expected: str) -> None:
    text = (
        "defaults: {checkpoint: org/model, data: org/data}\ncases:\n"
        f"  teacher: {{{teacher}}}\n  c: {{task: text-classification, distill: 'case:teacher'}}\n"
    )
    with pytest.raises(SuiteErrors) as caught:
        link(expand(parse(text.encode(), Path("/suites/a.ft.yaml")), catalogue.installed()), catalogue.installed())
    assert [error.message for error in caught.value.errors] == [expected]


def test_the_key_has_the_teacher_and_not_its_name(tmp_path: Path) -> None:
    made = inputs.case(tmp_path)
    for name in ("teacher", "same"):
        inputs.checkpoint_folder(tmp_path / name)

    def train(teacher: str = "./teacher", **options: Any) -> str:
        given = techniques.get("distill").read({"teacher": teacher, **options})
        named, parents = replace(made, techniques={"distill": given}), {}
        if teacher.startswith("case:"):
            parent = replace(made, training={"learning_rate": 0.1}, id=teacher.removeprefix("case:"))
            named, parents = replace(named, parents={"distill": parent}), {"distill": Key.of({"teacher": "trained"})}
        identifier = Identifier(tmp_path / "memo")
        key = train_key(named, 42, device_type="cpu", precision="fp32", identifier=identifier, parents=parents)
        return key.digest

    assert train() == train("./same")
    assert train("case:one") == train("case:two")
    found = [
        train(),
        train(alpha=0.3),
        train(temperature=3.0),
        train(layers=1),
        train(layers=1, take="first"),
        train("case:one"),
        train("case:one", alpha=0.3),
    ]
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"others")
    found.append(train())
    assert len(set(found)) == len(found)
