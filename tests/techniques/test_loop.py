"""A training loop of the user's: it trains, is part of the key, and fails in words."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import ftcheck
from ftcheck import catalogue, suitefile
from ftcheck.errors import FtcheckError, IdentityError, SuiteErrors, TechniqueError, TrainingError
from ftcheck.finetune import Progress, techniques
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques import Options, Technique
from ftcheck.keys import diff
from ftcheck.spec import Declaration, expand
from tests import tiny
from tests.e2e.project import Project
from tests.finetune.jobs import TEXTS, job, loaded
from tests.keys.inputs import case, keys

DOCS = (Path(__file__).parents[2] / "docs" / "techniques.md").read_text("utf-8").partition("\n## `loop`\n")[2]
TEXT = "text-classification"
ONE_BATCH = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 24,
    "optim": "sgd",
    "learning_rate": 0.1,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
}


@pytest.fixture(scope="module")
def still_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT without dropout."""
    path = tmp_path_factory.mktemp("still")
    return tiny.bert(path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("bert"))


def batches(training: ftcheck.Training, size: int | None = None) -> DataLoader[Any]:
    return DataLoader(
        training.features,
        batch_size=size or training.arguments.per_device_train_batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(training.seed),
        collate_fn=training.collator,
    )


def plain(training: ftcheck.Training) -> None:
    """What the Trainer does with SGD and a constant learning rate."""
    optimizer = torch.optim.SGD(training.model.parameters(), lr=training.arguments.learning_rate)
    epochs = int(training.arguments.num_train_epochs)
    for epoch in range(1, epochs + 1):
        for batch in batches(training):
            loss = training.loss(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if training.options.get("evaluate"):
                training.evaluate()
            training.report(epoch, epochs, loss=loss.item(), epoch=float(epoch), learning_rate=0.1)


def accumulating(training: ftcheck.Training) -> None:
    """The same with batches of 5 that make one step together."""
    optimizer = torch.optim.SGD(training.model.parameters(), lr=training.arguments.learning_rate)
    for _ in range(int(training.arguments.num_train_epochs)):
        parts = list(batches(training, 5))
        items = sum(map(training.items, parts))
        for batch in parts:
            training.loss(batch, items=items).backward()
        optimizer.step()
        optimizer.zero_grad()


def made(path: Path, loop: Callable[[ftcheck.Training], Any] | None, **fields: Any) -> Any:
    """A job of ONE_BATCH, by this function of this module."""
    fields.setdefault("training", ONE_BATCH)
    options = fields.pop("options", {})
    used = {"loop": {"function": f"{__name__}:{loop.__name__}", "options": options}} if loop else {}
    return job(TEXT, path, techniques={**used, **fields.pop("techniques", {})}, **fields)


def train(path: Path, loop: Callable[[ftcheck.Training], Any] | None, **fields: Any) -> tuple[Any, Any]:
    """(weights, Trained)."""
    with FineTuning(made(path, loop, **fields), loaded=loaded(train=TEXTS, tune=TEXTS[:9], eval=TEXTS)) as tuning:
        trained = tuning.train()
        return {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}, trained


def apart(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


# What it does


def test_a_plain_loop_finds_the_weights_that_the_trainer_finds(still_bert: Path) -> None:
    """All rows in one batch, so that their order doesn't matter."""
    ours, trained = train(still_bert, None)
    theirs, told = train(still_bert, plain)
    assert apart(ours, theirs) < 1e-6
    assert told.first_losses == pytest.approx(trained.first_losses, rel=1e-5)
    assert [entry["step"] for entry in told.log_history] == [1, 2, 3]
    assert told.costs["train_samples_per_second"] > 0
    assert set(told.costs) == set(trained.costs)


def test_batches_of_one_step_are_weighed_by_their_items(still_bert: Path) -> None:
    assert apart(train(still_bert, plain)[0], train(still_bert, accumulating)[0]) < 1e-6


class Doubled(Technique):
    """A loss twice as large."""

    name = "doubled"
    description = "Twice the loss."
    options = Options

    def loss(self, loss: techniques.Loss, context: techniques.Context, model: Any) -> techniques.Loss:
        return lambda output, targets, inputs: 2 * loss(output, targets, inputs)


def test_the_loss_is_that_of_the_cases_other_techniques(still_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(techniques.BUILT_IN, "doubled", f"{__name__}:Doubled")
    half = {**ONE_BATCH, "learning_rate": 0.05}
    doubled, trained = train(still_bert, plain, training=half, techniques={"doubled": {}})
    alone, told = train(still_bert, plain)
    assert trained.first_losses[0] == pytest.approx(2 * told.first_losses[0])
    assert apart(doubled, alone) < 1e-6


def test_evaluating_changes_nothing_and_is_logged(bert: Path) -> None:
    """With dropout, so that a random number that it drew would show."""
    blind, _ = train(bert, plain)
    looking, trained = train(bert, plain, options={"evaluate": True})
    assert apart(blind, looking) == 0.0
    assert [set(entry) for entry in trained.log_history[:2]] == [
        {"step", "eval_loss", "eval_accuracy", "eval_macro_f1"},
        {"step", "loss", "epoch", "learning_rate"},
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_was_trained_is_what_is_kept(bert: Path, tmp_path: Path, precision: str) -> None:
    job_ = made(bert, plain, precision=precision)
    with FineTuning(job_, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        tuning.train()
        tuning.save(tmp_path)
        first = tuning.predict().records
        assert all(parameter.grad is None for parameter in tuning.model.parameters())
    with FineTuning(job_, loaded=loaded(eval=TEXTS)) as tuning:
        tuning.load(tmp_path)
        assert tuning.predict().records == first


def test_two_trainings_are_the_same_to_the_last_bit(bert: Path) -> None:
    one = train(bert, plain)[0]
    torch.rand(5)
    assert apart(one, train(bert, plain)[0]) == 0.0


def test_progress_is_told_and_may_stop_it(bert: Path) -> None:
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if progress.done == 2:
            raise KeyboardInterrupt

    tuning = FineTuning(made(bert, plain), stop, loaded=loaded(train=TEXTS, eval=TEXTS))
    with pytest.raises(KeyboardInterrupt), tuning:
        tuning.train()
    assert [(progress.done, progress.total) for progress in told if progress.stage == "train"] == [(1, 3), (2, 3)]


# What goes wrong


def failing(training: ftcheck.Training) -> None:
    helper(training.options["nothing"])


def helper(value: Any) -> None:
    raise AssertionError


def returning(training: ftcheck.Training) -> Any:
    return training.model


def breaking(training: ftcheck.Training) -> None:
    training.model.classifier.weight.data[0, 0] = float("nan")


def infinite(training: ftcheck.Training) -> None:
    training.report(1, 9, loss=float("inf"))


def evaluating(training: ftcheck.Training) -> None:
    training.evaluate()


class NoFunction:
    pass


@pytest.mark.parametrize(
    ("loop", "error", "message"),
    [
        pytest.param(
            failing,
            TrainingError,
            r"test_loop:failing fails at .*test_loop.py:\d+: KeyError: 'nothing'\n"
            r'  .*test_loop.py:\d+ in failing: helper\(training.options\["nothing"\]\)',
            id="exception",
        ),
        pytest.param(returning, TrainingError, "returned a BertForSequenceClassification: .* in place", id="returns"),
        pytest.param(breaking, TrainingError, r"weights that are no numbers \(classifier.weight\)", id="weights"),
        pytest.param(infinite, TrainingError, "the loss is inf at step 1 of 9: nothing of this", id="loss"),
        pytest.param(evaluating, TrainingError, "give data.splits.tune or data.holdout.tune", id="no-tune-rows"),
        pytest.param(NoFunction, TechniqueError, "test_loop:NoFunction is a type, no function", id="class"),
    ],
)
def test_what_goes_wrong_is_one_error(
    bert: Path, loop: Callable[..., Any], error: type[FtcheckError], message: str
) -> None:
    tuning = FineTuning(made(bert, loop), loaded=loaded(train=TEXTS, eval=TEXTS))
    with pytest.raises(error, match=message), tuning:
        tuning.train()


def test_memory_that_runs_out_says_what_to_lower(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ftcheck.Training, "loss", fails)
    with pytest.raises(TrainingError, match="per_device_train_batch_size 24: lower it"):
        train(bert, plain)


class Called(Doubled):
    """A technique of the Trainer's loop."""

    name = "called"

    def callbacks(self, context: techniques.Context, model: Any) -> list[Any]:
        return []


SUITE = """
defaults: {checkpoint: org/model, task: text-classification, data: org/data, training: {max_steps: 9}}
cases:
  c:
"""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param(
            ["loop: no_such_module:train"], "loop: there is no module no_such_module in sys.path", id="module"
        ),
        pytest.param(["loop: train"], r"loop: expected an import path, .*, got 'train' \(text\)", id="no-import-path"),
        pytest.param(["loop: tests.tiny:bert", "early_stopping: {patience: 1}"], "loop: decides by itself", id="stop"),
        pytest.param(
            ["loop: tests.tiny:bert", "on_oom: halve_batch"], "loop: decides by itself what a batch is", id="halving"
        ),
        pytest.param(["loop: tests.tiny:bert", "called: {}"], "loop: can't be combined with called", id="callbacks"),
        pytest.param(["loop: {function: tests.tiny:bert, epsilon: 1}"], "loop.epsilon: no such key", id="option"),
        pytest.param(
            ["loop: tests.tiny:bert", "data: {streaming: true}"], "loop: takes training rows that", id="stream"
        ),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(
    lines: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(techniques.BUILT_IN, "called", f"{__name__}:Called")
    text = SUITE.replace("data: org/data", "data: {path: org/data}") + "".join(f"    {line}\n" for line in lines)
    with pytest.raises(SuiteErrors, match=message):
        expand(suitefile.parse(text.encode(), Path("/suites/a.ft.yaml")), catalogue.installed())


# The key

MODULE = """
import helping

RATE = 0.1

def train(training):
    # a comment
    return helping.step(training, RATE)

def another(training):
    return None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes the module `looping` and the one that it uses, as a new process would find them."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # an edit of the same second and size would not be seen

    def write(looping: str, helping: str) -> None:
        for name, source in (("looping", looping), ("helping", helping)):
            (tmp_path / f"{name}.py").write_text(source)
            sys.modules.pop(name, None)

    return write


HELPING = "def step(training, rate):\n    pass\n"


@pytest.mark.parametrize(
    ("looping", "helping", "misses"),
    [
        pytest.param(MODULE.replace("return helping", "training.seed; return helping"), HELPING, True, id="its line"),
        pytest.param(MODULE.replace("0.1", "0.2"), HELPING, True, id="a constant"),
        pytest.param(MODULE, HELPING.replace("pass", "raise"), True, id="a module that it uses"),
        pytest.param(MODULE.replace("a comment", "another"), HELPING, False, id="a comment"),
        pytest.param(MODULE.replace("return None", "return 1"), HELPING, False, id="another function"),
    ],
)
def test_editing_the_loop_trains_anew(
    module: Callable[[str, str], None], tmp_path: Path, looping: str, helping: str, misses: bool
) -> None:
    made_ = replace(case(tmp_path), techniques={"loop": {"function": "looping:train", "options": {}}})
    module(MODULE, HELPING)
    old = keys(made_, tmp_path / "memo")[0]
    module(looping, helping)
    new = keys(made_, tmp_path / "memo")[0]
    assert (old.digest != new.digest) is misses
    assert all(change.path.startswith("techniques.loop.code") for change in diff(old.components, new.components))


def test_options_and_leaving_it_out_train_anew(module: Callable[[str, str], None], tmp_path: Path) -> None:
    module(MODULE, HELPING)
    plain_ = case(tmp_path)
    made_ = [
        plain_,
        *(
            replace(plain_, techniques={"loop": {"function": "looping:train", "options": {"epsilon": epsilon}}})
            for epsilon in (1, 2)
        ),
    ]
    found = [keys(each, tmp_path / "memo")[0] for each in made_]
    assert len({key.digest for key in found}) == 3
    assert [change.path for change in diff(found[1].components, found[2].components)] == [
        "techniques.loop.options.epsilon"
    ]
    for name, message in (("trane", "looping has no trane; did you mean train?"), ("RATE", "can't be fingerprinted")):
        wrong = replace(plain_, techniques={"loop": {"function": f"looping:{name}", "options": {}}})
        with pytest.raises((IdentityError, TechniqueError), match=f"looping:{name}: .*{re.escape(message)}"):
            keys(wrong, tmp_path / "memo")


def test_the_key_of_a_loop_that_imports_torch_when_it_runs_needs_no_torch(tmp_path: Path) -> None:
    source = MODULE.replace("# a comment", "import torch.utils.data; from transformers import Trainer")
    (tmp_path / "looping.py").write_text(source)
    (tmp_path / "helping.py").write_text(HELPING)
    code = (
        "import sys\n"
        "from ftcheck.finetune.techniques import user_code\n"
        "print(sorted(user_code.identity('looping:train')))\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    named, imported = done.stdout.splitlines()
    assert "'library torch', 'library transformers'" in named
    assert imported == "[]"


def test_in_a_test_file_a_function_stands_for_its_import_path() -> None:
    fields = {"checkpoint": "org/model", "task": TEXT, "data": "org/data"}
    for loop, options in ((plain, {}), ({"function": plain, "options": {"epsilon": 1}}, {"epsilon": 1})):
        declared = Declaration.of_function("test_it", Path("/suites/test_a.py"), 1, {**fields, "loop": loop})
        (found,) = expand([declared], catalogue.installed())
        assert found.techniques == {"loop": {"function": f"{__name__}:plain", "options": options}}


# As documented


@pytest.mark.e2e
def test_the_documented_loop_learns_and_is_found_again(tmp_path: Path, bert: Path) -> None:
    project = Project(tmp_path / "project", bert)
    (source,) = re.findall(r"```python\n# loops.py\n(.*?)```", DOCS, re.DOTALL)
    (suite,) = re.findall(r"```yaml\n(cases:\n  robust:.*?)```", DOCS, re.DOTALL)
    ini = {"pytest.ini": "[pytest]\npythonpath = .\n"}
    project.write(**{"loops.py": source, "a.ft.yaml": suite.replace("./encoder", "./checkpoint"), **ini})
    done = project.run()
    assert done.code == 0, done.text
    assert done.results["robust"]["runs"][0]["train"]["source"] == "computed"
    project.write(**{"loops.py": source + "\n# edited\n"})
    assert project.run().results["robust"]["runs"][0]["train"]["source"] == "store"
