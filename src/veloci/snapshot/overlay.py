"""Overlayfs mounts as descriptors.

From Linux 6.8 on each layer is given by itself (`lowerdir+`), so there is no limit but
overlayfs's own 500. Before, all layers stand in one string of at most 4,095 bytes, given as
/proc/self/fd/N to mount(2) in a mount namespace of a child's own, which sends the mount back:
about 200 layers.

A layer kept as its tar has an index beside its directory, and is mounted first (snapshot.erofs).

redirect_dir, metacopy and index are off: what is written is then a layer another host can use as it
is, and programs such as dpkg and apt find the renames they expect. xino is off where all layers are on
one filesystem, so that inode numbers are the files' own and stay when a file is copied up; else it is
on, for the same reason: each layer has numbers of its own, and files would be on as many devices.
"""

from __future__ import annotations

import os
from errno import E2BIG, EINVAL, EOPNOTSUPP
from struct import pack, unpack

from veloci.errors import HostError, Unsupported
from veloci.kernel import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS = {"redirect_dir": "off", "metacopy": "off", "index": "off"}
LONGEST = 255  # bytes of one value of fsconfig(2)
PAGE = 4095  # bytes of all options of mount(2)


def mounted(
    lowers: Sequence[str], upper: str = "", work: str = "", trees: dict[str, int] | None = None, owners: int = -1
) -> int:
    """A descriptor of a detached overlay of the directories `lowers`, top first; closing it unmounts it.

    upper, work: where what is written goes; without them the mount is read-only. trees: mounts of layers
    kept as their tar, by directory, which stay open; gets those that are made here. owners: a user namespace, whose
    mapping says whose the files are; it has the caller too. Raises HostError.
    """
    try:
        try:
            return _new(lowers, upper, work, trees, owners)
        except OSError as error:
            # EOPNOTSUPP is of before Linux 6.5: the old interface takes no descriptor, as layers kept as their tar are
            if error.errno not in {EINVAL, EOPNOTSUPP} or owners >= 0:
                raise
            return classic(lowers, upper, work)
    except OSError as error:
        raise HostError(f"mount {len(lowers)} layers", error, hint=_hint(error, owners)) from error


def _new(lowers: Sequence[str], upper: str, work: str, trees: dict[str, int] | None, owners: int) -> int:
    opened: list[int] = []
    context = mount.fsopen("overlay")
    try:
        devices = 1
        for path in lowers:
            tree = trees[path] if trees and path in trees else archived(path, opened)
            if tree >= 0:
                if trees is None:
                    opened.append(tree)
                else:
                    trees[path] = tree
                if owners >= 0:
                    mount.mount_setattr(tree, set=mount.MOUNT_ATTR_IDMAP, user_namespace=owners)
                mount.fsconfig_fd(context, "lowerdir+", tree)
                devices += 1
            elif owners >= 0:
                opened.append(owned(path, owners))
                mount.fsconfig_fd(context, "lowerdir+", opened[-1])
            else:
                mount.fsconfig(context, "lowerdir+", _short(path, opened))
        if upper and owners >= 0:
            opened.append(owned(os.path.dirname(upper), owners))  # one mount, as overlayfs wants it
            for key, path in (("upperdir", upper), ("workdir", work)):
                name = os.path.basename(path)
                opened.append(os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=opened[-1 if key == "upperdir" else -2]))
                mount.fsconfig_fd(context, key, opened[-1])
        elif upper:
            mount.fsconfig(context, "upperdir", _short(upper, opened))
            mount.fsconfig(context, "workdir", _short(work, opened))
        for key, value in OPTIONS.items():
            mount.fsconfig(context, key, value)
        mount.fsconfig(context, "xino", "off" if devices == 1 else "on")
        if os.geteuid():
            mount.fsconfig(context, "userxattr")
        mount.fscreate(context)
        return mount.fsmount(context, 0 if upper else mount.MOUNT_ATTR_RDONLY)
    finally:
        os.close(context)
        for file in opened:
            os.close(file)


def owned(path: str, owners: int) -> int:
    """A descriptor of a detached mount of the directory `path`, whose files belong to whom the mapping says.

    Raises OSError; EINVAL where the file system cannot do that.
    """
    tree = mount.open_tree(mount.AT_FDCWD, path)
    try:
        mount.mount_setattr(tree, set=mount.MOUNT_ATTR_IDMAP, user_namespace=owners)
    except OSError:
        os.close(tree)
        raise
    return tree


def index_of(path: str) -> str:
    """The index of the layer whose directory is `path`; "" if it is unpacked."""
    index = f"{path[:-2]}index"
    return index if path.endswith("/fs") and os.path.exists(index) else ""


def archived(path: str, opened: list[int]) -> int:
    """A descriptor of the detached mount of the layer whose directory is `path` if it is kept as its tar; else -1.

    opened: gets descriptors to be closed later. Raises OSError, HostError.
    """
    index = index_of(path)
    if not index:
        return -1
    from veloci.snapshot.erofs import mounted as archive

    index, tar = _short(index, opened), _short(f"{index[:-5]}tar", opened)
    try:
        return archive(index, tar)
    except OSError as error:
        hint = "remove the image, and pull it again with --snapshotter overlay"
        doing = "mount a layer that is kept as its tar, which takes root and EROFS as of Linux 6.4"
        raise HostError(doing, error, hint=hint) from error


def _short(path: str, opened: list[int]) -> str:
    """`path`, or a short name for it that lasts while what is added to `opened` is open."""
    if len(path) <= LONGEST:
        return path
    opened.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
    return f"/proc/self/fd/{opened[-1]}"


def classic(lowers: Sequence[str], upper: str = "", work: str = "") -> int:
    """As `mounted`, by mount(2), for kernels without `lowerdir+`. Raises OSError, Unsupported.

    A child mounts in a mount namespace that only it has, and sends a detached copy back.
    """
    import _socket

    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    child = os.fork()
    if not child:  # no other thread of ours runs here: nothing but system calls until the exit
        try:
            tree = pack("i", _alone(lowers, upper, work))
            theirs.sendmsg([b"0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, tree)])
        except OSError as error:
            theirs.send(str(error.errno).encode())
        finally:
            os._exit(0)
    theirs.close()
    try:
        message, ancillary, _, _ = ours.recvmsg(16, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    finally:
        ours.close()
        os.waitpid(child, 0)
    if ancillary:
        return int(unpack("i", ancillary[0][2][:4])[0])
    number = int(message or EINVAL)
    if number == E2BIG:
        raise Unsupported(f"this kernel cannot mount {len(lowers)} layers", hint="Linux 6.8 or later can")
    raise OSError(number, os.strerror(number))


def _alone(lowers: Sequence[str], upper: str, work: str) -> int:
    """In a new mount namespace: mount over the first directory, and copy the mount. Raises OSError; E2BIG: too many."""
    from veloci.kernel.process import CLONE_NEWNS, unshare

    unshare(CLONE_NEWNS)
    mount.mount("", "/", flags=mount.MS_REC | mount.MS_PRIVATE)
    archives = [(path, tree) for path in lowers if (tree := archived(path, [])) >= 0]
    for path, tree in archives:
        mount.move_mount(tree, path)
    # opened here: overlayfs takes no directory from another mount namespace
    paths = [f"/proc/self/fd/{os.open(path, os.O_PATH)}" for path in (*lowers, *filter(None, (upper, work)))]
    options = [f"lowerdir={':'.join(paths[: len(lowers)])}"]
    if upper:
        options += [f"upperdir={paths[-2]}", f"workdir={paths[-1]}"]
    options += [f"{key}={value}" for key, value in OPTIONS.items()]
    options.append("xino=on" if archives else "xino=off")
    if os.geteuid():
        options.append("userxattr")
    data = ",".join(options)
    if len(data) > PAGE:
        raise OSError(E2BIG, data)
    mount.mount("overlay", lowers[0], "overlay", 0 if upper else mount.MS_RDONLY, data)
    return mount.open_tree(mount.AT_FDCWD, lowers[0])


def _hint(error: OSError, owners: int) -> str:
    from errno import ENODEV, EPERM

    if owners >= 0 and error.errno == EINVAL:
        return "a user namespace takes Linux 6.13, and a file system that can map owners: --userns host"
    return {ENODEV: "modprobe overlay", EPERM: "run as root"}.get(error.errno or 0, "")
