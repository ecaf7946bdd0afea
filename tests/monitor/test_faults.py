"""A monitor goes on: with a full disk, with more clients than it takes, with words that mean nothing."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from box import Box, until

from veloci.monitor import session

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


@pytest.fixture
def small(_stored, roots):
    """As `box`, with a disk of 48 MB for its data."""
    (roots / "data").mkdir()
    with (roots / "disk").open("wb") as disk:
        disk.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", roots / "disk"], check=True)
    subprocess.run(["mount", "-o", "loop", roots / "disk", roots / "data"], check=True)
    try:
        subprocess.run(["cp", "-a", f"{_stored}/.", roots / "data"], check=True)
        found = Box(roots)
        yield found
        containers = found.engine().containers
        for id in containers.records.ids():
            containers.remove(id, force=True)
    finally:
        subprocess.run(["umount", roots / "data"], check=True)


def fill(path, *, leaving):
    """Take what is free on the disk, but for so many bytes."""
    with path.open("wb") as file:
        size = shutil.disk_usage(path.parent).free - leaving
        while size > 0:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError:  # the file's own blocks want some of it
                size -= 1 << 12
            else:
                return


@pytest.mark.needs("mkfs.ext4")
def test_a_full_disk_costs_some_of_the_log_and_nothing_else(small):
    filler = small.path / "data/filler"
    words = ("-i", "--name", "it", "--log-opt", "max-size=100m", "bb", "sh", "-c")
    small.started(*words, "read x; seq 1 30000; read x; echo again; exit 4")
    fill(filler, leaving=300_000)
    with small.background("attach", "it") as client:
        client.stdin.write("go\n")
        client.stdin.flush()
        assert [client.stdout.readline() for _ in range(30000)][-1] == "30000\n"
        filler.unlink()
        client.stdin.write("go\n")
        client.stdin.flush()
        assert client.stdout.readline() == "again\n"
        assert client.wait(20) == 4
    done = small.veloci("logs", "it")
    *numbers, last = done.stdout.splitlines()
    assert last == "again"
    assert numbers == sorted(set(numbers), key=int)  # some are lost, none is torn
    assert len(numbers) < 30000
    assert done.stderr.startswith("veloci: ")
    assert done.stderr.endswith(" bytes of this log were lost: No space left on device\n")
    assert small.show("it", "{{.State.Status}} {{.State.ExitCode}}") == "exited 4"


@pytest.mark.needs("mkfs.ext4")
def test_a_container_ends_in_good_order_although_the_disk_is_full(small):
    small.started("--name", "it", "bb", "sleep", "60")
    fill(small.path / "data/filler", leaving=0)
    assert small.ok("stop", "-t", "0", "it") == "it\n"
    assert small.show("it", "{{.State.Running}}") == "false"
    assert small.ok("rm", "it") == "it\n"
    (small.path / "data/filler").unlink()
    assert small.ok("run", "--rm", "--network", "none", "bb", "echo", "next") == "next\n"


def test_more_clients_than_it_takes_are_turned_away(box):
    id = box.started("--name", "it", "bb", "sleep", "60")
    run = str(box.path / "run/containers" / id)
    clients = [session.connect(run) for _ in range(300)]
    try:
        until(lambda: _closed(clients[-1]))
        assert not _closed(clients[0])
    finally:
        for client in clients:
            client.close()
    assert box.ok("kill", "it") == "it\n"
    box.until("it", "{{.State.Status}}", "exited")


def _closed(client, patience=0.05):
    client.settimeout(patience)
    try:
        return client.recv(10) == b""
    except TimeoutError:
        return False


def test_words_that_mean_nothing_are_answered_and_the_container_goes_on(box):
    id = box.started("--name", "it", "bb", "sleep", "60")
    for message in (
        b"k",
        b"kx",
        b"r1",
        b"r",
        b"U{",
        b"U[]",
        b"U5",
        b'U{"restart":5}',
        b"?",
        b"\xff\xff",
        b"i",
        b"h" * 1000,
    ):
        client = session.connect(str(box.path / "run/containers" / id))
        client.send(message)
        client.close()
    assert box.show("it", "{{.State.Status}}") == "running"
    assert box.ok("exec", "it", "echo", "here") == "here\n"
    assert box.ok("stop", "-t", "0", "it") == "it\n"


@pytest.mark.parametrize("user", [0, 65534])
def test_another_users_process_is_turned_away_wherever_it_comes_from(box, user):
    """CVE-2020-15257: also if the socket's directory and the socket itself let it come so far."""
    id = box.started("--name", "it", "bb", "sleep", "60")
    run = box.path / "run/containers" / id
    assert [(run / name).stat().st_mode & 0o777 for name in (".", "monitor.sock")] == [0o700, 0o600]
    assert id not in "".join(line.partition("@")[2] for line in Path("/proc/net/unix").read_text().splitlines())
    run.chmod(0o711)
    (run / "monitor.sock").chmod(0o666)
    place = os.open(run, os.O_PATH)
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            os.fchdir(place)
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect("monitor.sock")
                status = _closed(client, 1)
        finally:
            os._exit(status)
    os.close(place)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (user != 0)  # root's is served
    assert box.ok("exec", "it", "echo", "here") == "here\n"
    box.ok("rm", "-f", "it")
