"""config.json's mounts as steps of the plan. Pure.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md#linux-mount-options
"""

from __future__ import annotations

from veloci.errors import InvalidInput, Unsupported
from veloci.kernel import mount as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from veloci.runtime.plan import Step
    from veloci.spec.runtime import Mount

# option -> (attributes to set, attributes to clear); the same with "r" in front for all mounts below
_ATTRIBUTES = {
    "ro": (m.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, m.MOUNT_ATTR_RDONLY),
    "nosuid": (m.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, m.MOUNT_ATTR_NOSUID),
    "nodev": (m.MOUNT_ATTR_NODEV, 0),
    "dev": (0, m.MOUNT_ATTR_NODEV),
    "noexec": (m.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, m.MOUNT_ATTR_NOEXEC),
    "nodiratime": (m.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, m.MOUNT_ATTR_NODIRATIME),
    "noatime": (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR__ATIME),
    "atime": (0, m.MOUNT_ATTR__ATIME),
    "relatime": (0, m.MOUNT_ATTR__ATIME),
    "norelatime": (0, m.MOUNT_ATTR__ATIME),
    "strictatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR__ATIME),
    "nostrictatime": (0, m.MOUNT_ATTR__ATIME),
    "nosymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, m.MOUNT_ATTR_NOSYMFOLLOW),
}
PROPAGATION = {
    "private": m.MS_PRIVATE,
    "slave": m.MS_SLAVE,
    "shared": m.MS_SHARED,
    "unbindable": m.MS_UNBINDABLE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "rshared": m.MS_SHARED | m.MS_REC,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}
_SUPERBLOCK = ("sync", "dirsync", "mand", "lazytime")  # the VFS takes these for any filesystem
# Nothing to do: they are so anyway, and iversion where a file system has it — fsopen(2) knows no such flag.
_DEFAULTS = "defaults acl async nomand nolazytime loud silent iversion noiversion nodirsync".split()
_MAPPED = {"idmap", "ridmap"}
_UNLABELLED = ("proc", "sysfs", "cgroup", "cgroup2")  # whose files the kernel labels itself
OPTIONS = sorted({*_ATTRIBUTES, *(f"r{name}" for name in _ATTRIBUTES), *PROPAGATION, *_SUPERBLOCK, *_DEFAULTS})


class _Options:
    """A mount's options, sorted by what they change."""

    def __init__(self, mount: Mount) -> None:
        self.set = self.clear = self.set_all = self.clear_all = 0
        self.propagation: list[int] = []
        self.data: list[tuple[str, str | None]] = []
        self.bind = self.recursive = self.copy = self.remount = False
        for option in mount.options:
            self._take(option)
        self.bind = self.bind or mount.type == "bind"

    def _take(self, option: str) -> None:
        if option in _ATTRIBUTES:
            on, off = _ATTRIBUTES[option]
            self.set, self.clear = self.set & ~off | on, self.clear & ~on | off
        elif option in ("bind", "rbind"):
            self.bind, self.recursive = True, option == "rbind"
        elif option in PROPAGATION:
            self.propagation.append(PROPAGATION[option])
        elif option[:1] == "r" and option[1:] in _ATTRIBUTES:
            on, off = _ATTRIBUTES[option[1:]]
            self.set_all, self.clear_all = self.set_all & ~off | on, self.clear_all & ~on | off
        elif option == "tmpcopyup":
            self.copy = True
        elif option == "remount":
            self.remount = True
        elif option not in _DEFAULTS and option not in ("idmap", "ridmap"):
            key, equals, value = option.partition("=")
            self.data.append((key, value if equals else None))


def compile(
    mounts: tuple[Mount, ...],
    cgroups: Mapping[str, str],
    bundle: str,
    *,
    cgroup_namespace: bool,
    label: str = "",
    root: str = "/",
) -> list[Step]:
    """The steps of all mounts. cgroups: the container's groups, controllers -> directory.

    root: the container's on the host, clean and absolute. A destination that begins with it is meant to be below it.
    label: the SELinux context of file systems that are made for it; what is bound keeps its own.
    Raises InvalidInput, Unsupported.
    """
    steps: list[Step] = []
    for index, mount in enumerate(mounts):
        at = f"$.mounts[{index}]"
        where = f"config.json: {at}"
        if not mount.destination:
            raise InvalidInput("needs a path", where=f"{where}.destination")
        if below := within(mount.destination, root):
            mount = mount.replace(destination=below)  # noqa: PLW2901
        options = _Options(mount)
        if options.copy and (mount.type != "tmpfs" or options.bind or options.remount):
            raise InvalidInput("tmpcopyup is for tmpfs", where=f"{where}.options")
        if options.remount:
            steps.append(_remount(mount, options, at))
        elif mount.type == "cgroup":
            steps += _cgroup(mount, options, at, cgroups, namespace=cgroup_namespace)
        elif options.bind:
            steps.append(_bind(mount, options, at, bundle))
            _inside(steps, root, index)
        elif not mount.type:
            raise InvalidInput("needs a type, or the option bind", where=where)
        else:
            steps.append(_filesystem(mount, options, at))
    if label:
        for doing, _, arguments in steps:
            if doing == "filesystem" and arguments["kind"] not in _UNLABELLED:
                given = arguments["options"]
                assert isinstance(given, list)
                arguments["options"] = [*given, ("context", label)]
    return steps


def _bind(mount: Mount, options: _Options, at: str, bundle: str) -> Step:
    # What is left in options.data would be the file system's, which a bind mount leaves as it is — mount(2), MS_BIND.
    if not mount.source:
        raise InvalidInput("a bind mount needs a source", where=f"config.json: {at}")
    mapped = bool(mount.uid_mappings or mount.gid_mappings or _MAPPED & {*mount.options})
    if mapped:
        from veloci.runtime import idmap

        idmap.check(mount, at)
    source = mount.source if mount.source.startswith("/") else f"{bundle}/{mount.source}"
    arguments = {
        "source": source,
        "target": mount.destination,
        "recursive": options.recursive,
        "set": options.set,
        "clear": options.clear,
        "set_all": options.set_all,
        "clear_all": options.clear_all,
        "propagation": options.propagation,
    }
    return "mapped" if mapped else "bind", at, arguments


def within(path: str, root: str) -> str:
    """`path` as it is called from `root`, if it is that or below; else "". Of the names alone, as runC."""
    if root == "/" or not f"{path}/".startswith(f"{root}/"):
        return ""
    return path[len(root) :] or "/"


def _inside(steps: list[Step], root: str, index: int) -> None:
    """If what the last step binds is of the root, and was changed by a mount before: take it from there."""
    doing, at, arguments = steps[-1]
    source = within(str(arguments["source"]), root)
    if source and any(_touches(str(earlier["target"]), source) for _, _, earlier in steps[:-1] if "target" in earlier):
        mapped = index if doing == "mapped" else -1
        steps[-1] = "inside", at, {**arguments, "source": source, "mapped": mapped}


def _touches(one: str, other: str) -> bool:
    one, other = f"{one.strip('/')}/", f"{other.strip('/')}/"
    return one.startswith(other) or other.startswith(one)


def _remount(mount: Mount, options: _Options, at: str) -> Step:
    """What is at a place already: its attributes, and the options of its file system."""
    arguments = {
        "target": mount.destination,
        "set": options.set,
        "clear": options.clear,
        "set_all": options.set_all,
        "clear_all": options.clear_all,
        "options": options.data,
        "propagation": options.propagation,
    }
    return "remount", at, arguments


def _filesystem(mount: Mount, options: _Options, at: str) -> Step:
    if mount.uid_mappings or mount.gid_mappings or _MAPPED & {*mount.options}:
        raise InvalidInput("only a bind mount can be mapped", where=f"config.json: {at}")
    arguments = {
        "source": mount.source or mount.type,
        "target": mount.destination,
        "kind": mount.type,
        "set": options.set | options.set_all,
        "options": options.data,
        "propagation": options.propagation,
        "copy": options.copy,
        "inherit": mount.type == "tmpfs" and not any(key == "mode" for key, _ in options.data),
    }
    return "filesystem", at, arguments


def _cgroup(mount: Mount, options: _Options, at: str, cgroups: Mapping[str, str], *, namespace: bool) -> list[Step]:
    """Version 2: the container's group. Version 1: a tmpfs with a directory a hierarchy, and links for pairs."""
    flags = {"propagation": options.propagation, "copy": False, "inherit": False}
    set = options.set | options.set_all
    if not cgroups:
        raise Unsupported("there is no cgroup to mount", where=f"config.json: {at}")
    named = [name for name in cgroups if name]
    if not named:
        return [_group(mount.destination, "", cgroups[""], at, set, namespace=namespace)]
    arguments = {
        "source": "tmpfs",
        "target": mount.destination,
        "kind": "tmpfs",
        "set": set,
        "options": [("mode", "755")],
        **flags,
    }
    steps: list[Step] = [("filesystem", at, arguments)]
    for name in named:
        directory = name.removeprefix("name=")
        steps.append(_group(f"{mount.destination}/{directory}", name, cgroups[name], at, set, namespace=namespace))
        if "," in name:
            links = [(f"{mount.destination}/{part}", directory) for part in name.split(",")]
            steps.append(("links", at, {"links": links}))
    return steps


def _group(target: str, name: str, directory: str, at: str, set: int, *, namespace: bool) -> Step:
    if namespace:
        data = [(part, None) for part in name.split(",") if "=" not in part]
        if name.startswith("name="):
            data = [("none", None), ("name", name.removeprefix("name="))]  # type: ignore[list-item]
        kind, options = ("cgroup", data) if name else ("cgroup2", [])
        arguments: dict[str, object] = {
            "source": "cgroup",
            "kind": kind,
            "options": options,
            "copy": False,
            "inherit": False,
        }
        return "filesystem", at, {**arguments, "target": target, "set": set, "propagation": []}
    arguments = {"source": directory, "recursive": False, "clear": 0, "set_all": 0, "clear_all": 0, "propagation": []}
    return "bind", at, {**arguments, "target": target, "set": set}
