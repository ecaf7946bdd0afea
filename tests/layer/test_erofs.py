"""An index beside a tar, mounted by this machine's kernel, is the tree that the tar describes."""

import contextlib
import io
import os
import random
import re
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from veloci.errors import InvalidInput
from veloci.layer.apply import apply
from veloci.layer.erofs.read import Reading
from veloci.layer.erofs.write import Index, crc32c
from veloci.snapshot.erofs import mounted

pytestmark = pytest.mark.needs("root", "erofs")


@contextlib.contextmanager
def indexed(tmp_path, tar):
    """The tree of a tar, mounted as it is."""
    path, index = tmp_path / "layer.tar", tmp_path / "layer.index"
    if path != tar:
        path.write_bytes(tar)
    layer = Reading()
    with path.open("rb") as file:
        layer.read(iter(lambda: file.read(1000), b""))
        with index.open("wb+") as out:
            Index(out.fileno(), file.fileno()).finish(layer.tree, b"identity of mine")
    tree = mounted(str(index), str(path))
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)
    try:
        yield Path(f"/proc/self/fd/{directory}")
    finally:
        os.close(directory)
        os.close(tree)


def described(root, *, content=True):
    """All that stat(2), readlink(2), listxattr(2) and read(2) say of everything below a directory."""
    found, names = {}, {}
    for top, directories, files in os.walk(f"{root}/."):
        for name in [*directories, *files, "."]:
            path = os.path.join(top, name)
            key = os.path.normpath(os.path.relpath(path, f"{root}/."))
            status = os.lstat(path)
            names.setdefault(status.st_ino, set()).add(key)
            attributes = {one: os.getxattr(path, one, follow_symlinks=False) for one in _attributes(path)}
            found[key] = [
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_rdev,
                status.st_mtime_ns,
                attributes,
                None if stat.S_ISDIR(status.st_mode) else (status.st_nlink, status.st_size),
                os.readlink(path) if stat.S_ISLNK(status.st_mode) else None,
                Path(path).read_bytes() if content and stat.S_ISREG(status.st_mode) else None,
            ]
    return found, sorted(map(sorted, names.values()))


def _attributes(path):
    return [one for one in os.listxattr(path, follow_symlinks=False) if one != "security.selinux"]


def tar_of(*members):
    """A PAX tar of (name, type, content, fields)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, content, fields in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o644
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = content
            elif content:
                info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return out.getvalue()


FILE, DIRECTORY, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
EVERYTHING = tar_of(
    ("./", DIRECTORY, b"", {"mode": 0o1751, "uid": 3, "gid": 4, "mtime": 1.25}),
    ("empty", FILE, b"", {}),
    ("small", FILE, b"x", {"mtime": 1e9 + 0.5, "pax_headers": {"SCHILY.xattr.user.a": "b" * 700}}),
    ("block", FILE, b"y" * 512, {"mode": 0o6755, "uid": 70000, "gid": 2**31}),
    ("large", FILE, random.Random(1).randbytes(300_001), {"mtime": -5}),
    ("alink", LINK, "small", {"uid": 9}),
    ("farlink", LINK, "/" + "f" * 600, {}),
    ("two", HARD, "large", {}),
    ("d/e/f", FILE, b"implied", {}),
    ("!before", FILE, b"sorts before the dot", {}),
    ("null", tarfile.CHRTYPE, b"", {"devmajor": 1, "devminor": 3}),
    ("disk", tarfile.BLKTYPE, b"", {"devmajor": 259, "devminor": 70000}),
    ("pipe", tarfile.FIFOTYPE, b"", {}),
    ("n" * 255, FILE, b"the longest name", {}),
    *((f"many/{number:05}{'z' * (number % 40)}", FILE, b"%d" % number, {}) for number in range(3000)),
)


def test_the_kernel_sees_what_unpacking_makes(tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    root = os.open(plain, os.O_RDONLY)
    apply([EVERYTHING], root, overlay=True)
    os.close(root)
    with indexed(tmp_path, EVERYTHING) as tree:
        indexed_tree, indexed_names = described(tree)
        unpacked_tree, unpacked_names = described(plain)
        for key in ("d", "d/e", "many"):  # not listed: both times are to come from the layers below
            indexed_tree[key][4] = unpacked_tree[key][4] = 0
        assert indexed_tree == unpacked_tree
        assert indexed_names == unpacked_names


def test_whiteouts_and_opaque_directories_are_in_overlays_form(tmp_path):
    tar = tar_of(
        ("a/.wh.gone", FILE, b"", {}),
        ("b/.wh..wh..opq", FILE, b"", {}),
        ("b/new", FILE, b"", {}),
        (".wh.c", FILE, b"", {}),
        ("c/inside", FILE, b"", {}),
    )
    with indexed(tmp_path, tar) as tree:
        gone = os.lstat(tree / "a/gone")
        assert (stat.S_ISCHR(gone.st_mode), gone.st_rdev) == (True, 0)
        assert os.getxattr(tree / "b", "trusted.overlay.opaque") == b"y"
        assert os.getxattr(tree / "c", "trusted.overlay.opaque") == b"y"
        assert os.listxattr(tree / "a") == []


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "gnu"])
@pytest.mark.parametrize("step", [4096, 1000])
def test_sparse_files_have_their_holes_and_their_bytes(tmp_path, version, step):
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        for number in range(1, 20, 3):
            file.seek(number * step * 16)
            file.write(b"%d" % number * (step // 2))
        file.truncate(20 * step * 16 + 7)
    how = ["--format=gnu"] if version == "gnu" else ["--format=posix", f"--sparse-version={version}"]
    subprocess.run(["tar", "-C", tmp_path, "-cSf", tmp_path / "layer.tar", *how, "sparse"], check=True)
    with indexed(tmp_path, tmp_path / "layer.tar") as tree:
        assert (tree / "sparse").read_bytes() == source.read_bytes()


def test_random_sparse_maps_read_as_gnu_tar_reads_them(tmp_path):
    rng = random.Random(7)
    for _ in range(20):
        source = tmp_path / "sparse"
        with source.open("wb") as file:
            for _ in range(rng.randrange(1, 6)):
                file.seek(rng.randrange(0, 1 << 18) & -rng.choice((1, 512, 4096)))
                file.write(rng.randbytes(rng.randrange(1, 20_000)))
        subprocess.run(["tar", "-C", tmp_path, "-cSf", tmp_path / "layer.tar", "sparse"], check=True)
        with indexed(tmp_path, tmp_path / "layer.tar") as tree:
            assert (tree / "sparse").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("a", HARD, "a", {}), "is a hard link to itself"),
        (("a", tarfile.CHRTYPE, b"", {"devmajor": 0}), "is a device 0/0, overlayfs's whiteout"),
        ((".wh.", FILE, b"", {}), "names nothing that could be removed"),
        (("n" * 256, FILE, b"", {}), "has a name of more than 255 bytes"),
        (("a/../../..", FILE, b"", {}), "the root can only be a directory"),
    ],
)
def test_what_no_layer_may_hold_is_refused(tmp_path, entry, message):
    with pytest.raises(InvalidInput) as caught, indexed(tmp_path, tar_of(entry)):
        pass
    assert str(caught.value) == f"tar: {entry[0]}: {message}"


def test_no_name_leads_outside_and_links_lead_inside(tmp_path):
    tar = tar_of(
        ("../../up", FILE, b"1", {}),
        ("out", LINK, "/../../inner", {}),
        ("out/file", FILE, b"2", {}),
    )
    with indexed(tmp_path, tar) as tree:
        assert sorted(os.listdir(tree)) == ["inner", "out", "up"]
        assert (tree / "inner/file").read_bytes() == b"2"
    round_ = tar_of(("round", LINK, "round", {}), ("round/x", FILE, b"", {}))
    with pytest.raises(InvalidInput) as caught, indexed(tmp_path, round_):
        pass
    assert str(caught.value) == "tar: round: too many symlinks"


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283


def test_the_checker_of_erofs_finds_nothing(tmp_path):
    checker = shutil.which("fsck.erofs")
    told = subprocess.run([checker or "true", "-V"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", told)
    if not version or tuple(map(int, version.groups())) < (1, 7):
        pytest.skip("fsck.erofs 1.7 or later, which knows blocks of 512 bytes, is not here")
    with indexed(tmp_path, EVERYTHING):
        done = subprocess.run(
            [checker, f"--device={tmp_path}/layer.tar", "--extract", tmp_path / "layer.index"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
