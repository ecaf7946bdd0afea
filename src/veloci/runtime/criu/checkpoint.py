"""A container that runs, as images that CRIU can make it again of."""

from __future__ import annotations

import os

from veloci.errors import Conflict, HostError, InvalidInput, Unsupported, VelociError
from veloci.runtime.criu import rpc
from veloci.runtime.criu.service import Service, check, explained
from veloci.spec.document import Document, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.runtime.container import Container
    from veloci.runtime.criu.options import Images
    from veloci.spec.runtime import Config

_LOG = "dump.log"
DESCRIPTORS = "descriptors.json"  # beside the images: what the first process's 0, 1 and 2 were


class Dump(Document):
    """What `checkpoint` alone takes.

    --parent-path DIR        the images of an earlier --pre-dump, relative to --image-path
    --leave-running          let it go on
    --tcp-skip-in-flight     without TCP connections that are being made
    --link-remap             link files that have no name any more back into a directory
    --status-fd N            gets a zero byte when the pages of --lazy-pages can be fetched
    --page-server HOST:PORT  where memory goes to, or with --lazy-pages comes from
    --pre-dump               memory alone, to have less to write later; it goes on
    """

    parent_path: str = ""
    leave_running: bool = False
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    status_fd: int = -1
    page_server: str = ""
    pre_dump: bool = False


def checkpoint(container: Container, images: Images, dump: Dump, *, program: str = "criu") -> None:
    """Write the images; without `leave_running` and `pre_dump` the container is then gone.

    program: CRIU. Raises Conflict if it does not run, InvalidInput, Unsupported, HostError, VelociError from CRIU.
    """
    status = container.status
    if status not in ("running", "paused"):
        raise Conflict(f"Container cannot be checkpointed in {status} state")
    request = images.request() | _dumped(dump)
    _parent(images, dump)
    check(program, _features(images, dump))
    config = container.config()
    opened: list[int] = []
    try:
        request |= {"images_dir_fd": _directory(images.directory, opened), "log_level": 4, "log_file": _LOG}
        if images.work_path:
            request["work_dir_fd"] = _directory(images.work_path, opened)
        request |= {"root": container.saved.rootfs, "pid": container.saved.pid, "notify_scripts": True}
        request |= {"config_file": configuration(config), "orphan_pts_master": True}
        request["external"] = external(config)
        if freezer := container.group.places.get("freezer") or container.group.places.get(""):
            request["freeze_cgroup"] = freezer
        if not dump.pre_dump:
            request["ext_mnt"] = _outside(container, config)
            _write(images, dumps(list(container.saved.stdio)))
        _ask(program, {"type": rpc.PRE_DUMP if dump.pre_dump else rpc.DUMP, "opts": request}, dump)
    except VelociError as error:
        raise explained(error, images.work_path or images.directory, _LOG) from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
    if not dump.leave_running and not dump.pre_dump:
        container.delete(force=True)


def configuration(config: Config) -> str:
    """CRIU's configuration file for this container: runC's, for who has one; "" is none."""
    return config.annotations.get("org.criu.config", "/etc/criu/runc.conf")


def key(kind: str) -> str:
    """What an existing namespace of `kind` ("net", "pid") is called in the images."""
    return f"extRoot{kind.capitalize()}NS"


def external(config: Config) -> list[str]:
    """The network and pid namespaces that were there before the container. Raises HostError."""
    found = []
    for index, namespace in enumerate(config.linux.namespaces):
        kind = {"network": "net", "pid": "pid"}.get(namespace.type)
        if kind and namespace.path:
            try:
                number = os.stat(namespace.path).st_ino
            except OSError as error:
                where = f"config.json: $.linux.namespaces[{index}].path"
                raise HostError(f"look at {namespace.path}", error, where=where) from error
            found.append(f"{kind}[{number}]:{key(kind)}")
    return found


def _dumped(dump: Dump) -> dict[str, object]:
    found: dict[str, object] = {
        "leave_running": dump.leave_running,
        "tcp_skip_in_flight": dump.tcp_skip_in_flight,
        "link_remap": dump.link_remap,
    }
    if dump.page_server:
        host, _, port = dump.page_server.rpartition(":")
        if not host or not port:
            raise InvalidInput("Use --page-server ADDRESS:PORT to specify page server", where="--page-server")
        if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise InvalidInput("Invalid port number", where="--page-server")
        found["ps"] = {"address": host.removeprefix("[").removesuffix("]"), "port": int(port)}
    if dump.parent_path:
        found |= {"parent_img": dump.parent_path, "track_mem": True}
    return found


def _parent(images: Images, dump: Dump) -> None:
    if dump.parent_path.startswith("/"):
        raise InvalidInput("--parent-path must be relative")
    if not dump.parent_path:
        return
    _made(images.directory)  # for what it is relative to
    if not os.path.isdir(f"{images.directory}/{dump.parent_path}"):
        raise InvalidInput(f"invalid --parent-path: {images.directory}/{dump.parent_path} is no directory")


def _features(images: Images, dump: Dump) -> list[str]:
    if images.lazy_pages and dump.status_fd >= 0:
        import fcntl

        try:
            writes = fcntl.fcntl(dump.status_fd, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR)
        except OSError as error:
            raise InvalidInput(f"invalid --status-fd argument {dump.status_fd}: {error.strerror}") from None
        if not writes:
            raise InvalidInput(f"invalid --status-fd argument {dump.status_fd}: not writable")
    return ["mem_track"] * dump.pre_dump + ["lazy_pages"] * images.lazy_pages


def _directory(path: str, opened: list[int]) -> int:
    """A descriptor of a directory, which is made if it is not there."""
    _made(path)
    try:
        opened.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        raise HostError(f"open {path}", error) from error
    return opened[-1]


def _made(directory: str) -> None:
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
    except OSError as error:
        raise HostError(f"make {directory}", error) from error


def _outside(container: Container, config: Config) -> list[dict[str, str]]:
    """What is mounted from outside: its place in the container, and its name in the images.

    That name is the destination in config.json, by which `restore` finds the source; of the null devices that hide
    files it is theirs, /dev/null.
    """
    found: list[dict[str, str]] = []
    root = os.open(f"/proc/{container.saved.pid}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        found += [{"key": _real(root, name), "val": name} for name in bound(config, container)]
        hidden = [path for path in config.linux.masked_paths if _is_file(root, path)]
        found += [{"key": path, "val": "/dev/null"} for path in hidden]
    finally:
        os.close(root)
    return found


def bound(config: Config, container: Container) -> dict[str, str]:
    """What the configuration mounts of the host: the places, and where they come from. Raises Unsupported."""
    from veloci.runtime.plan import compile

    # The steps know all that a configuration mounts; cgroups that are not mounts of their own among them.
    found = {}
    saved = container.saved
    for doing, at, arguments in compile(config, saved.bundle, saved.cgroups)["steps"]:
        if doing == "mapped":
            raise Unsupported("CRIU cannot restore a mount with mapped owners", where=f"config.json: {at}")
        if doing in ("bind", "opened"):
            found[plain(str(arguments["target"]))] = str(arguments["source"])
        elif doing == "devices" and arguments["bind"]:
            nodes = arguments["nodes"]
            assert isinstance(nodes, list)
            found |= {path: path for path, kind, *_ in nodes if kind != "p"}
    return found


def plain(path: str) -> str:
    """`path` from the container's root, without what says nothing."""
    return os.path.normpath("/" + path.lstrip("/"))


def _real(root: int, path: str) -> str:
    """`path` beneath `root` without symbolic links, or as it is if nothing is there."""
    from veloci.kernel.files import open_in_root

    try:
        place = open_in_root(root, path, os.O_PATH)
    except OSError:
        return path
    found = os.readlink(f"/proc/self/fd/{place}")
    os.close(place)
    return found


def _is_file(root: int, path: str) -> bool:
    from veloci.kernel.files import open_in_root

    try:
        place = open_in_root(root, path, os.O_PATH)
    except OSError:
        return False
    try:
        return os.fstat(place).st_mode & 0o170000 != 0o040000
    finally:
        os.close(place)


def _write(images: Images, data: bytes) -> None:
    with open(
        f"{images.directory}/{DESCRIPTORS}", "wb", opener=lambda path, flags: os.open(path, flags, 0o600)
    ) as file:
        file.write(data)


def _ask(program: str, request: dict[str, object], dump: Dump) -> None:
    def notified(response: rpc.Response, _: list[int]) -> None:
        if response.script == "status-ready" and dump.status_fd >= 0:
            os.write(dump.status_fd, b"\0")
            os.close(dump.status_fd)

    with Service(program) as service:
        service.ask(request, notified)
        if request["type"] == rpc.DUMP:  # after PRE_DUMP it waits for more, and is let go
            service.end()
