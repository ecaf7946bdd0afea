"""Bombs, absurd headers and numbers, odd names: met by limits, in bounded memory."""

import contextlib
import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.errors import InvalidInput, VelociError
from veloci.layer.apply import apply
from veloci.layer.merge import Tree
from veloci.layer.tar import Reader

pytestmark = pytest.mark.needs("root")


def header(name=b"a", size=0, kind=b"0", *, mode=b"0000644\0", uid=b"0000000\0", mtime=b"00000000000\0", length=None):
    """A header block; numbers as they are given, so that they may be absurd."""
    digits = length if length is not None else b"%011o\0" % size
    block = bytearray(name.ljust(100, b"\0") + mode + uid + b"0000000\0" + digits + mtime + b" " * 8 + kind)
    block = bytearray(bytes(block).ljust(257, b"\0") + b"ustar\x0000").ljust(512, b"\0")
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(name=b"a", **records):
    """An empty file whose PAX header has these records, by their names with _ for the dot."""
    body = b""
    for key, value in records.items():
        name_ = key if "." in key else key.replace("_", ".")
        line = b" %s=%s\n" % (name_.encode(), value)
        size = len(line)
        while size != len(b"%d" % size) + len(line):
            size = len(b"%d" % size) + len(line)
        body += b"%d" % size + line
    return header(b"x", len(body), b"x") + body.ljust(-(-len(body) // 512) * 512, b"\0") + header(name)


END = bytes(1024)


def put(root, data):
    directory = os.open(root, os.O_DIRECTORY)
    try:
        return apply([data], directory, overlay=False)
    finally:
        os.close(directory)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(length=b"\x80" + b"\xff" * 11), "the size is out of range"),
        (header(length=b"\xff" * 11 + b"\xfe"), "has a negative size"),
        (header(length=b"99999999999\0"), "the size is b'99999999999', not an octal number"),
        (header(mode=b"zzzzzzz\0"), "the mode is b'zzzzzzz', not an octal number"),
        (header(uid=b"\xff" * 8), "is owned by -1:0, out of range"),
        (header(size=2 << 20, kind=b"x"), "a header of 2097152 bytes"),
        (header(size=2 << 20, kind=b"L"), "a header of 2097152 bytes"),
        (header(length=b"\x80\0\0\0" + b"\x7f" + b"\xff" * 7), "more than 10000000 entries or 8796093022208 bytes"),
        (pax(size=b"-5"), "a malformed number in a PAX record"),
        (pax(size=b"9" * 30), "a malformed number in a PAX record"),
        (pax(uid=b"4294967295"), "is owned by 4294967295:0, out of range"),
        (pax(mtime=b"never"), "a malformed number in a PAX record"),
        (pax(path=b"a\0b"), "a name holds a zero byte"),
        (header(b"x", 9, b"x") + b"999 a=b\n\n".ljust(512, b"\0") + header(), "a malformed PAX record"),
        (header(b"x", 5, b"x") + b"nodig".ljust(512, b"\0") + header(), "a malformed PAX record"),
        (pax(GNU_sparse_major=b"1", GNU_sparse_minor=b"0", GNU_sparse_realsize=b"5"), "a sparse map that does not end"),
        (pax(GNU_sparse_map=b"0,5,3,5", GNU_sparse_size=b"9"), "a sparse map that contradicts itself"),
        (pax(GNU_sparse_map=b"0,1", GNU_sparse_size=b"%d" % (1 << 44)), "a sparse map that contradicts its size"),
    ],
)
def test_an_absurd_header_is_refused(tmp_path, data, message):
    with pytest.raises(InvalidInput, match=message):
        put(tmp_path, data + END)
    with pytest.raises(InvalidInput, match=message):
        Tree().add([data + END])


def old_sparse(pieces):
    """A file by GNU's old sparse map, of so many empty pieces: four in the header, 21 in each block after it."""
    piece = (b"%011o\0" * 2) % (0, 0)
    block = bytearray(header(kind=b"S"))
    block[257:265] = b"ustar  \0"
    block[386:483] = piece * 4 + b"\1"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    blocks = pieces // 21
    return bytes(block) + b"".join(
        (piece * 21 + bytes([each < blocks - 1])).ljust(512, b"\0") for each in range(blocks)
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (old_sparse(50_000), "too large a sparse map"),
        (
            pax(size=b"%d" % (1 << 30), GNU_sparse_major=b"1", GNU_sparse_minor=b"0", GNU_sparse_realsize=b"5")
            + b"1000000\n"
            + b"0\n" * (1 << 20),
            "a sparse map that does not end",
        ),
    ],
    ids=["gnu", "pax"],
)
def test_a_sparse_map_has_a_largest_size(tmp_path, data, message):
    with pytest.raises(InvalidInput, match=message):
        put(tmp_path, data)


def test_a_pax_size_wins_so_no_entry_hides(tmp_path):
    """CVE-2025-62518's class: a header that says 0 and a record that says 1,024 hide two entries."""
    hidden = header(b"hidden", 0) + header(b"hidden2", 0)
    put(tmp_path, pax(size=b"1024") + hidden + header(b"b") + END)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert (tmp_path / "a").read_bytes() == hidden


@pytest.mark.parametrize("seconds", [-(2**30), -1, 0, 2**31, 2**33, 253402300800])
def test_times_before_1970_and_far_away(tmp_path, seconds):
    put(tmp_path, pax(mtime=b"%d.25" % seconds) + END)
    want = seconds * 1_000_000_000 + (250_000_000 if seconds >= 0 else -250_000_000)
    assert os.stat(tmp_path / "a").st_mtime_ns == want or seconds > 2**33  # where ext4's times end


def test_names_of_any_bytes_and_lengths(tmp_path):
    names = [b"\xff\xfe", b"d/" + b"n" * 255, b"/".join([b"p" * 200] * 10), "größe".encode(), b"a b\nc"]
    put(tmp_path, b"".join(pax(path=name) for name in names) + END)
    root = os.fsencode(tmp_path)
    assert all(os.path.isfile(root + b"/" + name) for name in names[:2] + names[3:])
    directory = os.open(tmp_path, os.O_DIRECTORY)
    for part in names[2].split(b"/")[:-1]:
        directory = os.open(part, os.O_DIRECTORY, dir_fd=directory)
    assert os.listdir(directory) == ["p" * 200]


def test_access_lists_and_capabilities_come_along(tmp_path):
    acl = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000400ffffffff")
    try:
        os.setxattr(tmp_path, "system.posix_acl_access", acl)
        os.removexattr(tmp_path, "system.posix_acl_access")
    except OSError:
        pytest.skip("this file system has no access lists")
    put(tmp_path, pax(**{"SCHILY.xattr.system.posix_acl_access": acl}) + END)
    assert os.getxattr(tmp_path / "a", "system.posix_acl_access") == acl


BOMB = """
import resource, os, sys
from veloci.layer.apply import apply
from veloci.layer.stream import decompressed
import gzip, io, tarfile

def tar():
    info = tarfile.TarInfo("zeros"); info.size = int(sys.argv[2])
    yield info.tobuf()
    for _ in range(info.size >> 20): yield bytes(1 << 20)
    yield bytes(1024)

packed = io.BytesIO()
with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as out:
    for chunk in tar(): out.write(chunk)
chunks = iter(lambda: packed.read(1 << 16), b"")
packed.seek(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
root = os.open(sys.argv[1], os.O_DIRECTORY)
try:
    apply(decompressed(chunks), root, overlay=False)
except Exception as error:
    print(type(error).__name__, error)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_a_bomb_ends_where_the_disk_does_and_takes_no_memory(tmp_path):
    """96 MiB of zeros in 1 MB, onto a disk that takes 8: a clear error, and memory for a few chunks."""
    done = subprocess.run(
        [sys.executable, "-c", BOMB, tmp_path, str(96 << 20)], capture_output=True, text=True, check=True
    )
    error, memory = done.stdout.splitlines()
    assert error == "HostError unpack zeros: File too large"
    assert int(memory) < 80_000  # KiB
    assert os.stat(tmp_path / "zeros").st_size <= 8 << 20


def peak():
    """The most memory that this process had, in KiB."""
    return int(
        next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    )


def test_an_endless_tar_is_read_in_bounded_memory():
    """Entries without end: the reader holds none of them."""

    def entries():
        block = header(b"n") * 512
        for _ in range(200):
            yield block

    before = peak()
    reader = Reader(entries())
    assert sum(1 for _entry in reader) == reader.entries == 102_400
    assert peak() - before < 20_000


@given(st.binary(max_size=1100), st.binary(max_size=40), st.integers(0, 3000))
def test_whatever_comes_in_only_our_errors_come_out(tmp_path_factory, noise, more, at):
    """Also from the reader that unpacks nothing."""
    good = (
        pax(path=b"long/name", mtime=b"1.5", SCHILY_xattr_user_a=b"b")
        + header(b"d/", kind=b"5")
        + header(b"e", 3)
        + b"abc".ljust(512, b"\0")
        + END
    )
    for data in (noise, good[:at] + more + good[at + len(more) :], gzip.compress(good)[: at % 200] + more):
        for read in (lambda data: Tree().add([data]), lambda data: put(tmp_path_factory.mktemp("root"), data)):
            with contextlib.suppress(VelociError):
                read(data)


@pytest.mark.parametrize(("name", "most"), [("VELOCI_MAX_ENTRIES", "1"), ("VELOCI_MAX_BYTES", "5")])
def test_how_much_a_layer_may_hold_can_be_said(tmp_path, monkeypatch, name, most):
    data = (header(b"a", 3) + b"abc".ljust(512, b"\0")) * 2 + END
    assert put(tmp_path, data) == 2
    monkeypatch.setenv(name, most)
    entries, size = (most, 1 << 43) if name.endswith("ENTRIES") else (10_000_000, most)
    with pytest.raises(InvalidInput, match=f"more than {entries} entries or {size} bytes"):
        put(tmp_path, data)
    assert len(list(Reader([data], entries=2, total=6))) == 2
    monkeypatch.setenv(name, "many")
    with pytest.raises(InvalidInput, match=f"{name}: 'many' is no number"):
        Reader([data])


@pytest.mark.parametrize("key", [b"SCHILY.xattr.", b"SCHILY.xattr.user.\0", b"SCHILY.xattr.user." + b"a" * 256, b"LIBARCHIVE.xattr.user.%00"])  # fmt: skip
def test_an_attribute_has_a_name_that_the_kernel_takes(tmp_path, key):
    with pytest.raises(InvalidInput, match="a malformed extended attribute"):
        put(tmp_path, pax(**{key.decode(): b"YQ"}) + END)


def test_duplicate_entries_are_as_the_peers_treat_them(tmp_path):
    """layer.md forbids them; where they come all the same, the last one is the file: as tar and docker do."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for content in (b"first", b"second"):
            info = tarfile.TarInfo("a")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    put(tmp_path, out.getvalue())
    assert (tmp_path / "a").read_bytes() == b"second"
    (tmp_path / "tar").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "tar", "-xf", "-"], input=out.getvalue(), check=True)
    assert (tmp_path / "tar/a").read_bytes() == b"second"
