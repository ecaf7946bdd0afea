"""`checkpoint` and `restore`."""

from __future__ import annotations

from veloci.cli.oci.create import notifying
from veloci.cli.oci.main import chosen, load, root, rootless, value
from veloci.cli.oci.process import wait, write_pid
from veloci.errors import InvalidInput
from veloci.runtime.criu import checkpoint as dumping
from veloci.runtime.criu import restore as restoring
from veloci.runtime.criu.checkpoint import Dump  # noqa: TC001 -- an option group, which is read when it is called
from veloci.runtime.criu.options import Images  # noqa: TC001
from veloci.runtime.criu.restore import Labels  # noqa: TC001

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.cli.oci.terminal import Console


def checkpoint(id: str, /, *, images: Images, dump: Dump) -> int:
    """Write what a running container is to files, for `restore`."""
    dumping.checkpoint(load(id), images, dump, program=value("criu", "criu"))
    return 0


def restore(
    id: str,
    /,
    *,
    images: Images,
    labels: Labels,
    bundle: str = ".",
    console_socket: str = "",
    pid_file: str = "",
    detach: bool = False,
    no_subreaper: bool = False,
    no_pivot: bool = False,  # noqa: ARG001 -- CRIU has its own way into the root, which needs no pivot_root
) -> int:
    """Make a container again of the files that `checkpoint` wrote.

    -b, --bundle DIR       the bundle; the current directory by default
    --console-socket PATH  the AF_UNIX socket that gets the terminal
    --pid-file FILE        write the process's pid here
    -d, --detach           do not wait for its end
    --no-subreaper         do not become the parent of what it leaves
    --no-pivot             taken for runC's callers: CRIU does not use pivot_root on a ramdisk either
    """
    from veloci.kernel import tty
    from veloci.kernel.process import PR_SET_CHILD_SUBREAPER, prctl

    if console_socket and not detach:
        raise InvalidInput("cannot use console socket if veloci-runtime will not detach or allocate tty")
    if not detach and not no_subreaper:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    attended: list[Console] = []

    def console() -> int:
        from veloci.cli.oci.terminal import Console

        attended.append(Console())
        return attended[0].socket

    given = tty.connect(console_socket) if console_socket else -1 if detach else console
    container = restoring.restore(
        id,
        bundle,
        images,
        labels,
        root=root(),
        console=given,
        program=value("criu", "criu"),
        systemd=chosen("systemd-cgroup"),
        rootless=rootless(),
        notify=notifying(),
    )
    try:
        write_pid(pid_file, container.saved.pid)
    except BaseException:
        container.delete(force=True)
        raise
    if detach:
        return 0
    pid = container.saved.pid
    status = attended[0].attend(pid) if attended else wait(pid)
    container.delete(force=True)
    return status
