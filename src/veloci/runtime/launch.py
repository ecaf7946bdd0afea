r"""Clone, handshake, run the steps, exec. Imports almost nothing.

    parent                                    child
      clone ───────────────────────────────▶  A process with one thread; all new namespaces at once.
      its own part: the cgroup                steps: session, root, mounts, …
                       ◀─── A question ───    a step that only the parent can do: maps, cgroup, hooks
      answers[question]() ───── ok ────────▶  (or "errno\0reason")
                       ◀─── E step\0place\0errno\0reason      a step failed: the end
                       ◀─── A ready ──────    all steps done, the program found
      state is written ──────── ok ────────▶  execve: the stub
                       ◀─── end of file       the stub waits for the start

A user or pid namespace that exists is entered by a process in between, whose child, made with
CLONE_PARENT, is still the caller's: `P pid` is what that process says.
"""

from __future__ import annotations

import posix as os
from errno import EACCES, EBUSY, EINVAL, ENOENT, ENOSYS, EOPNOTSUPP, EPERM

from veloci.errors import HostError, VelociError
from veloci.kernel import process as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from veloci.runtime.child import Child
    from veloci.runtime.plan import Plan

    Answers = Mapping[str, Callable[[int], None]]

_again = False
_APART = p.CLONE_NEWUSER | p.CLONE_NEWPID  # entered by a child only


class Ended(VelociError):
    """The child ended without a word."""


def launch(
    plan: Plan,
    child: Child,
    answers: Answers,
    *,
    join: list[tuple[int, int, str]],
    wait: int = -1,
    preserve: int = 0,
    name: str = "config.json",
    group: int = -1,
    started: Callable[[int, bool], None] | None = None,
) -> int:
    """Start the plan's process. Returns its pid once it has become the stub.

    Must be called from a process with one thread. The child is the caller's.
    answers: question -> what to do with the child's pid; "ready" comes last.
    join: descriptors of namespaces, their CLONE_NEW* bits, their places. wait: the descriptor to read a byte
    from before the program starts; -1 starts it. preserve: how many descriptors from 3 on it keeps.
    name: the document's name for messages. group: a directory of cgroup version 2 for the process to be born in.
    started: called with the pid, and whether it was born in `group`, before anything is answered.
    Raises HostError naming the step that failed and its place in the document; the child is then gone.
    """
    # What is the host's can only be joined before a user namespace is entered.
    apart = bool(join) and bool(plan["clone"] & p.CLONE_NEWUSER or any(bits & _APART for _, bits, _ in join))
    global _again
    if apart or plan["clone"] & p.CLONE_NEWUSER or _again:
        import veloci.runtime.become  # noqa: F401 -- for the child to have
    _again = True  # who launches once may launch often; the first child imports it while this process makes the cgroup
    ours, theirs = p.socketpair()
    pid, born = _clone(0 if apart else plan["clone"], group)
    if pid == 0:
        child.parent = theirs
        os.close(ours)
        try:
            from veloci.runtime import become

            become.become(plan, child, join, wait, preserve, apart=apart)
        finally:
            os._exit(127)
    os.close(theirs)
    try:
        if apart:
            between, message = pid, os.read(ours, 65536)
            os.waitpid(between, 0)
            if not message.startswith(b"P"):
                raise _failure(message, name)
            pid = int(message[1:])
            os.write(ours, b"ok")
        if started:
            _guarded(started, pid, born)
        return _converse(pid, ours, answers, name)
    finally:
        os.close(ours)


def _clone(flags: int, group: int) -> tuple[int, bool]:
    """The pid, and whether it was born in `group`: older kernels and some groups do not do that."""
    if group >= 0:
        try:
            return p.clone(flags, group), True
        except OSError as error:
            if error.errno not in (EACCES, EBUSY, EINVAL, ENOSYS, EOPNOTSUPP, EPERM):
                raise
    return p.clone(flags), False


def _guarded(started: Callable[[int, bool], None], pid: int, born: bool) -> None:
    try:
        started(pid, born)
    except BaseException:
        _end(pid)
        raise


def _converse(pid: int, socket: int, answers: Answers, name: str) -> int:
    """Answer until the child has become the stub."""
    ready = False
    while message := _received(socket):
        if message.startswith((b"E", b"V")):
            os.waitpid(pid, 0)
            raise _failure(message, name)
        question = message[1:].decode()
        try:
            answers[question](pid)
        except BaseException:
            _end(pid)
            raise
        ready = question == "ready"
        os.write(socket, b"ok")
    if not ready:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        raise Ended(f"container process ended with status {status} while it was made")
    return pid


def _received(socket: int) -> bytes:
    try:
        return os.read(socket, 65536)
    except ConnectionResetError:
        return b""


def _end(pid: int) -> None:
    try:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _failure(message: bytes, name: str) -> VelociError:
    if message.startswith(b"V"):
        where, text = message[1:].decode(errors="replace").split("\0", 1)
        return VelociError(text, where=where)
    if not message.startswith(b"E"):
        return Ended("container process ended while it was made")
    doing, at, number, text = message[1:].decode(errors="replace").split("\0")
    status = {ENOENT: 127, EACCES: 126}.get(int(number), 126) if doing.startswith("exec: ") else None
    where = f"{name}: {at}" if at and not doing.startswith("exec: ") else ""
    return HostError(doing, OSError(int(number), text), where=where, exit_status=status)
