"""Where a build's files are: a directory, standard input, a Git repository, a server; and its Dockerfile.

https://docs.docker.com/build/concepts/context/
"""

from __future__ import annotations

import os
from itertools import chain

from veloci.build.context import LazyTree, Tree, held
from veloci.build.git import Git, repository
from veloci.build.ignore import Ignore
from veloci.errors import HostError, InvalidInput, NotFound
from veloci.kernel.files import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from veloci.build.download import Downloads
    from veloci.build.parts import Progress, Transfers

LARGEST = 16 << 20  # bytes of a Dockerfile
_CHUNK = 1 << 20  # bytes
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Opened:
    """A build's context. raw: the Dockerfile's bytes; name: how messages call it."""

    def __init__(self, tree: Tree, raw: bytes, name: str) -> None:
        self.tree, self.raw, self.name = tree, raw, name


class Contexts:
    """Opens contexts. work: a directory for what is fetched. keep: .git of a repository stays."""

    def __init__(self, work: str, downloads: Downloads, transfers: Transfers, *, agent: str, keep: bool) -> None:
        self.work, self.downloads, self.transfers = work, downloads, transfers
        self.agent, self.keep = agent, keep
        self._count = 0

    def main(self, text: str, file: str) -> Opened:
        """The build's own context, and its Dockerfile `file` ("" is Dockerfile, - is standard input).

        Raises NotFound, InvalidInput, Unavailable, HostError.
        """
        if text == "-" and file == "-":
            raise InvalidInput("can't use stdin for both build context and dockerfile", where="-f")
        wanted = repository(text)
        if wanted is not None:
            tree = self._within(self._checkout(Git(wanted, agent=self.agent)), wanted.directory, text)
        elif text == "-":
            return self._stream(_standard_input(), file, "standard input")
        elif text.startswith(("http://", "https://")):
            found = self.downloads.get(text, self.transfers)
            return self._stream(_file(self.downloads.path(found.digest)), file, text)
        else:
            return self._local(text, file)
        return self._fetched(tree, file, text)

    def _local(self, path: str, file: str) -> Opened:
        tree = opened(path)
        if file == "-":
            tree.ignore = _ignore(tree, "Dockerfile")
            return Opened(tree, _all(_standard_input()), "Dockerfile")
        place = file or os.path.join(path, "Dockerfile")
        name = os.path.relpath(place, path)
        name = place if name.startswith("..") else name
        try:
            with open(place, "rb") as source:
                raw = _all(iter(lambda: source.read(_CHUNK), b""))
        except FileNotFoundError:
            raise NotFound(f"{place} not found", hint="name the Dockerfile by -f FILE") from None
        except IsADirectoryError:
            raise InvalidInput(f"{place} is a directory", hint="name the Dockerfile by -f FILE") from None
        except OSError as error:
            raise HostError(f"read {place}", error) from None
        beside = f"{place}.dockerignore"
        if os.path.isfile(beside):
            with open(beside, "rb") as source:
                tree.ignore = Ignore.read(source.read(LARGEST), name=os.path.basename(beside))
        else:
            tree.ignore = _ignore(tree, "")
        return Opened(tree, raw, name)

    def _stream(self, chunks: Iterator[bytes], file: str, name: str) -> Opened:
        """A tar of a context, compressed or not, or else a Dockerfile without one."""
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= 512:
                break
        whole = chain([head], chunks)
        if not _is_archive(head):
            return Opened(self._made(), _all(whole), "Dockerfile")
        from veloci.layer.apply import apply
        from veloci.layer.stream import decompressed

        tree = self._made()
        apply(decompressed(whole), tree.root, overlay=False)
        return self._fetched(tree, file, name)

    def _fetched(self, tree: Tree, file: str, name: str) -> Opened:
        if file == "-":
            raw, called = _all(_standard_input()), "Dockerfile"
        else:
            called = file or "Dockerfile"
            found = _read(tree, called)
            if found is None:
                raise NotFound(f"{called} not found in {name}", hint="name the Dockerfile by -f FILE")
            raw = found
        tree.ignore = _ignore(tree, called)
        return Opened(tree, raw, called)

    def named(self, name: str, text: str) -> Tree:
        """A further context, of --build-context; a repository or a download is fetched when it is first read."""
        wanted = repository(text)
        if wanted is not None:
            git = Git(wanted, agent=self.agent)
            return LazyTree(lambda: self._within(self._checkout(git), wanted.directory, text).root, name, owners=False)
        if text.startswith(("http://", "https://")):
            return LazyTree(lambda: self._downloaded(text), name, owners=False)
        tree = opened(text, name)
        tree.ignore = _ignore(tree, "")
        return tree

    def _downloaded(self, url: str) -> int:
        """A server's archive unpacked, or its file."""
        found = self.downloads.get(url, self.transfers)
        path = self.downloads.path(found.digest)
        tree = self._made()
        with open(path, "rb") as file:
            archive = _is_archive(file.read(512))
        if archive:
            from veloci.layer.apply import apply
            from veloci.layer.stream import decompressed

            apply(decompressed(_file(path)), tree.root, overlay=False)
        else:
            _copy(path, tree.root, found.name)
        return tree.root

    def _checkout(self, git: Git) -> Tree:
        tree = self._made()
        git.checkout(os.readlink(f"/proc/self/fd/{tree.root}"), keep=self.keep, told=lambda _text: None)
        return tree

    def _within(self, tree: Tree, directory: str, name: str) -> Tree:
        if not directory:
            return tree
        try:
            return Tree(open_in_root(tree.root, directory, _DIRECTORY), name="the build context")
        except OSError as error:
            raise HostError(f"{directory} in {name}", error) from None
        finally:
            tree.close()

    def _made(self) -> Tree:
        self._count += 1
        path = f"{self.work}/context-{self._count}"
        os.mkdir(path, 0o755)
        return Tree(os.open(path, _DIRECTORY), name="the build context")


class Late:
    """Shows the fetching of a context as a step, which begins when there is something to fetch."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._steps: dict[str, int] = {}

    def start(self, key: str, text: str, total: int | None = None) -> None:
        """See build.parts.Transfers."""
        self._steps[key] = self._progress.start(f"[internal] load remote build context {key}")
        self._progress.transfers(self._steps[key]).start(key, text, total)

    def advance(self, key: str, count: int) -> None:
        """See build.parts.Transfers."""
        self._progress.transfers(self._steps[key]).advance(key, count)

    def done(self, key: str, text: str) -> None:
        """See build.parts.Transfers."""
        self._progress.transfers(self._steps[key]).done(key, text)
        self._progress.done(self._steps[key], 0.0)


def opened(path: str, name: str = "the build context") -> Tree:
    """A directory on the host. Raises NotFound, InvalidInput when it is none."""
    try:
        return Tree(os.open(path, _DIRECTORY), name=name)
    except NotADirectoryError:
        raise InvalidInput(f"build context {path!r} is not a directory") from None
    except FileNotFoundError:
        raise NotFound(f"build context {path!r} not found") from None
    except OSError as error:
        raise HostError(f"open build context {path!r}", error) from None


def _ignore(tree: Tree, dockerfile: str) -> Ignore:
    """The rules of `<Dockerfile>.dockerignore` in the tree, else of its .dockerignore."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore") if dockerfile else (".dockerignore",):
        raw = _read(tree, name)
        if raw is not None:
            return Ignore.read(raw, name=name)
    return Ignore()


def _read(tree: Tree, name: str) -> bytes | None:
    """A file of the tree; None if there is none. Raises InvalidInput for a larger one than a text should be."""
    try:
        file = open_in_root(tree.root, name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with held(file):
        return _all(iter(lambda: os.read(file, _CHUNK), b""))


def _is_archive(head: bytes) -> bool:
    from veloci.layer.stream import detect

    return bool(detect(head)) or head[257:262] == b"ustar"


def _standard_input() -> Iterator[bytes]:
    while chunk := os.read(0, _CHUNK):
        yield chunk


def _file(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _all(chunks: Iterable[bytes]) -> bytes:
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > LARGEST:
            raise InvalidInput(f"a Dockerfile or an ignore file of more than {LARGEST} bytes")
    return data


def _copy(path: str, directory: int, name: str) -> None:
    with open(path, "rb") as source, held(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=directory)) as copy:
        while os.sendfile(copy, source.fileno(), None, _CHUNK):
            pass
