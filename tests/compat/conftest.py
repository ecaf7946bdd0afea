"""Peers with a place of their own."""

import shutil
import tempfile

import pytest
from peers import run


@pytest.fixture
def podman(tmp_path):
    """podman with a store of its own; its run directory's name may not be long."""
    short = tempfile.mkdtemp(prefix="podman-")
    roots = ["--root", tmp_path / "podman", "--runroot", short, "--storage-driver", "vfs"]
    yield ["podman", *roots]
    run("podman", *roots, "rmi", "--all", "--force", check=False)
    shutil.rmtree(short)
