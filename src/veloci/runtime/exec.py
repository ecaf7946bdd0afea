"""A further process in a container that runs: join its namespaces and its cgroup, become the process."""

from __future__ import annotations

import os

from veloci.errors import Conflict, HostError, InvalidInput
from veloci.kernel import process as p
from veloci.runtime import filters, identity
from veloci.runtime.cgroup import Group
from veloci.runtime.child import Child
from veloci.runtime.launch import launch
from veloci.spec.document import dumps
from veloci.spec.runtime import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.runtime.container import Container
    from veloci.runtime.plan import Plan, Step
    from veloci.spec.runtime import Linux

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
    console: int,
    preserve: int,
    cgroup: str,
) -> int:
    """Run `process` in `container`. Returns its pid, a child of this process. Raises InvalidInput, HostError."""
    if isinstance(process, dict):
        process = Process.decode(dumps(process), name="process")
    if process.terminal and console < 0:
        raise InvalidInput("a terminal needs a console socket", where="--tty")
    config = container.config()
    child = Child()
    child.stdio, child.console_socket = stdio, console
    if config.linux.seccomp:
        child.bpf, child.bpf_flags = filters.compiled(config.linux.seccomp, container.root)
        from veloci.kernel import seccomp  # noqa: F401 -- the child can import nothing
    try:
        descriptor = p.pidfd(container.saved.pid)
        bits = _different(container.saved.pid)
    except (ProcessLookupError, FileNotFoundError):
        raise Conflict("cannot exec in a stopped container") from None
    steps = _steps(process, config.linux, userns=bool(bits & p.CLONE_NEWUSER))
    if process.terminal:
        import _socket  # noqa: F401

        from veloci.kernel import tty  # noqa: F401
    plan: Plan = {"clone": 0, "join": [], "steps": steps, "args": list(process.args), "env": list(process.env)}
    group = _group(container, cgroup)

    def begin(pid: int) -> None:
        affinity = process.exec_cpu_affinity
        if affinity and affinity.initial:
            _pin(pid, affinity.initial, "initial")
        group.add(pid)
        if affinity and affinity.final:
            _pin(pid, affinity.final, "final")
        if process.oom_score_adj is not None:
            with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                file.write(str(process.oom_score_adj))

    def rlimits(pid: int) -> None:
        for limit in process.rlimits:
            p.setrlimit(pid, identity.RLIMITS[limit.type], limit.soft, limit.hard)

    try:
        answers = {"cgroup": lambda _: None, "rlimits": rlimits, "ready": lambda _: None}
        join = [(descriptor, bits, "")]
        return launch(plan, child, answers, join=join, preserve=preserve, name="process", started=begin)
    finally:
        os.close(descriptor)


def _steps(process: Process, linux: Linux, *, userns: bool) -> list[Step]:
    steps: list[Step] = []
    if userns:
        steps.append(("become_root", "", {}))
    steps.append(("session", "", {"keyring": ""}))
    steps.append(("ask", "", {"question": "cgroup"}))
    if process.terminal:
        size = process.console_size
        steps.append(
            ("terminal", ".terminal", {"rows": size.height if size else 0, "columns": size.width if size else 0})
        )
    if linux.memory_policy:
        steps.append(identity.memory_policy(linux.memory_policy))
    if linux.personality:
        steps.append(identity.personality(linux.personality))
    filtered = linux.seccomp is not None
    return steps + identity.compile(process, filtered=filtered, rootless=userns, at="$")


def _pin(pid: int, processors: str, name: str) -> None:
    where = f"process: $.execCPUAffinity.{name}"
    try:
        os.sched_setaffinity(pid, identity.processors(processors, where))
    except OSError as error:
        raise HostError(f"run on processors {processors}", error, where=where) from error


def _different(pid: int) -> int:
    """The namespaces of process `pid` that are not ours, as CLONE_NEW* bits."""
    bits = 0
    for file, bit in _FILES.items():
        try:
            theirs = os.stat(f"/proc/{pid}/ns/{file}")
        except FileNotFoundError:
            if os.path.exists(f"/proc/self/ns/{file}"):
                raise
            continue  # this kernel has no such namespaces
        if theirs.st_ino != os.stat(f"/proc/self/ns/{file}").st_ino:
            bits |= bit
    return bits


def _group(container: Container, below: str) -> Group:
    """The container's group, or an existing one `below` it: "path" or "controller[,controller]:path"."""
    if not below:
        return container.group
    controllers, colon, path = below.rpartition(":")
    if ".." in path.split("/"):
        raise InvalidInput(f"{path!r} leads out of the container's cgroup", where="--cgroup")
    wanted = set(controllers.split(",")) if colon else None
    places = {
        name: f"{directory}/{path.strip('/')}".rstrip("/")
        if wanted is None or wanted & set(name.split(","))
        else directory
        for name, directory in container.saved.cgroups.items()
    }
    for directory in places.values():
        if not os.path.isdir(directory):
            raise InvalidInput(f"there is no cgroup {directory}", where="--cgroup")
    return Group(places)
