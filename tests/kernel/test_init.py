"""The init of `run --init`, as the first process of a PID namespace, and on the other architecture under qemu."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from veloci.errors import Unsupported
from veloci.kernel import init

OWN = os.uname().machine


@pytest.fixture(params=["x86_64", "aarch64"])
def program(request, tmp_path):
    """The words that start it."""
    path = tmp_path / "init"
    path.write_bytes(init.image(request.param))
    path.chmod(0o755)
    if request.param == OWN:
        return [str(path)]
    emulator = f"qemu-{request.param}-static"
    if not shutil.which(emulator):
        pytest.skip(f"this host lacks {emulator}")
    return [emulator, str(path)]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--", "sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/bin/true"], 0),
        (["no-such-command"], 127),
        (["/no/such/command"], 127),
        (["/etc"], 126),
        ([], 2),
    ],
)
def test_it_ends_as_the_command_did(program, words, status):
    assert subprocess.run([*program, *words], capture_output=True, check=False, timeout=30).returncode == status


def test_it_says_what_it_could_not_execute(program):
    done = subprocess.run([*program, "nope"], capture_output=True, check=False, timeout=30, text=True)
    assert done.stderr == 'exec: "nope": executable file not found\n'


def test_path_is_searched_with_the_command_s_environment(program, tmp_path):
    (tmp_path / "here").mkdir()
    command = tmp_path / "here/mine"
    command.write_text("#!/bin/sh\necho found $1\n")
    command.chmod(0o755)
    env = {"PATH": f"/nowhere:{tmp_path}/here:{os.environ['PATH']}"}
    words = [shutil.which(program[0]) or program[0], *program[1:]]
    done = subprocess.run([*words, "mine", "it"], capture_output=True, check=False, env=env, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("found it\n", 0)


def test_signals_reach_the_command(program):
    words = [*program, "sh", "-c", "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == "term\n"
    assert running.returncode == 3


@pytest.mark.needs("root", "namespaces")
def test_orphans_are_reaped(tmp_path):
    path = tmp_path / "init"
    path.write_bytes(init.image(OWN))
    path.chmod(0o755)
    script = "for i in 1 2 3; do (sleep 0.05 &) ; done; sleep 0.5; grep -c '^State:.Z' /proc/[0-9]*/status | grep -c :1"
    words = ["unshare", "-pf", "--mount-proc", path, "sh", "-c", script]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, check=False, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("0\n", 1)
    assert time.monotonic() - began < 20


def test_another_architecture_is_refused():
    with pytest.raises(Unsupported, match="there is no init for riscv64"):
        init.image("riscv64")
