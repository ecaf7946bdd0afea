r"""Clone, handshake, run the steps, exec. Imports almost nothing.

    parent                                    child
      clone ───────────────────────────────▶  A process with one thread; all new namespaces at once.
      its own part: the cgroup                steps: session, root, mounts, …
                       ◀─── A question ───    a step that only the parent can do: maps, cgroup, hooks
      answers[question]() ───── ok ────────▶  (or "errno\0reason")
                       ◀─── E step\0place\0errno\0reason      a step failed: the end
                       ◀─── A ready ──────    all steps done, the program found (R: and on it goes, in an exec)
      state is written ──────── ok ────────▶  execve: the stub
                       ◀─── end of file       the stub waits for the start

Namespaces that exist are entered by the parent, which makes the child there and comes back. From a user namespace
nobody comes back: it is entered by a process in between, whose child, made with CLONE_PARENT, is still the caller's:
`P pid` is what that process says. Either way the child is in all of them before the container can see it.
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

    Answers = Mapping[str, Callable[..., None]]  # the pid, and the words after the question

_again = False
_APART = p.CLONE_NEWUSER | p.CLONE_NEWTIME  # entered for good
_HOME = (
    ("mnt", p.CLONE_NEWNS),
    ("pid_for_children", p.CLONE_NEWPID),
    ("net", p.CLONE_NEWNET),
    ("ipc", p.CLONE_NEWIPC),
    ("uts", p.CLONE_NEWUTS),
    ("cgroup", p.CLONE_NEWCGROUP),
)


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
    if join or plan["clone"] & p.CLONE_NEWUSER or _again:
        from veloci.runtime import become

        become.table({doing for doing, _, _ in plan["steps"]})  # for the child to have
    _again = True  # who launches once may launch often; the first child imports it while this process makes the cgroup
    ours, theirs = p.socketpair()
    visit = _Visit([] if apart else join)
    try:
        visit.go()
        pid, born = _clone(0 if apart else plan["clone"], group)
    except BaseException as error:
        visit.end()
        os.close(ours)
        os.close(theirs)
        if isinstance(error, OSError):
            raise HostError("setns", error, where=f"{name}: {visit.at}" if visit.at else "") from error
        raise
    if pid == 0:
        child.parent, child.born = theirs, born
        try:
            os.close(ours)
            visit.stay()
            from veloci.runtime import become

            become.become(plan, child, join if apart else [], wait, preserve)
        finally:
            os._exit(127)
    visit.end()
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


class _Visit:
    """This process in namespaces that exist, for as long as it takes to make a child there."""

    def __init__(self, join: list[tuple[int, int, str]]) -> None:
        self.join, self.at = join, ""
        self.home: list[tuple[int, int]] = []
        self.places: list[int] = []  # the root and the working directory
        self.dumpable = 1

    def go(self) -> None:
        """Enter them. Raises OSError; `at` is the place of the one that failed."""
        if not self.join:
            return
        self.dumpable = p.prctl(p.PR_GET_DUMPABLE)
        p.prctl(p.PR_SET_DUMPABLE, 0)
        entered = 0
        for _, bits, _ in self.join:
            entered |= bits
        self.places = [os.open(place, os.O_PATH | os.O_CLOEXEC) for place in ("/", ".")]
        for file, bit in _HOME:
            if entered & bit:
                self.home.append((os.open(f"/proc/self/ns/{file}", os.O_RDONLY | os.O_CLOEXEC), bit))
        for descriptor, bits, at in self.join:
            self.at = at
            p.setns(descriptor, bits)

    def end(self) -> None:
        """Be at home again, as before."""
        for descriptor, bit in self.home:
            p.setns(descriptor, bit)
        if self.places:
            root, here = self.places
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(here)
            p.prctl(p.PR_SET_DUMPABLE, self.dumpable)
        self.stay()

    def stay(self) -> None:
        """Drop what leads home."""
        for descriptor in (*(descriptor for descriptor, _ in self.home), *self.places):
            os.close(descriptor)


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
        if message == b"R":
            ready = True
            continue
        question, *words = message[1:].decode().split()
        try:
            answers[question](pid, *words)
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
