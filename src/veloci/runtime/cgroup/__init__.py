"""A container's control group, in every hierarchy that is mounted: version 1, version 2, or both at once.

Group(places)   places: controllers ("cpu,cpuacct", "name=systemd"; "" for version 2) -> directory
v1, v2          what resources mean to each version; on a host with both, version 2 only holds processes
"""

from __future__ import annotations

import posix as os
from errno import EBUSY, ENODEV, ENOENT

from veloci.errors import Conflict, HostError, InvalidInput, Unsupported
from veloci.kernel.cgroupfs import exists, hierarchies, read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from veloci.spec.runtime import Resources

_LONGEST, _LONGEST_PART = 3000, 255  # PATH_MAX less the mount point, NAME_MAX
_PATIENCE = 200  # times 10 ms, for killed processes to leave


def place(path: str, id: str) -> dict[str, str]:
    """Where the group `path` of config.json (linux.cgroupsPath) is: controllers -> directory.

    An absolute path is below each hierarchy's mount point, a relative one below the caller's own
    group (in version 2 beside it, for a group with processes can have no children with controllers).
    Raises InvalidInput: no `..` may lead out of the hierarchy.
    """
    inner = inside(path or id)
    places = {}
    for hierarchy in hierarchies():
        if path.startswith("/"):
            above = hierarchy.mount
        elif hierarchy.controllers or hierarchy.own == hierarchy.mount:
            above = hierarchy.own
        else:
            above = hierarchy.own.rpartition("/")[0]
        places[hierarchy.name] = f"{above}/{inner}"
    return places


def permitted(places: dict[str, str]) -> dict[str, str]:
    """Those of `places` that this user may make: below a directory that was delegated to it — cgroups(7)."""
    found = {}
    for name, directory in places.items():
        above = directory.rpartition("/")[0]
        while above and not exists(above):
            above = above.rpartition("/")[0]
        if all(os.access(place, os.W_OK) for place in (above, f"{above}/cgroup.procs")):
            found[name] = directory
    return found


def inside(path: str) -> str:
    """`path` without what says nothing, checked to be below a hierarchy's root. Raises InvalidInput."""
    if ".." in path.split("/") or path.rstrip("/") != path.rstrip():
        raise InvalidInput(f"{path!r} is not a path below the hierarchy", where="config.json: $.linux.cgroupsPath")
    inner = "/".join(part for part in path.split("/") if part not in ("", "."))
    if not inner:
        raise InvalidInput("names the root of the hierarchy", where="config.json: $.linux.cgroupsPath")
    if len(inner) > _LONGEST or any(len(part) > _LONGEST_PART for part in inner.split("/")):
        raise InvalidInput("is too long", where="config.json: $.linux.cgroupsPath")
    return inner


class Group:
    """One container's directories in the hierarchies."""

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places
        self.unified = len(places) == 1 and "" in places  # version 2 alone
        self.early = self.unified  # its limits can be set before there is a process

    def check(self) -> None:
        """Raise Conflict if a process is in one of the directories, or it is frozen: something else's; HostError."""
        if self.frozen():
            raise Conflict("container's cgroup unexpectedly frozen")
        for directory in self.places.values():
            try:
                processes = _processes(directory)
            except OSError as error:
                raise HostError(f"cgroup {directory}", error) from error
            if processes:
                raise Conflict(f"container's cgroup is not empty: {len(processes)} process(es) found in {directory}")

    def open(self) -> int:
        """Make the directory of version 2. Returns its descriptor, for a process to be born there; -1 without one.

        Raises HostError.
        """
        if "" not in self.places:
            return -1
        directory = self.places[""]
        self._make("", directory)
        if self.unified:
            from veloci.runtime.cgroup.v2 import enable

            enable(directory)
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def create(self) -> None:
        """Make the directories of version 1. Raises HostError."""
        for name, directory in self.places.items():
            if name:
                self._make(name, directory)

    def begin(self, pid: int, resources: Resources, annotations: Mapping[str, str]) -> None:  # noqa: ARG002
        """Make what is not made before there is a process `pid`, which need not be in it then. Raises HostError.

        resources, annotations: config.json's, for who makes groups with their limits.
        """
        self.create()

    def _make(self, name: str, directory: str) -> None:
        made = True
        try:
            try:
                os.mkdir(directory, 0o755)
            except FileNotFoundError:
                from os import makedirs

                above = directory.rpartition("/")[0]
                while not exists(above):
                    above = above.rpartition("/")[0]
                _check_group(above)
                makedirs(directory)
            except FileExistsError:
                made = False
            try:
                _check_group(directory)
            except OSError:
                if made:
                    os.rmdir(directory)
                raise
            if "cpuset" in name.split(","):
                _inherit_cpuset(directory)
        except OSError as error:
            raise HostError(f"cgroup {directory}", error) from error

    def doors(self) -> tuple[int, list[int]]:
        """What a process gets in by: version 2's directory to be born in, or -1; version 1's `tasks` files to write to.

        Descriptors for the caller to close. Raises HostError.
        """
        birth, files = -1, []
        for name, directory in self.places.items():
            try:
                if name:
                    files.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
                else:
                    birth = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise HostError(f"join cgroup {directory}", error) from error
        return birth, files

    def add(self, pid: int, names: Iterable[str] | None = None) -> None:
        """Move process `pid` in, in all hierarchies or those of `names`. Raises HostError.

        The kernel may wait 10 ms and more for a quiet moment in which to move a process with all its threads: a
        process that moves its one thread by `tasks`, and one that is born in its group, waits for nothing.
        """
        for name, directory in self.places.items():
            if names is not None and name not in names:
                continue
            try:
                write(directory, "cgroup.procs", str(pid))
            except OSError as error:
                raise HostError(f"join cgroup {directory}", error) from error

    def apply(self, resources: Resources, *, devices: bool) -> None:
        """Set the limits that `resources` names, and with `devices` its device rules. Raises HostError, Unsupported."""
        if self.unified:
            from veloci.runtime.cgroup import v2

            v2.apply(self.places[""], resources, devices=devices)
        else:
            from veloci.runtime.cgroup import v1

            v1.apply(self.places, resources, devices=devices)

    def freeze(self, frozen: bool) -> None:
        """Stop all processes in it where they are, or let them go on. Returns when they did. Raises HostError."""
        v1 = self.places.get("freezer")
        directory = v1 or self.places.get("", "")
        if not directory:
            raise Unsupported(f"cannot {'pause' if frozen else 'resume'} a container that has no cgroup")
        try:
            if v1:
                _until(v1, "freezer.state", "FROZEN" if frozen else "THAWED")
            else:
                write(directory, "cgroup.freeze", "1" if frozen else "0")
                _wait_frozen(directory, frozen=frozen)
        except OSError as error:
            raise HostError(f"{'pause' if frozen else 'resume'} cgroup {directory}", error) from error

    def frozen(self) -> bool:
        """Whether its processes are stopped; False if the group is gone."""
        try:
            if v1 := self.places.get("freezer"):
                return read(v1, "freezer.state") != "THAWED"
            return "" in self.places and read(self.places[""], "cgroup.freeze") == "1"
        except OSError:
            return False

    def pids(self) -> list[int]:
        """The processes in it and in groups below it, as this process numbers them."""
        for name in ("freezer", "pids", "devices", "memory", ""):
            if name in self.places:
                found: list[int] = []
                for directory in _tree(self.places[name]):
                    found += _processes(directory)
                return sorted(set(found))
        return []

    def kill(self, signal: int = 9) -> None:
        """Send `signal` to every process in it; SIGKILL to all at once, and again to those left or born meanwhile.

        By number only where version 2 cannot, or holds not all of them: who is dying may be slow to leave, and a
        number seen may be another's by then.
        """
        for attempt in range(_PATIENCE):
            pids = self.pids()
            if signal != 9 or not pids or attempt >= _PATIENCE // 2 or not self._killed():
                for pid in pids:
                    try:
                        os.kill(pid, signal)
                    except ProcessLookupError:
                        continue
            if signal != 9 or not pids:
                return
            if self.frozen():
                self.freeze(False)
            _pause(0.002)

    def _killed(self) -> bool:
        """Whether version 2 killed all that it holds, before any of them could fork: Linux 5.14."""
        try:
            write(self.places[""], "cgroup.kill", "1")
        except (KeyError, OSError):
            return False
        return True

    def remove(self) -> None:
        """Remove the directories, which must have no process left; those that are gone already are no error."""
        for directory in self.places.values():
            try:
                os.rmdir(directory)
            except OSError:
                for below in _tree(directory):
                    _remove(below)


def _check_group(directory: str) -> None:
    """Raise OSError for a directory that is no group: its hierarchy may have been unmounted, or covered, meanwhile."""
    if not exists(f"{directory}/cgroup.procs"):
        raise OSError(ENODEV, f"{directory} is not on a control group file system")


def _tree(directory: str) -> Iterator[str]:
    """`directory` and all below it, the deepest first."""
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for path in below:
        yield from _tree(path)
    yield directory


def _processes(directory: str) -> list[int]:
    try:
        return [int(pid) for pid in read(directory, "cgroup.procs").split() if pid != "0"]
    except OSError as error:
        if error.errno in (ENOENT, ENODEV, 95):  # gone, or a threaded group (EOPNOTSUPP)
            return []
        raise


def _remove(directory: str) -> None:
    for patience in range(_PATIENCE, -1, -1):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != EBUSY or not patience:
                raise HostError(f"remove cgroup {directory}", error) from error
            _pause(0.01 if patience < _PATIENCE - 10 else 0.001)
        else:
            return


def _inherit_cpuset(directory: str) -> None:
    """Give an empty cpuset its parent's CPUs and memory nodes: a process cannot join it before."""
    parent = directory.rpartition("/")[0]
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not read(directory, file):
            if not read(parent, file):
                _inherit_cpuset(parent)
            write(directory, file, read(parent, file))


def _until(directory: str, file: str, value: str) -> None:
    for _ in range(_PATIENCE):
        write(directory, file, value)
        if read(directory, file) == value:
            return
        _pause(0.01)
    raise OSError(EBUSY, os.strerror(EBUSY))


def _wait_frozen(directory: str, *, frozen: bool) -> None:
    for _ in range(_PATIENCE):
        if f"frozen {int(frozen)}" in read(directory, "cgroup.events"):
            return
        _pause(0.01)
    raise OSError(EBUSY, os.strerror(EBUSY))


def _pause(seconds: float) -> None:
    from time import sleep

    sleep(seconds)
