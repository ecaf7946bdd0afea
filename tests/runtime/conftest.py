"""veloci-runtime and its peers on a busybox bundle."""

import array
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from runtimes import PROGRAM, Runtime


@pytest.fixture
def runtime(tmp_path):
    yield from _with(PROGRAM, tmp_path)


@pytest.fixture(params=[PROGRAM, "runc"], ids=["veloci", "runc"])
def either(request, tmp_path):
    """Ours, and runc as the oracle: what the test says is true of both."""
    yield from _with(_there(request.param), tmp_path)


@pytest.fixture
def mapped():
    """A bundle that users other than root can reach, which pytest's directories are not."""
    yield from _apart(PROGRAM)


@pytest.fixture(params=[PROGRAM, "runc"], ids=["veloci", "runc"])
def either_mapped(request):
    """Ours and runc on a bundle that other users can reach."""
    yield from _apart(_there(request.param))


@pytest.fixture
def console(tmp_path):
    """A socket that a terminal can be sent to; `receive` gives its descriptor and its name."""
    listening = socket.socket(socket.AF_UNIX)
    place = tmp_path / "c"
    listening.bind(f"/proc/self/fd/{os.open(tmp_path, os.O_PATH)}/c")
    listening.listen(1)
    listening.settimeout(10)

    class Console:
        path = str(place)

        @staticmethod
        def receive():
            connection, _ = listening.accept()
            with connection:
                name, control, _, _ = connection.recvmsg(4096, socket.CMSG_LEN(4))
            return array.array("i", control[0][2])[0], name.decode()

    yield Console
    listening.close()


def _there(program):
    if not shutil.which(program):
        pytest.skip(f"this host lacks {program}")
    return program


def _with(program, directory):
    made = Runtime(directory, program)
    yield made
    for left in made.left():
        made("delete", "--force", left)


def _apart(program):
    directory = Path(tempfile.mkdtemp(prefix="veloci-test-"))
    try:
        for made in _with(program, directory):
            made.reachable()
            yield made
    finally:
        shutil.rmtree(directory)
