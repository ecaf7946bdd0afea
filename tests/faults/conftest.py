"""What the tests of faults share: containers, a registry of our own, an image in it."""

import os

import pytest
from box import _stored, box
from peers import Built, Serving, busybox, tar
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


def big(name):
    """A layer of 1 MiB that compresses to as much."""
    return tar({f"data/{name}{n}": os.urandom(1 << 18) for n in range(4)})
