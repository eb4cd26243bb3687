"""The suites of techniques that ship are valid, and run: to a verdict, or some of their rows to their end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from ftcheck import catalogue, suitefile
from ftcheck.spec import expand
from tests.techniques.trainings import SUITES, cost, results_of, value

JUDGED = (
    "augment",
    "class_weights",
    "distill",
    "export",
    "few_shot",
    "init_from",
    "peft",
    "prune",
    "quantization",
    "sampling",
)
LOOKED_AT = {
    "freeze": "gradual",
    "layer_lr_decay": "by_name",
    "padding": "in_parts",
    "lr_finder": "timid",
    "folds": "crossvalidated",
    "trainer": "preferred",
    "test_own_training": "test_callbacks",
}
"""Of the others, but for the search that a test of its own runs, a case each."""


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.ft.yaml")), ids=lambda path: path.name.partition(".")[0])
def test_a_shipped_suite_is_valid_and_names_a_technique(path: Path) -> None:
    cases = expand(suitefile.read(path), catalogue.installed())
    assert any(case.techniques for case in cases)


def test_no_shipped_suite_is_left_out() -> None:
    suites = {path.name.partition(".")[0] for path in SUITES.iterdir() if path.is_file()}
    assert suites == {*JUDGED, *LOOKED_AT, "search"}


@pytest.mark.e2e
def test_of_the_others_a_case_is_trained_to_its_end(tmp_path: Path) -> None:
    """On some rows only, so that no gate is judged. Preferences are trained by TRL on top of answers."""
    pytest.importorskip("trl")
    found = results_of(tuple(LOOKED_AT), tmp_path, "--ft-limit=32", "-k", " or ".join(LOOKED_AT.values()))
    assert {suite: {name: result["verdict"] for name, result in cases.items()} for suite, cases in found.items()} == {
        suite: {name: "smoke"} for suite, name in LOOKED_AT.items()
    }


class Shipped:
    """All that JUDGED came to in one run: to load what trains takes as long as many of these trainings, and several
    suites train one and the same plain model."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self._found = results_of(JUDGED, folder, "-k", "not tempered")

    def __call__(self, suite: str) -> dict[str, Any]:
        """Case -> its result. Asserts that all gates hold."""
        assert {name: result["verdict"] for name, result in self._found[suite].items()} == dict.fromkeys(
            self._found[suite], "pass"
        )
        return self._found[suite]

    def values(self, suite: str, metric: str) -> dict[str, float]:
        """Case -> the value of a metric."""
        return {name: value(result, metric) for name, result in self(suite).items()}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return Shipped(tmp_path_factory.mktemp("shipped"))


@pytest.mark.e2e
def test_synonyms_hold_their_gate(shipped: Shipped) -> None:
    assert shipped("augment").keys() == {"plain", "synonyms"}


@pytest.mark.e2e
def test_weights_find_the_rare_class_that_a_plain_training_misses(shipped: Shipped) -> None:
    recalls = shipped.values("class_weights", "recall")
    assert min(recalls["balanced"], recalls["weighted_focal"]) > recalls["plain"] + 0.3
    assert not any(math.isnan(recall) for recall in recalls.values())


@pytest.mark.e2e
def test_sampling_finds_the_rare_class_that_a_plain_training_misses(shipped: Shipped) -> None:
    recalls = shipped.values("sampling", "recall")
    assert min(recalls["oversampled"], recalls["undersampled"]) > recalls["plain"] + 0.3


@pytest.mark.e2e
def test_a_taught_student_beats_the_same_one_alone(shipped: Shipped) -> None:
    found = shipped.values("distill", "accuracy")
    assert found["student"] > found["alone"] + 0.04
    assert math.isfinite(found["teacher"])


@pytest.mark.e2e
def test_one_training_is_judged_in_three_forms(shipped: Shipped) -> None:
    results = shipped("export")
    assert len({result["runs"][0]["train"]["key"] for result in results.values()}) == 1
    assert value(results["onnx"], "accuracy") == value(results["plain"], "accuracy")


@pytest.mark.e2e
def test_each_set_is_a_run_of_its_own_and_more_rows_teach_more(shipped: Shipped) -> None:
    found = shipped.values("few_shot", "accuracy")
    assert found["thirty_two"] > found["four"] + 0.1
    assert shipped("few_shot")["four"]["seeds"] == [42, 43, 44]


@pytest.mark.e2e
def test_a_related_task_helps_where_labels_are_few(shipped: Shipped) -> None:
    """The same 100 labels, with and without the other case's model."""
    found = {name: value(shipped("init_from")[name], "accuracy") for name in ("messages", "plain")}
    assert found["messages"] > found["plain"] + 0.1


@pytest.mark.e2e
def test_an_adapter_trains_and_keeps_a_twentieth(shipped: Shipped) -> None:
    results = shipped("peft")
    assert cost(results["lora"], "trainable_parameters") < 0.05 * cost(results["lora"], "parameters")

    def size(case: str) -> int:
        key = results[case]["runs"][0]["train"]["key"]
        folder = shipped.store / "runs" / key[:2] / key[2:] / "model"
        return sum(file.stat().st_size for file in folder.iterdir())

    assert size("lora") < 0.05 * cost(results["lora"], "model_bytes")
    assert size("lora") < 0.05 * size("full")


@pytest.mark.e2e
def test_what_is_pruned_while_training_keeps_its_accuracy(shipped: Shipped) -> None:
    accuracy = shipped.values("prune", "accuracy")
    assert min(accuracy["while_training"], accuracy["movement"]) > accuracy["afterwards"] + 0.2
    sparsity = shipped.values("prune", "sparsity")
    assert {name: round(share, 3) for name, share in sparsity.items()} == dict.fromkeys(sparsity, 0.8)


@pytest.mark.e2e
def test_what_is_quantized_afterwards_is_trained_once(shipped: Shipped) -> None:
    results = shipped("quantization")
    assert len({results[case]["runs"][0]["train"]["key"] for case in ("plain", "post_int8", "post_int4")}) == 1
    assert cost(results["qlora"], "parameters") > cost(results["plain"], "parameters")
    sizes = [cost(results[case], "model_bytes") for case in ("post_int4", "post_int8", "plain")]
    assert sizes == sorted(sizes)
