"""Hashing: by the interpreter's own sha256 what is short, by openssl what is long; the same digests."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veloci.spec import digest


@given(st.lists(st.integers(0, 2 * digest.SHORT), max_size=4))
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_size_have_hashlibs_digest(sizes):
    ours, theirs = digest.hasher("sha256:"), hashlib.sha256()
    for size in sizes:
        for hasher in (ours, theirs):
            hasher.update(bytes([size % 251]) * size)
        assert (ours.name, ours.digest(), ours.hexdigest()) == (theirs.name, theirs.digest(), theirs.hexdigest())


def test_a_piece_that_is_used_again_by_whoever_read_it_is_hashed_as_it_was():
    piece = bytearray(b"one")
    hasher = digest.hasher("sha256:")
    hasher.update(memoryview(piece))
    piece[:] = b"two"
    assert hasher.hexdigest() == hashlib.sha256(b"one").hexdigest()


@pytest.mark.parametrize(("size", "needed"), [(1000, False), (digest.SHORT + 1, True)])
def test_only_what_is_long_needs_openssl(size, needed):
    program = f"""import sys; from veloci.spec.digest import hasher
it = hasher("sha256:"); it.update(bytes({size})); it.hexdigest(); print("_hashlib" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{needed}\n"
