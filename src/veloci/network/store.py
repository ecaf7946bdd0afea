"""Networks and leases as files: `NAME/network.json`, and `NAME/ADDRESS@CONTAINER` for each lease.

A listing of the folder says which addresses are taken and by whom; `ls` is the debugger.
Who changes anything holds the lock.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, flock

from veloci.errors import HostError, InvalidInput
from veloci.network.addresses import Subnet, parse_cidr
from veloci.spec.document import Document, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

_CONFIG = "network.json"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Network(Document):
    """A network as it is kept. Its bridge is there as long as somebody is connected."""

    name: str
    id: str  # 64 hexadecimal digits
    link: str  # the bridge's name
    mac: str  # the bridge's address, by which it is known to be ours
    subnet: str
    gateway: str
    created: str  # RFC 3339
    internal: bool = False
    chosen: bool = False  # we chose the subnet, and may choose again while nobody is connected
    labels: dict[str, str] = {}

    def range(self) -> Subnet:
        """The subnet as a value."""
        return parse_cidr(self.subnet, where=f"network {self.name}")[1]


class Lock:
    """A context manager: alone in this store, and alone among veloci's changes to this network namespace.

    Locks are taken in that order. The namespace's own file in /proc carries the second, since
    veloci with another data directory shares the host's links but not our files.
    """

    def __init__(self, root: str) -> None:
        self._paths = (f"{root}/.lock", "/proc/thread-self/ns/net")
        self._held: list[int] = []

    def __enter__(self) -> Self:
        try:
            for path, flags in zip(self._paths, (os.O_CREAT | os.O_RDWR, os.O_RDONLY), strict=True):
                self._held.append(os.open(path, flags | os.O_CLOEXEC, 0o600))
                flock(self._held[-1], LOCK_EX)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_cause: object) -> None:
        while self._held:
            os.close(self._held.pop())


class Store:
    """The files below one root."""

    def __init__(self, root: str) -> None:
        self.root = root

    def lock(self) -> Lock:
        """The lock; the root is made if need be. Raises HostError."""
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
        except OSError as error:
            raise HostError(f"make {self.root}", error) from error
        return Lock(self.root)

    def names(self) -> list[str]:
        """The names of all networks, sorted."""
        try:
            found = os.listdir(self.root)
        except FileNotFoundError:
            return []
        return sorted(name for name in found if os.path.exists(f"{self.root}/{name}/{_CONFIG}"))

    def read(self, name: str) -> Network | None:
        """The network of that name, None if there is none. Raises InvalidInput if its file is damaged."""
        path = f"{self.root}/{name}/{_CONFIG}"
        try:
            with open(path, "rb", buffering=0) as file:
                raw = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return Network.decode(raw, name=path)
        except InvalidInput as error:
            error.hint = f"remove it: veloci network rm {name}"
            raise

    def write(self, network: Network) -> None:
        """Keep `network`, whole and lasting."""
        folder = f"{self.root}/{network.name}"
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _write(f"{folder}/{_CONFIG}", dumps(network.plain()), lasting=True)

    def remove(self, name: str) -> None:
        """Forget the network; it has no lease."""
        for entry in os.listdir(f"{self.root}/{name}"):  # its file, and what a crash left half-written
            os.unlink(f"{self.root}/{name}/{entry}")
        os.rmdir(f"{self.root}/{name}")

    def holders(self, name: str) -> dict[str, str]:
        """Who is connected: address to container."""
        try:
            found = os.listdir(f"{self.root}/{name}")
        except FileNotFoundError:
            return {}
        pairs = (entry.partition("@") for entry in found if not entry.startswith("."))
        return {address: container for address, at, container in pairs if at}

    def traces(self, name: str, container: str) -> list[str]:
        """The files that a container has in a network's directory: its leases, and what a crash left half-written."""
        return [entry for entry in os.listdir(f"{self.root}/{name}") if entry.endswith(f"@{container}")]

    def lease(self, name: str, address: str, container: str) -> dict[str, Any] | None:
        """The lease, None if there is none or it was torn by a power cut."""
        try:
            with open(self._lease(name, address, container), "rb", buffering=0) as file:
                value = loads(file.read())
        except (FileNotFoundError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def leases(self, name: str) -> Iterator[dict[str, Any]]:
        """Every whole lease of a network."""
        for address, container in self.holders(name).items():
            lease = self.lease(name, address, container)
            if lease is not None:
                yield lease

    def keep(self, lease: dict[str, Any]) -> None:
        """Keep a lease; a reboot may lose it, since it ends every container."""
        _write(self._lease(lease["network"], lease["address"], lease["container"]), dumps(lease), lasting=False)

    def release(self, name: str, address: str, container: str) -> bool:
        """Forget a lease. Returns False if it was gone."""
        try:
            os.unlink(self._lease(name, address, container))
        except FileNotFoundError:
            return False
        return True

    def sweep(self, name: str, container: str) -> None:
        """Remove what is left of a container that has no lease."""
        for entry in self.traces(name, container):
            os.unlink(f"{self.root}/{name}/{entry}")

    def _lease(self, name: str, address: str, container: str) -> str:
        return f"{self.root}/{name}/{address}@{container}"


def _write(path: str, data: bytes, *, lasting: bool) -> None:
    """A file that appears whole, by rename. lasting: it outlives a power cut right after."""
    folder, _, name = path.rpartition("/")
    part = f"{folder}/.{name}"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
        if lasting:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(part, path)
    if lasting:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_name(text: str) -> bool:
    """Whether `text` can name a network or a container: a letter or digit, then letters, digits, _ . -, 128 at most."""
    return 0 < len(text) <= 128 and text[0].isalnum() and _NAME.issuperset(text)
