"""Hashing: by the interpreter's own sha256 what is short, by openssl what is long; the same digests."""

import hashlib
import subprocess
import sys
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veloci.spec import digest


@given(st.lists(st.integers(0, 2 * digest.SHORT), max_size=4), st.sampled_from([{}, {"hashlib": hashlib}]))
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_size_have_hashlibs_digest(sizes, modules):
    ours, theirs = digest.hasher("sha256:"), hashlib.sha256()
    with mock.patch.object(digest, "modules", modules):
        for size in sizes:
            for hasher in (ours, theirs):
                hasher.update(bytes([size % 251]) * size)
            assert (ours.name, ours.digest(), ours.hexdigest()) == (theirs.name, theirs.digest(), theirs.hexdigest())


def test_what_is_short_is_hashed_by_openssl_where_that_is_there():
    hasher = digest.hasher("sha256:")
    hasher.update(b"short")
    with mock.patch.object(hashlib, "sha256", wraps=hashlib.sha256) as openssl:
        assert hasher.hexdigest() == "f9b0078b5df596d2ea19010c001bbd009e651de2c57e8fb7e355f31eb9d3f739"
    openssl.assert_called_once()


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
