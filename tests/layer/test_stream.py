"""Stages over chunks: what goes in comes out, or Corrupt."""

import bz2
import contextlib
import gzip
import lzma
import os
import platform
import random
import subprocess
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from veloci.engine.tasks import spread
from veloci.errors import Corrupt, InvalidInput
from veloci.layer.stream import Hashed, Verified, compressed, decompressed
from veloci.layer.zstd import blocks
from veloci.spec.digest import of

DATA = random.Random(1).randbytes(100_000) + b"veloci " * 200_000
GOLDEN = "sha256:073eb41af2f25c22b469e6059b3ce2583ead3edebc019ca1743e09a3aebaf3f4"  # with AVX-512, with AVX2 and with SSE 4.1 alone
PACK = {
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstandard.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "plain": bytes,
}


def cut(data, size):
    return (data[i : i + size] for i in range(0, len(data), size))


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("size", [1 << 16, 4097])
def test_every_compression_is_found_by_its_content(kind, size):
    assert b"".join(decompressed(cut(PACK[kind](DATA), size))) == DATA


@pytest.mark.parametrize("kind", PACK)
def test_members_that_follow_each_other_are_one_stream(kind):
    assert b"".join(decompressed(cut(PACK[kind](b"one ") + PACK[kind](b"two"), 1))) == b"one two"


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
@pytest.mark.parametrize("end", [-1, -9, 40])
def test_a_cut_stream_is_corrupt(kind, end):
    with pytest.raises(Corrupt):
        list(decompressed([PACK[kind](DATA)[:end]]))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_bytes_after_the_stream_are_corrupt(kind):
    with pytest.raises(Corrupt):
        list(decompressed([PACK[kind](DATA), b"and more"]))
    with pytest.raises(Corrupt):
        list(decompressed([PACK[kind](DATA), b"", b"and more"]))


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_a_bomb_comes_one_chunk_at_a_time(kind):
    bomb = PACK[kind](bytes(20 << 20))
    assert max(map(len, decompressed([bomb]))) <= 1 << 20


def test_a_zstd_bomb_comes_in_bounded_pieces():
    bomb = zstandard.compress(bytes(300 << 20))
    assert max(map(len, decompressed([bomb]))) <= 128 << 10


@pytest.mark.parametrize(
    "options", [{}, {"write_checksum": True}, {"write_content_size": False}, {"write_dict_id": False}]
)
@pytest.mark.parametrize("level", [1, 19])
def test_a_zstd_stream_is_fed_a_block_at_a_time(options, level):
    """Frames of every kind of header and block (raw, repeated, compressed), skippable ones, wherever the chunks end."""
    packer = zstandard.ZstdCompressor(level=level, **options)
    skippable = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"aside"
    plain = [os.urandom(300_000), bytes(900_000), DATA * 40, b"", b"x"]
    stream = packer.compress(plain[0]) + skippable + b"".join(map(packer.compress, plain[1:]))
    for size in (1, 7, 4096, len(stream)) if level == 1 else (4096,):
        assert b"".join(decompressed(cut(stream, size))) == b"".join(plain)
    for size in (7, len(stream)):
        pieces = list(blocks(b"", cut(stream, size)))
        assert b"".join(pieces) == stream
        assert max(map(len, pieces)) <= (128 << 10) + 3
    with pytest.raises(Corrupt):
        list(decompressed([stream[:-1]]))


@pytest.mark.parametrize(("exponent", "fits"), [(17, True), (18, False), (31, False)])
def test_a_zstd_frame_may_not_ask_for_a_huge_window(exponent, fits):
    """A frame of one empty block with a window of 2^(10 + exponent) bytes (RFC 8878, 3.1.1.1.2): 128 MiB at most."""
    frame = bytes.fromhex("28b52ffd 00") + bytes([exponent << 3]) + bytes.fromhex("010000")
    if fits:
        assert list(decompressed([frame])) == []
        return
    with pytest.raises(Corrupt, match=r"zstd stream: expected valid data, got .*memory"):
        list(decompressed([frame]))


@pytest.mark.parametrize(("size", "fits"), [(0x1A, True), (0x20, False)])
def test_an_xz_stream_may_not_ask_for_a_huge_dictionary(size, fits):
    """Of 32 MiB, of 256 MiB (xz file format, 5.3.1)."""
    packed = bytearray(lzma.compress(b"x"))
    assert packed[14:16] == b"\x21\x01"  # LZMA2's filter ID, and the size of what follows: the dictionary's
    packed[16] = size
    packed[20:24] = zlib.crc32(packed[12:20]).to_bytes(4, "little")
    if fits:
        assert list(decompressed([bytes(packed)])) == [b"x"]
        return
    with pytest.raises(Corrupt, match="xz stream: expected valid data, got Memory usage limit exceeded"):
        list(decompressed([bytes(packed)]))


def test_xz_streams_may_be_padded_wherever_the_chunks_end():
    one, padding = lzma.compress(b"one"), bytes(4)
    for chunks in ([one + padding, one], [one, padding, one], [one, padding, padding + one]):
        assert b"".join(decompressed(chunks)) == b"oneone"
    with pytest.raises(Corrupt):
        list(decompressed([one, padding, b"more"]))


@given(st.binary(max_size=60))
def test_whatever_comes_in_only_corrupt_comes_out(tail):
    for kind in ("gzip", "zstd", "xz", "bzip2"):
        with contextlib.suppress(Corrupt):
            list(decompressed([PACK[kind](b"x")[:9], tail]))


@pytest.mark.parametrize(("kind", "tool"), [("gzip", ["gzip", "-dc"]), ("zstd", ["zstd", "-dc"])])
def test_what_is_compressed_others_can_read_and_it_is_reproducible(kind, tool):
    once = b"".join(compressed([DATA], kind))
    assert once == b"".join(compressed(cut(DATA, 70_001), kind))
    assert len(once) < len(DATA) // 5
    assert b"".join(decompressed([once])) == DATA
    if kind == "gzip":
        assert once[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        assert subprocess.run(tool, input=once, capture_output=True, check=True).stdout == DATA


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_layer_that_many_processors_pack_has_the_same_bytes(level):
    data = random.Random(3).randbytes(1 << 16) * 70 + b"end"  # more than four chunks
    alone = b"".join(compressed(cut(data, 300_000), "gzip", level))
    assert b"".join(compressed([data], "gzip", level, spread=spread)) == alone
    assert gzip.decompress(alone) == data


@pytest.mark.skipif(platform.machine() != "x86_64", reason="igzip has other code for other processors")
def test_what_is_compressed_is_the_same_on_every_machine():
    words = random.Random(2)
    text = b" ".join(b"%x" % int(words.paretovariate(0.3) % 1e9) for _ in range(200_000))
    assert of(b"".join(compressed([text]))) == GOLDEN


def test_an_unknown_compression_or_level_is_refused():
    with pytest.raises(InvalidInput, match="cannot compress with 'lz4'"):
        list(compressed([b""], "lz4"))
    with pytest.raises(InvalidInput, match="gzip has no level 10"):
        list(compressed([b""], "gzip", 10))


def test_hashed_counts_and_digests_what_passes():
    hashed = Hashed([b"ab", b"c"])
    assert b"".join(hashed) == b"abc"
    assert (hashed.size, hashed.digest) == (3, of(b"abc"))


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"abcd", f"{of(b'abc')}: expected 3 bytes, got more"),
        (b"ab", f"{of(b'abc')}: expected 3 bytes, got 2"),
        (b"abd", f"content: expected {of(b'abc')}, got {of(b'abd')}"),
    ],
)
def test_verified_checks_what_its_consumer_left_unread(sent, message):
    with pytest.raises(Corrupt) as caught, Verified(cut(sent, 1), of(b"abc"), 3) as checked:
        next(checked)
    assert str(caught.value) == message


def test_a_digest_of_an_unknown_algorithm_cannot_be_verified():
    with pytest.raises(InvalidInput, match="digests by 'blake3' cannot be verified"):
        Verified([], "blake3:abcd")
