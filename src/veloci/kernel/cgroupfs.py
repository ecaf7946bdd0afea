"""Control group file systems: where they are, and their files — cgroups(7)."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Hierarchy:
    """A mounted cgroup hierarchy. controllers: of version 1 ("name=systemd" among them); () for version 2."""

    def __init__(self, mount: str, own: str, controllers: tuple[str, ...]) -> None:
        self.mount = mount  # where it is mounted
        self.own = own  # this process's group in it, as a directory
        self.controllers = controllers

    @property
    def name(self) -> str:
        """The controllers, separated by commas; "" for version 2."""
        return ",".join(self.controllers)


def hierarchies() -> list[Hierarchy]:
    """The hierarchies that this process can see, from /proc/self/mountinfo and /proc/self/cgroup."""
    with open("/proc/self/cgroup") as file:
        groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    found: dict[str, Hierarchy] = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            if " - cgroup" not in line:
                continue
            fields, _, tail = line.partition(" - ")
            kind, _, options = tail.split()[:3]
            if kind == "cgroup2":
                name = ""
            else:
                offered = options.split(",")
                name = next((name for name in groups if name and set(name.split(",")) <= set(offered)), "-")
            if name not in groups or name in found:
                continue
            root, mount = fields.split()[3:5]
            own = groups[name]
            if root != "/":
                own = own.removeprefix(root) if own == root or own.startswith(root + "/") else "/"
            found[name] = Hierarchy(mount, (mount + own).rstrip("/"), tuple(filter(None, name.split(","))))
    return list(found.values())


def same(path: str, other: str) -> bool:
    """Whether two names lead to one file."""
    try:
        one, two = posix.stat(path), posix.stat(other)
    except OSError:
        return False
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)


def exists(path: str) -> bool:
    """Whether there is a file `path`."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def write(directory: str, file: str, value: str) -> None:
    """Write `value` to a control file. Raises OSError with the file's whole name."""
    descriptor = posix.open(f"{directory}/{file}", posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(descriptor, value.encode())
    except OSError as error:
        error.filename = f"{directory}/{file}"
        raise
    finally:
        posix.close(descriptor)


def write_all(directory: str, file: str, values: Iterable[str]) -> None:
    """Write each of `values` to a control file in its turn. Raises OSError with the file's whole name and the value."""
    descriptor = posix.open(f"{directory}/{file}", posix.O_WRONLY | posix.O_CLOEXEC)
    value = ""
    try:
        for value in values:
            posix.write(descriptor, value.encode())
    except OSError as error:
        error.filename, error.filename2 = f"{directory}/{file}", value
        raise
    finally:
        posix.close(descriptor)


def read(directory: str, file: str) -> str:
    """What a control file says, without surrounding space. Raises OSError."""
    descriptor = posix.open(f"{directory}/{file}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = []
        while part := posix.read(descriptor, 65536):
            parts.append(part)
        return b"".join(parts).decode().strip()
    finally:
        posix.close(descriptor)
