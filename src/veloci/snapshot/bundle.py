"""Layers to a plain tree that belongs to whoever asked: the `rootfs` of a bundle, without overlayfs."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager

from veloci.content.files import sync_names
from veloci.errors import Conflict, HostError, NotFound
from veloci.kernel.files import sync_filesystem
from veloci.layer.apply import apply
from veloci.layer.stream import Verified, decompressed
from veloci.layer.tree import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager

    from veloci.layer.owners import Owners
    from veloci.spec.digest import Digest


def bundle(
    target: str,
    layers: Iterable[tuple[AbstractContextManager[Iterable[bytes]], Digest]],
    *,
    owners: Owners | None = None,
    keep_links: bool = False,
    hashes: dict[int, str] | None = None,
    ahead: Callable[[Iterator[bytes]], Generator[bytes]] | None = None,
) -> AbstractContextManager[tuple[str, int]]:
    """Make the directory `target` with the layers in its `rootfs`; it appears when the block ends well, or not at all.

    layers: each the opened blob and its diff ID, base first. Gives the path where it is being made,
    for config.json, and a descriptor of its root file system. After the block it outlives a power cut.
    owners, keep_links, hashes: as for `layer.apply`. ahead: makes an iterator one of which another thread has the
    next items ready: it reads and decompresses while this one makes files.
    Raises Conflict if `target` holds something, Corrupt, InvalidInput, HostError.
    """
    return _bundle(target.rstrip("/"), layers, owners, keep_links=keep_links, hashes=hashes, ahead=ahead)


@contextmanager
def _bundle(
    target: str,
    layers: Iterable[tuple[AbstractContextManager[Iterable[bytes]], Digest]],
    owners: Owners | None,
    *,
    keep_links: bool,
    hashes: dict[int, str] | None,
    ahead: Callable[[Iterator[bytes]], Generator[bytes]] | None,
) -> Generator[tuple[str, int]]:
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise Conflict(f"{target} is there already", hint="choose another directory")
    parent, name = os.path.split(os.path.abspath(target))
    making = f"{parent}/.{name}.{os.getpid()}-{os.urandom(4).hex()}"
    try:
        os.mkdir(making, 0o700)
    except FileNotFoundError:
        raise NotFound(f"there is no directory {parent}", hint=f"mkdir -p {parent}") from None
    except OSError as error:
        raise HostError(f"make {making}", error) from error
    try:
        os.mkdir(f"{making}/rootfs", 0o755)
        root = os.open(f"{making}/rootfs", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if owners and not (owners.plain or owners.rootless):
                os.fchown(root, *owners.host(0, 0))
            for opened, diff_id in layers:
                with (
                    opened as packed,
                    closing(_soon(iter(packed), ahead)) as blob,
                    closing(_soon(decompressed(blob), ahead)) as plain,
                    Verified(plain, diff_id) as tar,
                ):
                    apply(tar, root, overlay=False, owners=owners, keep_links=keep_links, hashes=hashes)
            yield making, root
            sync_filesystem(root)
        finally:
            os.close(root)
        os.rename(making, target)
        sync_names(parent)
    except BaseException:
        directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        remove_tree(directory, os.fsencode(os.path.basename(making)))
        os.close(directory)
        raise


def _soon(chunks: Iterator[bytes], ahead: Callable[[Iterator[bytes]], Generator[bytes]] | None) -> Generator[bytes]:
    """The chunks, made ahead if that is wanted."""
    return ahead(chunks) if ahead else (chunk for chunk in chunks)
