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

import os
import sys
from _signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal
from errno import EACCES, EBUSY, EINVAL, EIO, ENOENT, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM
from fcntl import F_DUPFD_CLOEXEC, fcntl

from veloci.errors import HostError, VelociError
from veloci.kernel import process as p
from veloci.kernel import stub
from veloci.runtime.steps import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from veloci.runtime.child import Child
    from veloci.runtime.plan import Plan

    Answers = Mapping[str, Callable[[int], None]]

_APART = p.CLONE_NEWUSER | p.CLONE_NEWPID  # entered by a child only
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
    ours, theirs = p.socketpair()
    # What is the host's can only be joined before a user namespace is entered.
    apart = bool(join) and bool(plan["clone"] & p.CLONE_NEWUSER or any(bits & _APART for _, bits, _ in join))
    pid, born = _clone(0 if apart else plan["clone"], group)
    if pid == 0:
        child.parent = theirs
        os.close(ours)
        if apart:
            _between(plan, child, join)
        _child(plan, child, () if apart else join, wait, preserve)
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


def _between(plan: Plan, child: Child, join: list[tuple[int, int, str]]) -> None:
    """Enter what exists, make the child in what is new, and end. Only the child returns."""
    at = "$.linux.namespaces"
    try:
        p.prctl(p.PR_SET_DUMPABLE, 0)
        for descriptor, bits, at in join:  # noqa: B007 -- read when one fails
            p.setns(descriptor, bits)
        pid = p.clone(plan["clone"] | p.CLONE_PARENT)
        if pid == 0:
            os.read(child.parent, 2)  # its questions come after this process's word
            return
        os.write(child.parent, b"P%d" % pid)
        os._exit(0)
    except OSError as error:
        _report(child, "setns", at, error)
        os._exit(1)


def _child(
    plan: Plan, child: Child, join: list[tuple[int, int, str]] | tuple[()], wait: int, preserve: int
) -> NoReturn:
    sys.meta_path.clear()  # after the pivot nothing can be imported; better to fail always than sometimes
    doing, at = "setns", "$.linux.namespaces"
    try:
        if not plan["clone"] & p.CLONE_NEWUSER:
            p.prctl(p.PR_SET_DUMPABLE, 0)  # after the maps otherwise: until then they are written through /proc
        os.umask(0)
        for number in (SIGPIPE, SIGXFSZ):  # which the interpreter ignores; the program is not to
            signal(number, SIG_DFL)
        for descriptor, bits, at in join:  # noqa: B007
            p.setns(descriptor, bits)
        for doing, at, arguments in plan["steps"]:  # noqa: B007 -- read when a step fails
            TABLE[doing](child, **arguments)
        doing, at = f'exec: "{plan["args"][0]}"', "$.process.args[0]"
        env = _with_home(plan["env"])
        path = find(plan["args"][0], env)
        close = 3 + preserve
        # Ours go above what the program keeps, before anything is put at its place.
        last, child.parent = _above(_stub(child), close), _above(child.parent, close)
        child.outcome = _above(child.outcome, close) if child.outcome >= 0 else -1
        if wait >= 0:
            os.dup2(wait, close)  # which leaves the flags alone when they are the same
            os.set_inheritable(close, True)
            wait = close
            close += 1
        p.close_range(close)
        child.ask("ready")
        _start(child, last, path, plan, env, wait)
    except OSError as error:
        _report(child, doing, at, error)
    except VelociError as error:  # of a hook; it names its place itself
        os.write(child.parent, f"V{error.where}\0{error.args[0]}".encode(errors="replace"))
    except BaseException as error:  # noqa: BLE001 -- the last frame of this process
        _report(child, doing, at, OSError(EIO, repr(error)))
    finally:
        os._exit(127)


def _stub(child: Child) -> int:
    """The stub, with the filter it loads; above every descriptor that is to be kept."""
    bpf = b"" if child.filtered else child.bpf
    return stub.sealed(bpf, child.bpf_flags)


def _above(descriptor: int, number: int) -> int:
    """`descriptor`, or a copy of it, with a number above `number`."""
    return descriptor if descriptor > number else fcntl(descriptor, F_DUPFD_CLOEXEC, number + 1)


def _start(child: Child, last: int, path: str, plan: Plan, env: dict[str, str], wait: int) -> None:
    hooks = child.hooks.start_container if child.hooks else ()
    if hooks and wait >= 0:
        # The hooks run after the start, so the interpreter has to wait in the stub's place.
        from veloci.runtime import hooks as hooks_module

        os.close(child.parent)
        assert child.state is not None
        os.set_inheritable(wait, False)
        os.read(wait, 1)
        try:
            hooks_module.run("startContainer", hooks, child.state("created"))
        except VelociError as error:
            os.write(child.outcome, f"{error.where}\0{error.args[0]}".encode(errors="replace"))
            os._exit(1)
        wait = -1
    arguments = stub.arguments(path, plan["args"], max(wait, 0))
    try:
        os.execve(last, arguments, env)
    except OSError as error:
        if error.errno != EPERM:
            raise
        # A profile without execveat(2), loaded already.
        os.execve(f"/proc/self/fd/{last}", arguments, env)


def _report(child: Child, doing: str, at: str, error: OSError) -> None:
    text = error.strerror or str(error)
    if error.filename and str(error.filename) not in text:
        text = f"{error.filename}: {text}"
    os.write(child.parent, f"E{doing}\0{at}\0{error.errno or EIO}\0{text}".encode(errors="replace"))


def _with_home(entries: list[str]) -> dict[str, str]:
    """The environment as a table; HOME from the container's /etc/passwd when it is not given."""
    env = dict(entry.partition("=")[::2] for entry in entries)
    if "HOME" not in env:
        from veloci.kernel.files import read_in_root

        root = os.open("/", os.O_PATH | os.O_CLOEXEC)
        uid = str(os.getuid())
        try:
            passwd = read_in_root(root, "/etc/passwd", 1 << 20).decode(errors="replace")
        except OSError:
            passwd = ""  # not for this user to read
        os.close(root)
        lines = (line.split(":") for line in passwd.splitlines())
        env["HOME"] = next((line[5] for line in lines if len(line) > 5 and line[2] == uid), "") or "/"
    return env


def find(name: str, env: Mapping[str, str]) -> str:
    """The program `name` on the environment's PATH. Raises OSError in runc's words, which its callers look for."""
    if "/" in name:
        try:
            _executable(name)
        except FileNotFoundError:
            raise OSError(ENOENT, f"stat {name}: no such file or directory") from None
        except PermissionError:
            raise OSError(EACCES, "permission denied") from None
        return name
    for directory in env.get("PATH", DEFAULT_PATH).split(":"):
        path = f"{directory or '.'}/{name}"
        try:
            _executable(path)
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR, EACCES):
                raise
            continue
        return path
    raise OSError(ENOENT, "executable file not found in $PATH")


def _executable(path: str) -> None:
    mode = os.stat(path).st_mode
    if mode & 0o170000 == 0o040000 or not os.access(path, os.X_OK):
        raise PermissionError(EACCES, "permission denied")
