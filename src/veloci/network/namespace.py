"""Network namespaces: enter one and come back, pin one to a name as `ip netns` does — network_namespaces(7)."""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, ENOENT, EPERM

from veloci.errors import Conflict, Denied, HostError, InvalidInput, NotFound
from veloci.kernel.netlink import Netlink
from veloci.kernel.process import CLONE_NEWNET, setns, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

DIRECTORY = "/run/netns"  # where `ip netns` looks, too
_HERE = "/proc/thread-self/ns/net"


class Inside:
    """A context manager: the calling thread is in the namespace `netns`, a descriptor, and comes back after.

    Sockets and /proc/sys/net belong to that namespace meanwhile. Other threads stay where they are.
    """

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._home = -1

    def __enter__(self) -> Self:
        self._home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self._netns, CLONE_NEWNET)
        except BaseException:
            os.close(self._home)
            raise
        return self

    def __exit__(self, *_cause: object) -> None:
        try:
            setns(self._home, CLONE_NEWNET)
        finally:
            os.close(self._home)


def netlink_in(netns: int) -> Netlink:
    """A netlink socket that speaks with the namespace `netns`, a descriptor. Raises OSError."""
    with Inside(netns):
        return Netlink()


def named(name: str) -> str:
    """The path of the namespace called `name`. Raises InvalidInput if it cannot be a name."""
    if not name or "/" in name or name in (".", "..") or not name.isprintable() or len(os.fsencode(name)) > 255:
        raise InvalidInput(f"{name!r} cannot name a namespace", hint="letters, digits, - and _ can")
    return f"{DIRECTORY}/{name}"


def opened(path: str) -> int:
    """A descriptor of the network namespace at `path`. Raises NotFound, InvalidInput if something else is there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"no network namespace {path}", hint="make one: veloci network namespace NAME") from None
    except OSError as error:
        raise HostError(f"open namespace {path}", error) from error
    if not is_namespace(descriptor):
        os.close(descriptor)
        raise InvalidInput(f"{path} is not a network namespace", hint="make one: veloci network namespace NAME")
    return descriptor


def is_namespace(descriptor: int) -> bool:
    """Whether an open file is a network namespace (NS_GET_NSTYPE, ioctl_ns(2))."""
    from fcntl import ioctl

    try:
        return ioctl(descriptor, 0xB703) == CLONE_NEWNET
    except OSError:
        return False


def pin(path: str) -> None:
    """Make a namespace that lives until `unpin(path)`: its `lo` is there, and down.

    Raises Conflict if the path is taken, Denied without privilege. Nothing is left after a failure.
    """
    from veloci.kernel.mount import mount

    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except FileExistsError:
        name = os.path.basename(path)
        hint = f"remove it: veloci network namespace {name} --rm" if path == f"{DIRECTORY}/{name}" else ""
        raise Conflict(f"network namespace {path} exists already", hint=hint) from None
    try:
        home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWNET)
            try:
                mount(_HERE, path, "none", 0x1000)  # MS_BIND
            finally:
                setns(home, CLONE_NEWNET)
        finally:
            os.close(home)
    except OSError as error:
        os.unlink(path)
        raise failure(f"make namespace {path}", error) from error


def unpin(path: str) -> None:
    """Let go of the namespace at `path`; it ends with its last process. Raises NotFound, InvalidInput, Denied."""
    from veloci.kernel.mount import umount

    os.close(opened(path))
    try:
        umount(path, 2)  # MNT_DETACH
        os.unlink(path)
    except OSError as error:
        if error.errno in (EINVAL, EBUSY, ENOENT):
            raise Conflict(f"namespace {path} is not pinned here", hint="another mount namespace holds it") from None
        raise failure(f"remove namespace {path}", error) from error


def failure(doing: str, error: OSError) -> HostError | Denied:
    """A system call's failure as veloci's error: without privilege it is Denied, and says what to do."""
    if error.errno in (EPERM, 13):
        return Denied(f"{doing}: {error.strerror}", hint="run it as root: networks need CAP_NET_ADMIN")
    return HostError(doing, error)
