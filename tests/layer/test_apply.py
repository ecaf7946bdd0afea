"""Layers onto real directories."""

import contextlib
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.errors import InvalidInput, VelociError
from veloci.layer.apply import apply

pytestmark = pytest.mark.needs("root")


def layer(*entries, format=tarfile.PAX_FORMAT):
    """A tar of (name, content, fields); content None is a directory; `a -> b` a symlink, `a => b` a hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, content, *fields in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            for arrow, kind in ((" -> ", tarfile.SYMTYPE), (" => ", tarfile.LNKTYPE)):
                if arrow in name:
                    info.name, _, info.linkname = name.partition(arrow)
                    info.type = kind
            info.size, info.mode = len(content or b"") if info.isreg() else 0, 0o755 if content is None else 0o644
            for field in fields:
                for key, value in field.items():
                    setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


def put(root, *layers, overlay=False):
    handle = os.open(root, os.O_DIRECTORY)
    try:
        return [
            apply([data[i : i + 700] for i in range(0, len(data), 700)], handle, overlay=overlay) for data in layers
        ]
    finally:
        os.close(handle)


def tree(root):
    """Path -> content, target, device or None for a directory."""
    found = {}
    for top, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(top, name)
            status = os.lstat(path)
            key = os.path.relpath(path, root)
            if stat.S_ISLNK(status.st_mode):
                found[key] = "-> " + os.readlink(path)
            elif stat.S_ISDIR(status.st_mode):
                found[key] = None
            elif stat.S_ISREG(status.st_mode):
                found[key] = Path(path).read_bytes()
            else:
                found[key] = (stat.S_IFMT(status.st_mode), os.major(status.st_rdev), os.minor(status.st_rdev))
    return found


def opaque(path):
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


WHITEOUT = (stat.S_IFCHR, 0, 0)


def test_everything_a_tar_can_say_is_on_the_disk(tmp_path):
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    assert put(
        tmp_path,
        layer(
            ("./", None, {"mode": 0o711, "mtime": 7}),
            ("d/", None, {"mode": 0o3775, "gid": 8, "mtime": 1.5, "pax_headers": {"mtime": "1.5"}}),
            ("d/suid", b"x", {"mode": 0o4755, "uid": 12, "gid": 34, "mtime": -5, "pax_headers": {"mtime": "-5"}}),
            (
                "d/cap",
                b"x",
                {"pax_headers": {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}},
            ),
            ("d/link => d/suid", b""),
            ("d/sym -> /etc/x", b"", {"uid": 5, "mtime": 9}),
            ("fifo", b"", {"type": tarfile.FIFOTYPE, "mode": 0o622}),
            ("null", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666}),
            ("n" * 200, b"long", {"mtime": 1}),
        ),
    ) == [9]
    assert tree(tmp_path) == {
        "d": None,
        "d/suid": b"x",
        "d/link": b"x",
        "d/cap": b"x",
        "d/sym": "-> /etc/x",
        "fifo": (stat.S_IFIFO, 0, 0),
        "null": (stat.S_IFCHR, 1, 3),
        "n" * 200: b"long",
    }
    suid = os.lstat(tmp_path / "d/suid")
    assert (suid.st_mode & 0o7777, suid.st_uid, suid.st_gid, suid.st_nlink, suid.st_mtime) == (0o4755, 12, 34, 2, -5)
    assert os.getxattr(tmp_path / "d/cap", "security.capability") == capability
    assert os.lstat(tmp_path / "d/cap").st_gid == 0  # not the directory's, though that is setgid
    directory = os.lstat(tmp_path / "d")
    assert (directory.st_mode & 0o7777, directory.st_gid, directory.st_mtime_ns) == (0o3775, 8, 1_500_000_000)
    assert (os.lstat(tmp_path).st_mode & 0o7777, os.lstat(tmp_path).st_mtime) == (0o711, 7)
    assert (os.lstat(tmp_path / "d/sym").st_uid, os.lstat(tmp_path / "d/sym").st_mtime) == (5, 9)
    assert os.lstat(tmp_path / "fifo").st_mode & 0o7777 == 0o622


@pytest.mark.parametrize("overlay", [False, True])
def test_nothing_leads_out_of_the_root(tmp_path, overlay):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "victim").write_bytes(b"safe")
    put(
        root,
        layer(
            (f"etc -> {outside}", b""),
            ("etc/passwd", b"mine"),
            ("../../up", b"mine"),
            ("/abs", b"mine"),
            ("up2 -> ../../..", b""),
            ("up2/x", b"mine"),
            (f"file -> {outside}/victim", b""),
            ("file", b"mine"),
            ("a -> b", b""),
            ("a/c", b"mine"),
        ),
        overlay=overlay,
    )
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"victim": b"safe"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "root"]
    inside = tree(root)
    assert inside[str(outside)[1:] + "/passwd"] == inside["up"] == inside["abs"] == inside["x"] == b"mine"
    assert inside["file"] == inside["b/c"] == b"mine"


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("./ -> /etc", b"")], "tar: .*: the root can only be a directory"),
        ([("a => /etc/passwd", b"")], "tar: a: is a hard link to /?etc/passwd, which is not there"),
        ([("a => ../../../../etc/passwd", b"")], "which is not there"),
        ([("a", b"", {"uid": 2**32 - 1})], "is owned by 4294967295:0, out of range"),
        ([("a", b"", {"gid": 2**32})], "is owned by 0:4294967296, out of range"),
        ([("a", b"", {"type": tarfile.CHRTYPE})], "is a device 0/0"),
        ([(".wh...", b"")], "names nothing that could be removed"),
        ([("d/.wh.", b"")], "names nothing that could be removed"),
        ([(".wh.d/x", b"")], "is below a whiteout's name"),
        ([("a", b"", {"type": b"V"})], "is of type b'V', which no layer may hold"),
        ([("a => a", b"")], "is a hard link to itself"),
        ([("a => d/..", b"")], "is a hard link to the root"),
        ([("..", b"")], "the root can only be a directory"),
        ([("d/", None), ("d/../..", b"")], "the root can only be a directory"),
    ],
)
def test_what_no_layer_may_say_is_refused(tmp_path, overlay, entries, message):
    with pytest.raises(InvalidInput, match=message):
        put(tmp_path, layer(*entries), overlay=overlay)


@pytest.mark.parametrize("overlay", [False, True])
def test_a_hard_link_to_a_symlink_is_the_symlink_not_what_it_points_to(tmp_path, overlay):
    victim, root = tmp_path / "victim", tmp_path / "root"
    victim.write_bytes(b"safe")
    root.mkdir()
    put(root, layer((f"s -> {victim}", b""), ("h => s", b"")), overlay=overlay)
    assert (os.readlink(root / "h"), victim.stat().st_nlink) == (str(victim), 1)


@pytest.mark.parametrize("overlay", [False, True])
def test_a_directory_that_turns_into_a_symlink_gives_nothing_its_time(tmp_path, overlay):
    """Directories get their times last: neither what lies outside nor what took a directory's place gets that one's."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    os.utime(outside, ns=(7, 7))
    entries = [
        ("d/", None, {"mtime": 5}),
        (f"d -> {outside}", b""),
        ("new/", None, {"mtime": 9}),
        ("e/", None, {"mtime": 5}),
        ("e -> new", b""),
    ]
    put(root, layer(*entries), overlay=overlay)
    assert (outside.stat().st_mtime_ns, (root / "new").stat().st_mtime) == (7, 9)


def test_overlayfs_own_attributes_are_not_taken_from_a_tar(tmp_path):
    headers = {f"SCHILY.xattr.{k}": "y" for k in ("trusted.overlay.opaque", "user.overlay.opaque", "user.mine")}
    put(tmp_path, layer(("d/", None, {"pax_headers": headers})), overlay=True)
    assert os.listxattr(tmp_path / "d") == ["user.mine"]


@pytest.mark.parametrize("turn", [1, -1])
def test_whiteouts_spare_their_own_layer_in_any_order(tmp_path, turn):
    below = layer(("d/", None), ("d/old", b"1"), ("e/", None), ("e/old", b"1"), ("f", b"1"), ("g", b"1"))
    above = [
        ("d/", None),
        ("d/new", b"2"),
        ("d/.wh..wh..opq", b""),
        (".wh.e", b""),
        ("e/new", b"2"),
        (".wh.f", b""),
        ("f", b"2"),
        (".wh.g", b""),
        (".wh.none", b""),
    ][::turn]
    put(tmp_path, below, layer(*above))
    assert tree(tmp_path) == {"d": None, "d/new": b"2", "e": None, "e/new": b"2", "f": b"2"}


@pytest.mark.parametrize("turn", [1, -1])
def test_overlay_form_has_devices_and_opaque_directories(tmp_path, turn):
    above = [
        ("d/", None),
        ("d/new", b"2"),
        ("d/.wh..wh..opq", b""),
        (".wh.e", b""),
        ("e/new", b"2"),
        (".wh.f", b""),
        ("f", b"2"),
        (".wh.g", b""),
        ("h/.wh.i", b""),
    ][::turn]
    put(tmp_path, layer(*above), overlay=True)
    assert tree(tmp_path) == {
        "d": None,
        "d/new": b"2",
        "e": None,
        "e/new": b"2",
        "f": b"2",
        "g": WHITEOUT,
        "h": None,
        "h/i": WHITEOUT,
    }
    assert [name for name in "deh" if opaque(tmp_path / name)] == ["d", "e"]


def test_a_file_takes_the_place_of_a_directory_and_back(tmp_path):
    put(tmp_path, layer(("a/", None), ("a/b", b"1"), ("c", b"1")), layer(("a", b"2"), ("c/", None), ("c/d", b"2")))
    assert tree(tmp_path) == {"a": b"2", "c": None, "c/d": b"2"}


def test_a_file_replaces_a_link_not_what_it_points_to(tmp_path):
    put(tmp_path, layer(("a", b"1"), ("b => a", b""), ("c -> a", b"")), layer(("b", b"2"), ("c", b"3")))
    assert tree(tmp_path) == {"a": b"1", "b": b"2", "c": b"3"}


def test_more_directories_than_are_kept_open(tmp_path):
    names = [f"d{i}/e{j}" for i in range(40) for j in range(5)]
    put(tmp_path, layer(*[(f"{name}/f", name.encode()) for name in names], *[(f"{name}/g", b"") for name in names]))
    assert all(tree(tmp_path)[f"{name}/f"] == name.encode() for name in names)


def test_a_directory_keeps_its_time_when_a_layer_changes_what_is_in_it(tmp_path):
    put(tmp_path, layer(("d/", None, {"mtime": 5}), ("d/a", b"1")), layer(("d/.wh.a", b""), ("d/b", b"")))
    assert os.lstat(tmp_path / "d").st_mtime == 5
    assert sorted(tree(tmp_path)) == ["d", "d/b"]


def sparse(tmp_path, *options):
    """A tar made by GNU tar of a file with holes, and the file."""
    path = tmp_path / "holes"
    with path.open("wb") as file:
        for at in range(40):
            file.seek(at * (1 << 20))
            file.write(b"%d" % at)
        file.truncate(50 << 20)
    return subprocess.run(
        ["tar", "-C", tmp_path, "-S", *options, "-cf", "-", "holes"], capture_output=True, check=True
    ).stdout, path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [["--format=gnu"], *[["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")]],
    ids=["gnu", "0.0", "0.1", "1.0"],
)
def test_sparse_files_of_every_format_stay_sparse(tmp_path, options):
    data, content = sparse(tmp_path, *options)
    (tmp_path / "root").mkdir()
    put(tmp_path / "root", data)
    assert (tmp_path / "root/holes").read_bytes() == content
    assert os.stat(tmp_path / "root/holes").st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("format", ["gnu", "ustar", "posix", "v7"])
def test_the_tree_that_gnu_tar_wrote_is_the_tree_it_had(tmp_path, format):
    source, root = tmp_path / "source", tmp_path / "root"
    source.mkdir()
    root.mkdir()
    (source / "d").mkdir()
    (source / "d/f").write_bytes(os.urandom(5000))
    os.link(source / "d/f", source / "d/g")
    os.symlink("f", source / "d/h")
    if format in ("gnu", "posix"):
        Path(os.fsdecode(bytes(source) + b"/d/\xff" + b"x" * 150)).write_bytes(b"odd")
        os.utime(source / "d/f", (-1_000_000_000, -1_000_000_000))
    data = subprocess.run(
        ["tar", "-C", source, f"--format={format}", "-cf", "-", "."], capture_output=True, check=True
    ).stdout
    put(root, data)
    assert tree(root) == tree(source)
    assert os.lstat(root / "d/f").st_mtime == int(os.lstat(source / "d/f").st_mtime)


def test_a_damaged_header_is_an_error_not_an_end(tmp_path):
    good = layer(("a", b"1"), ("b", b"2"), format=tarfile.GNU_FORMAT)
    for bad, message in [
        (good[:1024] + b"x" + good[1025:], "tar: a header's checksum is"),
        (good[:1024] + good[1024:1300], "tar: the archive ends within a header"),
        (good[:520], "tar: the archive ends within an entry"),
        (good[:1024] + bytes(512) + good[1024:], "tar: a header follows a block of zeros"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            put(tmp_path, bad)


@given(st.binary(max_size=20), st.integers(0, 2200))
def test_whatever_comes_in_only_our_errors_come_out(tmp_path_factory, noise, at):
    root = tmp_path_factory.mktemp("root")
    good = layer(("a", b"1", {"pax_headers": {"comment": "c"}}), ("d/", None))
    with contextlib.suppress(VelociError):
        put(root, good[:at] + noise + good[at + len(noise) :])


names = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/c"])


@given(before=st.dictionaries(names, st.binary(max_size=9)), after=st.dictionaries(names, st.binary(max_size=9)))
def test_a_difference_applied_to_the_old_tree_makes_the_new(tmp_path_factory, before, after):
    root = tmp_path_factory.mktemp("root")
    gone = [(os.path.join(os.path.dirname(n), ".wh." + os.path.basename(n)), b"") for n in before.keys() - after.keys()]
    put(root, layer(*before.items()), layer(*gone, *after.items()))
    assert {name: content for name, content in tree(root).items() if content is not None} == after
