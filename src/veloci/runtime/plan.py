"""config.json -> plan: a list of steps, decided before any process exists. Pure.

A plan is plain builtins, so it can be printed, compared in a test, and sent
with `marshal` to a process that has imported nothing else. Every step carries
`at`, the place in config.json it came from, for the error message.
"""

from __future__ import annotations

from veloci.errors import InvalidInput, Unsupported
from veloci.kernel import process as p
from veloci.kernel.cgroupfs import exists, same
from veloci.kernel.files import absolute
from veloci.runtime import identity, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias, TypedDict

    from veloci.spec.runtime import Config, Linux

    Step: TypeAlias = tuple[str, str, dict[str, object]]  # operation, place in config.json, arguments

    class Plan(TypedDict):
        """What `launch` needs, and nothing else."""

        clone: int  # CLONE_NEW* bits of new namespaces
        join: list[tuple[str, int, str]]  # path, CLONE_NEW* bit, place in config.json
        steps: list[Step]
        args: list[str]
        env: list[str]
        pinned: bool  # to the processors that the parent sets


CLONE = {
    "pid": p.CLONE_NEWPID,
    "network": p.CLONE_NEWNET,
    "mount": p.CLONE_NEWNS,
    "ipc": p.CLONE_NEWIPC,
    "uts": p.CLONE_NEWUTS,
    "user": p.CLONE_NEWUSER,
    "cgroup": p.CLONE_NEWCGROUP,
    "time": p.CLONE_NEWTIME,
}
_FILES = {"network": "net", "mount": "mnt"}  # namespaces(7), where they are not called as in config.json
_LATE = p.CLONE_NEWCGROUP | p.CLONE_NEWTIME  # entered by the child itself, later
_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
_DEVICES = (  # path, type, major, minor, mode, uid, gid
    ("/dev/null", "c", 1, 3, 0o666, 0, 0),
    ("/dev/random", "c", 1, 8, 0o666, 0, 0),
    ("/dev/full", "c", 1, 7, 0o666, 0, 0),
    ("/dev/tty", "c", 5, 0, 0o666, 0, 0),
    ("/dev/zero", "c", 1, 5, 0o666, 0, 0),
    ("/dev/urandom", "c", 1, 9, 0o666, 0, 0),
)
_IPC_SYSCTLS = "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni".split()


def compile(config: Config, bundle: str, cgroups: Mapping[str, str], *, pivot: bool = True, keyring: str = "") -> Plan:
    """The plan for `config`. Raises InvalidInput or Unsupported, with the place.

    bundle: the absolute path that relative ones start from. cgroups: the container's groups, controllers ->
    directory. keyring: the name of its session keyring; "" keeps the caller's.
    """
    _check(config)
    process = config.process
    assert process is not None
    clone, join = _namespaces(config)
    new = clone | sum(bit for _, bit, _ in join)
    steps = _entering(config, clone, new, keyring)
    steps += _building(config, bundle, cgroups, clone, new)
    if new & p.CLONE_NEWUSER:
        steps = _opening(steps, cgroups)
    if new & p.CLONE_NEWNS:
        steps.append(("pivot" if pivot else "move_root", "$.root.path", {}))
    else:
        steps.append(("change_root", "$.root.path", {}))
    if config.linux.rootfs_propagation:
        steps.append(("propagate", "$.linux.rootfsPropagation", {"flags": _propagation(config.linux)}))
    if config.hostname:
        steps.append(("hostname", "$.hostname", {"name": config.hostname}))
    if config.domainname:
        steps.append(("domainname", "$.domainname", {"name": config.domainname}))
    if config.linux.personality:
        steps.append(identity.personality(config.linux.personality))
    if config.linux.memory_policy:
        steps.append(identity.memory_policy(config.linux.memory_policy))
    filtered, rootless = config.linux.seccomp is not None, bool(new & p.CLONE_NEWUSER)
    steps += identity.compile(process, filtered=filtered, rootless=rootless)
    return {
        "clone": clone & ~_LATE,
        "join": join,
        "steps": steps,
        "args": list(process.args),
        "env": list(process.env),
        "pinned": False,
    }


def _entering(config: Config, clone: int, new: int, keyring: str) -> list[Step]:
    """What comes first in the new namespaces."""
    steps: list[Step] = []
    if clone & p.CLONE_NEWUSER:
        steps.append(("ask", "$.linux.uidMappings", {"question": "maps"}))
    if new & p.CLONE_NEWUSER:
        steps.append(("become_root", "$.linux.uidMappings", {}))
    steps.append(("session", "", {"keyring": keyring}))
    if clone & p.CLONE_NEWNET:
        steps.append(("loopback", "$.linux.namespaces", {}))
    if config.linux.net_devices:
        from veloci.runtime import netdevices

        netdevices.check(config.linux.net_devices, namespaced=bool(new & p.CLONE_NEWNET))
        steps.append(("ask", "$.linux.netDevices", {"question": "net_devices"}))
    if clone & p.CLONE_NEWTIME:
        offsets = time_offsets(config.linux)
        later = offsets and new & p.CLONE_NEWUSER  # the file is the superuser's
        steps.append(("time", "$.linux.timeOffsets", {"offsets": "" if later else offsets}))
        if later:
            steps.append(("ask", "$.linux.timeOffsets", {"question": "time_offsets"}))
    return steps


def _opening(steps: list[Step], cgroups: Mapping[str, str]) -> list[Step]:
    """In a user namespace: its root and its mounts' sources are opened while the process is still the caller's user.

    The user that it becomes may not be let into the directories above them. Its groups are not there yet.
    """
    found: list[Step] = [step for step in steps if step[0] == "root"]
    rest: list[Step] = []
    for doing, at, arguments in steps:
        if doing == "bind" and arguments["source"] not in cgroups.values():
            found.append(("source", at, {"path": arguments["source"], "recursive": arguments["recursive"]}))
            rest.append(("opened", at, arguments))
        elif doing != "root":
            rest.append((doing, at, arguments))
    place = next(index for index, step in enumerate(rest) if step[0] == "become_root")
    return rest[:place] + found + rest[place:]


def _building(config: Config, bundle: str, cgroups: Mapping[str, str], clone: int, new: int) -> list[Step]:
    """The file system, up to the moment before it is entered."""
    root, process, linux, hooks = config.root, config.process, config.linux, config.hooks
    assert root is not None
    assert process is not None
    path = absolute(root.path if root.path.startswith("/") else f"{bundle}/{root.path}")
    namespaced = bool(clone & p.CLONE_NEWCGROUP)
    propagation = _propagation(linux) if new & p.CLONE_NEWNS else 0
    steps: list[Step] = [("root", "$.root.path", {"path": path, "propagation": propagation})]
    # The parent makes the cgroup meanwhile: wait for it as late as may be.
    grouped: list[Step] = [("ask", "$.linux.cgroupsPath", {"question": "cgroup"})]
    joining = _joining(cgroups, new)
    early = namespaced or (hooks and (hooks.prestart or hooks.create_runtime or hooks.create_container))
    if early:
        grouped += joining
    if namespaced:
        grouped.append(("unshare", "$.linux.namespaces", {"flags": p.CLONE_NEWCGROUP}))
    label = _mount_label(linux)
    mounted = mounts.compile(config.mounts, cgroups, bundle, cgroup_namespace=namespaced, label=label, root=path)
    kinds = [mount.type for mount in config.mounts]
    first = f"$.mounts[{kinds.index('cgroup')}]" if "cgroup" in kinds else ""
    index = next((index for index, (_, at, _) in enumerate(mounted) if at == first), len(mounted))
    steps += [*mounted[:index], *grouped, *mounted[index:]]
    steps += _devices(config, bind=bool(new & p.CLONE_NEWUSER))
    if process.terminal:
        size = process.console_size
        rows, columns = (size.height, size.width) if size else (0, 0)
        steps.append(("console", "$.process.terminal", {"rows": rows, "columns": columns}))
    if hooks and (hooks.prestart or hooks.create_runtime):
        steps.append(("ask", "$.hooks", {"question": "hooks"}))
    if hooks and hooks.create_container:
        steps.append(("hooks", "$.hooks.createContainer", {}))
    steps += _hidden(config)
    if linux.sysctl:
        steps.append(("sysctl", "$.linux.sysctl", {"values": _sysctl(linux, _apart(linux), clone)}))
    steps.append(("directory", "$.process.cwd", {"path": process.cwd}))
    steps.append(("seal", "$.root.readonly", {"readonly": root.readonly}))
    return steps if early else steps + joining  # as late as may be: until then its limits do not slow this down


def _joining(cgroups: Mapping[str, str], new: int) -> list[Step]:
    """The process's own way into its groups of version 1, unless it may not: then the parent moves it."""
    files = [f"{directory}/tasks" for name, directory in cgroups.items() if name]
    return [("group", "$.linux.cgroupsPath", {"files": files})] if files and not new & p.CLONE_NEWUSER else []


def _check(config: Config) -> None:
    """Refuse what is missing or what we do not do, by name."""
    where = "config.json"
    if config.oci_version.partition(".")[0] != "1":
        raise Unsupported(f"version {config.oci_version!r} of the specification", where=f"{where}: $.ociVersion")
    if config.root is None:
        raise InvalidInput("root must be specified", where=f"{where}: $.root")
    if config.process is None:
        raise InvalidInput("process must be specified", where=f"{where}: $.process")
    if not config.root.path:
        raise InvalidInput("must not be empty", where=f"{where}: $.root.path")
    if config.hooks:
        from veloci.runtime.hooks import check

        check(config.hooks)
    if "" in config.annotations:
        raise InvalidInput("a key must not be empty", where=f"{where}: $.annotations")
    linux = config.linux
    if linux.resources and linux.resources.devices:
        from veloci.runtime.cgroup import devices

        devices.check(linux.resources)
    if linux.intel_rdt:
        from veloci.runtime import rdt

        rdt.check(linux.intel_rdt)


def _namespaces(config: Config) -> tuple[int, list[tuple[str, int, str]]]:
    """The bits of new namespaces, and those to join."""
    clone, join, seen = 0, [], set()
    for index, namespace in enumerate(config.linux.namespaces):
        at = f"$.linux.namespaces[{index}]"
        if namespace.type in seen:
            raise InvalidInput(f"the namespace {namespace.type} stands twice", where=f"config.json: {at}")
        seen.add(namespace.type)
        if not namespace.path:
            clone |= CLONE[namespace.type]
        elif not namespace.path.startswith("/"):
            raise InvalidInput(f"{namespace.path!r} is not an absolute path", where=f"config.json: {at}.path")
        else:
            join.append((namespace.path, CLONE[namespace.type], at))
    linux = config.linux
    new = clone | sum(bit for _, bit, _ in join)
    for value, bit, place in (
        (config.hostname, p.CLONE_NEWUTS, "hostname"),
        (config.domainname, p.CLONE_NEWUTS, "domainname"),
        (linux.time_offsets, p.CLONE_NEWTIME, "linux.timeOffsets"),
    ):
        if value and not new & bit:
            kind = next(name for name, flag in CLONE.items() if flag == bit)
            raise InvalidInput(f"needs a {kind} namespace in linux.namespaces", where=f"config.json: $.{place}")
    if linux.time_offsets and not clone & p.CLONE_NEWTIME:  # those of a namespace with a process in it are fixed
        where = "config.json: $.linux.timeOffsets"
        raise InvalidInput("the time namespace is another's, which has its own", where=where)
    if not new & p.CLONE_NEWUSER and (linux.uid_mappings or linux.gid_mappings):
        raise InvalidInput("needs a user namespace in linux.namespaces", where="config.json: $.linux.uidMappings")
    if clone & p.CLONE_NEWUSER and not (linux.uid_mappings and linux.gid_mappings):
        raise InvalidInput("a user namespace needs uidMappings and gidMappings", where="config.json: $.linux")
    join.sort(key=lambda each: each[1] == p.CLONE_NEWUSER)  # last: it takes away what the others need
    return clone, join


def _propagation(linux: Linux) -> int:
    name = linux.rootfs_propagation or "rslave"
    if name not in mounts.PROPAGATION:
        raise InvalidInput(f"{name!r} is no propagation", where="config.json: $.linux.rootfsPropagation")
    return mounts.PROPAGATION[name]


def _devices(config: Config, *, bind: bool) -> list[Step]:
    """The default devices and links, unless /dev is the host's, and those of linux.devices."""
    steps: list[Step] = []
    for mount in config.mounts:
        if mount.destination.rstrip("/") == "/dev" and (mount.type == "bind" or {"bind", "rbind"} & {*mount.options}):
            return steps
    given = {device.path for device in config.linux.devices}
    nodes = [node for node in _DEVICES if node[0] not in given]
    for index, device in enumerate(config.linux.devices):
        at = f"config.json: $.linux.devices[{index}]"
        if device.type not in ("c", "u", "b", "p"):
            raise InvalidInput(f"{device.type!r} is no type of device", where=f"{at}.type")
        if not device.path.startswith("/"):
            raise InvalidInput(f"{device.path!r} is not an absolute path", where=f"{at}.path")
        if device.type != "p" and (device.major < 0 or device.minor < 0):
            raise InvalidInput("needs major and minor", where=at)
        kind = "c" if device.type == "u" else device.type
        mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        major, minor = (0, 0) if kind == "p" else (device.major, device.minor)
        nodes.append((device.path, kind, major, minor, mode, device.uid or 0, device.gid or 0))
    steps.append(("devices", "$.linux.devices", {"nodes": nodes, "bind": bind}))
    steps.append(("links", "$.linux.devices", {"links": list(_LINKS)}))
    return steps


def _hidden(config: Config) -> list[Step]:
    steps: list[Step] = []
    linux = config.linux
    for name, paths in (("mask", linux.masked_paths), ("protect", linux.readonly_paths)):
        place = "maskedPaths" if name == "mask" else "readonlyPaths"
        for index, path in enumerate(paths):
            if not path.startswith("/"):
                raise InvalidInput(f"{path!r} is not an absolute path", where=f"config.json: $.linux.{place}[{index}]")
            if path in paths[:index]:
                continue
            arguments: dict[str, object] = {"path": path}
            if name == "mask" and (label := _mount_label(linux)):
                arguments["label"] = label
            steps.append((name, f"$.linux.{place}[{index}]", arguments))
    return steps


def _mount_label(linux: Linux) -> str:
    """The SELinux context of what is mounted for the container; "" where SELinux is off, as in runC's library."""
    return linux.mount_label if linux.mount_label and exists("/sys/fs/selinux/enforce") else ""


def _apart(linux: Linux) -> int:
    """The bits of its namespaces that are not this process's own, which a path can name as well."""
    bits = 0
    for each in linux.namespaces:
        if not each.path or not same(each.path, f"/proc/self/ns/{_FILES.get(each.type, each.type)}"):
            bits |= CLONE[each.type]
    return bits


def _sysctl(linux: Linux, new: int, clone: int) -> list[tuple[str, str]]:
    """File below /proc/sys and value. Only what belongs to a namespace that is not the host's (CVE-2022-0811)."""
    found = []
    for name, value in linux.sysctl.items():
        where = f"config.json: $.linux.sysctl.{name}"
        path = name if "/" in name.partition(".")[0] else name.translate({ord("."): "/", ord("/"): "."})
        dotted = path.replace("/", ".")
        if ".." in path.split("/") or path.startswith("/"):
            raise InvalidInput(f"{name!r} is no name of a sysctl", where=where)
        own = (
            (new & p.CLONE_NEWIPC and (dotted in _IPC_SYSCTLS or dotted.startswith(("kernel.shm_rmid", "fs.mqueue."))))
            or (new & p.CLONE_NEWNET and path.startswith("net/"))
            or (new & p.CLONE_NEWUTS and dotted == "kernel.domainname")
            or (clone & p.CLONE_NEWUSER and path.startswith("user/"))  # counts of the namespace that one is in
        )
        if not own:
            raise InvalidInput(f"sysctl {name!r} is not in a separate kernel namespace", where=where)
        found.append((path, value))
    return found


def time_offsets(linux: Linux) -> str:
    """What /proc/PID/timens_offsets is told — time_namespaces(7). Raises InvalidInput."""
    for name in linux.time_offsets:
        if name not in ("monotonic", "boottime"):
            raise InvalidInput(f"there is no clock {name!r}", where="config.json: $.linux.timeOffsets")
    return "".join(f"{name} {offset.secs} {offset.nanosecs}\n" for name, offset in linux.time_offsets.items())
