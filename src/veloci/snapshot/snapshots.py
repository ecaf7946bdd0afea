"""The snapshots in one directory. What a container's start needs is here, and imports almost nothing."""

from __future__ import annotations

import os
from errno import EEXIST, ENOTEMPTY

from veloci.errors import Conflict, HostError, InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
    from typing import Any

    from veloci.content.lease import Lease
    from veloci.content.store import Store
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor

SCRATCH = "scratch"  # the layer that images without layers stand on: nothing


class Snapshots:
    """Layers by chain ID, and what is written upon them by key, under the directory `root`."""

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def driver(self) -> str:
        """How layers that come are kept: see snapshot.drivers. Raises InvalidInput."""
        from veloci.snapshot.drivers import driver

        return driver(self)

    @property
    def copies(self) -> bool:
        """Whether layers are copied for those who write upon them, as there is no overlayfs: the driver `copy`."""
        asked = os.environ.get("VELOCI_SNAPSHOTTER")
        if asked:
            return asked == "copy"
        try:
            with open(f"{self.root}/driver", "rb", buffering=0) as file:
                return file.read() == b"copy\n"
        except FileNotFoundError:
            return self.driver == "copy"

    def copied(self, key: str) -> bool:
        """Whether the writable snapshot is a copy of the layers, not a directory above them."""
        path = self._writable(key)
        return not os.path.exists(f"{path}/work") and os.path.exists(f"{path}/parent")

    def has(self, chain_id: Digest) -> bool:
        """Whether the layer is here, whole, and so all below it. "" always is."""
        return not chain_id or os.path.exists(f"{self.layer(chain_id)}/lowers")

    def layer(self, chain_id: Digest) -> str:
        """Where the layer is or would be."""
        return f"{self.root}/layers/{chain_id.replace(':', '-') or SCRATCH}"

    def unpack(
        self,
        store: Store,
        layers: Sequence[tuple[Descriptor, Digest]],
        *,
        parallel: Callable[..., Iterable[Any]] = map,
        ahead: Callable[[Iterator[bytes]], Generator[bytes]] | None = None,
        progress: Any = None,
    ) -> Digest:
        """Unpack what is missing of `layers` (descriptor and diff ID, base first). Returns the chain ID of all.

        Each appears whole or not at all, once, however many processes ask at the same time.
        parallel: a `map` that may use threads. ahead: gives an iterator whose next items another thread has ready.
        progress: told of each layer, by its first 12 digits.
        Raises NotFound, Corrupt, InvalidInput, Unsupported, HostError.
        """
        from veloci.snapshot.unpack import unpack

        return unpack(self, store, layers, parallel=parallel, ahead=ahead, progress=progress)

    def apply(self, parent: Digest, diff_id: Digest, chunks: Iterable[bytes]) -> Digest:
        """Unpack one layer from its uncompressed tar upon `parent` (or ""). Returns its chain ID.

        Raises Corrupt if `chunks` are not what `diff_id` promises, Unsupported if --snapshotter does not work here.
        """
        from veloci.snapshot.unpack import apply

        return apply(self, parent, diff_id, chunks)

    def prepare(self, key: str, parent: Digest) -> None:
        """Make a writable snapshot `key` (a container's ID, a build's step) upon the layer `parent`, or "" for nothing.

        Raises Conflict if it is there, NotFound if the layer is not.
        """
        from fcntl import LOCK_SH

        temporary = f"{self.root}/ingest/key-{os.getpid()}-{os.urandom(6).hex()}"
        target = self._writable(key)
        layer = self.layer(parent)
        with Lock(self.root, LOCK_SH):
            if not os.path.exists(f"{layer}/lowers"):
                if parent:
                    raise NotFound(f"layer {parent} is not unpacked", hint="pull the image again")
                self._make_scratch()
            made(f"{self.root}/writable")
            made(f"{temporary}/fs")
            os.symlink(f"../../layers/{os.path.basename(layer)}", f"{temporary}/parent")
            if self.copies:
                self.merge(self._lowers(layer, ""), f"{temporary}/fs")
            else:
                os.mkdir(f"{temporary}/work", 0o700)
                _resemble(f"{layer}/fs", f"{temporary}/fs")
            try:
                os.rename(temporary, target)
            except OSError as error:
                self._discard(temporary)
                if error.errno in (EEXIST, ENOTEMPTY):
                    raise Conflict(f"snapshot {key} is in use") from None
                raise HostError(f"prepare snapshot {key}", error) from error

    def mount(self, key: str, owners: int = -1) -> int:
        """A descriptor of a detached mount of the writable snapshot; closing it unmounts it unless it was attached.

        Nothing appears in any mount table. owners: the descriptor of a user namespace whose mapping says whose the
        files are in this mount; the caller is somebody there. Raises NotFound, HostError.
        """
        path = self._writable(key)
        if self.copied(key):
            from veloci.snapshot.copied import attached

            if owners >= 0:
                from veloci.snapshot.overlay import owned

                return owned(f"{path}/fs", owners)
            return attached(f"{path}/fs", writable=True)
        from veloci.snapshot.overlay import mounted

        lowers = self._lowers(f"{path}/parent", f"snapshot {key}")
        return mounted(lowers, f"{path}/fs", f"{path}/work", owners=owners)

    def view(self, chain_id: Digest) -> int:
        """As `mount`, read-only, of layers alone. Raises NotFound, HostError."""
        if not chain_id and not os.path.exists(f"{self.layer('')}/lowers"):
            self._make_scratch()
        lowers = self._lowers(self.layer(chain_id), f"layer {chain_id}")
        return self._whole(self.layer(chain_id), lowers) if self.copies else self.overlaid(lowers)

    def _whole(self, layer: str, lowers: list[str]) -> int:
        """A descriptor of a read-only mount of layers copied together, which is done once."""
        from veloci.snapshot.copied import attached

        if not os.path.exists(f"{layer}/whole"):
            from fcntl import LOCK_SH

            from veloci.kernel.files import sync_tree

            temporary = f"{self.root}/ingest/gone-{os.getpid()}-{os.urandom(6).hex()}"
            with Lock(self.root, LOCK_SH):  # else it might be collected
                made(temporary)
                self.merge(lowers, temporary)
                sync_tree(temporary)  # it is never copied anew
                try:
                    os.rename(temporary, f"{layer}/whole")
                except OSError as error:
                    self._discard(temporary)
                    if error.errno not in (EEXIST, ENOTEMPTY):  # another one made it
                        raise HostError(f"make {layer}/whole", error) from error
        return attached(f"{layer}/whole", writable=False)

    def merge(self, lowers: list[str], target: str) -> None:
        """Copy the layers in `lowers`, top first, to the empty directory `target`. Raises HostError."""
        from veloci.snapshot.copied import merge

        try:
            merge(lowers, target)
        except OSError as error:
            self._discard(target)
            raise HostError(f"copy {len(lowers)} layers", error) from error
        except HostError:
            self._discard(target)
            raise

    def overlaid(self, lowers: list[str], trees: dict[str, int] | None = None) -> int:
        """A descriptor of a detached read-only mount of layers' directories, top first. trees: see overlay.mounted."""
        from veloci.snapshot.overlay import mounted

        bottom = f"{self.root}/layers/{SCRATCH}-bottom/fs"  # overlayfs wants two directories at least
        made(bottom, 0o755)
        return mounted([*lowers, bottom], trees=trees)

    def changes(self, key: str, *, epoch: int | None = None, mount_points: Collection[bytes] = ()) -> Iterator[bytes]:
        """What was written in the snapshot, as an uncompressed layer. epoch: the latest time (s) a file may have.

        mount_points: paths that are left out where they are new and empty. Raises NotFound.
        """
        from veloci.layer.compare import compare
        from veloci.layer.diff import diff

        try:
            upper = os.open(f"{self._writable(key)}/fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"no snapshot {key}") from None
        view = -1
        try:
            view = self.view(self.parent(key))
            lower = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=view)
            try:
                how = compare if self.copied(key) else diff
                yield from how(upper, lower, epoch=epoch, mount_points=mount_points)
            finally:
                os.close(lower)
        finally:
            os.close(upper)
            if view >= 0:
                os.close(view)

    def commit(self, key: str, diff_id: Digest) -> Digest:
        """Turn what was written into the layer `diff_id` upon the snapshot's parent; the key is gone.

        The files are not copied, so nothing may use the snapshot any more. Returns the chain ID.
        """
        from veloci.snapshot.unpack import commit

        return commit(self, key, diff_id)

    def parent(self, key: str) -> Digest:
        """The chain ID of the layer that the snapshot stands on, or "". Raises NotFound."""
        try:
            name = os.path.basename(os.readlink(f"{self._writable(key)}/parent"))
        except FileNotFoundError:
            raise NotFound(f"no snapshot {key}") from None
        return "" if name == SCRATCH else name.replace("-", ":", 1)

    def remove(self, key: str) -> None:
        """Delete a writable snapshot; none there is fine."""
        path = self._writable(key)
        grave = f"{self.root}/ingest/gone-{os.getpid()}-{os.urandom(6).hex()}"
        try:
            os.rename(path, grave)
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
            made(f"{self.root}/ingest")
            os.rename(path, grave)
        self._discard(grave)

    def usage(self, key: str) -> int:
        """Bytes on the disk of what was written in the snapshot. Raises NotFound."""
        from veloci.layer.tree import used

        try:
            directory = os.open(f"{self._writable(key)}/fs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"no snapshot {key}") from None
        try:
            return used(directory)
        finally:
            os.close(directory)

    def keys(self) -> list[str]:
        """The writable snapshots, in no order."""
        try:
            return os.listdir(f"{self.root}/writable")
        except FileNotFoundError:
            return []

    def chain_ids(self) -> list[Digest]:
        """The layers that are here, in no order."""
        try:
            names = os.listdir(f"{self.root}/layers")
        except FileNotFoundError:
            return []
        return [name.replace("-", ":", 1) for name in names if not name.startswith(SCRATCH)]

    def lease(self) -> Lease:
        """What notes the layers that a running command counts on: none of them is removed until it is closed."""
        from veloci.content.lease import Lease

        return Lease(self.root)

    def below(self, chain_id: Digest) -> list[Digest]:
        """The layer and those below it, top first. Raises NotFound."""
        paths = self._lowers(self.layer(chain_id), f"layer {chain_id}") if chain_id else []
        return [path.split("/")[-2].replace("-", ":", 1) for path in paths]

    def size(self, chain_id: Digest) -> int:
        """Bytes on the disk of what the layer itself holds; 0 if it is not here."""
        from veloci.layer.tree import used

        try:
            directory = os.open(self.layer(chain_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            return used(directory)
        except FileNotFoundError:
            return 0  # removed meanwhile
        finally:
            os.close(directory)

    def collect(self, needed: Iterable[Digest]) -> int:
        """Remove every layer but those of the chain IDs `needed`, those below them, those leased, and keys' parents.

        Also what killed commands left. Returns the bytes freed of layers.
        """
        from veloci.snapshot.collect import collect

        return collect(self, needed)

    def directories(self, key: str) -> tuple[str, list[str]]:
        """The directory that has a writable snapshot's `fs` and `work`, and those of the layers below, top first.

        Raises NotFound.
        """
        path = self._writable(key)
        return path, self._lowers(f"{path}/parent", f"snapshot {key}")

    def _writable(self, key: str) -> str:
        if not key or "/" in key or "\0" in key or key[0] == ".":
            raise InvalidInput(f"{key!r} cannot be a snapshot's key")
        return f"{self.root}/writable/{key}"

    def _lowers(self, layer: str, what: str) -> list[str]:
        """The directories of a layer and those below it, top first."""
        try:
            with open(f"{layer}/lowers", "rb", buffering=0) as file:
                names = file.read().decode().split()
        except FileNotFoundError:
            raise NotFound(f"{what} is not here") from None
        return [f"{self.root}/layers/{name}/fs" for name in names]

    def _make_scratch(self) -> None:
        layer = self.layer("")
        made(f"{layer}/fs", 0o755)
        temporary = f"{layer}/{os.getpid()}-{os.urandom(6).hex()}"
        with open(temporary, "x", encoding="ascii") as file:
            file.write(f"{SCRATCH}\n")
            file.flush()
            os.fdatasync(file.fileno())
        os.rename(temporary, f"{layer}/lowers")

    def _discard(self, path: str) -> None:
        """Delete a tree of ours."""
        from veloci.layer.tree import remove_tree

        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(directory, os.path.basename(path).encode())
        finally:
            os.close(directory)


class Lock:
    """`with` it: the lock between those who prepare (LOCK_SH) and those who remove layers (LOCK_EX)."""

    def __init__(self, root: str, how: int) -> None:
        self._root, self._how = root, how

    def __enter__(self) -> None:
        from fcntl import flock

        path = f"{self._root}/lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            made(self._root)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flock(self._file, self._how)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def made(path: str, mode: int = 0o700) -> None:
    """Make the directory `path`, and those above it for us alone."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        pass
    except FileNotFoundError:
        made(os.path.dirname(path))
        made(path, mode)


def _resemble(source: str, copy: str) -> None:
    """Give the directory `copy` the owner, mode, time and attributes of `source`: overlayfs shows the upper one's."""
    status = os.stat(source)
    if os.geteuid() == 0:
        os.chown(copy, status.st_uid, status.st_gid)
    os.chmod(copy, status.st_mode & 0o7777)
    for key in os.listxattr(source):
        if not key.startswith(("trusted.overlay.", "user.overlay.", "security.selinux")):
            os.setxattr(copy, key, os.getxattr(source, key))
    os.utime(copy, ns=(status.st_mtime_ns, status.st_mtime_ns))
