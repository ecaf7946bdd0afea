"""Terminals: on the caller's own, over a console socket, their size, their place in the container."""

import fcntl
import json
import os
import signal
import struct
import subprocess
import termios
import time

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")


def terminal(config):
    config["process"]["terminal"] = True


def _control():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Person:
    """Somebody at a terminal with a command on it."""

    def __init__(self, *words, rows=30, columns=100):
        self.primary, secondary = os.openpty()
        self.resize(rows, columns)
        self.modes = termios.tcgetattr(secondary)
        self.secondary = secondary
        self.process = subprocess.Popen(
            words,
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            start_new_session=True,
            preexec_fn=_control,  # noqa: PLW1509 -- one thread
        )
        self.seen = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.primary, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.primary, text.encode())

    def wait_for(self, text):
        limit = time.monotonic() + 10
        os.set_blocking(self.primary, False)
        while text not in self.seen:
            assert time.monotonic() < limit, self.seen
            try:
                self.seen += os.read(self.primary, 65536).decode()
            except BlockingIOError:
                time.sleep(0.01)

    def end(self):
        status = self.process.wait(60)
        same = termios.tcgetattr(self.secondary) == self.modes
        os.close(self.primary)
        os.close(self.secondary)
        return status, same


@pytest.fixture
def person(either):
    """Starts a command of the runtime on a terminal."""
    made = []

    def start(*words, **size):
        made.append(Person(either.program, "--root", str(either.root), *words, **size))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.wait()


def test_newlines_are_left_to_who_shows_them(runtime):
    done = runtime.run("sh", "-c", "echo one; echo two", change=terminal)
    assert done.stdout == "one\ntwo\n", done.stderr
    runtime.detached("sleep", "100")
    assert runtime("exec", "-t", runtime.id, "sh", "-c", "echo one; echo two").stdout == "one\ntwo\n"
    runtime("delete", "-f", runtime.id)


def test_a_container_runs_on_the_callers_terminal(runtime):
    runtime.configure("sh", "-c", "tty; stty size; read line; echo got $line; exit 5", change=terminal)
    (runtime.bundle / "rootfs/bin/tty").symlink_to("busybox")
    (runtime.bundle / "rootfs/bin/stty").symlink_to("busybox")
    someone = Person(
        runtime.program,
        "--root",
        str(runtime.root),
        "run",
        "--bundle",
        str(runtime.bundle),
        runtime.id,
        rows=40,
        columns=90,
    )
    someone.wait_for("/dev/pts/0\r\n")
    someone.wait_for("40 90\r\n")
    someone.type("hello\r")
    someone.wait_for("got hello\r\n")
    assert someone.end() == (5, True)
    assert runtime.traces() == []


def test_a_resize_reaches_the_container(either, person):
    (either.bundle / "rootfs/bin/stty").symlink_to("busybox")
    either.configure(
        "sh",
        "-c",
        "trap 'stty size; stty size | grep -q 11 && exit' WINCH; echo ready; while :; do sleep 0.05; done",
        change=terminal,
    )
    someone = person("run", "--bundle", str(either.bundle), either.id)
    someone.wait_for("ready")
    someone.resize(11, 22)
    someone.wait_for("11 22")
    assert someone.end() == (0, True)


def test_an_interrupt_is_the_containers(either, person):
    either.configure(
        "sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done", change=terminal
    )
    someone = person("run", "--bundle", str(either.bundle), either.id)
    someone.wait_for("ready")
    someone.type("\x03")
    someone.wait_for("caught")
    assert someone.end() == (3, True)


def test_an_exec_runs_on_the_callers_terminal(runtime):
    (runtime.bundle / "rootfs/bin/tty").symlink_to("busybox")
    runtime.detached("sleep", "100")
    words = ("exec", "-t", runtime.id, "sh", "-c", "tty; read line; echo got $line; exit 6")
    someone = Person(runtime.program, "--root", str(runtime.root), *words)
    someone.wait_for("/dev/pts/0\r\n")
    someone.type("hi\r")
    someone.wait_for("got hi\r\n")
    assert someone.end() == (6, True)


def test_a_signal_is_forwarded_and_the_modes_are_put_back(runtime):
    runtime.configure("sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done", change=terminal)
    someone = Person(runtime.program, "--root", str(runtime.root), "run", "--bundle", str(runtime.bundle), runtime.id)
    someone.wait_for("ready")
    someone.process.send_signal(signal.SIGTERM)
    assert someone.end() == (4, True)


def test_what_a_pipe_holds_is_typed(runtime):
    runtime.configure("sh", "-c", "read line; echo got $line; seq 1 5000; exit 7", change=terminal)
    (runtime.bundle / "rootfs/bin/seq").symlink_to("busybox")
    words = [runtime.program, "--root", str(runtime.root), "run", "--bundle", str(runtime.bundle), runtime.id]
    done = subprocess.run(words, input="typed\n", capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 7
    lines = done.stdout.splitlines()
    assert lines[:2] == ["typed", "got typed"]
    assert lines[2:] == [str(number) for number in range(1, 5001)]


@pytest.mark.parametrize("how", ["create", "run"])
def test_a_terminal_is_sent_over_the_console_socket(either, console, how):
    def change(config):
        terminal(config)
        config["process"]["consoleSize"] = {"height": 12, "width": 34}

    (either.bundle / "rootfs/bin/stty").symlink_to("busybox")
    either.configure(
        "sh", "-c", "stty size; stat -c '%n %t:%T %u' /dev/console; read line; echo got $line", change=change
    )
    words = ["create"] if how == "create" else ["run", "-d"]
    assert either(*words, "--bundle", str(either.bundle), "--console-socket", console.path, either.id).stderr == ""
    descriptor, _name = console.receive()
    if how == "create":
        either("start", either.id)
    with open(descriptor, "r+b", buffering=0) as stream:
        stream.write(b"x\n")
        time.sleep(0.4)
        text = stream.read(4096).decode()
    lines = text.splitlines()
    assert "12 34" in lines
    assert "/dev/console 88:0 0" in lines
    assert "got x" in lines


def test_an_exec_sends_its_terminal_over_the_socket(either, console):
    either.detached("sleep", "100")
    file = either.bundle / "process.json"
    asked = {
        "cwd": "/",
        "args": ["sh", "-c", "echo here; read line"],
        "env": ["PATH=/bin"],
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
    }
    file.write_text(json.dumps(asked))
    done = either("exec", "--process", str(file), "--console-socket", console.path, "--detach", either.id)
    assert done.stderr == ""
    descriptor, _ = console.receive()
    with open(descriptor, "rb", buffering=0) as stream:
        assert stream.readline() == b"here\r\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create"], "cannot allocate tty if {} will detach without setting console socket"),
        (["run", "-d"], "cannot allocate tty if {} will detach without setting console socket"),
        (["run", "--console-socket", "/x"], "cannot use console socket if {} will not detach or allocate tty"),
    ],
)
def test_a_terminal_without_a_place_is_refused_in_runcs_words(either, words, message):
    either.configure("true", change=terminal)
    done = either(*words, "--bundle", str(either.bundle), either.id)
    name = "runc" if either.program == "runc" else "veloci-runtime"
    assert done.returncode == 1
    assert message.format(name) in done.stderr
    assert either.traces() == []
