"""`create` and `run`."""

from __future__ import annotations

import posix

from veloci.cli.oci.main import chosen, debug, root, rootless, warn
from veloci.cli.oci.process import send_pidfd, wait, write_pid
from veloci.errors import InvalidInput
from veloci.runtime.container import Container
from veloci.spec.document import Document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.cli.oci.terminal import Console
    from veloci.runtime.container import Attending
    from veloci.runtime.notify import Notify


class Making(Document):
    """How a container is made.

    -b, --bundle DIR        the bundle; the current directory by default
    --console-socket PATH   the AF_UNIX socket that gets the terminal
    --pid-file FILE         write the process's pid here
    --pidfd-socket PATH     the AF_UNIX socket that gets a descriptor of the process
    --no-pivot              do not use pivot_root
    --no-new-keyring        keep the caller's session keyring
    --preserve-fds N        keep N more descriptors than stdio
    """

    bundle: str = "."
    console_socket: str = ""
    pid_file: str = ""
    pidfd_socket: str = ""
    no_pivot: bool = False
    no_new_keyring: bool = False
    preserve_fds: int = 0


def _create(
    id: str, making: Making, terminal: str | Attending, notify: Notify | None, *, start: bool = False
) -> Container:
    """Make it. terminal: the path of the socket that gets its terminal, or what gives one if it has a terminal."""
    console: int | Attending = terminal if callable(terminal) else -1
    if isinstance(terminal, str) and terminal:
        from veloci.kernel import tty

        console = tty.connect(terminal)
    listening = _listening()
    environment = [f"LISTEN_FDS={listening}", "LISTEN_PID=1"] if listening else []
    if notify:
        from veloci.runtime.notify import ENVIRONMENT

        environment.append(ENVIRONMENT)
    container = Container.create(
        id,
        making.bundle,
        root=root(),
        console=console,
        no_pivot=making.no_pivot,
        no_new_keyring=making.no_new_keyring,
        preserve_fds=listening + making.preserve_fds,
        environment=environment,
        start=start,
        systemd=chosen("systemd-cgroup"),
        rootless=rootless(),
        notify=notify,
    )
    for message in container.warnings:
        warn(message)
    if chosen("debug") and (seccomp := container.config().linux.seccomp):
        from veloci.runtime.filters import flags

        debug(f"seccomp filter flags: {flags(seccomp)}")
    debug(
        f"nsexec container setup: process {container.saved.pid} in its namespaces",
        "child process in init(): all steps of its plan done",
        "init: closing the pipe to signal completion",
    )
    try:
        write_pid(making.pid_file, container.saved.pid)
        send_pidfd(making.pidfd_socket, container.saved.pid)
    except BaseException:
        container.delete(force=True)
        raise
    return container


def notifying() -> Notify | None:
    """The way to the service manager that started us — sd_notify(3)."""
    host = posix.environ.get(b"NOTIFY_SOCKET", b"")
    if not host:
        return None
    from veloci.runtime.notify import Notify

    return Notify(host.decode(errors="surrogateescape"))


def _listening() -> int:
    """How many sockets a service manager hands over from descriptor 3 on — sd_listen_fds(3): none meant for another."""
    if posix.environ.get(b"LISTEN_PID", b"") != str(posix.getpid()).encode():
        return 0
    text = posix.environ.get(b"LISTEN_FDS", b"").decode(errors="replace") or "0"
    if not (text.isascii() and text.isdecimal()):
        raise InvalidInput(f"{text!r} is not a number", where="LISTEN_FDS")
    return int(text)


def create(id: str, /, *, making: Making) -> int:
    """Create a container; it waits for its start."""
    _create(id, making, making.console_socket, notifying())
    return 0


def run(id: str, /, *, making: Making, detach: bool = False, keep: bool = False, no_subreaper: bool = False) -> int:
    """Create a container and start it.

    -d, --detach            do not wait for its end
    --keep                  do not delete it after its end
    --no-subreaper          do not become the parent of what it leaves
    """
    from veloci.kernel.process import PR_SET_CHILD_SUBREAPER, prctl

    if making.console_socket and not detach:
        raise InvalidInput("cannot use console socket if veloci-runtime will not detach or allocate tty")
    if not detach and not no_subreaper:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    attended: list[Console] = []

    def console() -> tuple[int, tuple[int, int]]:
        from veloci.cli.oci.terminal import Console

        attended.append(Console())
        return attended[0].socket, attended[0].size

    notify = notifying()
    container = _create(id, making, making.console_socket if detach else console, notify, start=True)
    if detach:
        if notify:
            notify.forward(container.saved.pid)
        return 0
    if notify:
        notify.attend()
    import fcntl  # noqa: F401 -- which the deletion needs, while the container runs

    pid = container.saved.pid
    status = attended[0].attend(pid) if attended else wait(pid)
    if not keep:
        container.delete(force=True)
    return status
