"""The child's side of a launch: from a copy of the runtime to the stub that starts the program.

It is imported by the child itself where that may take its time, while the parent has other work.
"""

from __future__ import annotations

import posix as os
import sys
from _signal import NSIG, SIG_DFL, SIG_IGN, SIGHUP, SIGINT, SIGTERM, getsignal, signal
from errno import EACCES, EIO, ENOENT, ENOSYS, ENOTDIR, EPERM

from veloci.errors import VelociError
from veloci.kernel import process as p
from veloci.kernel import stub
from veloci.kernel.files import duplicate
from veloci.runtime.steps import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from veloci.runtime.child import Child
    from veloci.runtime.plan import Plan

    Join = list[tuple[int, int, str]]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def become(plan: Plan, child: Child, join: Join, wait: int, preserve: int) -> NoReturn:
    """Do the plan's steps and start its program. join: what this process is to enter, and have a child in."""
    if join:
        _between(plan, child, join)
    _become(plan, child, table({doing for doing, _, _ in plan["steps"]}), wait, preserve)


def table(needed: set[str]) -> dict[str, Callable[..., None]]:
    """The functions of steps by name, those that are `needed` among them."""
    found = dict(TABLE)
    if needed - found.keys():
        from veloci.runtime import rootfs

        found |= rootfs.TABLE
    if needed - found.keys():
        from veloci.runtime import entering

        found |= entering.TABLE
    if needed - found.keys():
        from veloci.runtime import procfs

        found |= procfs.TABLE
    return found


def _between(plan: Plan, child: Child, join: Join) -> None:
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


def _heed_signals() -> None:
    """What the interpreter or our caller ignores, the program is not to."""
    for number in range(1, NSIG):
        if getsignal(number) == SIG_IGN:
            signal(number, SIG_DFL)


def _become(plan: Plan, child: Child, steps: Mapping[str, Callable[..., None]], wait: int, preserve: int) -> NoReturn:
    sys.meta_path.clear()  # after the pivot nothing can be imported; better to fail always than sometimes
    doing = at = ""
    try:
        if not plan["clone"] & p.CLONE_NEWUSER:
            p.prctl(p.PR_SET_DUMPABLE, 0)  # after the maps otherwise: until then they are written through /proc
        os.umask(0)
        if not plan["pinned"]:
            p.unpin()  # the caller's processors are not the container's; its cpuset stays
        _heed_signals()
        for doing, at, arguments in plan["steps"]:  # noqa: B007 -- read when a step fails
            steps[doing](child, **arguments)
        doing, at = f'exec: "{plan["args"][0]}"', "$.process.args[0]"
        env = _with_home(plan["env"])
        path = find(plan["args"][0], env)
        _interpreter(path)
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
        if child.listens:
            steps["filter"](child)
        if child.known:
            os.write(child.parent, b"R")
        else:
            child.ask("ready")
        if child.loads and not child.listens:  # after all else that a profile may forbid
            doing, at = "filter", "$.linux.seccomp"
            steps["filter"](child)
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
    if child.bpf and child.hooks and child.hooks.start_container:
        child.loads = True  # the filter holds for these hooks as for the program
    bpf = b"" if child.loads or child.listens else child.bpf
    return stub.sealed(bpf, child.bpf_flags)


def _above(descriptor: int, number: int) -> int:
    """`descriptor`, or a copy of it, with a number above `number`."""
    return descriptor if descriptor > number else duplicate(descriptor, number + 1)


def _start(child: Child, last: int, path: str, plan: Plan, env: dict[str, str], wait: int) -> None:
    hooks = child.hooks.start_container if child.hooks else ()
    if hooks and wait >= 0:
        # The hooks run after the start, so the interpreter has to wait in the stub's place.
        from veloci.runtime import hooks as hooks_module

        os.close(child.parent)
        assert child.state is not None
        os.set_inheritable(wait, False)
        for number in (SIGHUP, SIGINT, SIGTERM):  # as in the stub
            signal(number, lambda number, _: os._exit(128 + number))
        os.read(wait, 1)
        try:
            hooks_module.run("startContainer", hooks, child.state("created"), env)  # as runc: the program's
        except VelociError as error:
            os.write(child.outcome, f"{error.where}\0{error.args[0]}".encode(errors="replace"))
            os._exit(1)
        wait = -1
    arguments = stub.arguments(path, plan["args"], max(wait, 0))
    try:
        os.execve(last, arguments, env)
    except OSError as error:
        if error.errno not in (EPERM, ENOSYS):
            raise
        # A profile without execveat(2), loaded already.
        os.execve(f"/proc/self/fd/{last}", arguments, env)


def _report(child: Child, doing: str, at: str, error: OSError) -> None:
    text = error.strerror or str(error)
    if error.filename and str(error.filename) not in text:
        text = f"{error.filename}: {text}"
    os.write(child.parent, f"E{doing}\0{at}\0{error.errno or EIO}\0{text}".encode(errors="replace"))


def _with_home(entries: list[str]) -> dict[str, str]:
    """The environment as a table; HOME from the container's /etc/passwd when it is not given, or empty."""
    env = dict(entry.partition("=")[::2] for entry in entries)
    if not env.get("HOME"):
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
    if mode & 0o170000 == 0o040000 or not os.access(path, os.X_OK, effective_ids=True):
        raise PermissionError(EACCES, "permission denied")


def _interpreter(path: str) -> None:
    """Raise OSError if `path` is a script whose interpreter is not there: the stub could only exit with a number."""
    try:
        script = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # it may be executed and not read
    try:
        start = os.read(script, 256)
    finally:
        os.close(script)
    words = start[2:].partition(b"\n")[0].split()
    if start.startswith(b"#!") and words:
        try:
            os.stat(words[0])
        except FileNotFoundError:
            raise OSError(ENOENT, f"exec {path}: no such file or directory") from None
