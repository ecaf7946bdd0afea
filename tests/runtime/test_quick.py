"""The launcher's own state, start, kill and delete: the same as Python's, and Python's where anything is unusual."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from box import until

from veloci.runtime import quick
from veloci.runtime.container import Container

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


def test_a_signal_is_sent_without_python(runtime, tmp_path):
    """SIGTERM, also when none is named; by any name and number; 0 is none."""
    script = 'for s in HUP INT QUIT USR1 USR2 TERM CONT WINCH; do trap "echo $s >>/got" $s; done;'
    script += "echo ready >>/got; while :; do sleep 0.01; done"
    runtime.detached("sh", "-c", script, change=lambda config: config["root"].update(readonly=False))
    got = runtime.bundle / "rootfs/got"
    sent = {"HUP": "HUP", "2": "INT", "SIGQUIT": "QUIT", "USR1": "USR1", "SIGUSR2": "USR2", "15": "TERM",
            "CONT": "CONT", "28": "WINCH", "0": ""}  # fmt: skip
    expected = ["ready"]

    def told():
        return got.exists() and got.read_text().split() == expected

    for words in (["0"], *([word] for word in sent), []):
        until(told)
        done, python = started_python(runtime, tmp_path, "kill", runtime.id, *words)
        assert (done.returncode, done.stderr, python) == (0, "", False), words
        expected += [sent[words[0]]] if words and sent[words[0]] else [] if words else ["TERM"]
    until(told)
    assert started_python(runtime, tmp_path, "kill", runtime.id, "SIGKILL")[1] is False
    until_stopped(runtime)
    done, python = started_python(runtime, tmp_path, "kill", runtime.id, "KILL")
    assert (done.returncode, done.stderr, python) == (1, "veloci-runtime: container not running\n", True)


def test_what_waits_for_its_start_is_killed_without_python(runtime, tmp_path):
    runtime.created("sleep", "100")
    done, python = started_python(runtime, tmp_path, "kill", runtime.id, "KILL")
    assert (done.returncode, done.stderr, python) == (0, "", False)
    until_stopped(runtime)


def test_what_is_paused_is_killed_by_python_which_lets_it_go_on(runtime, tmp_path):
    runtime.detached("sleep", "100")
    assert runtime("pause", runtime.id).returncode == 0
    done, python = started_python(runtime, tmp_path, "kill", runtime.id, "KILL")
    assert (done.returncode, done.stderr, python) == (0, "", True)
    until_stopped(runtime)


@pytest.mark.parametrize(
    "words",
    [("start", "ID"), ("delete", "ID"), ("state", "nope"), ("state", "../ID"), ("state", "."), ("state", ""),
     ("state", "--help"), ("state",), ("state", "ID", "more"), ("kill", "nope"), ("kill", "ID", "NOSUCH"),
     ("kill", "ID", "65"), ("kill", "ID", ""), ("kill", "ID", "-0"), ("kill", "ID", "0", "more"), ("kill",)],
)  # fmt: skip
def test_what_is_not_usual_is_pythons(runtime, words):
    runtime.detached("sleep", "100")
    words = [word.replace("ID", runtime.id) for word in words]
    done, pythons = runtime(*words), by_python(runtime, *words)
    assert (done.returncode, done.stdout, done.stderr) == (pythons.returncode, pythons.stdout, pythons.stderr)
    assert done.stderr or "Usage: " in done.stdout


def test_a_container_with_hooks_has_nothing_quick(runtime):
    def hook(config):
        config["hooks"] = {"poststop": [{"path": "/bin/true"}]}

    runtime.detached("sleep", "100", change=hook)
    assert not (runtime.root / runtime.id / "quick").exists()
    assert json.loads(runtime("state", runtime.id).stdout)["status"] == "running"


@pytest.mark.parametrize(
    "more", [{"scope": "system.slice:x.scope"}, {"own_classes": ("/sys/fs/resctrl/x",)}, {"cgroups": {}}]
)
def test_a_container_that_has_more_to_remove_has_nothing_quick(runtime, more):
    """A scope of systemd's, a class of resctrl; and one without a group, of an ordinary user."""
    runtime.detached("sleep", "100")
    container = Container.load(runtime.id, root=str(runtime.root))
    assert quick.text(container, container.config()) == (runtime.root / runtime.id / "quick").read_bytes()
    container.saved = container.saved.replace(**more)
    assert quick.text(container, container.config()) == b""


def test_a_number_that_another_process_has_by_now_is_not_the_containers(runtime, tmp_path):
    runtime.detached("sleep", "100")
    quick = runtime.root / runtime.id / "quick"
    lines = quick.read_text().split("\n")
    lines[1] = str(int(lines[1]) + 1)  # it began at another time
    quick.write_text("\n".join(lines))
    for words in (["delete", runtime.id], ["kill", runtime.id, "KILL"]):
        done, python = started_python(runtime, tmp_path, *words)
        assert python  # its group is not empty; Python reads state.json
        assert done.returncode == (1 if words[0] == "delete" else 0)


def test_the_log_is_there_as_python_leaves_it(runtime, tmp_path):
    runtime.detached("sleep", "100")
    assert runtime("--log", str(tmp_path / "log"), "--log-format", "json", "state", runtime.id).returncode == 0
    assert (tmp_path / "log").read_text() == ""
