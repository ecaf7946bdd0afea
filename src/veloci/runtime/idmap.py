"""Mounts whose files belong to other users than on the host: the options idmap and ridmap.

Only a process with privilege over the file system may map a mount, and a container with a user namespace
has none: the runtime makes these mounts, detached, and the container's process attaches them. Of what is there in
the container only, because earlier mounts made it, the container's process makes them, and the runtime maps them.

https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md#linux-mount-options
"""

from __future__ import annotations

import os

from veloci.errors import HostError, InvalidInput, Unsupported
from veloci.kernel import mount as m
from veloci.kernel import process as p
from veloci.kernel.files import open_in_root
from veloci.runtime import rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from veloci.runtime.child import Child
    from veloci.runtime.plan import Step
    from veloci.spec.runtime import Config, IdMap, Mount


def check(mount: Mount, at: str) -> None:
    """Raise InvalidInput for a mapping that is half given."""
    for one, other in (("uid", "gid"), ("gid", "uid")):
        if getattr(mount, f"{one}_mappings") and not getattr(mount, f"{other}_mappings"):
            raise InvalidInput(f"needs {other}Mappings beside it", where=f"config.json: {at}.{one}Mappings")


def trees(config: Config, steps: Iterable[Step]) -> list[int]:
    """The mapped mounts of a plan's steps, detached, in their order.

    Raises InvalidInput if there is no mapping to use, HostError.
    """
    return [
        _tree(config, at, str(arguments["source"]), recursive=bool(arguments["recursive"]))
        for doing, at, arguments in steps
        if doing == "mapped"
    ]


def _tree(config: Config, at: str, source: str, *, recursive: bool) -> int:
    try:
        tree = m.open_tree(m.AT_FDCWD, source, m.OPEN_TREE_CLONE | (m.AT_RECURSIVE if recursive else 0))
    except OSError as error:
        raise HostError(f"map {source}", error, where=f"config.json: {at}") from error
    try:
        set_owners(config, int(at.partition("[")[2].rstrip("]")), tree)
    except BaseException:
        os.close(tree)
        raise
    return tree


def set_owners(config: Config, index: int, tree: int) -> None:
    """Map the owners in the detached mount `tree`, which is of config.mounts[index]. Raises InvalidInput, HostError."""
    mount, at = config.mounts[index], f"$.mounts[{index}]"
    namespace = _namespace(config, mount, at)
    try:
        # Without "rbind" there are none below.
        m.mount_setattr(tree, set=m.MOUNT_ATTR_IDMAP, user_namespace=namespace, recursive="ridmap" in mount.options)
    except OSError as error:
        raise HostError(f"map {mount.source}", error, where=f"config.json: {at}") from error
    finally:
        os.close(namespace)


def _namespace(config: Config, mount: Mount, at: str) -> int:
    """A descriptor of a user namespace with the mount's mapping, or else the container's."""
    users, groups = mount.uid_mappings, mount.gid_mappings
    if not users:
        namespace = next((each for each in config.linux.namespaces if each.type == "user"), None)
        if namespace and namespace.path:
            return os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
        users, groups = config.linux.uid_mappings, config.linux.gid_mappings
        if not namespace:
            raise InvalidInput(
                "needs uidMappings and gidMappings, or a user namespace of the container", where=f"config.json: {at}"
            )
    return _mapped(users, groups, at)


def _mapped(users: tuple[IdMap, ...], groups: tuple[IdMap, ...], at: str) -> int:
    """A descriptor of a new user namespace with this mapping."""
    try:
        return p.user_namespace(text(users), text(groups))
    except OSError as error:
        where = f"config.json: {at}.{str(error.filename).partition('_')[0]}Mappings"
        raise HostError("map users", error, where=where) from error


def text(entries: tuple[IdMap, ...]) -> str:
    """A mapping as user_namespaces(7) reads it."""
    return "".join(f"{entry.container_id} {entry.host_id} {entry.size}\n" for entry in entries)


def own(uids: tuple[IdMap, ...], gids: tuple[IdMap, ...]) -> bool:
    """Whether this process may write these mappings itself: the superuser any, others their own user and group."""
    if os.geteuid() == 0:
        return True
    alone = ((uids, os.geteuid()), (gids, os.getegid()))
    return all(len(entries) == 1 and (entries[0].host_id, entries[0].size) == (id, 1) for entries, id in alone)


def have_mapped(pid: int, uids: tuple[IdMap, ...], gids: tuple[IdMap, ...]) -> None:
    """Have newuidmap(1) and newgidmap(1) write the mappings of process `pid`, if subuid(5) and subgid(5) allow them.

    Raises HostError, Unsupported if there are no such programs.
    """
    for program, entries, place in (("newuidmap", uids, "uidMappings"), ("newgidmap", gids, "gidMappings")):
        where = f"config.json: $.linux.{place}"
        numbers = [str(n) for entry in entries for n in (entry.container_id, entry.host_id, entry.size)]
        try:
            helper = os.posix_spawnp(program, [program, str(pid), *numbers], os.environ)
        except FileNotFoundError:
            raise Unsupported(
                f"{program} is not installed", where=where, hint="apt install uidmap, or map your own user alone"
            ) from None
        if os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) != 0:
            raise HostError(program, OSError(1, os.strerror(1)), where=where)


def inside(child: Child, source: str, *, recursive: bool, mapped: int, **how: Any) -> None:
    """Mount what earlier mounts made of the root. mapped: the mount whose owners are mapped; -1: they stay."""
    place = open_in_root(child.root, source, os.O_PATH)
    tree = m.open_tree(place, "", m.OPEN_TREE_CLONE | (m.AT_RECURSIVE if recursive else 0))
    os.close(place)
    if mapped >= 0:
        child.ask(f"owners {tree} {mapped}")
    rootfs.attach(child, tree, **how)


def mapped(child: Child, source: str, *, recursive: bool, **how: Any) -> None:  # noqa: ARG001 -- opened already
    """Attach the next of the mounts that the runtime has made."""
    rootfs.attach(child, child.trees.pop(0), **how)
