"""Volumes: directories that outlive containers.

data()/volumes/NAME/    volume.json    what it is
                        _data/         what is in it
                        users/ID       an empty file for each container that has it, running or not
                        fill/          what is on its way from an image into _data/, whole once it has this name
data()/volumes/.lock    held while volumes appear, get users, lose them and go

A user whose container is gone is none: so a killed command leaves no volume that cannot be removed.
"""

from __future__ import annotations

import os
from errno import ENOENT, ENOTDIR
from time import time_ns

from veloci.bundle.values import volume_name
from veloci.errors import Conflict, InvalidInput, NotFound, Unsupported, VelociError
from veloci.monitor import state
from veloci.monitor.events import note
from veloci.spec.document import Document, Wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from veloci.engine.engine import Engine

_NEW, _GONE = ".new-", ".gone-"  # of what is being made, of what is being removed


class Volume(Document):
    """volume.json. created: nanoseconds since 1970. anonymous: the user gave it no name."""

    name: str
    created: int
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    anonymous: bool = False


class Volumes:
    """The volumes of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.root, self._containers = f"{engine.root}/volumes", f"{engine.root}/containers"
        self._run_root = engine.run_root

    # --- the volumes

    def create(
        self,
        name: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        user: str = "",
    ) -> Volume:
        """Make a volume, or take the one that is there. "": an anonymous one, named by 64 hexadecimal digits.

        options: of docker's driver `local`; type=none, o=bind and device=DIR make it another name of a directory.
        user: the ID of a container that has it from now on.
        Raises InvalidInput, Unsupported, Conflict if it is there with other options.
        """
        if name:
            volume_name(name)
        chosen = dict(options or {})
        if chosen:
            _check_options(chosen)
        with _Lock(self.root):
            found = self._read(name) if name else None
            if found is None:
                found = Volume(
                    name=name or os.urandom(32).hex(),
                    created=time_ns(),
                    labels=dict(labels or {}),
                    options=chosen,
                    anonymous=not name,
                )
                self._make(found)
                self._tell("create", found.name)
            elif chosen and chosen != found.options:
                raise Conflict(f"volume {name} exists with other options", hint=f"veloci volume rm {name}")
            if user:
                with open(f"{self._home(found.name)}/users/{user}", "wb"):
                    pass
        return found

    def _make(self, volume: Volume) -> None:
        """Its directory, which appears whole."""
        new = f"{self.root}/{_NEW}{os.urandom(6).hex()}"
        os.makedirs(f"{new}/users", 0o700)
        os.mkdir(f"{new}/_data")
        os.chmod(f"{new}/_data", 0o755)  # noqa: S103 -- as docker's, whatever the umask
        state.write(f"{new}/volume.json", volume.plain())
        os.rename(new, self._home(volume.name))

    def get(self, name: str) -> Volume:
        """The volume of that name. Raises NotFound, VelociError if its file is damaged."""
        found = self._read(name) if name and not {"/", "\0"} & {*name} and name[0] != "." else None
        if found is None:
            raise NotFound(f"no such volume: {name}", hint="veloci volume ls")
        return found

    def all(self) -> list[Volume]:
        """Every volume, by name; of one whose file is damaged nothing else is known."""
        found = []
        for name in self._names():
            try:
                volume = self._read(name)
            except VelociError:
                volume = Volume(name=name, created=0)
            if volume is not None:
                found.append(volume)
        return found

    def described(self, name: str) -> dict[str, Any]:
        """The volume of that name in the shape of docker's API. Raises NotFound."""
        from time import gmtime, strftime

        volume = self.get(name)
        return {
            "CreatedAt": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(volume.created // 10**9)),
            "Driver": "local",
            "Labels": dict(volume.labels) or None,
            "Mountpoint": self.place(volume),
            "Name": volume.name,
            "Options": dict(volume.options) or None,
            "Scope": "local",
        }

    def place(self, volume: Volume) -> str:
        """The directory of what is in it."""
        return volume.options.get("device", "") or f"{self._home(volume.name)}/_data"

    def size(self, volume: Volume) -> int:
        """Bytes on the disk of what is in it; of a directory elsewhere 0."""
        from veloci.layer.tree import used

        directory = os.open(f"{self._home(volume.name)}/_data", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return used(directory)
        finally:
            os.close(directory)

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.root) if not name.startswith("."))
        except FileNotFoundError:
            return []

    def _home(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _read(self, name: str) -> Volume | None:
        path = f"{self._home(name)}/volume.json"
        try:
            value = state.read(path)
            return None if value is None else Volume.convert(value)
        except Wrong as error:
            raise state.damaged(path, f"${error.path}: {error}") from None

    # --- who has them

    def users(self, name: str) -> list[str]:
        """The IDs of the containers that have it."""
        try:
            found = os.listdir(f"{self._home(name)}/users")
        except FileNotFoundError:
            return []
        return sorted(id for id in found if os.path.isdir(f"{self._containers}/{id}"))

    def release(self, name: str, user: str, *, remove: bool = False) -> None:
        """A container has it no longer. remove: it goes, if this was the last one."""
        with _Lock(self.root):
            volume = self._read(name)
            if os.path.exists(mine := f"{self._home(name)}/users/{user}"):
                os.unlink(mine)
            if volume is None or not remove or self.users(name):
                return
            grave = self._bury(name)
        self._discard(grave)
        self._tell("destroy", name)

    def remove(self, name: str) -> None:
        """Remove a volume. Raises NotFound, Conflict if a container has it."""
        with _Lock(self.root):
            if not os.path.isdir(self._home(name)) or name[:1] in ("", ".") or "/" in name:
                raise NotFound(f"no such volume: {name}", hint="veloci volume ls")
            if users := self.users(name):
                raise Conflict(
                    f"volume {name} is in use by {', '.join(id[:12] for id in users)}",
                    hint=f"veloci rm {users[0][:12]}",
                )
            grave = self._bury(name)
        self._discard(grave)
        self._tell("destroy", name)

    def prune(self, wanted: Callable[[Volume], bool]) -> tuple[list[str], int]:
        """Remove the volumes that no container has and that are `wanted`. Returns their names, and the bytes freed."""
        gone, freed = [], 0
        for volume in self.all():
            if not wanted(volume) or self.users(volume.name):
                continue
            count = self.size(volume)
            try:
                self.remove(volume.name)
            except (Conflict, NotFound):  # another command was quicker
                continue
            gone.append(volume.name)
            freed += count
        self._sweep()
        note(self._run_root, "volume", "prune", "", {"reclaimed": str(freed)})
        return gone, freed

    def _tell(self, action: str, name: str) -> None:
        note(self._run_root, "volume", action, name, {"driver": "local"})

    def _bury(self, name: str) -> str:
        """Take a volume out of sight, in one step. The lock is held."""
        grave = f"{_GONE}{os.urandom(6).hex()}"
        os.rename(self._home(name), f"{self.root}/{grave}")
        return grave

    def _discard(self, name: str) -> None:
        from veloci.layer.tree import remove_tree

        parent = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(parent, name.encode())
        finally:
            os.close(parent)

    def _sweep(self) -> None:
        """Remove what killed commands left."""
        with _Lock(self.root):
            for name in os.listdir(self.root):
                if name.startswith((_NEW, _GONE)):
                    self._discard(name)

    # --- what is in them

    def fill(self, volume: Volume, root: int, path: str) -> None:
        """Copy what the image has at `path` beneath `root`, a descriptor, into the volume, if that is empty.

        The directory's owner and mode come along. It appears whole; after a kill the next container's copy does.
        """
        home, place = self._home(volume.name), self.place(volume)
        with _Lock(home):
            if os.path.isdir(f"{home}/fill"):  # a killed command was about to pour it
                _pour(f"{home}/fill", place)
                return
            with os.scandir(place) as entries:
                if any(entries):
                    return
            if volume.options:
                _copy(root, path, place)
                return
            part = f"{home}/.fill-{os.urandom(6).hex()}"
            os.mkdir(part, 0o755)
            if _copy(root, path, part):
                if os.listdir(part):
                    from veloci.kernel.files import sync_tree

                    sync_tree(part)  # what is in it now is never copied anew
                os.rename(part, f"{home}/fill")
                _pour(f"{home}/fill", place)
            else:
                os.rmdir(part)


class _Lock:
    """`with` it: the lock of a directory, which is made if need be."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        from fcntl import LOCK_EX, flock

        os.makedirs(self._directory, 0o700, exist_ok=True)
        self._file = os.open(f"{self._directory}/.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flock(self._file, LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def _copy(root: int, path: str, target: str) -> bool:
    """Copy the directory `path` beneath `root` onto the directory `target`. Returns whether there is one."""
    from veloci.kernel.files import open_in_root
    from veloci.layer.apply import apply
    from veloci.layer.diff import tree

    try:
        source = open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            return False
        raise
    directory = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        apply(tree(source), directory, overlay=False)
        status = os.fstat(source)
        os.fchown(directory, status.st_uid, status.st_gid)
        os.fchmod(directory, status.st_mode & 0o7777)
    finally:
        os.close(source)
        os.close(directory)
    return True


def _pour(source: str, target: str) -> None:
    """Move all that is in `source` into `target`, and give that the owner and mode of `source`, which goes."""
    for name in os.listdir(source):
        os.rename(f"{source}/{name}", f"{target}/{name}")
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, status.st_mode & 0o7777)
    os.rmdir(source)


def _check_options(options: dict[str, str]) -> None:
    """Of docker's driver `local` the mounts that a container can make by itself: a directory's."""
    words = set(options.get("o", "").split(","))
    if not {*options} <= {"type", "o", "device"}:
        word = min({*options} - {"type", "o", "device"})
        raise InvalidInput(f"invalid option: {word!r}", where="--opt", hint="type, o and device")
    if options.get("type", "none") not in ("none", "") or not words & {"bind", "rbind"} or len(words) > 1:
        raise Unsupported(
            "a volume can only be a directory of ours or of the host's",
            where="--opt",
            hint="--opt type=none --opt o=bind --opt device=/DIR, or veloci run --tmpfs",
        )
    device = options.get("device", "")
    if not device.startswith("/") or not os.path.isdir(device):
        raise InvalidInput(f"{device!r} is not a directory", where="--opt device", hint="an absolute path")
