"""A container made again of the images that a checkpoint left.

CRIU is started in a mount namespace of its own, in which the root file system is a mount as CRIU wants it, and in
which the places that mounts go to have been made, in the root and in what is mounted there. All that ends with it.
"""

from __future__ import annotations

import os

from veloci.errors import HostError, InvalidInput, Unsupported, VelociError
from veloci.kernel import mount as m
from veloci.kernel import process as p
from veloci.kernel.files import make_directory_in_root, make_file_in_root
from veloci.runtime import quick, starting
from veloci.runtime.container import ROOT, Container
from veloci.runtime.criu import rpc
from veloci.runtime.criu.checkpoint import DESCRIPTORS, bound, configuration, key, plain
from veloci.runtime.criu.service import FIRST, Service, check, explained
from veloci.runtime.mounts import within
from veloci.runtime.rootfs import NODE
from veloci.runtime.state import Directory, process
from veloci.spec.document import Document, dumps, loads
from veloci.spec.runtime import Config, Mount, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.runtime.container import Stdio
    from veloci.runtime.criu.options import Images
    from veloci.runtime.notify import Notify

_LOG = "restore.log"
_ROOT = "criu-root"  # in the state directory, where the root file system is mounted for CRIU


class Labels(Document):
    """What `restore` alone tells CRIU.

    --lsm-profile TYPE:NAME      the security profile it is to have, instead of that which it had
    --lsm-mount-context CONTEXT  the SELinux context of its mounts, instead of that which they had
    """

    lsm_profile: str = ""
    lsm_mount_context: str = ""


def restore(
    id: str,
    bundle: str,
    images: Images,
    labels: Labels,
    *,
    root: str = ROOT,
    stdio: Stdio | None = None,
    console: int | Callable[[], int] = -1,
    program: str = "criu",
    systemd: bool = False,
    rootless: bool = False,
    notify: Notify | None = None,
) -> Container:
    """Make the container `id` of `images` and the bundle; it runs when this returns, as a child of this process.

    root, stdio, console, systemd, rootless, notify: as Container.create's. program: CRIU.
    On failure nothing of it is left. Raises what Container.create does, Unsupported, and VelociError from CRIU.
    """
    request = images.request() | {"evasive_devices": True, "rst_sibling": True, "orphan_pts_master": True}
    request |= {name: value for name, value in labels.plain().items() if value}
    _, config, raw, saved = starting.prepare(
        id,
        bundle,
        None,
        console=callable(console) or console >= 0,
        pivot=True,
        keyring=True,
        systemd=systemd,
        rootless=rootless,
        mounts=(notify.mount(f"{root}/{id}"),) if notify else (),
    )
    check(program, ["lazy_pages"] * images.lazy_pages)
    container = Container(Directory(root, id), saved, root)
    container.group.check()
    container.directory.create()
    try:
        container.directory.save(saved)
        container.directory.write("config.json", raw)
        if notify:
            notify.make(container.directory.path, listen=False)
        _Restoring(container, config, images, console).run(program, request, stdio)
    except BaseException:
        container._discard(config.hooks)
        raise
    return container


class _Restoring:
    """One restore: what CRIU is told, and what is done when it asks."""

    def __init__(self, container: Container, config: Config, images: Images, console: int | Callable[[], int]) -> None:
        self.container, self.config, self.images, self.console = container, config, images, console
        self.opened: list[int] = []
        self.files: list[int] = []  # those of them that CRIU gets
        directory = os.path.realpath(container.directory.path)
        self.place, self.null = f"{directory}/{_ROOT}", f"{directory}/null"

    def run(self, program: str, request: dict[str, object], stdio: Stdio | None) -> None:
        """Have CRIU do it."""
        try:
            if self.images.work_path:
                os.makedirs(self.images.work_path, 0o700, exist_ok=True)
            request |= {
                "root": self.place,
                "log_level": 4,
                "log_file": _LOG,
                "notify_scripts": True,
                "config_file": configuration(self.config),
            }
            request["ext_mnt"] = [{"key": key, "val": value} for key, value in self._mounted().items()]
            request["inherit_fd"], request["join_ns"] = self._pipes(), []
            self._namespaces(request)
            os.mkdir(self.place, 0o700)
            self.container.directory.write("null", b"")
            try:
                with Service(program, stdio=stdio, files=self.files, prepare=self.prepare) as service:
                    self._group(service.pid)
                    request["cg_root"] = _groups(service.pid)
                    request |= dict(zip(("images_dir_fd", "work_dir_fd"), service.given, strict=False))
                    service.ask({"type": rpc.RESTORE, "opts": request}, self.notified)
                    service.end()
            finally:
                os.rmdir(self.place)
                os.unlink(self.null)
        except VelociError as error:
            raise explained(error, self.images.work_path or self.images.directory, _LOG) from None
        finally:
            for descriptor in self.opened:
                os.close(descriptor)

    def _mounted(self) -> dict[str, str]:
        """Name in the images -> where on the host what is mounted comes from."""
        found = bound(self.config, self.container)
        return found | {"/dev/null": self.null} if self.config.linux.masked_paths else found

    def _pipes(self) -> list[dict[str, object]]:
        """Those of 0, 1 and 2 that were pipes, which ours take the place of. Raises InvalidInput."""
        path = f"{self.images.directory}/{DESCRIPTORS}"
        try:
            with open(path, "rb") as file:
                names = loads(file.read())
        except OSError as error:
            raise HostError(f"open {path}", error) from error
        except ValueError as error:
            raise InvalidInput(f"{path}: not JSON: {error}") from None
        if not isinstance(names, list) or len(names) > 3 or not all(isinstance(name, str) for name in names):
            raise InvalidInput(f"{path}: expected three texts")
        return [{"key": name, "fd": number} for number, name in enumerate(names) if "pipe:" in name]

    def _namespaces(self, request: dict[str, object]) -> None:
        """Those that exist: CRIU gets a network or pid namespace as a descriptor, and joins the others itself."""
        inherit, join = request["inherit_fd"], request["join_ns"]
        assert isinstance(inherit, list)
        assert isinstance(join, list)
        for index, namespace in enumerate(self.config.linux.namespaces):
            where = f"config.json: $.linux.namespaces[{index}]"
            kind = {"network": "net", "mount": "mnt"}.get(namespace.type, namespace.type)
            if not namespace.path:
                continue
            if kind == "cgroup":
                raise Unsupported("CRIU cannot join a cgroup namespace", where=where)
            if kind not in ("net", "pid"):
                join.append({"ns": kind, "ns_file": namespace.path})
                continue
            try:
                descriptor = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise HostError(f"open {namespace.path}", error, where=f"{where}.path") from error
            self.opened.append(descriptor)
            inherit.append({"key": key(kind), "fd": FIRST + len(self.files)})
            self.files.append(descriptor)

    def _group(self, pid: int) -> None:
        """Make the control group and the class of service, and have CRIU restore from within them."""
        group = self.container.group
        resources = self.config.linux.resources or Resources()
        descriptor = group.open()
        if descriptor >= 0:
            os.close(descriptor)
        group.begin(pid, resources, self.config.annotations)
        group.add(pid)
        if group.places:
            group.apply(resources, devices=os.geteuid() == 0)
        if self.config.linux.intel_rdt:
            from veloci.runtime import rdt

            rdt.make(self.config.linux.intel_rdt, self.container.saved.classes, pid)

    def prepare(self) -> list[int]:
        """In CRIU's process: a mount namespace of its own with the root where CRIU is told, and the places in it.

        Returns the directories it works in, opened in that namespace: it mounts there.
        """
        p.unshare(p.CLONE_NEWNS)
        m.mount("", "/", flags=m.MS_SLAVE | m.MS_REC)
        # What hides files: CRIU mounts it as it finds it, whatever it was in the images.
        tree = m.open_tree(m.AT_FDCWD, "/dev/null")
        m.mount_setattr(tree, set=NODE)
        m.move_mount(tree, self.null)
        os.close(tree)
        self._attach()
        root = os.open(self.place, os.O_PATH | os.O_CLOEXEC)
        for index, mount in enumerate(self.config.mounts):
            try:
                self._target(root, mount)
            except OSError as error:
                raise HostError(f"make {mount.destination}", error, where=f"config.json: $.mounts[{index}]") from error
        os.close(root)
        # What was mounted to make places in it goes: CRIU mounts it.
        m.umount(self.place, m.MNT_DETACH)
        self._attach()
        directories = filter(None, (self.images.directory, self.images.work_path))
        return [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in directories]

    def _attach(self) -> None:
        tree = m.open_tree(m.AT_FDCWD, self.container.saved.rootfs, m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
        m.move_mount(tree, self.place)
        os.close(tree)

    def _target(self, root: int, mount: Mount) -> None:
        """Make what a mount stands on, unless that is in a file system which CRIU restores with all that is in it."""
        if mount.type == "cgroup" or "remount" in mount.options or self._inside(mount):
            return
        if mount.type != "bind" and not {"bind", "rbind"} & {*mount.options}:
            os.close(make_directory_in_root(root, self._place(mount)))
            return
        source = mount.source if mount.source.startswith("/") else f"{self.container.saved.bundle}/{mount.source}"
        tree = m.open_tree(m.AT_FDCWD, source, m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
        make = make_directory_in_root if os.fstat(tree).st_mode & 0o170000 == 0o040000 else make_file_in_root
        place = make(root, self._place(mount))
        m.move_mount(tree, place)
        os.close(place)
        os.close(tree)

    def _place(self, mount: Mount) -> str:
        return within(mount.destination, self.container.saved.rootfs) or mount.destination

    def _inside(self, mount: Mount) -> bool:
        path = plain(self._place(mount))
        for other in self.config.mounts:
            made = other.type != "bind" and not {"bind", "rbind"} & {*other.options}
            if made and path.startswith(plain(self._place(other)).rstrip("/") + "/"):
                return True
        return False

    def notified(self, response: rpc.Response, descriptors: list[int]) -> None:
        """Do what belongs to the moment that CRIU tells of."""
        try:
            if response.script == "setup-namespaces":
                if any(each.type == "network" and not each.path for each in self.config.linux.namespaces):
                    _loopback(response.pid)
                self._hooks(response.pid)
            elif response.script == "post-restore":
                self._restored(response.pid)
            elif response.script == "orphan-pts-master" and descriptors:
                from veloci.kernel import tty

                console = self.console() if callable(self.console) else self.console
                if console >= 0:
                    tty.send(console, descriptors[0], "/dev/ptmx")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _hooks(self, pid: int) -> None:
        hooks = self.config.hooks
        if hooks:
            from veloci.runtime import hooks as running

            state = dumps({**self.container.state(), "status": "created", "pid": pid})
            running.run("prestart", hooks.prestart, state)
            running.run("createRuntime", hooks.create_runtime, state)

    def _restored(self, pid: int) -> None:
        container = self.container
        container.saved = container.saved.replace(pid=pid, started=process(pid)[1], stdio=starting.stdio(None))
        container.directory.save(container.saved)
        if text := quick.text(container, self.config):
            container.directory.write("quick", text)


def _loopback(pid: int) -> None:
    """Bring up `lo` in the network namespace of process `pid`, which CRIU has made empty. Raises HostError."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        p.setns(namespace, p.CLONE_NEWNET)
        try:
            p.bring_up("lo")
        finally:
            p.setns(home, p.CLONE_NEWNET)
    except OSError as error:
        raise HostError("bring up lo", error, where="config.json: $.linux.namespaces") from error
    finally:
        os.close(home)
        os.close(namespace)


def _groups(pid: int) -> list[dict[str, str]]:
    """The control groups of process `pid`, as CRIU is told of them."""
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return [{"ctrl": controllers, "path": path} for _, controllers, path in lines]
