"""`veloci-runtime`: runC's command line over veloci's own runtime."""

from __future__ import annotations

import os
import sys

from veloci.cli.options import call
from veloci.errors import HostError, InvalidInput, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.runtime.container import Container

_GLOBAL = {"root": True, "log": True, "log-format": True, "debug": False, "rootless": True, "criu": True}
_PREFIX = {"create": "veloci-runtime create failed: ", "run": "veloci-runtime run failed: ", "exec": "exec failed: "}
_FAILURE = {"exec": 255}
_SIGNALS = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG "
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split()
_chosen: dict[str, str] = {}


def main(words: list[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    name = ""
    try:
        rest = _globals(list(sys.argv[1:] if words is None else words))
        name = rest.pop(0)
        if name not in COMMANDS:
            raise InvalidInput(f"no command {name!r}", hint="veloci-runtime --help", exit_status=3)
        if name != "exec":  # Go's flags may have one dash: containerd sends -no-subreaper
            rest = [f"-{word}" if word[:1] == "-" and len(word) > 3 and word[1:3].isalpha() else word for word in rest]
        if log := _chosen.get("log"):
            open(log, "ab").close()
        return call(COMMANDS[name], rest, program=f"veloci-runtime {name}")
    except VelociError as error:
        return _failed(name, error)
    except BrokenPipeError:
        return 141  # as a program that SIGPIPE ended
    except OSError as error:
        if error.filename is not None and error.filename == _chosen.get("log"):
            del _chosen["log"]  # say it to stderr
        return _failed(name, HostError.unforeseen(error))
    except KeyboardInterrupt:
        return 130


def _failed(name: str, error: VelociError) -> int:
    """Say it as runc's callers look for it. Returns the exit status; runc's is 3 for a command that there is not."""
    made = name in _PREFIX and str(error).startswith("exec: ")
    _report(_PREFIX.get(name, "") + ("unable to start container process: " if made else "") + str(error), error.hint)
    return 3 if error.exit_status == 3 else _FAILURE.get(name, 1)


def _globals(words: list[str]) -> list[str]:
    """Take the options before the command."""
    _chosen.clear()
    while words and words[0].startswith("-"):
        flag, equals, value = words.pop(0).partition("=")
        option = flag.lstrip("-")
        if option in ("version", "v"):
            return ["version"]
        if option in ("help", "h"):
            return ["help"]
        if option not in _GLOBAL:
            raise InvalidInput("unknown option", where=flag, hint="veloci-runtime --help")
        if _GLOBAL[option] and not equals:
            if not words:
                raise InvalidInput("needs a value", where=flag)
            value = words.pop(0)
        _chosen[option] = value
    return words or ["help"]


def _report(message: str, hint: str) -> None:
    """To the log as logrus writes it, and in one line to stderr."""
    from time import gmtime, strftime

    from veloci.spec.document import dumps

    message = "".join(c if c.isprintable() else "; " if c == "\n" else f"\\x{ord(c):02x}" for c in message)
    if log := _chosen.get("log"):
        time = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
        if _chosen.get("log-format") == "json":
            line = dumps({"level": "error", "msg": message, "time": time})
        else:
            quoted = message.replace("\\", "\\\\").replace('"', '\\"')
            line = f'time="{time}" level=error msg="{quoted}"'.encode()
        with open(log, "ab") as file:
            file.write(line + b"\n")
    print(message if log else f"veloci-runtime: {message}", file=sys.stderr)
    if hint and not log:
        print(f"  try: {hint}", file=sys.stderr)


def _root() -> str:
    from veloci.runtime.container import ROOT

    return _chosen.get("root") or ROOT


def _load(id: str) -> Container:
    from veloci.runtime.container import Container

    return Container.load(id, root=_root())


def _create(
    id: str, bundle: str, console_socket: str, pid_file: str, preserve_fds: int, *, no_pivot: bool, no_new_keyring: bool
) -> Container:
    from veloci.runtime.container import Container

    if os.geteuid() != 0:
        raise VelociError("needs root", hint="sudo veloci-runtime ...")
    console = -1
    if console_socket:
        from veloci.kernel import tty

        console = tty.connect(console_socket)
    preserve_fds += int(os.environ.get("LISTEN_FDS", "0") or 0)
    container = Container.create(
        id,
        bundle,
        root=_root(),
        console=console,
        no_pivot=no_pivot,
        no_new_keyring=no_new_keyring,
        preserve_fds=preserve_fds,
    )
    _pid(pid_file, container.saved.pid)
    return container


def _pid(file: str, pid: int) -> None:
    """Write a pid file, whole and without a newline."""
    if file:
        with open(f"{file}.tmp", "w") as stream:
            stream.write(str(pid))
        os.rename(f"{file}.tmp", file)


def create(
    id: str,
    /,
    *,
    bundle: str = ".",
    console_socket: str = "",
    pid_file: str = "",
    no_pivot: bool = False,
    no_new_keyring: bool = False,
    preserve_fds: int = 0,
) -> int:
    """Create a container; it waits for its start.

    -b, --bundle DIR        the bundle; the current directory by default
    --console-socket PATH   the AF_UNIX socket that gets the terminal
    --pid-file FILE         write the process's pid here
    --no-pivot              do not use pivot_root
    --no-new-keyring        keep the caller's session keyring
    --preserve-fds N        keep N more descriptors than stdio
    """
    _create(id, bundle, console_socket, pid_file, preserve_fds, no_pivot=no_pivot, no_new_keyring=no_new_keyring)
    return 0


def run(
    id: str,
    /,
    *,
    bundle: str = ".",
    console_socket: str = "",
    pid_file: str = "",
    detach: bool = False,
    keep: bool = False,
    no_subreaper: bool = False,
    no_pivot: bool = False,
    no_new_keyring: bool = False,
    preserve_fds: int = 0,
) -> int:
    """Create a container and start it.

    -b, --bundle DIR        the bundle; the current directory by default
    --console-socket PATH   the AF_UNIX socket that gets the terminal
    --pid-file FILE         write the process's pid here
    -d, --detach            do not wait for its end
    --keep                  do not delete it after its end
    --no-subreaper          do not become the parent of what it leaves
    --no-pivot              do not use pivot_root
    --no-new-keyring        keep the caller's session keyring
    --preserve-fds N        keep N more descriptors than stdio
    """
    from veloci.kernel.process import PR_SET_CHILD_SUBREAPER, prctl

    if not detach and not no_subreaper:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    container = _create(
        id, bundle, console_socket, pid_file, preserve_fds, no_pivot=no_pivot, no_new_keyring=no_new_keyring
    )
    try:
        container.start()
    except BaseException:
        container.delete(force=True)
        raise
    if detach:
        return 0
    status = _wait(container.saved.pid)
    if not keep:
        container.delete(force=True)
    return status


def _wait(pid: int) -> int:
    """Forward signals to `pid` until it ends. Returns its exit status as a shell tells it."""
    import _signal  # `signal` imports enum

    from veloci.kernel.process import exit_status

    def forward(number: int, _frame: object) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    for number in (1, 2, 3, 10, 12, 15):
        _signal.signal(number, forward)
    return exit_status(os.waitpid(pid, 0)[1])


def start(id: str, /) -> int:
    """Run the program of a created container."""
    _load(id).start()
    return 0


def state(id: str, /) -> int:
    """Print a container's state as JSON."""
    from veloci.spec.document import dumps

    owner = ""
    found = {**_load(id).state(), "owner": owner}
    sys.stdout.write(dumps(found, indent=2).decode())
    return 0


def list_(*, format: str = "table", quiet: bool = False) -> int:
    """List the containers.

    -f, --format FORMAT  table or json
    -q, --quiet          IDs only
    """
    from veloci.runtime.container import Container

    found = [{**container.state(), "owner": _owner(container.saved.owner)} for container in Container.list(_root())]
    if quiet:
        sys.stdout.write("".join(f"{each['id']}\n" for each in found))
        return 0
    if format == "json":
        from veloci.spec.document import dumps

        sys.stdout.write(dumps(found or None).decode() + "\n")
        return 0
    if format != "table":
        raise InvalidInput("invalid format option", where="--format", hint="table or json")
    rows: list[tuple[str, ...]] = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [tuple(str(each[key]) for key in ("id", "pid", "status", "bundle", "created", "owner")) for each in found]
    widths = [max(12, *(len(row[column]) + 3 for row in rows)) for column in range(6)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:5], widths[:5], strict=True)]
        sys.stdout.write("".join([*cells, row[5]]) + "\n")
    return 0


def _owner(uid: int) -> str:
    try:
        with open("/etc/passwd", encoding="utf-8") as file:
            lines = (line.split(":") for line in file)
            return next((line[0] for line in lines if len(line) > 2 and line[2] == str(uid)), f"#{uid}")
    except OSError:
        return f"#{uid}"


def kill(id: str, signal: str = "TERM", /, *, all: bool = False) -> int:
    """Send a signal to a container's first process.

    -a, --all  to all its processes
    """
    name = signal.upper().removeprefix("SIG")
    if name.isdigit():
        number = int(name)
    elif name in _SIGNALS:
        number = _SIGNALS.index(name) + 1
    else:
        raise InvalidInput(f"unknown signal {signal!r}")
    _load(id).kill(number, all=all)
    return 0


def delete(id: str, /, *, force: bool = False) -> int:
    """Remove a container.

    -f, --force  kill it first if it runs; one that does not exist is no error
    """
    from veloci.errors import NotFound

    try:
        _load(id).delete(force=force)
    except NotFound:
        if not force:
            raise
    return 0


def pause(id: str, /) -> int:
    """Stop all processes of a container where they are."""
    _load(id).pause()
    return 0


def resume(id: str, /) -> int:
    """Let the processes of a paused container go on."""
    _load(id).resume()
    return 0


def ps(id: str, /, *arguments: str, format: str = "table") -> int:
    """Show a container's processes.

    -f, --format FORMAT  table (what ps -ef shows of them) or json (their pids)
    """
    from veloci.spec.document import dumps

    pids = _load(id).group.pids()
    if format == "json":
        sys.stdout.write(dumps(pids).decode() + "\n")
        return 0
    import subprocess

    shown = subprocess.run(["ps", *(arguments or ("-ef",))], capture_output=True, text=True, check=True)
    header, *lines = shown.stdout.splitlines()
    column = header.split().index("PID")
    wanted = {str(pid) for pid in pids}
    sys.stdout.write("\n".join([header, *(line for line in lines if line.split()[column] in wanted)]) + "\n")
    return 0


def spec(*, bundle: str = ".", rootless: bool = False) -> int:
    """Write a config.json to start from.

    -b, --bundle DIR  where; the current directory by default
    --rootless        for a user without privilege
    """
    from veloci.bundle.defaults import default
    from veloci.spec.document import dumps

    path = f"{bundle}/config.json"
    if os.path.exists(path):
        raise InvalidInput(f"File {path} exists. Remove it first")
    with open(path, "wb") as file:
        file.write(dumps(default(rootless=True) if rootless else default(), indent=2) + b"\n")
    return 0


def update(id: str, /, *, resources: str = "", memory: int = 0, pids_limit: int = 0, cpu_share: int = 0) -> int:
    """Change a container's limits.

    -r, --resources FILE  resources as JSON; - reads stdin
    --memory BYTES        at most this much memory
    --pids-limit N        at most so many processes
    --cpu-share N         relative weight of its CPU time
    """
    from veloci.spec.document import dumps
    from veloci.spec.runtime import Resources

    if resources == "-":
        raw = sys.stdin.buffer.read()
    elif resources:
        with open(resources, "rb") as file:
            raw = file.read()
    else:
        raw = dumps({"memory": {"limit": memory}, "pids": {"limit": pids_limit}, "cpu": {"shares": cpu_share}})
    _load(id).update(Resources.decode(raw, name=resources or "options"))
    return 0


def exec_(
    id: str,
    /,
    *command: str,
    process: str = "",
    cwd: str = "",
    env: tuple[str, ...] = (),
    tty: bool = False,
    user: str = "",
    additional_gids: tuple[str, ...] = (),
    detach: bool = False,
    pid_file: str = "",
    console_socket: str = "",
    no_new_privs: bool = False,
    cap: tuple[str, ...] = (),
    cgroup: str = "",
    ignore_paused: bool = False,
    preserve_fds: int = 0,
) -> int:
    """Run a further process in a container.

    -p, --process FILE         the process as JSON, as config.json's
    --cwd DIR                  its working directory
    -e, --env NAME=VALUE       a variable; may be repeated
    -t, --tty                  give it a terminal
    -u, --user UID[:GID]       whose it is
    -g, --additional-gids GID  a further group; may be repeated
    -d, --detach               do not wait for its end
    --pid-file FILE            write its pid here
    --console-socket PATH      the AF_UNIX socket that gets the terminal
    --no-new-privs             no program may add privileges
    -c, --cap NAME             a further capability; may be repeated
    --cgroup PATH              a group below the container's
    --ignore-paused            although it is paused
    --preserve-fds N           keep N more descriptors than stdio
    """
    from veloci.spec.document import loads

    container = _load(id)
    if process:
        with open(process, "rb") as file:
            plain = loads(file.read())
    else:
        if not command:
            raise InvalidInput("exec args cannot be empty")
        base = container.config().process
        assert base is not None
        plain = {**base.plain(), "args": list(command), "terminal": tty}
        if cwd:
            plain["cwd"] = cwd
        plain["env"] = [*plain.get("env", []), *env]
        if user:
            uid, _, gid = user.partition(":")
            if not uid.isdigit() or (gid and not gid.isdigit()):
                raise InvalidInput(f"{user!r} is not UID[:GID]", where="--user")
            plain["user"] = {"uid": int(uid), "gid": int(gid or 0)}
        if additional_gids:
            plain.setdefault("user", {"uid": 0, "gid": 0})["additionalGids"] = [int(gid) for gid in additional_gids]
        if no_new_privs:
            plain["noNewPrivileges"] = True
        if cap:
            sets = plain.setdefault("capabilities", {})
            for name in ("bounding", "effective", "permitted"):
                sets[name] = [*sets.get(name, []), *cap]
    console = -1
    if console_socket:
        from veloci.kernel import tty as terminals

        console = terminals.connect(console_socket)
    pid = container.exec(plain, console=console, preserve_fds=preserve_fds, cgroup=cgroup, ignore_paused=ignore_paused)
    _pid(pid_file, pid)
    return 0 if detach else _wait(pid)


def features() -> int:
    """Print what this runtime can do, as JSON."""
    from veloci.runtime.features import features as known
    from veloci.spec.document import dumps

    print(dumps(known(), indent=4).decode())
    return 0


def version() -> int:
    """Print versions as runc does."""
    from veloci import __version__
    from veloci.runtime.container import VERSION

    print(f"veloci-runtime version {__version__}\ncommit: {__version__}\nspec: {VERSION}")
    return 0


def help_() -> int:
    """Show the commands."""
    print("Usage: veloci-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND\n")
    for name, command in COMMANDS.items():
        print(f"  {name:10}{(command.__doc__ or '').strip().splitlines()[0]}")
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "create": create,
    "delete": delete,
    "exec": exec_,
    "features": features,
    "help": help_,
    "kill": kill,
    "list": list_,
    "pause": pause,
    "ps": ps,
    "resume": resume,
    "run": run,
    "spec": spec,
    "start": start,
    "state": state,
    "update": update,
    "version": version,
}
