"""The steps that build the container's file system.

Everything is opened beneath the root by the kernel (openat2, RESOLVE_IN_ROOT) and mounted on the
descriptor so found, so that no symlink of an image and no race leads a mount, a device or a file
out of the root (CVE-2019-16884, 2021-30465, 2023-27561, 2025-31133, 2025-52565).
"""

from __future__ import annotations

import posix as os
from _stat import S_IFBLK, S_IFCHR, S_IFIFO, S_ISCHR, S_ISDIR
from errno import EEXIST, ELOOP, ENOENT, ENOTDIR, ENXIO, EPERM

from veloci.kernel import mount as m
from veloci.kernel.files import (
    RESOLVE_NO_SYMLINKS,
    copy_tree,
    make_directory_in_root,
    make_file_in_root,
    open_in_root,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from veloci.runtime.child import Child

_TELLING = (  # of /proc, as runc's list
    "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo sys/kernel/ns_last_pid sys/crypto/fips_enabled"
).split()
SAID = (  # the attributes of a mount that stand for themselves; of the access times one always holds
    m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC | m.MOUNT_ATTR_NOSYMFOLLOW
)
NODE = m.MOUNT_ATTR_RDONLY | m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC  # of a device of the host's
_KINDS = {"c": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}
_ORDINARY = ("proc", "sysfs")  # whatever writes to /proc must find procfs there: never through a symlink


def root(child: Child, path: str, propagation: int) -> None:
    """Cut mount propagation to the host, and make the root a mount of our own.

    propagation: 0 in the caller's mount namespace, of which nothing but the new mount may be changed.
    """
    if propagation:
        m.mount("", "/", flags=propagation if propagation & (m.MS_PRIVATE | m.MS_SLAVE) else m.MS_SLAVE | m.MS_REC)
    child.null = _host_null()
    child.root = m.open_tree(m.AT_FDCWD, path, m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
    if not propagation:
        m.mount_setattr(child.root, propagation=m.MS_PRIVATE, recursive=True)
    m.move_mount(child.root, path)


def _host_null() -> int:
    """The host's /dev/null, before anything of the container's can stand in its place."""
    descriptor = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise OSError(ENXIO, "/dev/null of the host is no null device")
    return descriptor


def filesystem(
    child: Child,
    source: str,
    target: str,
    kind: str,
    set: int,
    options: Sequence[tuple[str, str | None]],
    propagation: Sequence[int],
    *,
    copy: bool,
    inherit: bool,
) -> None:
    """Mount a new filesystem. inherit: with the mode of the directory that it covers, if there is one."""
    context = m.fsopen(kind)
    try:
        m.fsconfig(context, "source", source)
        for key, value in options:
            m.fsconfig(context, key, value)
        if inherit and (mode := _mode(child.root, target)) >= 0:
            m.fsconfig(context, "mode", f"{mode:o}")
        m.fscreate(context)
        # What is mounted or made in it needs a writable one; `seal` makes it read-only.
        late = set & m.MOUNT_ATTR_RDONLY if kind == "tmpfs" else 0
        tree = m.fsmount(context, set & ~late)
    finally:
        os.close(context)
    try:
        place = make_directory_in_root(child.root, target, resolve=RESOLVE_NO_SYMLINKS if kind in _ORDINARY else 0)
    except OSError as error:
        if error.errno in (ELOOP, ENOTDIR) and kind in _ORDINARY:
            raise OSError(error.errno, f"{kind} must be mounted on ordinary directory") from None
        raise
    _guard(child, place, tree)
    if copy:
        _copy_up(place, tree)
    _attach(tree, place, propagation)
    _keep(child, tree, late)


def _mode(root: int, path: str) -> int:
    """The permissions of what is at `path`; -1 if nothing is."""
    try:
        place = open_in_root(root, path, os.O_PATH)
    except OSError:
        return -1
    mode = os.fstat(place).st_mode & 0o7777
    os.close(place)
    return mode


def bind(
    child: Child,
    source: str,
    target: str,
    set: int,
    clear: int,
    set_all: int,
    clear_all: int,
    propagation: Sequence[int],
    *,
    recursive: bool,
) -> None:
    """Mount a file or directory of the host."""
    tree = m.open_tree(m.AT_FDCWD, source, m.OPEN_TREE_CLONE | (m.AT_RECURSIVE if recursive else 0))
    attach(child, tree, target, set, clear, set_all, clear_all, propagation)


def source(child: Child, path: str, *, recursive: bool) -> None:
    """Open a file or directory of the host that will be mounted, as long as this process may."""
    child.sources.append(m.open_tree(m.AT_FDCWD, path, m.OPEN_TREE_CLONE | (m.AT_RECURSIVE if recursive else 0)))


def opened(child: Child, source: str, *, recursive: bool, **how: Any) -> None:
    """Mount the next of what `source` has opened."""
    attach(child, child.sources.pop(0), **how)


def attach(
    child: Child,
    tree: int,
    target: str,
    set: int,
    clear: int,
    set_all: int,
    clear_all: int,
    propagation: Sequence[int],
) -> None:
    """Put a detached mount of a file or directory at its place."""
    if S_ISDIR(os.fstat(tree).st_mode):
        place = make_directory_in_root(child.root, target)
    else:
        place = make_file_in_root(child.root, target)
    _guard(child, place, tree)
    late = set & m.MOUNT_ATTR_RDONLY
    if set or clear:
        _say_all(tree, set & ~late, clear, SAID & ~set & ~clear)
    if set_all or clear_all:
        m.mount_setattr(tree, set=set_all, clear=clear_all, recursive=True)
    _attach(tree, place, propagation)
    _keep(child, tree, late)


def _say_all(tree: int, set: int, clear: int, unsaid: int) -> None:
    """Where options say something, a bind mount loses what else its source has, as runC's.

    But not in a user namespace, whose caller may keep what is not said, and must keep what is its source's.
    """
    try:
        m.mount_setattr(tree, set=set, clear=clear | unsaid)
    except PermissionError:
        m.mount_setattr(tree, set=set, clear=clear | unsaid & m.MOUNT_ATTR_NOSYMFOLLOW)


def remount(
    child: Child,
    target: str,
    set: int,
    clear: int,
    set_all: int,
    clear_all: int,
    options: Sequence[tuple[str, str | None]],
    propagation: Sequence[int],
) -> None:
    """Change what is mounted already; set_all, clear_all: with all that is mounted below."""
    tree = open_in_root(child.root, target, os.O_PATH)
    if options:
        context = m.fspick(tree)
        try:
            for key, value in options:
                m.fsconfig(context, key, value)
            m.fsreconfigure(context)
        finally:
            os.close(context)
    late = set & m.MOUNT_ATTR_RDONLY
    if set & ~late or clear:
        m.mount_setattr(tree, set=set & ~late, clear=clear)
    if set_all or clear_all:
        m.mount_setattr(tree, set=set_all, clear=clear_all, recursive=True)
    for flags in propagation:
        m.mount_setattr(tree, propagation=flags & ~m.MS_REC, recursive=bool(flags & m.MS_REC))
    _keep(child, tree, late)


def _guard(child: Child, place: int, tree: int) -> None:
    """Refuse a mount over what the kernel and we write to: inside procfs, but for files that only tell of the host."""
    if m.fstype(place) != m.PROC_SUPER_MAGIC:
        return
    path = os.readlink(f"/proc/self/fd/{place}").removeprefix(os.readlink(f"/proc/self/fd/{child.root}"))
    if path == "/proc" and m.fstype(tree) == m.PROC_SUPER_MAGIC:
        return
    if path == "/proc":
        raise OSError(EPERM, f"{path!r} cannot be mounted because it is not of type proc")
    if path.removeprefix("/proc/") not in _TELLING:
        raise OSError(EPERM, f"{path!r} cannot be mounted because it is inside /proc")


def _attach(tree: int, place: int, propagation: Sequence[int]) -> None:
    m.move_mount(tree, place)
    os.close(place)
    for flags in propagation:
        m.mount_setattr(tree, propagation=flags & ~m.MS_REC, recursive=bool(flags & m.MS_REC))


def _keep(child: Child, tree: int, late: int) -> None:
    if late:
        child.late.append(tree)
    else:
        os.close(tree)


def _copy_up(place: int, tree: int) -> None:
    """Copy what the image has at a tmpfs's place into it: podman's tmpcopyup."""
    source = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
    target = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
    try:
        copy_tree(source, target)
    finally:
        os.close(source)
        os.close(target)


def devices(child: Child, nodes: Sequence[tuple[str, str, int, int, int, int, int]], *, bind: bool) -> None:
    """Make device nodes, or in a user namespace, which may not, mount the host's."""
    for path, kind, major, minor, mode, uid, gid in nodes:
        above, _, name = path.rpartition("/")
        if bind and kind != "p":
            place = make_file_in_root(child.root, path)
            tree = m.open_tree(m.AT_FDCWD, path, m.OPEN_TREE_CLONE)
            m.mount_setattr(tree, set=NODE)  # as in `mask`: its root may be the host's
            _attach(tree, place, ())
            os.close(tree)
            continue
        parent = make_directory_in_root(child.root, above or "/")
        try:
            os.mknod(name, _KINDS[kind] | mode, os.makedev(major, minor), dir_fd=parent)
            if uid or gid:
                os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            status = os.lstat(name, dir_fd=parent)
            same = status.st_mode & 0o170000 == _KINDS[kind] and status.st_rdev == os.makedev(major, minor)
            if not same:
                raise OSError(EEXIST, f"{path} is another file already") from None
        finally:
            os.close(parent)


def links(child: Child, links: Sequence[tuple[str, str]]) -> None:
    """Make symbolic links where nothing stands."""
    for path, target in links:
        above, _, name = path.rpartition("/")
        parent = make_directory_in_root(child.root, above or "/")
        try:
            os.symlink(target, name, dir_fd=parent)
        except FileExistsError:
            if name == "ptmx":  # a node in the image is not this container's devpts
                os.unlink(name, dir_fd=parent)
                os.symlink(target, name, dir_fd=parent)
        finally:
            os.close(parent)


def console(child: Child, rows: int, columns: int) -> None:
    """Make the container's terminal, and mount it on /dev/console."""
    terminal(child, rows, columns)
    place = make_file_in_root(child.root, "/dev/console", 0o600)
    tree = m.open_tree(child.tty)
    _attach(tree, place, ())
    os.close(tree)


def terminal(child: Child, rows: int, columns: int) -> None:
    """Make a terminal in the container's devpts, and send its other end out."""
    from veloci.kernel import tty

    root = child.root if child.root >= 0 else os.open("/", os.O_PATH | os.O_CLOEXEC)
    ptmx, child.tty = tty.pair(root)
    if child.attended:
        tty.plain(ptmx)
        rows, columns = child.attended
    if rows or columns:
        tty.resize(ptmx, rows, columns)
    tty.send(child.console_socket, ptmx, "/dev/ptmx")
    os.close(ptmx)


def mask(child: Child, path: str, label: str = "") -> None:
    """Hide a file behind the null device, a directory behind an empty one. What is not there needs no hiding.

    label: the SELinux context of the empty one.
    """
    place = _there(child, path)
    if place < 0:
        return
    if not S_ISDIR(os.fstat(place).st_mode):
        tree = m.open_tree(child.null)
        # It is the host's: through a read-only mount nobody changes its mode or owner, and it takes all the same.
        m.mount_setattr(tree, set=NODE)
    elif child.empty < 0:
        child.empty = _empty(label)
        _attach(child.empty, place, ())  # before Linux 6.15 only what is attached can be cloned
        return
    else:
        tree = m.open_tree(child.empty)
    _attach(tree, place, ())
    os.close(tree)


def _there(child: Child, path: str) -> int:
    """A descriptor of what is at `path`; -1 if nothing is."""
    try:
        return open_in_root(child.root, path, os.O_PATH)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return -1
        raise


def _empty(label: str) -> int:
    context = m.fsopen("tmpfs")
    try:
        m.fsconfig(context, "nr_inodes", "2")
        m.fsconfig(context, "size", "4k")
        if label:
            m.fsconfig(context, "context", label)
        m.fscreate(context)
        return m.fsmount(context, m.MOUNT_ATTR_RDONLY)
    finally:
        os.close(context)


def protect(child: Child, path: str) -> None:
    """Make what is below a path read-only."""
    place = _there(child, path)
    if place < 0:
        return
    tree = m.open_tree(place, "", m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
    m.mount_setattr(tree, set=m.MOUNT_ATTR_RDONLY, recursive=True)
    _attach(tree, place, ())
    os.close(tree)


def seal(child: Child, *, readonly: bool) -> None:
    """Everything is made: what is to be read-only becomes so."""
    for tree in child.late:
        m.mount_setattr(tree, set=m.MOUNT_ATTR_RDONLY)
        os.close(tree)
    if readonly:
        m.mount_setattr(child.root, set=m.MOUNT_ATTR_RDONLY)


TABLE: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        filesystem,
        bind,
        source,
        opened,
        remount,
        root,
        devices,
        links,
        console,
        terminal,
        mask,
        protect,
        seal,
    )
}
