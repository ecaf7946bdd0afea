"""A plan in words: what each of its steps does to the kernel, and why.

Takes a plan, gives for each step its place in config.json, its system calls and its reason. A
container is this list and nothing else: see `veloci-runtime plan`.
"""

from __future__ import annotations

from veloci.kernel import caps
from veloci.kernel import mount as m
from veloci.kernel import process as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from veloci.runtime.plan import Plan

    Calls = Callable[[dict[str, Any]], str]

_ATTRIBUTES = {
    name: getattr(m, f"MOUNT_ATTR_{name}")
    for name in "RDONLY NOSUID NODEV NOEXEC NOATIME STRICTATIME NODIRATIME NOSYMFOLLOW".split()
}
_PROPAGATION = {"PRIVATE": m.MS_PRIVATE, "SLAVE": m.MS_SLAVE, "SHARED": m.MS_SHARED, "UNBINDABLE": m.MS_UNBINDABLE}
_NAMESPACES = {
    f"CLONE_{name}": getattr(p, f"CLONE_{name}")
    for name in "NEWUSER NEWPID NEWNET NEWNS NEWIPC NEWUTS NEWCGROUP NEWTIME".split()
}

# The parent's part: question -> (system calls, reason)
ASKED = {
    "maps": ("write /proc/PID/uid_map, /proc/PID/gid_map", "only a process outside may say who the users inside are"),
    "cgroup": ("mkdir, write the limits, write PID or a descriptor", "limits hold before anything of it runs"),
    "net_devices": (
        "netlink RTM_NEWLINK IFLA_NET_NS_FD",
        "the devices are the host's: only from outside can they move in",
    ),
    "time_offsets": ("write /proc/PID/timens_offsets", "the file is the superuser's, root of the namespace is another"),
    "hooks": ("fork, execve, wait4", "prestart and createRuntime hooks see the host's namespaces"),
    "rlimits": ("prlimit64", "root of a user namespace may raise no limit; the runtime may"),
}


def explained(plan: Plan) -> Iterator[dict[str, Any]]:
    """Each step of `plan` in its order, as {step, at, calls, why}: at is the place in config.json, "" for none."""
    bits = _names(plan["clone"], _NAMESPACES)
    for path, bit, at in plan["join"]:
        calls = f"open({path!r}), setns({_names(bit, _NAMESPACES)})"
        yield _entry("join", at, calls, "this namespace is another's, and exists")
    yield _entry("clone", "$.linux.namespaces", f"clone3({bits})", "a process in all its new namespaces at once")
    for step, at, arguments in plan["steps"]:
        if step == "ask":
            calls, why = ASKED[str(arguments["question"])]
            yield _entry(f"ask {arguments['question']}", at, f"the runtime: {calls}", why)
            continue
        say, why = STEPS[step]
        yield _entry(step, at, say(arguments), why)
    program = plan["args"][0]
    yield _entry("find", "$.process.args[0]", f"stat, access({program!r} on PATH)", "a missing program fails at create")
    yield _entry("close", "", "close_range(3, CLOEXEC)", "no descriptor of the host may be inherited (CVE-2024-21626)")
    calls = "execve(sealed memfd), read(exec.fifo)"
    yield _entry("wait", "", calls, "created: 200 bytes of machine code wait, no program of the host (CVE-2019-5736)")
    yield _entry(
        "exec", "$.process.args", f"execve({program!r}, {plan['args']})", "started: it is the user's program now"
    )


def about(step: str) -> tuple[str, str]:
    """What a step of this name does in general, and why; two empty strings if there is none."""
    if step in STEPS:
        say, why = STEPS[step]
        return say(_Any()), why
    return ASKED.get(step, ("", ""))


def _entry(step: str, at: str, calls: str, why: str) -> dict[str, Any]:
    return {"step": step, "at": at, "calls": calls, "why": why}


def _names(bits: Any, table: dict[str, int]) -> str:
    if not isinstance(bits, int):
        return "..."
    return "|".join(name for name, bit in table.items() if bits & bit == bit) or "0"


def _attributes(arguments: dict[str, Any], *names: str) -> str:
    """The attributes that are set; "-X" for one that is cleared."""
    words = []
    for name in names:
        bits, sign = arguments[name], "-" if name.startswith("clear") else ""
        if not isinstance(bits, int):
            return "..."
        words += [sign + word for word in _names(bits, _ATTRIBUTES).split("|") if word != "0"]
    return "|".join(words)


def _spread(arguments: dict[str, Any]) -> str:
    """The propagation of a mount that is attached."""
    flags = arguments["propagation"]
    if not isinstance(flags, (list, tuple)):
        return ""
    return "".join(f", mount_setattr({_propagation(each)})" for each in flags)


def _propagation(flags: Any) -> str:
    return _names(flags, _PROPAGATION) + ("|REC" if isinstance(flags, int) and flags & m.MS_REC else "")


def _filesystem(given: dict[str, Any]) -> str:
    options = given["options"] if isinstance(given["options"], (list, tuple)) else ()
    data = ",".join(key if value is None else f"{key}={value}" for key, value in options)
    configured = f", fsconfig({data})" if data else ""
    set = _attributes(given, "set")
    return f"fsopen({given['kind']}){configured}, fsmount({set}), move_mount({given['target']}){_spread(given)}"


def _bind(given: dict[str, Any]) -> str:
    recursive = "|AT_RECURSIVE" if given["recursive"] is True else ""
    changed = "|".join(filter(None, (_attributes(given, "set", "clear"), _attributes(given, "set_all", "clear_all"))))
    attributes = f", mount_setattr({changed})" if changed else ""
    return f"open_tree({given['source']}, CLONE{recursive}){attributes}, move_mount({given['target']}){_spread(given)}"


def _remount(given: dict[str, Any]) -> str:
    options = given["options"]
    again = "fspick, fsconfig(RECONFIGURE), " if isinstance(options, (list, tuple)) and options else ""
    below = _attributes(given, "set_all", "clear_all")
    changed = "|".join(filter(None, (_attributes(given, "set", "clear"), below, "AT_RECURSIVE" if below else "")))
    return f"openat2({given['target']}), {again}mount_setattr({changed}){_spread(given)}"


def _devices(given: dict[str, Any]) -> str:
    nodes = given["nodes"]
    names = " ".join(str(node[0]) for node in nodes) if isinstance(nodes, (list, tuple)) else "..."
    return f"open_tree, move_mount({names})" if given["bind"] is True else f"mknodat, fchownat({names})"


def _capabilities(given: dict[str, Any]) -> str:
    sets = []
    for name in ("effective", "permitted", "inheritable", "ambient"):
        bits = given[name]
        count = bits.bit_count() if isinstance(bits, int) else "..."
        sets.append(f"{name}={count}")
    return f"capset, prctl(PR_CAP_AMBIENT) ({', '.join(sets)})"


def _bound(given: dict[str, Any]) -> str:
    keep = given["keep"]
    if not isinstance(keep, int):
        return "prctl(PR_CAPBSET_DROP)"
    kept = [name.removeprefix("CAP_") for number, name in enumerate(caps.NAMES) if keep >> number & 1]
    return f"prctl(PR_CAPBSET_DROP) of all but {' '.join(kept) or 'none'}"


class _Any(dict[str, "Any"]):
    """Arguments that are not known."""

    def __missing__(self, _name: str) -> str:
        return "..."


STEPS: dict[str, tuple[Calls, str]] = {
    "become_root": (lambda _: "setresgid(0), setresuid(0)", "root of the new user namespace may make the rest"),
    "unshare": (
        lambda g: f"unshare({_names(g['flags'], _NAMESPACES)})",
        "the group that the process is in now is the root that it will see",
    ),
    "group": (lambda _: "write(tasks, 0)", "its one thread joins the version 1 groups without waiting for the kernel"),
    "session": (lambda _: "setsid, keyctl(JOIN_SESSION_KEYRING)", "no terminal and no keys of the caller"),
    "loopback": (lambda _: "ioctl(SIOCSIFFLAGS, lo UP)", "a new network namespace has only lo, and it is down"),
    "time": (lambda _: "unshare(CLONE_NEWTIME), write timens_offsets", "clocks start where the document says"),
    "root": (
        lambda g: f"mount(/, {_propagation(g['propagation'])}), open_tree({g['path']}, CLONE), move_mount",
        "no mount of the container reaches the host; its root is a mount of its own",
    ),
    "filesystem": (_filesystem, "made whole as a descriptor, attached to a place that the kernel resolved in the root"),
    "bind": (_bind, "a tree of the host, attached by descriptor: no symlink of the image can lead it elsewhere"),
    "source": (
        lambda g: f"open_tree({g['path']}, CLONE{' | AT_RECURSIVE' if g['recursive'] else ''})",
        "opened as the user who calls: root of the user namespace may not be let in there",
    ),
    "opened": (_bind, "a tree of the host, opened before, attached by descriptor"),
    "mapped": (_bind, "a tree of the host whose owners are mapped; the runtime opened it, which is privileged"),
    "inside": (_bind, "a tree of the container's own, as earlier mounts have made it, found by the kernel in its root"),
    "remount": (_remount, "changes what an earlier mount made"),
    "devices": (_devices, "every container has the default devices; cgroups say which may be used"),
    "links": (lambda _: "symlinkat", "names that programs expect"),
    "console": (
        lambda _: "open(ptmx), TIOCGPTPEER, sendmsg(SCM_RIGHTS), move_mount(/dev/console)",
        "the terminal is of the container's own devpts, its other end the caller's",
    ),
    "terminal": (
        lambda _: "open(ptmx), TIOCGPTPEER, sendmsg(SCM_RIGHTS)",
        "the other end of the terminal is the caller's",
    ),
    "hooks": (
        lambda _: "fork, execve, wait4",
        "createContainer hooks see the container's namespaces, the host's files",
    ),
    "mask": (lambda g: f"open_tree(nothing), move_mount({g['path']})", "hides what the kernel tells about the host"),
    "protect": (
        lambda g: f"open_tree({g['path']}, CLONE), mount_setattr(RDONLY), move_mount",
        "settings of the kernel that are not the container's",
    ),
    "sysctl": (lambda _: "open_tree(/proc), openat2(BENEATH), write", "settings of its own namespaces only"),
    "directory": (lambda g: f"mkdirat({g['path']})", "the working directory exists"),
    "seal": (
        lambda g: f"mount_setattr(RDONLY on what is read-only{', the root too' if g['readonly'] is True else ''})",
        "last, for things had to be made in it",
    ),
    "pivot": (lambda _: "pivot_root(., .), umount2(., MNT_DETACH)", "the host's files are out of reach from here on"),
    "same_root": (lambda _: "chroot", "where there is no mount namespace of the container's own"),
    "change_root": (lambda _: "chroot", "without a mount namespace of its own: the others keep their root"),
    "move_root": (lambda _: "mount(MS_MOVE), chroot", "as --no-pivot asks, for a root on a ramdisk"),
    "propagate": (lambda g: f"mount(/, {_propagation(g['flags'])})", "as the document wants it inside"),
    "hostname": (lambda g: f"sethostname({g['name']})", "the namespace's own name"),
    "domainname": (lambda g: f"setdomainname({g['name']})", "the namespace's own NIS domain"),
    "personality": (lambda _: "personality", "programs see another kind of machine"),
    "memory_policy": (lambda _: "set_mempolicy", "memory comes from these nodes"),
    "stdio": (lambda _: "dup2, fchown", "the user can reopen /dev/stdout; never a device of the host"),
    "label": (lambda _: "write attr/exec in a procfs that nothing can be mounted on", "takes effect at execve"),
    "scheduler": (lambda _: "sched_setattr", "while it still may"),
    "io_priority": (lambda _: "ioprio_set", "while it still may"),
    "rlimits": (lambda _: "prlimit64", "while it still may raise them"),
    "bound": (_bound, "what no program in it can ever get back"),
    "filter": (lambda _: "seccomp(SET_MODE_FILTER)", "last, for it may forbid what the others do"),
    "cwd": (lambda g: f"chdir({g['path']}), getcwd", "refused if it is outside of the root (CVE-2024-21626)"),
    "user": (
        lambda g: f"umask, setgroups({g['groups']}), setresgid({g['gid']}), setresuid({g['uid']})",
        "exactly these groups, none of the caller's",
    ),
    "capabilities": (_capabilities, "after the change of user, which drops them"),
    "no_new_privileges": (lambda _: "prctl(PR_SET_NO_NEW_PRIVS)", "no setuid program gives it more"),
}
