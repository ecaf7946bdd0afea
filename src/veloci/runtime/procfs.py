"""The steps that write to procfs: through a mount of it that nobody can have put anything on (CVE-2019-16884)."""

from __future__ import annotations

import posix as os
from errno import ENOENT

from veloci.kernel import mount
from veloci.kernel.files import write_beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veloci.runtime.child import Child


def sysctl(child: Child, values: Sequence[tuple[str, str]]) -> None:
    """Write kernel parameters of the container's namespaces through a procfs that nothing can be mounted on."""
    proc = _private_proc()
    refused = []
    try:
        for path, value in values:
            try:
                write_beneath(proc, f"sys/{path}", value.encode())
            except OSError:
                refused.append((path, value))
        for path, value in refused:  # again: a range of ports wants to know which ones are privileged
            write_beneath(proc, f"sys/{path}", value.encode())
    finally:
        os.close(proc)


def label(child: Child, apparmor: str, selinux: str) -> None:
    """Have execve(2) change the security label."""
    proc = _private_proc()
    try:
        mine = _mine(proc)
        if apparmor:
            try:
                write_beneath(proc, f"{mine}/attr/apparmor/exec", f"exec {apparmor}".encode())
            except FileNotFoundError:  # before Linux 5.8
                write_beneath(proc, f"{mine}/attr/exec", f"exec {apparmor}".encode())
        if selinux:
            write_beneath(proc, f"{mine}/attr/exec", selinux.encode())
    finally:
        os.close(proc)


def _mine(proc: int) -> str:
    """This thread's directory in the procfs `proc`, which may number processes as another namespace does.

    The link is read, not followed: it is the kernel's, for nothing lies over what is at the root of a private mount.
    """
    return os.readlink("thread-self", dir_fd=proc)


def _private_proc() -> int:
    try:
        proc = mount.open_tree(mount.AT_FDCWD, "/proc", mount.OPEN_TREE_CLONE)
    except OSError:  # in a user namespace what is mounted below must come along
        proc = mount.open_tree(mount.AT_FDCWD, "/proc", mount.OPEN_TREE_CLONE | mount.AT_RECURSIVE)
    if mount.fstype(proc) != mount.PROC_SUPER_MAGIC:
        os.close(proc)
        raise OSError(ENOENT, "/proc is not procfs")
    return proc


TABLE: dict[str, Callable[..., None]] = {"sysctl": sysctl, "label": label}
