"""Images as trees for a while: what has to be compared or packed as a whole."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
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
        place = mkdtemp(prefix="tree-", dir=scratch)
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
