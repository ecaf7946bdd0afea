"""Images as trees for a while: what has to be compared or packed as a whole."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from tempfile import mkdtemp

from veloci.errors import HostError
from veloci.layer.apply import apply
from veloci.transport.edited import layer_tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor
    from veloci.transport.place import Source


@contextmanager
def unpacked(source: Source, layers: Iterable[tuple[Descriptor, Digest]], scratch: str) -> Generator[int]:
    """A descriptor of a directory with the layers in it, base first, below `scratch`; gone at the block's end.

    Raises Corrupt, InvalidInput, HostError.
    """
    try:
        os.makedirs(scratch, mode=0o700, exist_ok=True)
        place, held = _made(scratch)
    except OSError as error:
        raise HostError("make a directory for a tree", error, where=scratch) from error
    root = -1
    try:
        os.mkdir(f"{place}/root", 0o755)
        root = os.open(f"{place}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchmod(root, 0o755)
        for layer, diff_id in layers:
            with layer_tar(source, layer, diff_id) as tar:
                apply(tar, root, overlay=False)
        yield root
    finally:
        if root >= 0:
            os.close(root)
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def _made(scratch: str) -> tuple[str, int]:
    """A new directory, and a descriptor that holds its lock: so others see that somebody works in it."""
    turn = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(turn, LOCK_EX)
        _clear(scratch)
        place = mkdtemp(prefix="tree-", dir=scratch)
        held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flock(held, LOCK_EX)
    finally:
        os.close(turn)
    return place, held


def _clear(scratch: str) -> None:
    """Remove the trees of those who died."""
    for name in os.listdir(scratch):
        try:
            held = os.open(f"{scratch}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            flock(held, LOCK_EX | LOCK_NB)
            shutil.rmtree(f"{scratch}/{name}", ignore_errors=True)
        except BlockingIOError:
            pass  # somebody works in it
        finally:
            os.close(held)
