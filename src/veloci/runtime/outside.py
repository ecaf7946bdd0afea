"""What the runtime itself does for a container, outside of its process: the rest of a plan, in words.

Takes a configuration and what is known of its container, gives the entries of `explain.explained` that are no steps.
"""

from __future__ import annotations

import posix

from veloci.kernel.cgroupfs import exists
from veloci.runtime.plan import CLONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.runtime.plan import Plan
    from veloci.runtime.state import Saved
    from veloci.spec.runtime import Config, Hooks, Resources

    Entry = dict[str, str]

# What it does: step -> (system calls, reason)
PARTS = {
    "record": ("mkdir, write", "whoever comes later finds the container, also one half made: delete takes it away"),
    "compile": ("write", "the profile as a program of the kernel's; kept, for the next container has the same"),
    "fifo": ("mkfifo", "what is created waits at it for the start"),
    "map": (
        "open_tree, mount_setattr(IDMAP)",
        "only who is privileged over the file system may map its owners; mounted nowhere yet",
    ),
    "group": ("mkdir", "the process is born in it"),
    "groups": ("mkdir", "who descends from the process stays in them: so all are counted, limited, frozen, killed"),
    "limit": ("write to a file of the group", "limits hold before anything of it runs"),
    "score": ("write(oom_score_adj)", "whom the kernel kills first when memory is short"),
    "classes": ("mkdir, write(schemata), write(tasks)", "which part of the cache and of the memory's bandwidth is its"),
    "move": ("write(cgroup.procs)", "root of a user namespace may not move itself"),
    "scope": (
        "D-Bus StartTransientUnit",
        "systemd owns the hierarchy: it makes the group, and sets the limits it knows",
    ),
    "listener": ("connect, sendmsg(SCM_RIGHTS)", "who answers for the filter gets it, before the program's first call"),
    "ready": ("write", "it is created: a start finds its process"),
    "start hooks": (
        "fork, execve, wait4",
        "startContainer hooks run in the container, when it is started, before its program",
    ),
    "poststart": (
        "fork, execve, wait4",
        "after the start, in the runtime's namespaces; one that fails ends the container",
    ),
}


def entry(step: str, at: str, calls: str, why: str = "") -> Entry:
    """One line of a plan: its place in config.json, "" for none, its system calls, its reason."""
    return {"step": step, "at": at, "calls": calls, "why": why or PARTS[step][1]}


def before(config: Config, saved: Saved, plan: Plan) -> Iterator[Entry]:
    """What comes before there is a process."""
    yield entry("record", "", f"the runtime: mkdir(ROOT/{saved.id}), write(state.json), write(config.json)")
    if config.linux.seccomp:
        calls = "the runtime: memfd_create (libseccomp), mkdir, write(ROOT/.seccomp/DIGEST.bpf): once for a profile"
        yield entry("compile", "$.linux.seccomp", calls)
    started = ", mkfifo(start.fifo)" if config.hooks and config.hooks.start_container else ""
    yield entry("fifo", "", f"the runtime: mkfifo(exec.fifo){started}")
    for step, at, arguments in plan["steps"]:
        if step == "mapped":
            joins = any(bit == CLONE["user"] for _, bit, _ in plan["join"])
            own = "" if joins else "clone, write(uid_map), write(gid_map): a user namespace to name, "
            yield entry("map", at, f"the runtime: open_tree({arguments['source']}, CLONE), {own}mount_setattr(IDMAP)")
    if not saved.scope and "" in saved.cgroups:
        more = ", write(cgroup.subtree_control) above it" if len(saved.cgroups) == 1 else ""
        yield entry("group", "$.linux.cgroupsPath", f"the runtime: mkdir({saved.cgroups['']}){more}")
        if len(saved.cgroups) == 1:
            yield from _limits(config, saved)


def beside(config: Config, saved: Saved, plan: Plan) -> Iterator[Entry]:
    """What comes when there is one, before it goes on from `ask cgroup`."""
    group = "$.linux.cgroupsPath"
    if saved.scope:
        yield entry("scope", group, f"the runtime: D-Bus StartTransientUnit({saved.scope.partition(':')[2]})")
    named = [directory for name, directory in saved.cgroups.items() if name]
    if named:
        cpuset = any("cpuset" in name.split(",") for name in saved.cgroups)
        inherited = "; write(cpuset.cpus), write(cpuset.mems) as in the group above" if cpuset else ""
        yield entry("groups", group, f"the runtime: mkdir({' '.join(named)}){inherited}")
    if saved.scope or len(saved.cgroups) != 1 or named:
        yield from _limits(config, saved)
    if config.linux.intel_rdt:
        calls = f"the runtime: mkdir, write(schemata), write(tasks) in {' '.join(saved.classes)}"
        yield entry("classes", "$.linux.intelRdt", calls)
    if named and not any(doing == "group" for doing, _, _ in plan["steps"]):
        yield entry("move", group, f"the runtime: write(cgroup.procs, PID) in {' '.join(named)}")


def score(config: Config) -> Iterator[Entry]:
    """Its place in the row of those that are killed for want of memory."""
    value = config.process.oom_score_adj if config.process else None
    if value is not None:
        yield entry("score", "$.process.oomScoreAdj", f"the runtime: write(oom_score_adj, {value})")


def after(hooks: Hooks | None) -> Iterator[Entry]:
    """What comes when its program runs."""
    if hooks and hooks.poststart:
        yield entry("poststart", "$.hooks.poststart", f"the runtime: {called(hooks.poststart)}")


def called(hooks: tuple[object, ...]) -> str:
    """How hooks are run, with their names."""
    return f"fork, execve({' '.join(str(getattr(hook, 'path', '')) for hook in hooks)}), wait4"


def _limits(config: Config, saved: Saved) -> Iterator[Entry]:
    from veloci.spec.runtime import Resources

    resources = config.linux.resources or Resources()
    devices = posix.geteuid() == 0
    if not saved.cgroups:
        return
    last: Entry | None = None
    for file, value, at in _told(saved.cgroups, resources, devices=devices):
        calls = f"write({file}, {value})" if value else file
        if last and last["at"] == f"$.linux.resources.{at}":
            last["calls"] += f", {calls}"
            continue
        if last:
            yield last
        last = entry("limit", f"$.linux.resources.{at}", f"the runtime: {calls}")
    if last:
        yield last


def _told(cgroups: dict[str, str], resources: Resources, *, devices: bool) -> Iterator[tuple[str, str, str]]:
    """File, value, place of what is written: as far as it can be known before the groups are there."""
    above = {name: _existing(directory) for name, directory in cgroups.items()}
    if list(above) != [""]:
        from veloci.runtime.cgroup import v1

        told: list[v1.Setting] = []
        v1.apply(above, resources, devices=devices, told=told)
        yield from told
        return
    from veloci.runtime.cgroup import v2
    from veloci.runtime.cgroup.devices import rules

    for file, setting, at in v2.settings(above[""], resources):
        yield file, str(setting), at
    if devices and rules(resources) != [(True, "a", None, None, "rwm")]:
        yield "bpf(PROG_LOAD), bpf(PROG_ATTACH)", "", "devices"


def _existing(directory: str) -> str:
    while directory and not exists(directory):
        directory = directory.rpartition("/")[0]
    return directory


def own_users(plan: Plan) -> bool:
    """Whether it has a user namespace of its own: then its groups wait until its users are mapped."""
    return bool(plan["clone"] & CLONE["user"])
