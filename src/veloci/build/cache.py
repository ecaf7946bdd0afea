"""What earlier steps gave, by everything that decided it.

    steps/<key>     JSON: a layer, or the digest of what a COPY reads from a stage; its mtime: when it was used last
    making/<key>    locked while somebody makes that result: others wait for it and find it
    active/<token>  locked (flock) as long as the build lives that writes snapshots build-<token>-N
    work/<token>/   its temporary files
    mounts/<hash>/  RUN --mount=type=cache, see cache_mounts

A key is the hash of the layers below (by content: the chain ID), the instruction's every effect and
the digests of its inputs (CVE-2024-24557: nothing less). A file is written aside and renamed; one that
cannot be read is as if it were not there, so a crash costs a rebuild and never gives a wrong layer.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from time import time
from typing import TYPE_CHECKING

from veloci.errors import VelociError
from veloci.spec import digest as digests
from veloci.spec.document import Document, dumps, loads
from veloci.spec.image import Descriptor  # noqa: TC001 -- a field's type is looked up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


ABANDONED = 3600  # seconds after which a record that is still being written has no writer


class Layer(Document, diff_id="diffID"):
    """A step's result: the compressed blob, the digest of its tar, and when it was made (RFC 3339).

    chain_id: it and all below it, where it was unpacked when it was made; "" if it was not.
    """

    descriptor: Descriptor
    diff_id: str
    created: str
    step: str = ""  # for people who look into the cache
    chain_id: str = ""


def key(*parts: Any) -> str:
    """The hash of JSON-able `parts`: a cache key of 64 digits."""
    return digests.of(dumps(list(parts))).partition(":")[2]


class Entry:
    """A result in the cache: its layer (None: it only says what a COPY reads), when it was used, its record's bytes."""

    def __init__(self, name: str, layer: Layer | None, used: float, size: int) -> None:
        self.name, self.layer, self.used, self.size = name, layer, used, size


def _layer(found: Any, name: str) -> Layer | None:
    try:
        return None if found is None else Layer.decode(dumps(found), name=name)
    except VelociError:
        return None


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
        temporary = f"{self.root}/steps/.{key}-{os.getpid()}-{os.urandom(6).hex()}"
        with open(temporary, "wb") as file:
            file.write(dumps(document))
        os.rename(temporary, f"{self.root}/steps/{key}")

    def layer(self, key: str) -> Layer | None:
        """The layer under `key`, which counts as used now."""
        layer = _layer(self.get(key), key)
        if layer is not None:
            with suppress(FileNotFoundError):  # pruned just now; the layer is still good
                os.utime(f"{self.root}/steps/{key}")
        return layer

    @contextmanager
    def making(self, name: str, wait: Callable[[], None]) -> Iterator[None]:
        """The right to make a result; waits for whoever is at it, here or in another process.

        wait: called again and again meanwhile; what it raises ends the waiting.
        """
        path = f"{self.root}/making/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            locked(file, LOCK_EX, wait)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(file)):
                    break
            os.close(file)  # the one before us has removed it
        try:
            yield
        finally:
            os.unlink(path)
            os.close(file)

    def entries(self) -> Iterator[Entry]:
        """Every result, in no order; what cannot be read counts too, for it takes room."""
        try:
            names = os.listdir(f"{self.root}/steps")
        except FileNotFoundError:
            return
        for name in names:
            path = f"{self.root}/steps/{name}"
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            if name.startswith("."):  # being written, or left by one who died
                if time() - status.st_mtime > ABANDONED:
                    with suppress(FileNotFoundError):
                        os.unlink(path)
                continue
            yield Entry(name, _layer(self.get(name), name), status.st_mtime, status.st_size)

    def forget(self, name: str) -> None:
        """Drop a result; none there is fine."""
        with suppress(FileNotFoundError):
            os.unlink(f"{self.root}/steps/{name}")

    @contextmanager
    def active(self, forget: Callable[[str], None]) -> Iterator[str]:
        """A token for this build's snapshots and its directory work/<token>; at the end the directory is gone.

        forget: called with the token of every build that died before.
        """
        self.sweep(forget)
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

    def sweep(self, forget: Callable[[str], None]) -> None:
        """Remove what builds left that died. forget: as `active`'s."""
        os.makedirs(f"{self.root}/active", exist_ok=True)
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


def locked(file: int, how: int, wait: Callable[[], None]) -> None:
    """Lock an open file. wait: called while others have it; when it raises, the file is closed."""
    while True:
        try:
            flock(file, how | LOCK_NB)
            return
        except BlockingIOError:
            try:
                wait()
            except BaseException:
                os.close(file)
                raise


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
