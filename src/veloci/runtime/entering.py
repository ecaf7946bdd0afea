"""The steps by which the container's first process enters its root."""

from __future__ import annotations

import posix as os
from errno import EEXIST, EINVAL, ELOOP, ENOENT, ENOTDIR

from veloci.kernel import mount as m
from veloci.kernel.files import make_directory_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.runtime.child import Child


def pivot(child: Child) -> None:
    """Enter the root and drop the old one, without a directory to hold it."""
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(child.root)
    m.pivot_root(".", ".")
    os.fchdir(old)
    m.mount("", ".", flags=m.MS_SLAVE | m.MS_REC)  # unmounting must not reach the host
    m.umount(".", m.MNT_DETACH)
    os.close(old)
    os.chdir("/")


def move_root(child: Child) -> None:
    """Enter the root without pivot_root(2), which a ramdisk does not allow.

    The old root stays below, so what it shows of the kernel goes first: a user namespace in the container could
    otherwise mount a new /proc that hides nothing — mount_too_revealing in the kernel.
    """
    _hide_kernel(os.readlink(f"/proc/self/fd/{child.root}"))
    os.fchdir(child.root)
    m.mount(".", "/", flags=m.MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def _hide_kernel(root: str) -> None:
    """Take away all procfs and sysfs but those below `root`."""
    with open("/proc/self/mountinfo", "rb") as file:
        lines = file.read().splitlines()
    for line in reversed(lines):
        kind = line.partition(b" - ")[2].split(b" ")[0]
        place = line.split(b" ")[4]
        for escaped, plain in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
            place = place.replace(escaped, plain)
        name = place.decode(errors="surrogateescape")
        if kind not in (b"proc", b"sysfs") or f"{name}/".startswith(f"{root}/"):
            continue
        m.mount("", name, flags=m.MS_SLAVE | m.MS_REC)
        try:
            m.umount(name, m.MNT_DETACH)
        except PermissionError:
            m.mount("tmpfs", name, "tmpfs")
        except OSError as error:
            if error.errno != EINVAL:  # it has another user namespace's owner
                raise
            m.mount("tmpfs", name, "tmpfs")


def change_root(child: Child) -> None:
    """Enter the root in a mount namespace that is others' too, where it stays a mount until the deletion."""
    os.fchdir(child.root)
    os.chroot(".")
    os.chdir("/")


def propagate(child: Child, flags: int) -> None:
    """Set the propagation of the container's root."""
    m.mount("", "/", flags=flags)


def directory(child: Child, path: str) -> None:
    """Make the working directory if the image has none; a link to nowhere is left for chdir(2) to report."""
    try:
        os.close(make_directory_in_root(child.root, path))
    except OSError as error:
        if error.errno not in (EEXIST, ENOENT, ENOTDIR, ELOOP, EINVAL):
            raise


TABLE: dict[str, Callable[..., None]] = {
    function.__name__: function for function in (directory, pivot, move_root, change_root, propagate)
}
