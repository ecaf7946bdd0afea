"""Names of images: one file each in refs/, and index.json after them for other tools.

`docker.io/library/debian:12` is the file `refs/docker.io/library/debian/:12`, which holds the
descriptor. A component of a repository never starts with `:` or `@`, so files and directories
do not collide.
"""

from __future__ import annotations

import os

from veloci.errors import HostError, InvalidInput, NotFound
from veloci.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from veloci.spec.digest import Digest


class Names:
    """The names in the store at directory `root`. A name is str(Reference): registry/repository:tag."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._behind = False  # whether the disk was too full to mark index.json as behind

    def get(self, name: str) -> Descriptor:
        """What `name` stands for. Raises NotFound, InvalidInput for what cannot be a name."""
        try:
            with open(self._path(name), "rb", buffering=0) as file:
                raw = file.read()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"no image is named {name}", hint=f"veloci pull {name}") from None
        return Descriptor.decode(raw, name=self._path(name))

    def set(self, name: str, descriptor: Descriptor) -> None:
        """Let `name` stand for `descriptor`, whatever it stood for before. Raises InvalidInput, HostError."""
        from veloci.content.files import made, replace
        from veloci.content.ingest import lay_out
        from veloci.spec.document import dumps

        path = self._path(name)

        def change() -> None:
            made(os.path.dirname(path))
            replace(self.root, path, dumps(descriptor.plain()))

        made(self.root)
        lay_out(self.root)
        self._changed(name, descriptor, change)

    def remove(self, name: str) -> None:
        """Forget `name`; the content stays until it is collected. Raises NotFound."""
        path = self._path(name)

        def change() -> None:
            os.unlink(path)
            directory = os.path.dirname(path)
            while directory != f"{self.root}/refs":
                try:
                    os.rmdir(directory)
                except OSError:
                    return  # not empty
                directory = os.path.dirname(directory)

        self.get(name)
        self._changed(name, None, change)

    def standing(self, digest: Digest) -> list[str]:
        """The names that stand for a manifest or an index, sorted; what that costs grows little with all others."""
        from veloci.content import index

        raw = b"" if self.is_stale() else self._raw()
        found = index.names(raw, digest) if index.is_ours(raw) else [name for name, _path in self.paths()]
        return sorted(name for name in found if self._stands(name, digest))

    def _stands(self, name: str, digest: Digest) -> bool:
        try:
            return self.get(name).digest == digest
        except NotFound:
            return False  # removed meanwhile

    def all(self, repository: str = "", tag: str = "") -> Iterator[tuple[str, Descriptor]]:
        """Every name and its descriptor, sorted by name; or those of one repository, registry/path, and one tag."""
        for name in [f"{repository}:{tag}"] if tag else [name for name, _path in self.paths(repository)]:
            try:
                yield name, self.get(name)
            except NotFound:
                continue  # removed meanwhile

    def paths(self, repository: str = "") -> list[tuple[str, str]]:
        """Every name and the file that holds its descriptor, sorted; or those of one repository. Raises HostError."""
        base = f"{self.root}/refs"
        found = []
        stack = [repository]
        while stack:
            here = stack.pop()
            directory = f"{base}/{here}" if here else base
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if entry.name[0] in ":@":
                            name = here + entry.name if here else entry.name.lstrip(":")
                            found.append((name.removesuffix(":"), entry.path))
                        elif not repository and entry.is_dir(follow_symlinks=False):
                            stack.append(f"{here}/{entry.name}" if here else entry.name)
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed meanwhile
            except OSError as error:  # never take what could not be read for what is not there
                raise HostError(f"list {directory}", error) from error
        return sorted(found)

    def is_stale(self) -> bool:
        """Whether index.json is behind refs/: right now, or since a command was killed or the disk was full."""
        return self._behind or os.path.exists(f"{self.root}/index.stale")

    def refresh(self) -> None:
        """Write what other tools read, oci-layout and index.json, anew. Raises HostError."""
        from fcntl import LOCK_EX, flock

        from veloci.content.files import made, replace
        from veloci.content.ingest import LAYOUT

        made(self.root)
        lock = os.open(f"{self.root}/index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(lock, LOCK_EX)
            replace(self.root, f"{self.root}/oci-layout", LAYOUT)
            self._index(None)
            self._behind = False
            if self.is_stale():
                os.unlink(f"{self.root}/index.stale")
        except OSError as error:
            raise HostError(f"write {self.root}/index.json", error) from error
        finally:
            os.close(lock)

    def _path(self, name: str) -> str:
        head, slash, last = name.rpartition("/")
        cut = min((at for at in (last.find(":"), last.find("@")) if at >= 0), default=len(last))
        repository, leaf = f"{head}{slash}{last[:cut]}", last[cut:] or ":"
        right = all(part not in ("", ".", "..") and part[0] not in ":@" for part in repository.split("/"))
        if not right or "\0" in name or not name.isascii() or len(leaf) > 240:
            raise InvalidInput(f"{name!r} cannot be a name", hint="registry/repository:tag")
        return f"{self.root}/refs/{repository}/{leaf}"

    def _changed(self, name: str, descriptor: Descriptor | None, change: Callable[[], None]) -> None:
        """Make one change to refs/ and let index.json follow, under the lock.

        index.stale marks the time in between: who finds it after a crash writes the index anew. A name is removed on
        a full disk too, for that makes room; the index then follows with the next change or collection.
        """
        from fcntl import LOCK_EX, flock

        from veloci.blocks import suppress
        from veloci.content.ingest import room

        stale, done = f"{self.root}/index.stale", False
        lock = os.open(f"{self.root}/index.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(lock, LOCK_EX)
            anew = os.path.exists(stale)
            try:
                os.close(os.open(stale, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except OSError as error:
                if descriptor or not room(error):
                    raise
            change()
            done = True
            self._index(None if anew else (name, descriptor))
            with suppress(FileNotFoundError):  # the disk had no room for it before the name went
                os.unlink(stale)
        except FileNotFoundError:
            raise NotFound(f"no image is named {name}") from None
        except OSError as error:
            if descriptor or not done or not room(error):
                raise HostError(f"name {name}", error, hint=room(error)) from error
            self._behind = True
        finally:
            os.close(lock)

    def _index(self, changed: tuple[str, Descriptor | None] | None) -> None:
        """Write index.json: with one entry changed, or from refs/ if None."""
        from veloci.content import index
        from veloci.content.files import replace

        raw = self._raw() if changed else b""
        new = index.changed(raw, *changed) if changed and index.is_ours(raw) else index.index(self.all())
        replace(self.root, f"{self.root}/index.json", new)

    def _raw(self) -> bytes:
        try:
            with open(f"{self.root}/index.json", "rb", buffering=0) as file:
                return file.read()
        except FileNotFoundError:
            return b""
