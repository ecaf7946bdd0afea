"""A further process in a container that runs: join its namespaces and its cgroup, become the process."""

from __future__ import annotations

import posix

from veloci.errors import Conflict, HostError, InvalidInput
from veloci.kernel import process as p
from veloci.kernel.cgroupfs import exists
from veloci.runtime import identity
from veloci.runtime.cgroup import Group
from veloci.runtime.child import Child
from veloci.runtime.launch import launch
from veloci.spec.document import loads
from veloci.spec.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from veloci.runtime.container import Attending, Container
    from veloci.runtime.plan import Plan, Step
    from veloci.spec.runtime import Seccomp

_FILES = {
    "user": p.CLONE_NEWUSER,
    "mnt": p.CLONE_NEWNS,
    "pid": p.CLONE_NEWPID,
    "net": p.CLONE_NEWNET,
    "ipc": p.CLONE_NEWIPC,
    "uts": p.CLONE_NEWUTS,
    "cgroup": p.CLONE_NEWCGROUP,
    "time": p.CLONE_NEWTIME,
}


def enter(
    container: Container,
    process: Process | dict[str, Any],
    stdio: tuple[int, int, int] | None,
    console: int | Attending,
    preserve: int,
    cgroup: Sequence[str],
) -> int:
    """Run `process` in `container`. Returns its pid, a child of this process. Raises InvalidInput, HostError."""
    if isinstance(process, dict):
        identity.check_text(process, "process: $")
        process = Process.checked(process, name="process")
    if process.terminal and not callable(console) and console < 0:
        raise InvalidInput("a terminal needs a console socket", where="--tty")
    # It was checked when the container was made: what holds for a further process is enough.
    linux = loads(container.directory.read("config.json")).get("linux") or {}
    mapped = any(namespace.get("type") == "user" for namespace in linux.get("namespaces") or ())
    container.warnings = identity.ungranted(process, mapped=mapped)
    profile = None
    child = Child()
    child.stdio = stdio
    if callable(console):
        import termios  # noqa: F401 -- for the child

        child.console_socket, child.attended = console()
    else:
        child.console_socket = console
    if linux.get("seccomp"):
        from veloci.kernel import seccomp  # here, for the child can import nothing
        from veloci.runtime import filters
        from veloci.spec.runtime import Seccomp

        profile = Seccomp.convert(linux["seccomp"])
        child.bpf, child.bpf_flags = filters.compiled(profile, container.root)
        child.listens = bool(child.bpf_flags & seccomp.NEW_LISTENER)
    if process.terminal:
        import _socket  # noqa: F401

        from veloci.kernel import tty  # noqa: F401
    try:
        descriptor = p.pidfd(container.saved.pid)
        bits = _different(container.saved.pid)
    except (ProcessLookupError, FileNotFoundError):
        raise Conflict("cannot exec in a stopped container") from None
    try:
        steps = _steps(process, linux, container.saved.keyring, userns=bool(bits & p.CLONE_NEWUSER))
        if not bits & p.CLONE_NEWNS:
            child.root = posix.open(f"/proc/{container.saved.pid}/root", posix.O_PATH | posix.O_CLOEXEC)
            steps.insert(0, ("same_root", "", {}))
        plan: Plan = {
            "clone": 0,
            "join": [],
            "steps": steps,
            "args": list(process.args),
            "env": list(process.env),
            "pinned": process.exec_cpu_affinity is not None,
        }
        entering = _Entering(process, _group(container, cgroup), lambda pid: _listener(pid, container, profile))
        entering.classes = container.saved.classes
        return entering.launch(plan, child, descriptor, bits, preserve)
    finally:
        for each in (descriptor, child.root):
            if each >= 0:
                posix.close(each)


def _listener(pid: int, container: Container, profile: Seccomp | None) -> None:
    from veloci.runtime.listening import hand_over

    assert profile is not None
    hand_over(pid, profile, container.state())


class _Entering:
    """The parent's side of one process's way in."""

    def __init__(self, process: Process, group: Group, listener: Callable[[int], None]) -> None:
        self.process, self.group, self.listener = process, group, listener
        self.classes: tuple[str, ...] = ()  # of resctrl
        self.joins = False  # by itself, the groups of version 1

    def launch(self, plan: Plan, child: Child, container: int, bits: int, preserve: int) -> int:
        """Start it in the namespaces `bits` of the process behind the descriptor `container`. Returns its pid."""
        answers = {"cgroup": lambda _: None, "rlimits": self.rlimits, "listener": self.listener}
        join = [(container, bits, "")]
        # One that is to be on certain processors before it is in the group is moved in by us.
        birth, files = (-1, []) if self.process.exec_cpu_affinity else self.group.doors()
        if files:
            self.joins = True
            place = next(index for index, (doing, _, _) in enumerate(plan["steps"]) if doing == "stdio")
            plan["steps"].insert(place, ("group", "", {"files": files}))
        name = "process"
        try:
            return launch(
                plan, child, answers, join=join, preserve=preserve, name=name, group=birth, started=self.begin
            )
        finally:
            for descriptor in (birth, *files):
                if descriptor >= 0:
                    posix.close(descriptor)

    def begin(self, pid: int, born: bool) -> None:
        """What it cannot do itself."""
        process, affinity = self.process, self.process.exec_cpu_affinity
        if affinity and affinity.initial:
            _pin(pid, affinity.initial, "initial")
        self.group.add(pid, [name for name in self.group.places if not (self.joins if name else born)])
        if affinity and affinity.final:
            _pin(pid, affinity.final, "final")
        if self.classes:
            from veloci.runtime import rdt

            rdt.enter(self.classes, pid)
        if process.oom_score_adj is not None:
            with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                file.write(str(process.oom_score_adj))

    def rlimits(self, pid: int) -> None:
        """Set the limits of a process that is root in its own namespace only."""
        for index, limit in enumerate(self.process.rlimits):
            try:
                p.setrlimit(pid, identity.RLIMITS[limit.type], limit.soft, limit.hard)
            except OSError as error:
                raise HostError(f"set {limit.type}", error, where=f"process: $.rlimits[{index}]") from error


def _steps(process: Process, linux: dict[str, Any], keyring: str, *, userns: bool) -> list[Step]:
    steps: list[Step] = []
    if userns:
        steps.append(("become_root", "", {}))
    steps.append(("session", "", {"keyring": keyring}))
    outside = process.exec_cpu_affinity or process.oom_score_adj is not None  # what only the parent does
    steps.append(("ask", "", {"question": "cgroup", "unless_born": not outside}))
    if process.terminal:
        size = process.console_size
        steps.append(
            ("terminal", ".terminal", {"rows": size.height if size else 0, "columns": size.width if size else 0})
        )
    if linux.get("memoryPolicy") or linux.get("personality"):
        from veloci.spec.runtime import MemoryPolicy, Personality

        if linux.get("memoryPolicy"):
            steps.append(identity.memory_policy(MemoryPolicy.convert(linux["memoryPolicy"])))
        if linux.get("personality"):
            steps.append(identity.personality(Personality.convert(linux["personality"])))
    filtered = bool(linux.get("seccomp"))
    return steps + identity.compile(process, filtered=filtered, rootless=userns, at="$")


def _pin(pid: int, processors: str, name: str) -> None:
    where = f"process: $.execCPUAffinity.{name}"
    try:
        posix.sched_setaffinity(pid, identity.processors(processors, where))
    except OSError as error:
        raise HostError(f"run on processors {processors}", error, where=where) from error


def _different(pid: int) -> int:
    """The namespaces of process `pid` that are not ours, as CLONE_NEW* bits."""
    bits = 0
    for file, bit in _FILES.items():
        try:
            theirs = posix.stat(f"/proc/{pid}/ns/{file}")
        except FileNotFoundError:
            if exists(f"/proc/self/ns/{file}"):
                raise
            continue  # this kernel has no such namespaces
        if theirs.st_ino != posix.stat(f"/proc/self/ns/{file}").st_ino:
            bits |= bit
    return bits


def _group(container: Container, below: Sequence[str]) -> Group:
    """The container's group, or existing ones `below` it: each "path" or "controller[,controller]:path"."""
    if not below:
        return container.group
    places = dict(container.saved.cgroups)
    for wish in below:
        controllers, colon, path = wish.rpartition(":")
        if ".." in path.split("/"):
            raise InvalidInput(f"bad sub cgroup path: {path}", where="--cgroup")
        wanted = set(controllers.split(",")) if colon else set()
        known = {part for name in places for part in name.split(",")}
        for controller in sorted(wanted - known):
            raise InvalidInput(f"unknown controller {controller}", where="--cgroup")
        for name, directory in container.saved.cgroups.items():
            if not colon or wanted & set(name.split(",")):
                places[name] = f"{directory}/{path.strip('/')}".rstrip("/")
    for directory in places.values():
        if not exists(directory):
            raise InvalidInput(f"adding pid to cgroup {directory}: no such file or directory", where="--cgroup")
    return Group(places)
