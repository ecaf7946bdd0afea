"""NOTIFY_SOCKET: what the container says to its service manager — a datagram socket of the test's — as runc 1.2 passes it."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

# busybox has no client for datagram sockets: Python of the host goes where the container is.
TELLING = """
import os, socket, sys
path, root, *messages = sys.argv[1:]
descriptor = os.open(root, os.O_PATH)
os.fchdir(descriptor)
os.chroot(".")
for message in messages:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(path)
        manager.send(message.encode())
"""


class Manager:
    """A service manager's socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(10)
        self.path = path.replace("\0", "@")

    def heard(self):
        """The next message; the end of a barrier is closed, as by a service manager that has read all before."""
        data, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 4)
        for descriptor in descriptors:
            os.close(descriptor)
        return data.decode()

    def silent(self):
        self.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.socket.recv(100)
        self.socket.settimeout(10)


@pytest.fixture
def manager(tmp_path):
    made = Manager(str(tmp_path / "m"))
    yield made
    made.socket.close()


def command(runtime, manager, *words):
    """A command with the manager's socket in its environment, without pipes that the container would keep open."""
    output = runtime.bundle.parent / "output"
    with open(output, "ab") as out:
        return subprocess.Popen(
            [runtime.program, "--root", str(runtime.root), *words],
            env={**os.environ, "NOTIFY_SOCKET": manager.path}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip


def tell(runtime, *messages):
    """Send messages as a process of the container would: through its root, to the path that its program was told."""
    pid = str(runtime.state()["pid"])
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    (path,) = [entry.partition("=")[2] for entry in environment if entry.startswith("NOTIFY_SOCKET=")]
    subprocess.run([sys.executable, "-c", TELLING, path, f"/proc/{pid}/root", *messages], check=True)
    return int(pid)


def made(runtime):
    """Wait until the container's program runs."""
    limit = time.monotonic() + 10
    while '"running"' not in runtime("state", runtime.id).stdout:
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_detached_run_ends_when_the_container_is_ready(runtime, manager):
    runtime.configure("sleep", "100")
    run = command(runtime, manager, "run", "-d", "--bundle", str(runtime.bundle), runtime.id)
    made(runtime)
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(0.3)
    pid = tell(runtime, "READY=1")
    assert [manager.heard() for _ in range(3)] == ["READY=1\n", f"MAINPID={pid}\n", "BARRIER=1"]
    assert run.wait(10) == 0
    assert runtime.state()["status"] == "running"


def test_start_waits_for_what_was_created(runtime, manager):
    runtime.configure("sleep", "100")
    assert command(runtime, manager, "create", "--bundle", str(runtime.bundle), runtime.id).wait(10) == 0
    starting = command(runtime, manager, "start", runtime.id)
    made(runtime)
    with pytest.raises(subprocess.TimeoutExpired):
        starting.wait(0.3)
    pid = tell(runtime, "READY=1")
    assert [manager.heard() for _ in range(3)] == ["READY=1\n", f"MAINPID={pid}\n", "BARRIER=1"]
    assert starting.wait(10) == 0
    assert runtime("delete", "--force", runtime.id).returncode == 0
    assert runtime.traces() == []


def test_what_else_it_says_is_not_waited_for(runtime, manager):
    runtime.configure("sleep", "100")
    run = command(runtime, manager, "run", "-d", "--bundle", str(runtime.bundle), runtime.id)
    made(runtime)
    tell(runtime, "STATUS=warming up", "STATUS=here\nREADY=1\nX=1")
    assert manager.heard() == "READY=1\n"
    manager.heard()
    manager.heard()
    assert run.wait(10) == 0


def test_one_that_ends_without_a_word_is_not_waited_for(runtime, manager):
    runtime.configure("sleep", "0.3")
    assert command(runtime, manager, "run", "-d", "--bundle", str(runtime.bundle), runtime.id).wait(10) == 0
    manager.silent()


def test_in_the_foreground_the_service_is_the_runtime(runtime, manager):
    runtime.configure("sh", "-c", "while ! [ -e /dev/shm/go ]; do sleep 0.05; done; exit 5")
    run = command(runtime, manager, "run", "--bundle", str(runtime.bundle), runtime.id)
    made(runtime)
    tell(runtime, "READY=1")
    assert [manager.heard() for _ in range(2)] == ["READY=1\n", f"MAINPID={run.pid}\n"]
    runtime("exec", runtime.id, "sh", "-c", ">/dev/shm/go")
    assert run.wait(10) == 5
    assert runtime.traces() == []


def test_a_foreground_that_is_never_ready_ends_with_the_container(runtime, manager):
    runtime.configure("sh", "-c", "exit 6")
    assert command(runtime, manager, "run", "--bundle", str(runtime.bundle), runtime.id).wait(10) == 6
    manager.silent()


def test_an_abstract_socket_and_another_user(runtime):
    manager = Manager(f"\0veloci-test-{os.getpid()}")

    def ordinary(config):
        config["process"]["user"] = {"uid": 1000, "gid": 1000}

    runtime.configure("sh", "-c", "stat -c '%a %F' /run/notify > /dev/shm/seen; sleep 100", change=ordinary)
    run = command(runtime, manager, "run", "-d", "--bundle", str(runtime.bundle), runtime.id)
    made(runtime)
    tell(runtime, "READY=1")
    assert manager.heard() == "READY=1\n"
    manager.heard()
    manager.heard()
    assert run.wait(10) == 0
    assert runtime("exec", runtime.id, "cat", "/dev/shm/seen").stdout == "755 directory\n"
    assert "Read-only" in runtime("exec", runtime.id, "sh", "-c", "> /run/notify/x").stderr
    manager.socket.close()


def test_a_container_that_was_made_without_is_just_started(runtime, manager):
    runtime.created("sleep", "100")
    assert command(runtime, manager, "start", runtime.id).wait(10) == 0
    assert runtime.state()["status"] == "running"


def test_a_manager_that_is_not_there_is_an_error(runtime, manager):
    manager.path += "-gone"
    runtime.configure("sleep", "100")
    run = command(runtime, manager, "run", "-d", "--bundle", str(runtime.bundle), runtime.id)
    made(runtime)
    tell(runtime, "READY=1")
    assert run.wait(10) == 1
    said = (runtime.bundle.parent / "output").read_text()
    assert said == "veloci-runtime run failed: NOTIFY_SOCKET: tell the service manager: No such file or directory\n"
