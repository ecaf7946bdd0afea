"""Layers to a plain tree: another thread has their bytes ready, and ends when the tree cannot be made."""

import _thread
import contextlib
import gzip
import os
import time

import pytest
from peers import digest, tar

from veloci.engine.tasks import ahead
from veloci.errors import Corrupt, InvalidInput
from veloci.snapshot.bundle import bundle


@contextlib.contextmanager
def opened(blob, read):
    """A blob in small chunks; `read` gets the thread that reads each."""

    def chunks():
        for at in range(0, len(blob), 1000):
            read.append(_thread.get_ident())
            yield blob[at : at + 1000]

    yield chunks()


def packed(*layers):
    read = []
    return read, [(opened(gzip.compress(layer), read), digest(layer)) for layer in layers]


def test_layers_are_read_and_decompressed_by_another_thread(tmp_path):
    content = os.urandom(100_000)
    read, layers = packed(tar({"a": content, "b": b"1"}), tar({"b": b"2"}))
    with bundle(str(tmp_path / "made"), layers, ahead=ahead):
        pass
    root = tmp_path / "made/rootfs"
    assert ((root / "a").read_bytes(), (root / "b").read_bytes()) == (content, b"2")
    assert read
    assert _thread.get_ident() not in read


@pytest.mark.parametrize(("damage", "error"), [("digest", Corrupt), ("tar", InvalidInput), ("gzip", Corrupt)])
def test_what_cannot_be_made_leaves_no_thread_and_no_file(tmp_path, damage, error):
    layer, before = tar({"a": os.urandom(8 << 20)}), _thread._count()
    if damage == "tar":
        layer = b"x" * 512 + layer
    read = []
    blob = gzip.compress(layer, 1)
    blob = blob[:-9] if damage == "gzip" else blob
    layers = [(opened(blob, read), digest(b"" if damage == "digest" else layer))]
    with pytest.raises(error), bundle(str(tmp_path / "made"), layers, ahead=ahead):
        pass
    assert list(tmp_path.iterdir()) == []
    for _ in range(100):  # a thread counts for a moment after the last that it does
        if _thread._count() <= before:
            break
        time.sleep(0.01)
    assert _thread._count() <= before
