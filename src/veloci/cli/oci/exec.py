"""`exec`."""

from __future__ import annotations

from veloci.cli.oci.main import chosen, debug, load, warn
from veloci.cli.oci.process import send_pidfd, wait, write_pid
from veloci.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.runtime.container import Attending, Container


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
    pidfd_socket: str = "",
    console_socket: str = "",
    no_new_privs: bool = False,
    apparmor: str = "",
    process_label: str = "",
    cap: tuple[str, ...] = (),
    cgroup: tuple[str, ...] = (),
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
    --pidfd-socket PATH        the AF_UNIX socket that gets a descriptor of it
    --console-socket PATH      the AF_UNIX socket that gets the terminal
    --no-new-privs             no program may add privileges
    --apparmor PROFILE         its AppArmor profile
    --process-label LABEL      its SELinux label
    -c, --cap NAME             a further capability; may be repeated
    --cgroup [CONTROLLERS:]PATH  a group below the container's; may be repeated
    --ignore-paused            although it is paused
    --preserve-fds N           keep N more descriptors than stdio
    """
    if console_socket and not detach:
        raise InvalidInput("cannot use console socket if veloci-runtime will not detach or allocate tty")
    container = load(id)
    if process:
        plain = _read(process)
        plain["terminal"] = tty or plain.get("terminal", False)
    else:
        if not command:
            raise InvalidInput("exec args cannot be empty")
        plain = _like(container, user, additional_gids, cap)
        plain |= {"args": list(command), "terminal": tty, "env": [*plain.get("env", []), *env]}
        if cwd:
            plain["cwd"] = cwd
        if no_new_privs:
            plain["noNewPrivileges"] = True
    if apparmor:
        plain["apparmorProfile"] = apparmor
    if process_label:
        plain["selinuxLabel"] = process_label
    console: int | Attending = -1
    attended = None
    if console_socket:
        from veloci.kernel import tty as terminals

        console = terminals.connect(console_socket)
    elif plain["terminal"] and not detach:
        from veloci.cli.oci.terminal import Console

        attended = Console()
        place = attended.socket, attended.size
        console = lambda: place  # noqa: E731
    pid = container.exec(plain, console=console, preserve_fds=preserve_fds, cgroup=cgroup, ignore_paused=ignore_paused)
    _tell(container, pid, plain)
    write_pid(pid_file, pid)
    send_pidfd(pidfd_socket, pid)
    if detach:
        return 0
    return attended.attend(pid) if attended else wait(pid)


def _tell(container: Container, pid: int, plain: dict[str, Any]) -> None:
    """What has been done on the way to the process, and what could not be."""
    for message in container.warnings:
        warn(message)
    if not chosen("debug"):
        return
    debug(f"nsexec container setup: process {pid} in the container's namespaces")
    if initial := (plain.get("execCPUAffinity") or {}).get("initial"):
        from veloci.runtime.identity import processors

        debug(f"nsexec[{pid}]: affinity: {sum(1 << each for each in processors(initial, '')):#x}")
    debug("child process in init(): all steps of its plan done", f"setns_init: about to exec {plain['args'][0]}")


def _read(file: str) -> dict[str, Any]:
    """A process as JSON. Raises InvalidInput."""
    from veloci.spec.document import loads

    try:
        with open(file, "rb") as stream:
            plain = loads(stream.read())
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}", where="--process") from None
    except ValueError as error:
        raise InvalidInput(f"{file}: not JSON: {error}", where="--process") from None
    if not isinstance(plain, dict):
        raise InvalidInput(f"{file}: expected an object, got {plain!r}", where="--process")
    return plain


def _like(container: Container, user: str, additional_gids: tuple[str, ...], cap: tuple[str, ...]) -> dict[str, Any]:
    """The container's own process as plain values, with what differs in who it is."""
    from veloci.spec.document import loads

    document = loads(container.directory.read("config.json"))  # checked when the container was made
    plain: dict[str, Any] = {name: value for name, value in document["process"].items() if value is not None}
    if user:
        uid, _, gid = user.partition(":")
        if not _number(uid) or (gid and not _number(gid)):
            raise InvalidInput(f"{user!r} is not UID[:GID]", where="--user")
        own = plain.get("user") or {}
        plain["user"] = {**own, "uid": int(uid), "gid": int(gid or own.get("gid") or 0)}
    if additional_gids:
        for gid in additional_gids:
            if not _number(gid):
                raise InvalidInput(f"{gid!r} is not a number", where="--additional-gids")
        own = plain.setdefault("user", {"uid": 0, "gid": 0})
        own["additionalGids"] = [*(own.get("additionalGids") or []), *map(int, additional_gids)]
    if cap:
        sets = plain.setdefault("capabilities", {})
        more = ("ambient",) if sets.get("inheritable") else ()  # none is ambient that is not inheritable
        for name in ("bounding", "effective", "permitted", *more):
            sets[name] = [*(sets.get(name) or []), *cap]
    return plain


def _number(text: str) -> bool:
    """Whether it is a number in decimal digits; what is out of range is refused as config.json's."""
    return text.isascii() and text.isdecimal()
