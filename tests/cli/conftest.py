"""Containers and a registry for the tests of the command line."""

import pytest
from box import _stored, box
from peers import Serving

__all__ = ["_stored", "box"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """The address of a registry of our own."""
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address
