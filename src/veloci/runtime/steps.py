"""What a container's first process does, one function a step: namespaces and identity; the rest is in rootfs.py.

Rules: no decisions, no parsing, no imports inside; every argument was computed
by `plan`. A step raises OSError and `launch` says which step of which document.
"""

from __future__ import annotations

import posix as os
from errno import ENOENT

from veloci.kernel import caps, process
from veloci.kernel.files import duplicate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veloci.runtime.child import Child

_NULL = 0o020000, 0x103  # a character device, 1:3


def ask(child: Child, question: str, *, unless_born: bool = False) -> None:
    """Have the parent do what only it can. unless_born: which is nothing for a process born in its cgroup."""
    if not (unless_born and child.born):
        child.ask(question)


def become_root(child: Child) -> None:
    """Be root in the new user namespace."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    process.prctl(process.PR_SET_DUMPABLE, 0)  # the change of user has set it


def unshare(child: Child, flags: int) -> None:
    """Leave namespaces that could not be left at clone."""
    process.unshare(flags)


def group(child: Child, files: Sequence[str | int]) -> None:
    """Join groups of cgroup version 1 by their `tasks` files, named or opened: 0 is the thread that writes."""
    for file in files:
        descriptor = file if isinstance(file, int) else os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, b"0")
        os.close(descriptor)


def session(child: Child, keyring: str) -> None:
    """Lead a session, with a keyring that is nobody else's."""
    os.setsid()
    if keyring:
        try:
            process.join_session_keyring(keyring)
        except OSError as error:
            if error.errno != 38:  # ENOSYS: a kernel without keyrings has none to leak
                raise


def same_root(child: Child) -> None:
    """Enter the root of the container's first process, which no namespace of its own leads to."""
    os.fchdir(child.root)
    os.chroot(".")
    os.close(child.root)
    child.root = -1


def loopback(child: Child) -> None:
    """Bring `lo` up — netdevice(7)."""
    process.bring_up("lo")


def time(child: Child, offsets: str) -> None:
    """Make a time namespace with these offsets; execve(2) enters it."""
    process.unshare(process.CLONE_NEWTIME)
    if offsets:
        with open("/proc/self/timens_offsets", "w") as file:
            file.write(offsets)


def hostname(child: Child, name: str) -> None:
    """Set the hostname."""
    process.sethostname(name)


def domainname(child: Child, name: str) -> None:
    """Set the NIS domain name."""
    process.setdomainname(name)


def personality(child: Child, persona: int) -> None:
    """Set the execution domain."""
    process.personality(persona)


def stdio(child: Child, uid: int, *, terminal: bool) -> None:
    """Put the terminal, or what the caller gave, at 0, 1 and 2, and let the user reopen them."""
    if terminal:
        from veloci.kernel import tty

        tty.control(child.tty)
    given = (child.tty,) * 3 if terminal else child.stdio
    if given:
        # None may be overwritten before it is copied.
        copies = [duplicate(descriptor, 3) for descriptor in given]
        for number, copy in enumerate(copies):
            os.dup2(copy, number)
            os.close(copy)
    null = -1
    for number in range(3):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        if (status.st_mode & 0o170000, status.st_rdev) == _NULL:
            # The host's is a file that the container cannot see: it gets its own, which a checkpoint can name.
            null = _null() if null < 0 else null
            if null >= 0:
                os.dup2(null, number)
            continue
        # Never the owner of a device that stdio happens to be, the host's /dev/null above all.
        if (status.st_uid != uid and status.st_mode & 0o170000 in (0o010000, 0o140000, 0o100000)) or terminal:
            try:
                os.fchown(number, uid, -1)
            except OSError:
                continue
    if null >= 0:
        os.close(null)


def _null() -> int:
    """A descriptor of /dev/null; -1 unless that is the null device."""
    try:
        null = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return -1
    status = os.fstat(null)
    if (status.st_mode & 0o170000, status.st_rdev) == _NULL:
        return null
    os.close(null)
    return -1


def memory_policy(child: Child, mode: int, nodes: int) -> None:
    """Set on which nodes memory is taken."""
    process.set_memory_policy(mode, nodes)


def scheduler(child: Child, values: Sequence[int]) -> None:
    """Set the scheduling policy."""
    process.set_scheduler(*values)


def io_priority(child: Child, values: Sequence[int]) -> None:
    """Set the I/O class and priority."""
    process.set_io_priority(*values)


def rlimits(child: Child, limits: Sequence[tuple[str, int, int, int]]) -> None:
    """Set resource limits; the first of each is the limit's name."""
    for name, resource, soft, hard in limits:
        try:
            process.setrlimit(0, resource, soft, hard)
        except OSError as error:
            raise OSError(error.errno, f"{name}: {error.strerror}") from error


def bound(child: Child, keep: int) -> None:
    """Drop capabilities from the bounding set."""
    caps.bound(keep)


def filter(child: Child) -> None:
    """Load the seccomp filter while we still may."""
    from veloci.kernel import seccomp

    seccomp.load(child.bpf, child.bpf_flags)
    if child.listens:
        child.ask("listener")


def user(child: Child, uid: int, gid: int, groups: Sequence[int], *, keep_groups: bool, umask: int) -> None:
    """Become the user, with exactly these groups, keeping the permitted capabilities."""
    os.umask(umask)
    process.prctl(process.PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups(groups)
    except PermissionError:
        if not keep_groups:  # a user namespace may forbid it
            raise
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def hooks(child: Child) -> None:
    """Run the hooks that see the container's namespaces and still the host's files."""
    from veloci.runtime import hooks

    assert child.hooks is not None
    assert child.state is not None
    os.fchdir(child.root)  # as runc
    hooks.run("createContainer", child.hooks.create_container, child.state("created"))


def cwd(child: Child, path: str, *, last: bool) -> None:
    """Go to the working directory, which must be inside the root (CVE-2024-21626)."""
    if child.there:
        return
    try:
        os.chdir(path)
    except PermissionError:
        if last:
            raise
        return
    if not os.getcwd().startswith("/"):
        raise OSError(ENOENT, "the working directory is outside of the root")
    child.there = True


def capabilities(child: Child, effective: int, permitted: int, inheritable: int, ambient: int, keep: int) -> None:
    """Set the capability sets; those that this process does not have cannot be given.

    keep: what loading the filter needs. It goes with the next execve(2), as all that is not ambient or root's by
    the bounding set does — capabilities(7).
    """
    child.loads = keep != 0
    _, have, inherited = caps.current()
    permitted &= have
    keep &= have
    try:
        caps.set(effective & permitted | keep, permitted | keep, inheritable)
    except PermissionError:
        inheritable &= inherited | caps.bounding()
        caps.set(effective & permitted | keep, permitted | keep, inheritable)
    caps.ambient(ambient & permitted)


def no_new_privileges(child: Child) -> None:
    """No program may add privileges from here on."""
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)


TABLE: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        ask,
        become_root,
        unshare,
        group,
        session,
        same_root,
        loopback,
        time,
        hostname,
        domainname,
        personality,
        stdio,
        memory_policy,
        scheduler,
        io_priority,
        rlimits,
        bound,
        filter,
        user,
        hooks,
        cwd,
        capabilities,
        no_new_privileges,
    )
}
