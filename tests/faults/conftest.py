"""What the tests of faults share: containers, a registry of our own, an image in it."""

import os

import pytest
from box import _stored, box
from peers import Built, Serving, busybox, run, tar
from peers import inside as veloci

__all__ = ["_stored", "box"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The address of a registry of our own."""
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


@pytest.fixture(scope="module")
def pushed(registry, tmp_path_factory):
    """An image of four layers in the registry, of which the first runs: its name, and how it was made."""
    built = Built(tmp_path_factory.mktemp("built") / "layout", [*busybox(), *(big(name) for name in "xy")])
    name = f"{registry}/app:v0"
    assert veloci("copy", "-q", "--dest-tls-verify=false", f"oci:{built.path}:v0", f"docker://{name}") is not None
    built.name = name
    return built


@pytest.fixture
def small(tmp_path, monkeypatch):
    """An ext4 file system of 24 MiB, on a loop device, as the place of the store."""
    place = tmp_path / "small"
    place.mkdir()
    with (tmp_path / "image").open("wb") as file:
        file.truncate(24 << 20)
    run("mkfs.ext4", "-q", "-m", "0", tmp_path / "image")
    run("mount", "-o", "loop", tmp_path / "image", place)
    monkeypatch.setenv("VELOCI_ROOT", f"{place}/data")
    monkeypatch.setenv("VELOCI_RUN", str(tmp_path / "run"))
    yield place
    run("umount", place)


def big(name):
    """A layer of 1 MiB that compresses to as much."""
    return tar({f"data/{name}{n}": os.urandom(1 << 18) for n in range(4)})
