"""`--ft-executor=ray` on a cluster of several nodes: the results, errors and exit codes of one process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ftcheck.executors.ray_node import Mailbox, Started
from ftcheck.report.live import Live
from tests import tiny
from tests.executors.cluster import OPEN, Nodes, started
from tests.executors.conftest import children
from tests.executors.test_local import PAIR, _until, compared
from tests.plugin.conftest import REPOSITORY, Project
from tests.techniques.trainings import value

pytest.importorskip("ray")
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with started(tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


@pytest.fixture
def on_ray(project: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose sessions train on the nodes."""
    for name, setting in {"FTCHECK_RAY_ADDRESS": nodes.address, **OPEN}.items():
        monkeypatch.setenv(name, setting)
    nodes.tell({"FAKE_LOG": str(project.log)})
    return project


def run(project: Project, *arguments: str) -> Any:
    return project.run("--ft-executor=ray", "--ft-json=ray.json", *arguments)


def test_trainings_on_two_nodes_at_once_give_what_one_process_gives(
    on_ray: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what several cases want is done once, a model that others start from comes first, and progress is told."""
    told: list[str] = []
    monkeypatch.setattr(Live, "progress", lambda self, seed, progress: told.append(progress.stage))
    on_ray.suite(PAIR + "  child: {init_from: case:a}\n  twin: {training: {learning_rate: 0.9}}\n")
    on_ray.run("--ft-json=inline.json").assert_outcomes(passed=4)
    on_ray.stages()
    nodes.tell({"FAKE_LOG": str(on_ray.log), "FAKE_MEET": "2"})
    told.clear()
    run(on_ray, "--ft-cache=refresh").assert_outcomes(passed=4)
    assert told
    assert compared(on_ray, "ray.json") == compared(on_ray, "inline.json")
    stages = on_ray.stages()
    assert sorted(stages) == sorted(f"{do} {case} 42" for do in ("train", "predict") for case in ("a", "b", "child"))
    assert stages.index("train a 42") < stages.index("train child 42")


def test_a_run_whose_node_dies_is_made_on_another(on_ray: Project, nodes: Nodes) -> None:
    """Its result is the undisturbed one."""
    on_ray.suite("  a: {training: {learning_rate: 0.9}}\n")
    on_ray.run("--ft-json=inline.json").assert_outcomes(passed=1)
    on_ray.stages()
    nodes.tell({"FAKE_LOG": str(on_ray.log), "FAKE_MEET": "2"})
    meeting = on_ray.log.with_name("meeting")

    def kill() -> None:
        _until((meeting / "a").exists)
        nodes.kill(nodes.training())
        (meeting / "another").touch()

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        run(on_ray, "--ft-cache=refresh").assert_outcomes(passed=1)
        killed.result()
    nodes.nodes.append(nodes.add())
    assert on_ray.stages() == ["train a 42", "train a 42", "predict a 42"]
    assert compared(on_ray, "ray.json") == compared(on_ray, "inline.json")
    assert re.search("the node .* died while a was trained there", str(on_ray.results("ray.json")["a"]["notes"]))


def test_where_a_run_is_is_told_each_time_and_all_else_once() -> None:
    """An answer may be lost on its way; of a run that begins anew, nothing is told from before."""
    mailbox, here = Mailbox(), Started(node="n", address="192.0.2.1", logs=())
    mailbox.say("a", here)
    mailbox.say("a", "half done")
    assert mailbox.heard() == {"a": {"Started": here, "str": "half done"}}
    assert mailbox.heard() == {"a": {"Started": here}}
    mailbox.forget("a")
    assert mailbox.heard() == {}


def test_a_mailbox_that_is_gone_keeps_no_run_from_being_sent(
    on_ray: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another takes its place while the run is under way, as often as Ray loses one: on a busy machine it may lose any
    of them by itself, also the first."""
    import ray as library

    from ftcheck.executors import ray

    new, made = ray._new_mailbox, []

    def gone_at_first() -> Any:
        made.append(new())
        if len(made) == 1:
            with suppress(library.exceptions.RayError):
                library.get(made[0].heard.remote())
            library.kill(made[0])
        else:
            on_ray.log.with_name("a").touch()
        return made[-1]

    monkeypatch.setattr(ray, "_new_mailbox", gone_at_first)
    nodes.tell({"FAKE_LOG": str(on_ray.log), "FAKE_HELD": "a"})
    on_ray.suite("  a: {}\n")
    run(on_ray).assert_outcomes(passed=1)
    assert len(made) >= 2


def test_what_a_training_raises_is_an_error_at_once(
    on_ray: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the node's traceback, the end of its log, and the command that shows it here; nothing is tried again."""
    from ftcheck.executors import ray

    monkeypatch.setattr(ray, "SETTLE", 0.5)
    on_ray.suite("  bug: {training: {learning_rate: 0.8}}\n  nan: {}\n  exit: {training: {learning_rate: 0.7}}\n")
    failures = {f"fail {name}": name for name in ("bug", "nan", "exit")}
    nodes.tell({"FAKE_LOG": str(on_ray.log), **failures})
    result = run(on_ray)
    result.assert_outcomes(errors=3)
    errors = {name: result["error"] for name, result in on_ray.results("ray.json").items()}
    assert errors["nan"] == "the loss became NaN at step 7"
    assert errors["bug"] == "SlotError: ZeroDivisionError: division by zero"
    assert re.match("the process that trained it on the node .* is gone", errors["exit"])
    assert "the last that it printed: a last word; to see it here: pytest " in errors["exit"]
    result.stdout.fnmatch_lines(["*fake.py*in _made_up_training*"])
    result.stdout.fnmatch_lines(["*to see it here: pytest *suite.ft.yaml -k bug --ft-executor=inline"])
    assert sorted(on_ray.stages()) == ["train bug 42", "train exit 42", "train nan 42"]


def test_a_node_without_the_files_and_the_store_is_sent_them(
    on_ray: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another disk at the same place: what it has there isn't what the keys say, and isn't read."""
    more = "training: {learning_rate: 0.9}, resources: {cpus: 3}"
    on_ray.suite(f"  a: {{{more}}}\n  child: {{init_from: case:a, {more}}}\n  b: {{}}\n")
    on_ray.run("--ft-json=inline.json", "-k", "not b").assert_outcomes(passed=2, deselected=1)
    log = nodes.folder / "apart.log"
    nodes.tell({"FAKE_LOG": str(log)})
    cache = on_ray.path / "cache"
    cache.mkdir()
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(cache))
    with nodes.apart(on_ray.path):
        run(on_ray, "-k", "not b").assert_outcomes(passed=2, deselected=1)
    assert log.read_text().split("\n")[:-1] == ["train a 42", "predict a 42", "train child 42", "predict child 42"]
    assert compared(on_ray, "ray.json") == compared(on_ray, "inline.json")
    assert list((nodes.folder / "cache" / "ray" / "trees").glob("*/**/checkpoint/model.safetensors"))


def test_a_node_with_another_library_is_refused(on_ray: Project, nodes: Nodes) -> None:
    on_ray.suite("  a: {}\n")
    nodes.tell({"FAKE_LOG": str(on_ray.log), "version torch": "1.0"})
    run(on_ray).assert_outcomes(errors=1)
    error = str(on_ray.results("ray.json")["a"]["error"])
    assert re.match(r"the node \S+ of the Ray cluster isn't what the keys say \(torch .* → 1.0\)", error)
    assert on_ray.stages() == []


def test_a_search_by_ray_tune_runs_on_the_same_cluster(on_ray: Project, nodes: Nodes) -> None:
    """A real one: two trials at once take both CPUs that there are, and the run that asked for them takes none
    meanwhile."""
    nodes.tell({"real": "yes"})
    fixtures = REPOSITORY / "fixtures"
    on_ray.suite(
        f"""
  found:
    checkpoint: {fixtures}/encoder
    data:
      path: csv
      files: {{train: "{fixtures}/data/messages/train.csv", test: "{fixtures}/data/messages/test.csv"}}
      columns: {{label: intent}}
      holdout: {{tune: 0.2}}
      limit: {{train: 64, eval: 32}}
    training: {{num_train_epochs: 1, per_device_train_batch_size: 32}}
    search: {{space: {{learning_rate: {{log: [1e-4, 1e-2]}}}}, trials: 2, backend: ray, concurrent: 2}}
"""
    )
    run(on_ray).assert_outcomes(passed=1)
    (result,) = on_ray.results("ray.json").values()
    assert "search: best of 2 trials" in str(result["notes"])


TWO_NODES = "training: {learning_rate: 0.9}, resources: {gpus: 2, nodes: 2}"


def test_two_nodes_train_what_one_process_trains(on_ray: Project, nodes: Nodes) -> None:
    """Really, over gloo: a process on each node; the first one's model is published, and predicts."""
    nodes.tell({"real": "yes"})
    tiny.bert(on_ray.path / "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    messages = REPOSITORY / "fixtures" / "data" / "messages"
    same = (
        f"checkpoint: {on_ray.path}/bert, task: text-classification, data: {{path: csv, "
        f'files: {{train: "{messages}/train.csv", test: "{messages}/test.csv"}}, columns: {{label: intent}}, '
        "holdout: {tune: 0.2}, limit: {train: 64, eval: 32}}, metrics: [log_loss], early_stopping: {patience: 3}"
    )
    looks = "optim: sgd, learning_rate: 0.1, num_train_epochs: 2, eval_strategy: epoch, save_strategy: epoch"
    best = "load_best_model_at_end: true, metric_for_best_model: loss"
    on_ray.suite(
        f"  one: {{{same}, training: {{{looks}, {best}, per_device_train_batch_size: 16}}}}\n"
        f"  two: {{{same}, training: {{{looks}, {best}, per_device_train_batch_size: 8}}, "
        "resources: {gpus: 2, nodes: 2}}\n"
    )
    run(on_ray).assert_outcomes(passed=2)
    one, two = (on_ray.results("ray.json")[name] for name in ("one", "two"))
    (several,) = two["runs"]
    assert [several["environment"][name] for name in ("processes", "nodes", "backend")] == [2, 2, "gloo"]
    assert "nodes" not in one["runs"][0]["environment"]
    found, expected = (value(each, "log_loss") for each in (two, one))
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_ends_a_process_on_another_node_is_one_error(on_ray: Project, nodes: Nodes) -> None:
    """With the node and the end of its log; no process is left on either node."""
    nodes.tell({"FAKE_LOG": str(on_ray.log), "FAKE_RANKS": "signal SIGKILL"})
    on_ray.suite(f"  a: {{{TWO_NODES}}}\n")
    run(on_ray).assert_outcomes(errors=1)
    expected = (
        r"process 1 of the 2 \(0 to 1\) that trained together on the node \S+ is gone: killed by SIGKILL .*"
        "; the last that it printed: a last word$"
    )
    assert re.match(expected, str(on_ray.results("ray.json")["a"]["error"]))
    assert on_ray.stages() == ["train a 42"]
    _until(lambda: not nodes.ranks())


def test_a_training_whose_second_node_dies_begins_again_on_another(on_ray: Project, nodes: Nodes) -> None:
    nodes.nodes.append(nodes.add())
    nodes.tell({"FAKE_LOG": str(on_ray.log), "FAKE_RANKS": "deaf"})
    on_ray.suite(f"  a: {{{TWO_NODES}}}\n")

    def kill() -> None:
        _until((on_ray.path / "deaf").exists)
        first = nodes.training()
        second = next(node for node in nodes.nodes if node is not first and nodes.ranks(node))
        nodes.tell({"FAKE_LOG": str(on_ray.log), "FAKE_RANKS": "train"})
        nodes.kill(second)

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        run(on_ray).assert_outcomes(passed=1)
        killed.result()
    assert on_ray.stages() == ["train a 42", "train a 42", "predict a 42"]
    assert re.search("the node .* died while a was trained there", str(on_ray.results("ray.json")["a"]["notes"]))
    _until(lambda: not nodes.ranks())


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_without_ray_several_machines_are_refused(project: Project, executor: str) -> None:
    project.suite(f"  a: {{{TWO_NODES}}}\n")
    project.run(f"--ft-executor={executor}", "--ft-json=out.json").assert_outcomes(errors=1)
    error = str(project.results()["a"]["error"])
    assert error.startswith("resources.nodes: 2 is a training on 2 machines, which --ft-executor=ray finds")
    assert project.stages() == []


def test_a_case_that_says_how_many_threads_gets_them(on_ray: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is set where pytest runs, which is for those that don't."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    on_ray.suite("  said: {resources: {cpus: 1}}\n  unsaid: {training: {learning_rate: 0.9}}\n")
    run(on_ray).assert_outcomes(passed=2)
    environments = {name: result["runs"][0]["environment"] for name, result in on_ray.results("ray.json").items()}
    assert {name: found["threads"] for name, found in environments.items()} == {"said": "1", "unsaid": "3"}


def test_a_cluster_that_the_user_has_joined_may_grow_too(
    on_ray: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pytest's process is connected to it already (a conftest.py's `ray.init`), and stays so."""
    import ray as library

    from ftcheck.executors import ray

    waited: list[str] = []
    monkeypatch.setattr(Live, "waiting", lambda self, message: waited.append(message))
    monkeypatch.setattr(ray, "AUTOSCALING", 3.0)
    monkeypatch.delenv("FTCHECK_RAY_ADDRESS")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    on_ray.suite("  a: {resources: {cpus: 64}}\n")
    library.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        run(on_ray).assert_outcomes(errors=1)
        assert library.is_initialized()
    finally:
        library.shutdown()
    assert waited
    assert waited[0].startswith("no node of the Ray cluster has what it asks for (64 CPU)")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        pytest.param(
            "gpus: 3, nodes: 3", "2 of the 3 nodes wanted have what it asks for (1 CPU of each)", id="fewer-nodes"
        ),
        pytest.param("cpus: 64", "no node of the Ray cluster has what it asks for (64 CPU)", id="no-node"),
    ],
)
def test_what_the_cluster_has_not_is_an_error(
    on_ray: Project, monkeypatch: pytest.MonkeyPatch, asked: str, said: str
) -> None:
    from ftcheck.executors import ray

    monkeypatch.setattr(ray, "AUTOSCALING", 0.5)
    on_ray.suite(f"  a: {{resources: {{{asked}}}}}\n")
    run(on_ray).assert_outcomes(errors=1)
    assert str(on_ray.results("ray.json")["a"]["error"]).startswith(said)


@pytest.mark.parametrize(
    ("own", "end"),
    [
        pytest.param(False, signal.SIGINT, id="interrupted-on-a-cluster"),
        pytest.param(True, signal.SIGINT, id="interrupted-on-its-own"),
        pytest.param(True, signal.SIGKILL, id="killed-on-its-own"),
    ],
)
def test_nothing_outlives_the_session(
    on_ray: Project, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, own: bool, end: signal.Signals
) -> None:
    """Both trainings wait for a third that never comes. Ray itself leaves processes for a minute."""
    if own:
        for name in ("FTCHECK_RAY_ADDRESS", *OPEN):
            monkeypatch.delenv(name)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(nodes.folder), os.environ["PYTHONPATH"]]))
        monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    nodes.tell({"FAKE_LOG": str(on_ray.log), "FAKE_MEET": "3"})
    on_ray.suite(PAIR)
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--ft-executor=ray"], stdout=subprocess.DEVNULL, cwd=on_ray.path
    )
    meeting = on_ray.path / "meeting"
    _until(lambda: meeting.is_dir() and len(list(meeting.iterdir())) == 2)
    begun = nodes.pids + children(session.pid)
    session.send_signal(end)
    assert session.wait(60) == (pytest.ExitCode.INTERRUPTED if end == signal.SIGINT else -end)
    _until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in begun))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        pytest.param("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1 (*refused)*", id="nobody"),
        pytest.param("ray://127.0.0.1:1", "no Ray cluster answers at ray://127.0.0.1:1 (*refused)*", id="no-client"),
        pytest.param("127.0.0.1:{silent}", "no Ray cluster answered at 127.0.0.1:* within 2 s", id="another-server"),
        pytest.param(
            "there", "--ft-ray-address: expected HOST:PORT, auto or ray://HOST:PORT, got there", id="no-place"
        ),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_error(
    project: Project, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    from ftcheck.executors import ray_cluster

    monkeypatch.setattr(ray_cluster, "PATIENCE", 2.0)
    project.suite("  a: {}\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = address.format(silent=server.getsockname()[1])
        result = run(project, f"--ft-ray-address={given}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*a: {said}*"])


def test_nodes_are_sent_the_python_files_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.executors import ray_cluster

    here = tmp_path / "here"
    for name in (
        "conftest.py",
        "suites/rows.py",
        "suites/train.csv",
        "suites/.hidden/old.py",
        "suites/__pycache__/rows.py",
        "env/pyvenv.cfg",
        "env/lib/library.py",
        "node_modules/tool.py",
    ):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("")
    (here / ".#rows.py").symlink_to("somebody@here.4711")  # as Emacs locks what it edits
    monkeypatch.chdir(here)
    ray_cluster.collect_code(tmp_path / "sent")
    sent = {str(path.relative_to(tmp_path / "sent")) for path in (tmp_path / "sent").rglob("*") if path.is_file()}
    assert {name for name in sent if not name.startswith("ftcheck/")} == {"conftest.py", "suites/rows.py"}
    assert {"ftcheck/__init__.py", "ftcheck/executors/ray_node.py", "ftcheck/tasks/labels.py"} <= sent


def test_what_is_installed_is_told_from_what_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Projects lie below Python's prefix, too: /usr/src/app, say."""
    from sysconfig import get_path

    from ftcheck.executors import ray

    project = tmp_path / "src" / "app"
    project.mkdir(parents=True)
    installed = [get_path("stdlib"), get_path("purelib"), str(tmp_path / "site-packages")]
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*installed, str(project), str(tmp_path / "nowhere")])
    assert ray._own_path() == [str(project)]


def test_without_ray_the_error_names_the_extra(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.executors import ray_cluster

    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    project.suite("  a: {}\n")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ft-executor=ray needs ray: pip install 'ftcheck?ray?'"])
