"""The documented task and metrics of one's own work as they stand in the documentation, under pytest and workers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.project import Project

pytest.importorskip("xdist")

DOCS = Path(__file__).parents[2] / "docs"
ROWS = [
    (f"the {noun} {verb}", f"the {other} sleeps", "first" if verb == "runs" else "second")
    for verb in ("runs", "eats")
    for noun in ("cat", "dog", "bird")
    for other in ("sun", "moon")
]


@pytest.fixture
def newsroom(project: Project) -> Project:
    """A project of the blocks in the documentation, with rows for them."""
    text = "".join((DOCS / page).read_text("utf-8") for page in ("own-tasks.md", "metrics.md"))
    blocks = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL))
    suite = re.search(r"```yaml\n(cases:\n  headlines:.*?)```", text, re.DOTALL)
    assert suite is not None
    rows = "".join(",".join(row) + "\n" for row in (("first", "second", "winner"), *ROWS))
    (project.path / "lib").mkdir()
    project.write(
        **{f"lib/{name}": source for name, source in blocks.items()},
        **{
            "headlines.ft.yaml": suite[1].replace("./encoder", "./checkpoint").replace("accuracy: {min: 0.3}", ""),
            "train.csv": rows,
            "test.csv": rows,
            "pytest.ini": "[pytest]\npythonpath = lib\n",
        },
    )
    return project


def test_the_documented_example_trains_is_found_again_and_is_made_anew_where_it_was_edited(newsroom: Project) -> None:
    done = newsroom.run("-n2")
    assert done.code == 0, done.text
    made = done.results["headlines"]
    assert [metric["name"] for metric in made["metrics"]] == ["accuracy", "newsroom:kappa", "newsroom:price"]
    assert [metric["greater_is_better"] for metric in made["metrics"]] == [True, True, False]
    accuracy, kappa, price = (metric["value"] for metric in made["metrics"])
    assert kappa == pytest.approx(2 * accuracy - 1)  # as many of each side
    assert 0 <= price <= 5
    assert made["runs"][0]["train"]["source"] == "computed"

    source = (newsroom.path / "lib" / "newsroom.py").read_text("utf-8")
    newsroom.write(**{"lib/newsroom.py": source.replace("return [0.0 if", "return [2.25 if")})
    edited = newsroom.run().results["headlines"]
    assert [edited["runs"][0][stage]["source"] for stage in ("train", "predict")] == ["store", "store"]
    assert edited["metrics"][2]["value"] == pytest.approx(price + 2.25 * accuracy)
    assert edited["metrics"][2]["signature"] != made["metrics"][2]["signature"]
    assert edited["metrics"][:2] == made["metrics"][:2]

    source = (newsroom.path / "lib" / "headlines.py").read_text("utf-8")
    newsroom.write(**{"lib/headlines.py": source + "# edited\n"})
    assert newsroom.run().results["headlines"]["runs"][0]["train"]["source"] == "computed"


def test_a_task_that_is_not_found_is_one_error_at_collection(newsroom: Project) -> None:
    (newsroom.path / "pytest.ini").write_text("[pytest]\n")
    done = newsroom.run("-p", "no:xdist")
    assert done.code == pytest.ExitCode.INTERRUPTED
    assert "there is no module headlines (Python finds no headlines in sys.path)" in done.unbroken
