"""What earlier steps gave, by everything that decided it.

    steps/<key>     JSON: a layer, or the digest of what a COPY reads from a stage
    active/<token>  locked (flock) as long as the build lives that writes snapshots build-<token>-N
    work/<token>/   its temporary files
    mounts/<hash>/  RUN --mount=type=cache

A key is the hash of the layers below (by content: the chain ID), the instruction's every effect and
the digests of its inputs (CVE-2024-24557: nothing less). A file is written aside and renamed; one that
cannot be read is as if it were not there, so a crash costs a rebuild and never gives a wrong layer.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import TYPE_CHECKING

from veloci.errors import VelociError
from veloci.spec import digest as digests
from veloci.spec.document import Document, dumps, loads
from veloci.spec.image import Descriptor  # noqa: TC001 -- a field's type is looked up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class Layer(Document, diff_id="diffID"):
    """A step's result: the compressed blob, the digest of its tar, and when it was made (RFC 3339)."""

    descriptor: Descriptor
    diff_id: str
    created: str
    step: str = ""  # for people who look into the cache


def key(*parts: Any) -> str:
    """The hash of JSON-able `parts`: a cache key of 64 digits."""
    return digests.of(dumps(list(parts))).partition(":")[2]


class Cache:
    """Results in files below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root

    def get(self, key: str) -> Any:
        """The document under `key`; None if there is none that can be read."""
        try:
            with open(f"{self.root}/steps/{key}", "rb") as file:
                return loads(file.read())
        except (OSError, ValueError, StopIteration):
            return None

    def put(self, key: str, document: Any) -> None:
        """Keep `document` under `key`, whole or not at all."""
        os.makedirs(f"{self.root}/steps", exist_ok=True)
        temporary = f"{self.root}/steps/.{key}-{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(dumps(document))
        os.rename(temporary, f"{self.root}/steps/{key}")

    def layer(self, key: str) -> Layer | None:
        """The layer under `key`."""
        found = self.get(key)
        try:
            return None if found is None else Layer.decode(dumps(found), name=key)
        except VelociError:
            return None

    def mount(self, identity: str) -> str:
        """The directory of a cache mount; its name is hashed, for it comes from a Dockerfile."""
        return f"{self.root}/mounts/{key('mount', identity)}"

    @contextmanager
    def active(self, forget: Callable[[str], None]) -> Iterator[str]:
        """A token for this build's snapshots and its directory work/<token>; at the end the directory is gone.

        forget: called with the token of every build that died before.
        """
        os.makedirs(f"{self.root}/active", exist_ok=True)
        self._sweep(forget)
        token = os.urandom(6).hex()
        file = os.open(f"{self.root}/active/.{token}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(file, LOCK_EX)
            os.rename(f"{self.root}/active/.{token}", f"{self.root}/active/{token}")
            os.makedirs(f"{self.root}/work/{token}", 0o700)
            yield token
        finally:
            self._clear(token)
            os.close(file)

    def work(self, token: str) -> str:
        """The build's own directory."""
        return f"{self.root}/work/{token}"

    def _clear(self, token: str) -> None:
        remove(self.work(token))
        os.unlink(f"{self.root}/active/{token}")

    def _sweep(self, forget: Callable[[str], None]) -> None:
        for token in os.listdir(f"{self.root}/active"):
            if token.startswith("."):
                continue
            try:
                file = os.open(f"{self.root}/active/{token}", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # it ended just now
            try:
                flock(file, LOCK_EX | LOCK_NB)
                forget(token)
                self._clear(token)
            except (BlockingIOError, FileNotFoundError):
                continue  # alive, or another build swept it
            finally:
                os.close(file)


def remove(path: str) -> None:
    """Delete a tree of ours; none there is fine."""
    from veloci.layer.tree import remove_tree

    try:
        parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(parent, os.path.basename(path).encode())
    finally:
        os.close(parent)
