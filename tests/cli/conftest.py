"""Containers for the tests of the command line."""

from box import _stored, box

__all__ = ["_stored", "box"]
