"""Containers for the tests of the engine."""

from box import _stored, box

__all__ = ["_stored", "box"]
