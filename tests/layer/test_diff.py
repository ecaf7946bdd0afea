"""What was written above a tree, as a layer: the same bytes each time, and others make the same tree of it."""

import contextlib
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veloci.layer.apply import apply
from veloci.layer.diff import diff, tree
from veloci.snapshot.overlay import mounted

pytestmark = pytest.mark.needs("root", "overlay")


@contextlib.contextmanager
def opened(path, parent=None):
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)
    try:
        yield directory
    finally:
        os.close(directory)


class Overlay:
    """An overlay of two directories; `upper` is changed through `merged`."""

    def __init__(self, top):
        for name in ("lower", "upper", "work", "empty"):
            os.makedirs(top / name)
        self.lower, self.upper = top / "lower", top / "upper"
        self.top = top

    @contextlib.contextmanager
    def merged(self):
        mount = mounted([str(self.lower), str(self.top / "empty")], str(self.upper), str(self.top / "work"))
        try:
            with opened(".", mount) as merged:
                yield Path(f"/proc/self/fd/{merged}")
        finally:
            os.close(mount)

    def diff(self, **options):
        with opened(self.upper) as upper, opened(self.lower) as lower:
            return b"".join(diff(upper, lower, **options))


@pytest.fixture
def overlay(tmp_path):
    return Overlay(tmp_path)


def listed(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return [
            info.name + ("/" if info.isdir() else f" => {info.linkname}" if info.islnk() else "") for info in archive
        ]


def seen(root):
    """Everything that a diff must carry, by path."""
    found, links = {}, {}
    for top, directories, files in os.walk(f"{root}/."):
        directories.sort()  # of several links the first is the file, in every file system's order
        for name in sorted(directories + files):
            path = os.path.join(top, name)
            key = os.path.relpath(path, f"{root}/.")
            status = os.lstat(path)
            content = (
                Path(path).read_bytes()
                if stat.S_ISREG(status.st_mode)
                else os.readlink(path)
                if stat.S_ISLNK(status.st_mode)
                else status.st_rdev
            )
            time = None if stat.S_ISDIR(status.st_mode) else int(status.st_mtime)
            attributes = {
                k: os.getxattr(path, k, follow_symlinks=False)
                for k in os.listxattr(path, follow_symlinks=False)
                if "overlay" not in k
            }
            first = links.setdefault(status.st_ino, key) if not stat.S_ISDIR(status.st_mode) else key
            found[key] = (status.st_mode, status.st_uid, status.st_gid, time, content, attributes, first)
    return found


def test_only_what_changed_is_in_it_and_its_parents(overlay):
    for name in ("a/b/one", "a/b/two", "c/three", "gone/x", "file"):
        (overlay.lower / name).parent.mkdir(parents=True, exist_ok=True)
        (overlay.lower / name).write_bytes(b"1")
    with overlay.merged() as root:
        (root / "a/b/one").write_bytes(b"2")
        (root / "a/b/.hidden").write_bytes(b"new")
        os.utime(root / "c/three")
        os.utime(root / "c/three", ns=(0, os.lstat(overlay.lower / "c/three").st_mtime_ns))  # copied up, as before
        shutil.rmtree(root / "gone")
        (root / "file").unlink()
        (root / "was").write_bytes(b"")
        (root / "was").unlink()
        (root / "z").mkdir()
    assert listed(overlay.diff()) == ["a/", "a/b/", "a/b/.hidden", "a/b/one", ".wh.file", ".wh.gone", "z/"]


def test_an_overlay_in_which_nothing_changed_is_an_empty_tar(overlay):
    (overlay.lower / "d").mkdir()
    (overlay.lower / "d/f").write_bytes(b"1")
    with overlay.merged() as root:
        (root / "d/x").touch()
        (root / "d/x").unlink()
        os.chmod(root / "d/f", 0o644)
    assert overlay.diff() == bytes(1024)


def test_new_content_of_the_same_size_and_time_is_noticed(overlay):
    (overlay.lower / "f").write_bytes(b"one")
    time = os.lstat(overlay.lower / "f").st_mtime_ns
    with overlay.merged() as root:
        (root / "f").write_bytes(b"two")
        os.utime(root / "f", ns=(time, time))
    assert listed(overlay.diff()) == ["f"]


def test_a_directory_made_anew_is_opaque(overlay):
    (overlay.lower / "d").mkdir()
    (overlay.lower / "d/old").write_bytes(b"")
    with overlay.merged() as root:
        shutil.rmtree(root / "d")
        (root / "d").mkdir()
        (root / "d/new").write_bytes(b"")
    assert listed(overlay.diff()) == ["d/", "d/.wh..wh..opq", "d/new"]


def test_a_link_to_a_lower_file_carries_the_file(overlay):
    (overlay.lower / "b").write_bytes(b"1")
    with overlay.merged() as root:
        os.link(root / "b", root / "a")
        os.link(root / "b", root / "c")
    assert listed(overlay.diff()) == ["a", "b => a", "c => a"]


def test_a_changed_root_is_an_entry(overlay):
    with overlay.merged() as root:
        os.chmod(root, 0o711)
    assert listed(overlay.diff()) == ["./"]


def everything(root):
    (root / "d").mkdir()
    os.chmod(root / "d", 0o3771)
    (root / "d/f").write_bytes(os.urandom(700_000))
    os.setxattr(root / "d/f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.setxattr(root / "d", "user.a", b"\0\xff=\n")
    (root / ("n" * 120)).write_bytes(b"long")
    os.symlink("x" * 150, root / "s")
    (root / "größe").write_bytes(b"")
    Path(os.fsdecode(bytes(root) + b"/\xff\xfe")).write_bytes(b"")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chown(root / "fifo", 3_000_000, 4_000_000_000)
    os.utime(root / "d/f", (-5, -5))
    os.link(root / "d/f", root / "d/g")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(root):
        server.bind("socket")


def test_all_that_a_tree_holds_is_carried_but_sockets(tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    copy.mkdir()
    everything(source)
    with opened(source) as root:
        tar = b"".join(tree(root))
    assert "socket" not in listed(tar)
    with opened(copy) as root:
        apply([tar], root, overlay=False)
    want = seen(source)
    del want["socket"]
    assert seen(copy) == want


def test_gnu_tar_reads_it(tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    copy.mkdir()
    everything(source)
    with opened(source) as root:
        tar = b"".join(tree(root))
    ran = subprocess.run(
        ["tar", "-C", copy, "--xattrs", "--xattrs-include=*", "-xpf", "-"], input=tar, capture_output=True, check=True
    )
    assert b"rror" not in ran.stderr  # it warns of the time before 1970
    want = seen(source)
    del want["socket"]
    assert seen(copy) == want


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    def made(name, order):
        (tmp_path / name).mkdir()
        for file in order:
            (tmp_path / name / file).write_bytes(file.encode())
            os.utime(tmp_path / name / file, (7, 7))
        with opened(tmp_path / name) as root:
            return b"".join(tree(root))

    assert made("one", "abc") == made("two", "cab")


def test_no_time_is_after_the_epoch_given(overlay):
    with overlay.merged() as root:
        (root / "old").touch()
        os.utime(root / "old", (5, 5))
        (root / "new").touch()
    with tarfile.open(fileobj=io.BytesIO(overlay.diff(epoch=1000))) as archive:
        assert {info.name: info.mtime for info in archive} == {"old": 5, "new": 1000}


names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), paths, st.binary(max_size=4)),
        st.tuples(st.just("mkdir"), paths, st.integers(0, 1)),
        st.tuples(st.just("remove"), paths, st.none()),
        st.tuples(st.just("link"), paths, paths),
        st.tuples(st.just("symlink"), paths, paths),
        st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o711, 0o4755])),
        st.tuples(st.just("rename"), paths, paths),
        st.tuples(st.just("xattr"), paths, st.binary(max_size=3)),
    ),
    max_size=14,
)


def act(root, script):
    for verb, path, value in script:
        target = root / path
        with contextlib.suppress(OSError, shutil.Error):
            if verb == "write":
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(value)
                os.utime(target, (len(value), len(value)))
            elif verb == "mkdir":
                target.mkdir(parents=True)
            elif verb == "remove":
                shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()
            elif verb == "link":
                os.link(target, root / value, follow_symlinks=False)
            elif verb == "symlink":
                os.symlink(value, target)
                os.utime(target, (9, 9), follow_symlinks=False)
            elif verb == "chmod":
                target.chmod(value)
            elif verb == "rename":
                os.rename(target, root / value)
            elif verb == "xattr":
                os.setxattr(target, "user.x", value)


@settings(max_examples=80)
@given(before=steps, after=steps)
def test_the_difference_applied_to_the_old_tree_gives_the_new(tmp_path_factory, before, after):
    top = tmp_path_factory.mktemp("pair")
    overlay = Overlay(top)
    act(overlay.lower, before)
    with overlay.merged() as root:
        act(root, after)
        want = seen(root)
    tar = overlay.diff()
    assert tar == overlay.diff()
    (top / "layer").mkdir()
    plain = top / "plain"
    shutil.copytree(overlay.lower, plain, symlinks=True)
    with opened(plain) as target:
        subprocess.run(["cp", "-aT", overlay.lower, plain], check=True)
        apply([tar], target, overlay=False)
    assert seen(plain) == want
    with opened(top / "layer") as target:
        apply([tar], target, overlay=True)
    mount = mounted([str(top / "layer"), str(overlay.lower)])
    try:
        with opened(".", mount) as root:
            assert seen(f"/proc/self/fd/{root}") == want
    finally:
        os.close(mount)
    shutil.rmtree(top)
