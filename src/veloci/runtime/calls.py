"""The steps of a plan in words: the system calls of each, and why they are made."""

from __future__ import annotations

from veloci.kernel import caps
from veloci.kernel import mount as m
from veloci.kernel import process as p
from veloci.runtime import rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Calls = Callable[[dict[str, Any]], str]

_ATTRIBUTES = {
    name: getattr(m, f"MOUNT_ATTR_{name}")
    for name in "RDONLY NOSUID NODEV NOEXEC NOATIME STRICTATIME NODIRATIME NOSYMFOLLOW".split()
}
_MADE = "mkdirat or open(O_CREAT) where it lacks"
_PROPAGATION = {"PRIVATE": m.MS_PRIVATE, "SLAVE": m.MS_SLAVE, "SHARED": m.MS_SHARED, "UNBINDABLE": m.MS_UNBINDABLE}
NAMESPACES = {
    f"CLONE_{name}": getattr(p, f"CLONE_{name}")
    for name in "NEWUSER NEWPID NEWNET NEWNS NEWIPC NEWUTS NEWCGROUP NEWTIME".split()
}

# What only the runtime can do, in the middle of the steps: question -> (system calls, reason)
ASKED = {
    "maps": ("write(uid_map), write(gid_map)", "only a process outside may say who the users inside are"),
    "cgroup": ("nothing more", "waits until it has made the groups"),
    "net_devices": (
        "netlink RTM_NEWLINK IFLA_NET_NS_FD",
        "the devices are the host's: only from outside can they move in",
    ),
    "time_offsets": ("write(timens_offsets)", "the file is the superuser's, root of the namespace is another"),
    "hooks": ("fork, execve, wait4", "prestart and createRuntime hooks see the host's namespaces"),
    "rlimits": ("prlimit64", "root of a user namespace may raise no limit; the runtime may"),
}


def names(bits: Any, table: dict[str, int]) -> str:
    """The names of the bits that are set, as the kernel's headers have them; "0" for none."""
    if not isinstance(bits, int):
        return "..."
    return "|".join(name for name, bit in table.items() if bits & bit == bit) or "0"


def _attributes(arguments: dict[str, Any], *fields: str) -> str:
    """The attributes that are set; "-X" for one that is cleared. One that `seal` sets is not among them."""
    words = []
    for name in fields:
        bits, sign = arguments[name], "-" if name.startswith("clear") else ""
        if not isinstance(bits, int):
            return "..."
        if name == "set" and arguments["target"] in arguments["late"]:
            bits &= ~m.MOUNT_ATTR_RDONLY
        words += [sign + word for word in names(bits, _ATTRIBUTES).split("|") if word != "0"]
    return "|".join(words)


def _spread(arguments: dict[str, Any]) -> str:
    """The propagation of a mount that is attached."""
    flags = arguments["propagation"]
    if not isinstance(flags, (list, tuple)):
        return ""
    return "".join(f", mount_setattr({_propagation(each)})" for each in flags)


def _propagation(flags: Any) -> str:
    return names(flags, _PROPAGATION) + ("|REC" if isinstance(flags, int) and flags & m.MS_REC else "")


def _filesystem(given: dict[str, Any]) -> str:
    options = given["options"] if isinstance(given["options"], (list, tuple)) else ()
    options = [("source", given["source"]), *options]
    data = ",".join(key if value is None else f"{key}={value}" for key, value in options)
    set, copied = _attributes(given, "set"), ", copy what the image has there" if given["copy"] is True else ""
    place = f"mkdirat where it lacks{copied}, move_mount({given['target']})"
    return f"fsopen({given['kind']}), fsconfig({data}), fsmount({set}), {place}{_spread(given)}"


def _attached(given: dict[str, Any], taken: str) -> str:
    """What becomes of a tree that was taken from somewhere."""
    said = given["set"], given["clear"]
    changed = [_attributes(given, "set", "clear")]
    if all(isinstance(bits, int) for bits in said) and any(said):  # the options stand in place of the source's
        changed.append(_attributes({**given, "clear": rootfs.SAID & ~said[0] & ~said[1]}, "clear"))
    below = _attributes(given, "set_all", "clear_all")
    words = ["|".join(filter(None, changed)), below + ("|AT_RECURSIVE" if below not in ("", "...") else "")]
    attributes = "".join(f", mount_setattr({each})" for each in dict.fromkeys(words) if each)
    return f"{taken}{_MADE}{attributes}, move_mount({given['target']}){_spread(given)}"


def _bind(given: dict[str, Any]) -> str:
    recursive = "|AT_RECURSIVE" if given["recursive"] is True else ""
    return _attached(given, f"open_tree({given['source']}, CLONE{recursive}), ")


def _inside(given: dict[str, Any]) -> str:
    asked = "the runtime: mount_setattr(IDMAP), " if isinstance(given["mapped"], int) and given["mapped"] >= 0 else ""
    return _attached(given, f"open_tree({given['source']} of the root, CLONE), {asked}")


def _opened(given: dict[str, Any]) -> str:
    return _attached(given, "")


def _remount(given: dict[str, Any]) -> str:
    options = given["options"]
    again = "fspick, fsconfig(RECONFIGURE), " if isinstance(options, (list, tuple)) and options else ""
    below = _attributes(given, "set_all", "clear_all")
    changed = "|".join(filter(None, (_attributes(given, "set", "clear"), below, "AT_RECURSIVE" if below else "")))
    return f"{again}mount_setattr({changed}) of {given['target']}{_spread(given)}"


def _devices(given: dict[str, Any]) -> str:
    nodes = given["nodes"]
    if not isinstance(nodes, (list, tuple)):
        return "mknodat"
    bound = [node[0] for node in nodes if given["bind"] and node[1] != "p"]
    made = [node for node in nodes if node[0] not in bound]
    words = []
    if bound:
        attributes = "RDONLY|NOSUID|NOEXEC"
        words.append(f"open_tree(CLONE) of the host's, mount_setattr({attributes}), move_mount({' '.join(bound)})")
    words += [f"mknodat({' '.join(node[0] for node in made)})"] if made else []
    owned = [node[0] for node in made if node[5] or node[6]]
    words += [f"fchownat({' '.join(owned)})"] if owned else []
    return ", ".join(words)


def _seal(given: dict[str, Any]) -> str:
    late = given["late"] if isinstance(given["late"], list) else ["..."]
    places = [*late, *(["the root"] if given["readonly"] is True else [])]
    return f"mount_setattr(RDONLY) of {', '.join(places)}" if places else "nothing is to be read-only"


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


def _private(given: dict[str, Any]) -> str:
    return "" if given["propagation"] else ", mount_setattr(PRIVATE|REC)"


def _paths(links: Any) -> str:
    return " ".join(str(link[0]) for link in links) if isinstance(links, (list, tuple)) else "..."


def _files(files: Any) -> str:
    listed = isinstance(files, (list, tuple))
    return " ".join(str(file).removesuffix("/tasks") for file in files) if listed else "each"


def _settings(values: Any) -> str:
    return " ".join(f"{path}={value}" for path, value in values) if isinstance(values, (list, tuple)) else "..."


def _octal(mode: Any) -> str:
    return f"{mode:04o}" if isinstance(mode, int) else "..."


class Unknown(dict[str, "Any"]):
    """Arguments that are not known."""

    def __missing__(self, _name: str) -> str:
        return "..."


# From a process that is whole to its program: step -> (system calls, reason)
LAST = {
    "find": ("stat, access({program} on PATH)", "a missing program fails at create"),
    "stub": ("memfd_create, write, fcntl(F_ADD_SEALS)", "200 bytes of machine code, which nobody can change"),
    "close": ("close_range(3, CLOEXEC)", "no descriptor of the host may be inherited (CVE-2024-21626)"),
    "wait": (
        "execveat(sealed memfd), read(exec.fifo)",
        "created: the stub waits for the start, no program of the host does (CVE-2019-5736)",
    ),
    "exec": ("execve({program})", "started: it is the user's program now"),
}

STEPS: dict[str, tuple[Calls, str]] = {
    "become_root": (
        lambda _: "setresgid(0), setresuid(0), prctl(PR_SET_DUMPABLE, 0)",
        "root of the new user namespace may make the rest",
    ),
    "unshare": (
        lambda g: f"unshare({names(g['flags'], NAMESPACES)})",
        "the group that the process is in now is the root that it will see",
    ),
    "group": (
        lambda g: f"write(tasks, 0) in {_files(g['files'])}",
        "its one thread joins the version 1 groups without waiting for the kernel",
    ),
    "session": (lambda _: "setsid, keyctl(JOIN_SESSION_KEYRING)", "no terminal and no keys of the caller"),
    "loopback": (lambda _: "ioctl(SIOCSIFFLAGS, lo UP)", "a new network namespace has only lo, and it is down"),
    "time": (
        lambda g: "unshare(CLONE_NEWTIME)" + (", write(timens_offsets)" if g["offsets"] else ""),
        "clocks start where the document says",
    ),
    "root": (
        lambda g: (
            f"mount(/, {_propagation(g['propagation'])}), "
            f"open_tree({g['path']}, CLONE){_private(g)}, move_mount({g['path']})"
        ),
        "no mount of the container reaches the host; its root is a mount of its own",
    ),
    "filesystem": (_filesystem, "made whole as a descriptor, attached to a place that the kernel resolved in the root"),
    "bind": (_bind, "a tree of the host, attached by descriptor: no symlink of the image can lead it elsewhere"),
    "source": (
        lambda g: f"open_tree({g['path']}, CLONE{' | AT_RECURSIVE' if g['recursive'] else ''})",
        "opened as the user who calls: root of the user namespace may not be let in there",
    ),
    "opened": (_opened, "a tree of the host, opened before, attached by descriptor"),
    "mapped": (_opened, "a tree of the host whose owners are mapped; the runtime opened it, which is privileged"),
    "inside": (
        _inside,
        "a tree of the container's own, as earlier mounts have made it, found by the kernel in its root",
    ),
    "remount": (_remount, "changes what an earlier mount made"),
    "devices": (_devices, "every container has the default devices; cgroups say which may be used"),
    "links": (lambda g: f"symlinkat({_paths(g['links'])})", "names that programs expect"),
    "console": (
        lambda _: (
            "ioctl(TIOCGPTPEER) of a new ptmx, ioctl(TIOCSWINSZ) if it has a size, sendmsg(SCM_RIGHTS), "
            "open_tree, move_mount(/dev/console)"
        ),
        "the terminal is of the container's own devpts, its other end the caller's",
    ),
    "terminal": (
        lambda _: "ioctl(TIOCGPTPEER) of a new ptmx, ioctl(TIOCSWINSZ) if it has a size, sendmsg(SCM_RIGHTS)",
        "the other end of the terminal is the caller's",
    ),
    "hooks": (
        lambda _: "fork, execve, wait4",
        "createContainer hooks see the container's namespaces, the host's files",
    ),
    "mask": (
        lambda g: (
            "open_tree(the host's /dev/null), mount_setattr(RDONLY|NOSUID|NOEXEC), "
            "or fsopen(tmpfs), fsconfig, fsmount: an empty one, "
            f"move_mount({g['path']}) if it is there"
        ),
        "hides what the kernel tells about the host",
    ),
    "protect": (
        lambda g: f"open_tree({g['path']}, CLONE), mount_setattr(RDONLY), move_mount if it is there",
        "settings of the kernel that are not the container's",
    ),
    "sysctl": (
        lambda g: f"open_tree(/proc, CLONE), openat2(BENEATH), write({_settings(g['values'])})",
        "settings of its own namespaces only",
    ),
    "directory": (lambda g: f"mkdirat({g['path']}) where it lacks", "the working directory exists"),
    "seal": (
        _seal,
        "last, for things had to be made in it",
    ),
    "pivot": (
        lambda _: "fchdir, pivot_root(., .), fchdir, mount(., SLAVE|REC), umount2(., MNT_DETACH), chdir(/)",
        "the host's files are out of reach from here on",
    ),
    "same_root": (lambda _: "fchdir, chroot", "where there is no mount namespace of the container's own"),
    "change_root": (
        lambda _: "fchdir, chroot(.), chdir(/)",
        "without a mount namespace of its own: the others keep their root",
    ),
    "move_root": (
        lambda _: "umount2 or mount(tmpfs) of every procfs and sysfs, fchdir, mount(MS_MOVE), chroot(.), chdir(/)",
        "as --no-pivot asks, for a root on a ramdisk",
    ),
    "propagate": (lambda g: f"mount(/, {_propagation(g['flags'])})", "as the document wants it inside"),
    "hostname": (lambda g: f"sethostname({g['name']})", "the namespace's own name"),
    "domainname": (lambda g: f"setdomainname({g['name']})", "the namespace's own NIS domain"),
    "personality": (lambda _: "personality", "programs see another kind of machine"),
    "memory_policy": (lambda _: "set_mempolicy", "memory comes from these nodes"),
    "stdio": (
        lambda g: f"{'ioctl(TIOCSCTTY), ' if g['terminal'] is True else ''}dup2, fchown",
        "the user can reopen /dev/stdout; never a device of the host",
    ),
    "label": (
        lambda _: "open_tree(/proc, CLONE), write(attr/exec) in a procfs that nothing can be mounted on",
        "takes effect at execve",
    ),
    "scheduler": (lambda _: "sched_setattr", "while it still may"),
    "io_priority": (lambda _: "ioprio_set", "while it still may"),
    "rlimits": (lambda _: "prlimit64", "while it still may raise them"),
    "bound": (_bound, "what no program in it can ever get back"),
    "filter": (lambda _: "seccomp(SECCOMP_SET_MODE_FILTER)", "last, for it may forbid what the others do"),
    "cwd": (
        lambda g: f"chdir({g['path']}), getcwd{' unless it is there' if g['last'] is True else ''}",
        "refused if it is outside of the root (CVE-2024-21626)",
    ),
    "user": (
        lambda g: (
            f"umask({_octal(g['umask'])}), prctl(PR_SET_KEEPCAPS), "
            f"setgroups({g['groups']}), setresgid({g['gid']}), setresuid({g['uid']})"
        ),
        "exactly these groups, none of the caller's",
    ),
    "capabilities": (_capabilities, "after the change of user, which drops them"),
    "no_new_privileges": (lambda _: "prctl(PR_SET_NO_NEW_PRIVS)", "no setuid program gives it more"),
}
