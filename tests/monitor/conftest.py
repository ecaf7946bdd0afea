"""Containers for the tests of their monitors."""

from box import _stored, box

__all__ = ["_stored", "box"]
