"""What a failure's step does, and what can be done about it: `--explain`.

Takes an error, gives the step of the plan that it stands for, found by its name or by its place in config.json.
"""

from __future__ import annotations

from errno import EACCES, EBUSY, EEXIST, EINVAL, ELOOP, ENODEV, ENOENT, ENOMEM, ENOSPC, ENOSYS, ENOTDIR, EPERM, ERANGE

from veloci.errors import HostError, InvalidInput, Unsupported
from veloci.runtime.explain import about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from veloci.errors import VelociError

# The beginning of a place below `$.` -> the step that it becomes; the first that fits.
_STEPS = (
    ("linux.namespaces", "join"),
    ("linux.uidMappings", "ask maps"),
    ("linux.gidMappings", "ask maps"),
    ("linux.resources", "limit"),
    ("linux.cgroupsPath", "groups"),
    ("linux.sysctl", "sysctl"),
    ("linux.seccomp.listenerPath", "listener"),
    ("linux.seccomp", "filter"),
    ("linux.intelRdt", "classes"),
    ("linux.netDevices", "ask net_devices"),
    ("linux.timeOffsets", "time"),
    ("linux.devices", "devices"),
    ("linux.maskedPaths", "mask"),
    ("linux.readonlyPaths", "protect"),
    ("linux.personality", "personality"),
    ("linux.memoryPolicy", "memory_policy"),
    ("linux.rootfsPropagation", "propagate"),
    ("hooks.createContainer", "hooks"),
    ("hooks.startContainer", "start hooks"),
    ("hooks.poststart", "poststart"),
    ("hooks", "ask hooks"),
    ("mounts", "filesystem"),
    ("root", "root"),
    ("hostname", "hostname"),
    ("domainname", "domainname"),
    ("process.oomScoreAdj", "score"),
    ("process.user", "user"),
    ("process.cwd", "cwd"),
    ("process.rlimits", "rlimits"),
    ("process.capabilities", "capabilities"),
    ("process.scheduler", "scheduler"),
    ("process.ioPriority", "io_priority"),
    ("process.apparmorProfile", "label"),
    ("process.selinuxLabel", "label"),
    ("process.terminal", "console"),
    ("process.args", "find"),
)
_HOST_TREE = "make the source on the host, or take the mount out"
_PRIVILEGE = "the caller lacks the privilege: give it to the runtime (capabilities(7)), or take the field out"
# What to do: (step, error number) or step
_REMEDIES: dict[object, str] = {
    ("filesystem", ENODEV): "name a type of /proc/filesystems, or load the kernel's module for it",
    ("filesystem", EINVAL): "correct the options, which are the file system's own: see its manual page",
    ("filesystem", ELOOP): "make it an ordinary directory in the image: a link could lead the mount elsewhere",
    ("filesystem", ENOTDIR): "make it a directory in the image, or mount elsewhere",
    ("filesystem", EPERM): "mount it elsewhere, or let a user namespace own what it shows",
    ("bind", ENOENT): _HOST_TREE,
    ("opened", ENOENT): _HOST_TREE,
    ("source", ENOENT): _HOST_TREE,
    ("mapped", ENOENT): _HOST_TREE,
    ("source", EACCES): "let the calling user into the source's directories",
    ("bind", EPERM): "choose a destination outside of /proc: what the kernel shows there may not be covered",
    ("remount", EPERM): "in a user namespace an attribute of the host's mount may not be taken away",
    ("devices", EEXIST): "take the file out of the image, or give the device another path",
    ("devices", ENOENT): "in a user namespace the host's device is mounted: it must be there",
    ("devices", EPERM): "the kernel lets only root of the host make devices: mount the host's",
    ("sysctl", ENOENT): "name a setting that this kernel has: see /proc/sys",
    ("sysctl", EINVAL): "give a value that the kernel takes for this setting",
    ("find", ENOENT): "put the program into the root, or name one that is there; PATH is that of process.env",
    ("find", EACCES): "make it executable for the user of process.user: chmod +x, and its directories open",
    ("cwd", ENOTDIR): "name a directory of the root",
    ("cwd", EACCES): "let the user of process.user into the directory, or name another",
    ("rlimits", EPERM): "ask for no more than the caller may have (ulimit -H), or give it CAP_SYS_RESOURCE",
    ("scheduler", EPERM): "give the caller CAP_SYS_NICE, and the control group a share of realtime",
    ("join", ENOENT): "start the container whose namespace it is first, and give its first process's path",
    ("limit", ENOENT): "take the limit out: this kernel, or this hierarchy, has no such file",
    ("limit", EINVAL): "give a value that the kernel takes: Documentation/admin-guide/cgroup-v1, cgroup-v2",
    ("limit", ERANGE): "give a value that the host has: compare the group above",
    ("limit", EBUSY): "give more than is in use",
    ("limit", EACCES): "ask for what the group above has, or take the limit out",
    ("groups", EACCES): "have a control group delegated to you, or leave cgroupsPath out",
    ("ask net_devices", ENODEV): "make the device on the host first: ip link",
    ("ask maps", EPERM): "map identifiers that the caller may use: subuid(5), newuidmap(1)",
    "ask hooks": "run the program of the hook by hand, with a state on its standard input",
    "hooks": "run the program of the hook by hand: it sees the host's files, and the state is on its standard input",
    "start hooks": "the program of the hook must be in the container's root",
    "poststart": "run the program of the hook by hand, with a state on its standard input",
    "score": "give a number from -1000 to 1000; to go below one's own needs CAP_SYS_RESOURCE",
    "listener": "start who answers for the filter before the container",
}
_ANY = {
    ENOSYS: "this kernel has no such call: use a newer one, or take the field out",
    EPERM: _PRIVILEGE,
    EACCES: _PRIVILEGE,
    ENOSPC: "make room: on the disk, or a higher limit of what the kernel counts",
    ENOMEM: "make room: memory is short, or the group's limit too low",
}


def explained(error: VelociError) -> Iterator[str]:
    """Lines about the step that failed, or that config.json's field would have become: calls, reason, what to do."""
    step, number = _step(error), error.errno if isinstance(error, HostError) else 0
    calls, why = about(step)
    if calls:
        yield f"the step {step}: {calls}"
        yield f"its reason: {why}"
    at = error.where.partition("config.json: ")[2]
    if not number and at and isinstance(error, InvalidInput | Unsupported):
        yield "no system call failed: the runtime refuses it"
    number = number or 0
    remedy = _REMEDIES.get((step, number)) or _REMEDIES.get(step) or _ANY.get(number or 0, "")
    if not remedy and at:
        take = "take the field out" if isinstance(error, Unsupported) else "correct it"
        remedy = f"{take} in config.json"
    if remedy and (calls or at):
        yield f"what to do: {f'at {at}: ' if at else ''}{remedy}"


def _step(error: VelociError) -> str:
    """The name of the step: of a system call that failed in it, or by the place."""
    doing = str(error.args[0]).partition(":")[0]
    if doing == "exec":
        return "find"
    if about(doing) != ("", ""):
        return doing
    at = error.where.partition("config.json: $.")[2]
    return next((step for place, step in _STEPS if at.startswith(place)), "")
