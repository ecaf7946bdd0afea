"""The launcher's own state, start and delete: the same as Python's, and Python's where anything is unusual."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox", "strace")

PROGRAM = Path(sys.executable).parent / "veloci-runtime"
LAUNCHER = Path(__file__).parents[2] / "scripts/veloci-runtime"


def by_python(runtime, *words):
    """The command without the launcher."""
    command = [sys.executable, "-I", PROGRAM, "--root", runtime.root, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def started_python(runtime, tmp_path, *words):
    """Run a command, and tell whether it took Python."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", trace, PROGRAM, "--root", runtime.root, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, "/python3" in trace.read_text()


def until_stopped(runtime):
    """What `state` prints once the container has ended."""
    for _ in range(200):
        said = runtime("state", runtime.id).stdout
        if json.loads(said)["status"] == "stopped":
            return said
        time.sleep(0.02)
    raise AssertionError(said)


def test_the_installed_launcher_is_this_one():
    assert PROGRAM.read_text() == LAUNCHER.read_text(), "install again: pip install -e ."


def test_the_state_is_told_without_python_and_as_by_it(runtime, tmp_path):
    runtime.created("sleep", "100")
    for command, status in ((None, "created"), ("start", "running"), ("pause", "paused"), ("resume", "running")):
        if command:
            assert runtime(command, runtime.id).returncode == 0
        done, python = started_python(runtime, tmp_path, "state", runtime.id)
        assert (python, json.loads(done.stdout)["status"]) == (False, status)
        assert done.stdout == by_python(runtime, "state", runtime.id).stdout
    assert runtime("kill", runtime.id, "KILL").returncode == 0
    assert by_python(runtime, "state", runtime.id).stdout == until_stopped(runtime)


def test_a_container_starts_and_goes_without_python(runtime, tmp_path):
    runtime.created("true")
    done, python = started_python(runtime, tmp_path, "start", runtime.id)
    assert (done.returncode, done.stderr, python) == (0, "", False)
    until_stopped(runtime)
    done, python = started_python(runtime, tmp_path, "delete", runtime.id)
    assert (done.returncode, done.stderr, python) == (0, "", False)
    assert runtime.traces() == []


@pytest.mark.parametrize(
    "words",
    [("start", "ID"), ("delete", "ID"), ("state", "nope"), ("state", "../ID"), ("state", "."), ("state", ""),
     ("state", "--help"), ("state",), ("state", "ID", "more")],
)  # fmt: skip
def test_what_is_not_usual_is_pythons(runtime, words):
    runtime.detached("sleep", "100")
    words = [word.replace("ID", runtime.id) for word in words]
    done, pythons = runtime(*words), by_python(runtime, *words)
    assert (done.returncode, done.stdout, done.stderr) == (pythons.returncode, pythons.stdout, pythons.stderr)
    assert done.stderr or done.stdout.startswith("Usage: ")


def test_a_container_with_hooks_has_nothing_quick(runtime):
    def hook(config):
        config["hooks"] = {"poststop": [{"path": "/bin/true"}]}

    runtime.detached("sleep", "100", change=hook)
    assert not (runtime.root / runtime.id / "quick").exists()
    assert json.loads(runtime("state", runtime.id).stdout)["status"] == "running"


def test_a_number_that_another_process_has_by_now_is_not_the_containers(runtime, tmp_path):
    runtime.detached("sleep", "100")
    quick = runtime.root / runtime.id / "quick"
    lines = quick.read_text().split("\n")
    lines[1] = str(int(lines[1]) + 1)  # it began at another time
    quick.write_text("\n".join(lines))
    done, python = started_python(runtime, tmp_path, "delete", runtime.id)
    assert python  # its group is not empty
    assert done.returncode == 1
    assert json.loads(runtime("state", runtime.id).stdout)["status"] == "running"


def test_the_log_is_there_as_python_leaves_it(runtime, tmp_path):
    runtime.detached("sleep", "100")
    assert runtime("--log", str(tmp_path / "log"), "--log-format", "json", "state", runtime.id).returncode == 0
    assert (tmp_path / "log").read_text() == ""
