"""What can be wrong with a machine, made to happen in a process of its own: one error, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ftcheck import baselines
from ftcheck.report import jsonfile
from tests.e2e.project import INTERNAL, namespace
from tests.plugin.conftest import Project
from tests.store.test_place import without_home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts, limits and capabilities of Linux")

UPDATE = ("--ft-update", "--ft-allow-ci-update", "--ft-reason=why not")
TWO = "".join(
    f"  {name}:\n    training: {{learning_rate: {rate}}}\n    gates: {{accuracy: {{min: 0.7}}}}\n"
    for name, rate in (("first", 0.8), ("second", 0.81))
)
IN_TRAINING = """
import errno, os, shutil, time
from pathlib import Path
from tests import fake
fake.install()
train = fake.FakeExecutor._made_up_training

def troubled(self, work, store, on_progress):
    if work.job.case.id == "second":
        trouble(store.root)
    train(self, work, store, on_progress)

fake.FakeExecutor._made_up_training = troubled

def trouble(store):
    {trouble}
"""


def session(
    project: Project, *arguments: str, trouble: str = "pass", within: Sequence[str] = (), **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """pytest started by the command `within`; `trouble` is what happens when the second case begins to train."""
    (project.path / "conftest.py").write_text(IN_TRAINING.format(trouble=trouble))
    given = {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(
        [*within, sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=project.path,
        env={name: value for name, value in given.items() if value is not None},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def two(project: Project) -> Project:
    """A project of two cases with a store of its own."""
    project.suite(TWO)
    return project


def mounted(place: Path, options: str) -> list[str]:
    """A command with a disk of its own at `place`."""
    place.mkdir(exist_ok=True)
    return [*namespace(), f'mount -t tmpfs -o {options} none "{place}" && exec "$@"', "sh"]


FULL = """
    try:
        with open("small/filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
"""


def test_reports_and_history_on_a_disk_that_fills_up(two: Project) -> None:
    """The results file is the one that was written last; the rest of the session goes on."""
    disk = mounted(two.path / "small", "size=256k")
    disk[-2] = disk[-2].replace('exec "$@"', '"$@"; code=$?; cp small/out.json kept.json; exit $code')
    done = session(
        two,
        *("--ft-json=small/out.json", "--ft-html=small/out.html", "--ft-history=small/history.sqlite"),
        trouble=FULL,
        within=disk,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "small/out.json can't be written: No space left on device" in done.stdout, done.stdout + done.stderr
    assert "small/history.sqlite can't be used" in done.stdout
    assert not INTERNAL.search(done.stdout + done.stderr)
    kept = jsonfile.load(two.path / "kept.json")
    assert [result.case_id for result in kept.results] == ["first"]
    assert kept.missing == ("suite.ft.yaml::second",)


def test_baselines_on_a_full_disk_stay_as_they_are(two: Project) -> None:
    folder = two.path / baselines.FOLDER
    disk = mounted(folder, "size=64k")
    again = f"{sys.executable} -m pytest -q {' '.join(f'{chr(39)}{a}{chr(39)}' for a in UPDATE)}"
    (two.path / "steps.sh").write_text(
        f"""{again} || exit 3
cp -r {folder} before
sed -i 's/0.8}}/0.9}}/' suite.ft.yaml
cat /dev/zero > {folder}/filler 2>/dev/null
{again}; code=$?
rm {folder}/filler
cp -r {folder} after
exit $code
"""
    )
    (two.path / "conftest.py").write_text("from tests import fake\nfake.install()\n")
    done = subprocess.run(
        [*disk, "sh", "steps.sh"], cwd=two.path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "can't be written: No space left on device" in done.stdout
    assert not INTERNAL.search(done.stdout + done.stderr)
    before, after = (
        {path.name: path.read_bytes() for path in sorted((two.path / name).rglob("*")) if path.is_file()}
        for name in ("before", "after")
    )
    assert len(before) == 4
    assert after == before


def test_a_permission_that_is_lost_while_training_is_one_error(two: Project) -> None:
    within = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if os.geteuid() != 0:
        within = []
    elif subprocess.run([*within, "true"], capture_output=True).returncode:
        pytest.skip("root, and no way to obey permissions (setpriv)")
    trouble = "[os.chmod(store / name, 0o555) for name in ('tmp', 'runs')]"
    done = session(two, "--ft-cache-dir=store", "--ft-json=out.json", trouble=trouble, within=within)
    for name in ("tmp", "runs"):
        (two.path / "store" / name).chmod(0o755)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    results = two.results()
    assert results["first"]["verdict"] == "pass"
    assert "store can't be written: Permission denied; make it writable" in results["second"]["error"]
    assert not INTERNAL.search(done.stdout + done.stderr)
    assert session(two, "--ft-cache-dir=store").returncode == 0


def test_a_store_that_is_deleted_while_training_is_made_again(two: Project) -> None:
    done = session(two, "--ft-cache-dir=store", "--ft-json=out.json", trouble="shutil.rmtree(store)")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {result["verdict"] for result in two.results().values()} == {"pass"}
    assert session(two, "--ft-cache-dir=store", "--ft-json=out.json").returncode == 0
    sources = {name: result["runs"][0]["train"]["source"] for name, result in two.results().items()}
    assert sources == {"first": "computed", "second": "store"}


@pytest.mark.parametrize("name", ["ESTALE", "EXDEV", "EBUSY", "ENOENT"])
def test_a_renaming_that_a_network_disk_refuses_is_one_error(two: Project, name: str) -> None:
    trouble = f"""
    plain = os.rename
    def refused(one, other, **more):
        if str(store / "runs") in str(other):
            raise OSError(errno.{name}, os.strerror(errno.{name}), str(one), None, str(other))
        plain(one, other, **more)
    os.rename = refused
"""
    done = session(two, "--ft-cache-dir=store", "--ft-json=out.json", trouble=trouble)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    results = two.results()
    assert results["first"]["verdict"] == "pass"
    assert "store can't be written: " in results["second"]["error"]
    assert not INTERNAL.search(done.stdout + done.stderr)
    assert os.listdir(two.path / "store" / "tmp") == []


def test_temporary_files_on_another_disk_do_no_harm(two: Project) -> None:
    """Nothing is renamed from one file system to another."""
    disk = mounted(two.path / "temporary", "size=1m")
    done = session(
        two,
        *("--ft-cache-dir=store", "--ft-json=out.json", "--ft-html=out.html", *UPDATE),
        within=disk,
        TMPDIR=str(two.path / "temporary"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {result["update"] for result in two.results().values()} == {"written"}


def test_a_clock_that_is_set_back_changes_no_result(two: Project) -> None:
    """A year, while the second case trains; all that is measured is measured by a clock that only goes on."""
    trouble = "plain = time.time; time.time = lambda: plain() - 365 * 86400"
    done = session(two, "--ft-cache-dir=store", "--ft-json=out.json", trouble=trouble)
    assert done.returncode == 0, done.stdout + done.stderr
    results = two.results()
    assert {result["verdict"] for result in results.values()} == {"pass"}
    assert all(value >= 0 for result in results.values() for run in result["runs"] for value in run["costs"].values())
    assert session(two, "--ft-cache-dir=store", "--ft-json=out.json").returncode == 0
    sources = {result["runs"][0]["train"]["source"] for result in two.results().values()}
    assert sources == {"store"}


def test_few_descriptors_are_enough_for_many_cases(project: Project) -> None:
    cases = "".join(f"  case{i}: {{seeds: [{i}], training: {{learning_rate: 0.9}}}}\n" for i in range(50))
    project.suite(cases)
    limited = ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh"]
    done = session(project, "--ft-cache-dir=store", "--ft-json=out.json", "--ft-html=out.html", within=limited)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert len(project.results()) == 50


def test_a_home_that_cannot_be_written_is_one_error_that_says_what_to_do(two: Project) -> None:
    nowhere: dict[str, Any] = {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": None, "FTCHECK_CACHE_DIR": None}
    done = session(two, "--ft-json=out.json", "--ft-history=none", **nowhere)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    for result in two.results().values():
        assert result["error"].startswith("the run store /proc/nowhere/.cache/ftcheck can't be written: ")
        assert "--ft-cache-dir" in result["error"]
    assert not INTERNAL.search(done.stdout + done.stderr)


def test_without_any_home_it_is_one_error_that_says_what_to_do(two: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    without_home(monkeypatch)
    two.run("--ft-json=out.json").assert_outcomes(errors=2)
    errors = {result["error"] for result in two.results().values()}
    assert len(errors) == 1
    assert errors.pop().startswith("there is no place for the run store: this user's home folder")
    assert not (two.path / "~").exists()
    two.run("--ft-json=out.json", "--ft-cache-dir=store").assert_outcomes(passed=2)


def test_history_is_whole_after_a_session_on_a_read_only_disk(two: Project) -> None:
    from ftcheck.history import History

    assert session(two, "--ft-cache-dir=store", "--ft-history=history.sqlite").returncode == 0
    before = (two.path / "history.sqlite").read_bytes()
    disk = [
        *namespace(),
        f'mount --bind "{two.path}" "{two.path}" && mount -o remount,bind,ro "{two.path}" && '
        f'cd "{two.path}" && exec "$@"',
        "sh",
    ]
    done = session(two, "--ft-cache-dir=store", "--ft-history=history.sqlite", "-p", "no:cacheprovider", within=disk)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this session's results are not recorded" in done.stdout
    assert (two.path / "history.sqlite").read_bytes() == before
    assert [known.case for known in History(two.path / "history.sqlite").known()]
