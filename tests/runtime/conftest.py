"""veloci-runtime and its peers on a busybox bundle."""

import shutil
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
