"""Layers kept in one way or another, side by side, and what only one of the ways has."""

import contextlib
import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from veloci.errors import HostError, InvalidInput, Unsupported
from veloci.layer.stream import Hashed
from veloci.snapshot import Snapshots
from veloci.snapshot.drivers import NAMES, better, driver, problem
from veloci.spec.digest import chain, of

pytestmark = pytest.mark.needs("root", "overlay")
erofs = pytest.mark.needs("erofs")


def tar(*members):
    """A tar of (name, content), content a bytes, or a hard link's or directory's fields."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            for key, value in content.items() if isinstance(content, dict) else ():
                setattr(info, key, value)
            info.size = len(content) if isinstance(content, bytes) else 0
            archive.addfile(info, io.BytesIO(content) if info.size else None)
    return out.getvalue()


FIRST = tar(("d", {"type": tarfile.DIRTYPE, "mode": 0o700, "uid": 5}), ("d/a", b"1" * 5000), ("d/b", b"2"), ("x", b"3"))
SECOND = tar(("d/.wh.b", b""), ("d/c", b"4"), ("hard", {"type": tarfile.LNKTYPE, "linkname": "d/a"}))
THIRD = tar(("d/.wh..wh..opq", b""), ("d/e", b"5"))


@pytest.fixture(params=["on a disk", "in memory"])
def snapshots(tmp_path, request):
    """A tmpfs holds no file that EROFS would mount: there it has loop devices, as with Linux before 6.12."""
    if request.param == "on a disk":
        yield Snapshots(str(tmp_path / "snapshots"))
        return
    place = tmp_path / "memory"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        yield Snapshots(str(place / "snapshots"))
        limit = time.monotonic() + 10  # what was mounted by a child that has ended goes a little later
        while left := [line for line in looped() if line.startswith(f"{place}/")]:
            assert time.monotonic() < limit, left
            time.sleep(0.05)
    finally:
        subprocess.run(["umount", place], check=True)


def looped():
    """The files that are loop devices."""
    found = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it ends while we look
            found.append(file.read_text())
    return found


@contextlib.contextmanager
def inside(tree):
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)
    try:
        yield Path(f"/proc/self/fd/{directory}")
    finally:
        os.close(directory)
        os.close(tree)


def names(root):
    return sorted(
        os.path.relpath(os.path.join(top, name), f"{root}/.")
        for top, _, files in os.walk(f"{root}/.")
        for name in files
    )


def kept(*ways):
    """The cases of these ways, of which a host may lack one."""
    return pytest.mark.parametrize("ways", [pytest.param(each, marks=erofs if "e" in each else ()) for each in ways])


def apply(snapshots, monkeypatch, ways):
    """FIRST, SECOND and THIRD, each kept in the way its letter says."""
    top = ""
    for way, each in zip(ways, (FIRST, SECOND, THIRD), strict=False):
        monkeypatch.setenv("VELOCI_SNAPSHOTTER", {"e": "erofs", "o": "overlay", "c": "copy"}[way])
        top = snapshots.apply(top, of(each), [each])
    return top


@kept("ee", "oo", "eo", "oe", "cc", "ec", "oc")
def test_layers_of_both_kinds_stack_and_look_the_same(snapshots, monkeypatch, ways):
    with inside(snapshots.view(apply(snapshots, monkeypatch, ways))) as root:
        assert names(root) == ["d/a", "d/c", "hard", "x"]
        assert os.stat(root / "d").st_uid == 5
        assert os.stat(root / "d").st_mode & 0o7777 == 0o700
        assert (root / "hard").read_bytes() == b"1" * 5000
        assert os.path.samefile(root / "hard", root / "d/a")


@kept("eee", "ooo", "eoe", "oeo", "eeo", "ooe", "ccc", "oec", "coo")
def test_an_opaque_directory_hides_what_is_below_in_whatever_form(snapshots, monkeypatch, ways):
    with inside(snapshots.view(apply(snapshots, monkeypatch, ways))) as root:
        assert names(root) == ["d/e", "hard", "x"]


@erofs
def test_a_layer_is_four_names_however_many_files_it_has(snapshots, monkeypatch):
    apply(snapshots, monkeypatch, "e")
    assert sorted(os.listdir(snapshots.layer(of(FIRST)))) == ["fs", "index", "lowers", "tar"]
    assert Path(snapshots.layer(of(FIRST)), "tar").read_bytes() == FIRST


@erofs
def test_every_file_is_on_one_device_and_keeps_its_number_when_it_is_changed(snapshots, monkeypatch):
    snapshots.prepare("a", apply(snapshots, monkeypatch, "ee"))
    with inside(snapshots.mount("a")) as root:
        before = {name: os.stat(root / name) for name in (".", "d", "d/a", "d/c", "x")}
        assert len({status.st_dev for status in before.values()}) == 1
        os.chmod(root / "x", 0o600)
        (root / "d/c").write_bytes(b"more")
        assert os.stat(root / "x").st_ino == before["x"].st_ino
        assert os.stat(root / "d/c").st_ino == before["d/c"].st_ino


@erofs
def test_what_is_written_upon_it_is_a_layer_as_any_other(snapshots, monkeypatch):
    top = apply(snapshots, monkeypatch, "ee")
    snapshots.prepare("a", top)
    with inside(snapshots.mount("a")) as root:
        os.unlink(root / "x")
        (root / "d/a").write_bytes(b"changed")
        os.mkdir(root / "n")
        os.rename(root / "d/c", root / "n/c")
    changes = Hashed(snapshots.changes("a"))
    layer = b"".join(changes)
    committed = snapshots.commit("a", changes.digest)
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", "erofs")
    other = Snapshots(snapshots.root + "-other")
    for parent, each in (("", FIRST), (of(FIRST), SECOND), (top, layer)):
        again = other.apply(parent, of(each), [each])
    assert again == committed == chain(top, changes.digest)
    for store in (snapshots, other):
        with inside(store.view(committed)) as root:
            assert names(root) == ["d/a", "hard", "n/c"]
            assert (root / "d/a").read_bytes() == b"changed"


@erofs
def test_removing_it_leaves_nothing(snapshots, monkeypatch):
    apply(snapshots, monkeypatch, "ee")
    assert snapshots.collect([]) >= len(FIRST)
    assert snapshots.chain_ids() == []
    assert os.listdir(f"{snapshots.root}/ingest") == []


@erofs
def test_a_mount_outlives_the_removal_of_its_layers(snapshots, monkeypatch):
    tree = snapshots.view(apply(snapshots, monkeypatch, "e"))
    snapshots.collect([])
    with inside(tree) as root:
        assert (root / "d/a").read_bytes() == b"1" * 5000


@erofs
def test_one_that_this_kernel_cannot_mount_says_what_to_do(snapshots, monkeypatch):
    top = apply(snapshots, monkeypatch, "e")
    Path(snapshots.layer(top), "index").write_bytes(bytes(4096))  # as unknown as blocks of 512 bytes before Linux 6.4
    words = r"mount a layer that is kept as its tar, which takes root and EROFS as of Linux 6.4: .*nvalid argument"
    with pytest.raises(HostError, match=words) as failure:
        snapshots.view(top)
    assert failure.value.hint == "remove the image, and pull it again with --snapshotter overlay"


@erofs
def test_programs_run_from_it(snapshots, monkeypatch):
    busybox = Path("/bin/busybox").read_bytes()
    layer = tar(("bin", {"type": tarfile.DIRTYPE, "mode": 0o755}), ("bin/busybox", busybox))
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", "erofs")
    snapshots.prepare("a", snapshots.apply("", of(layer), [layer]))
    with inside(snapshots.mount("a")) as root:
        os.chmod(root / "bin/busybox", 0o755)
        assert subprocess.check_output([f"/proc/{os.getpid()}/fd/{root.name}/bin/busybox", "echo", "run"]) == b"run\n"


def test_a_container_without_overlayfs_has_a_copy_and_its_changes_are_the_same_layer(snapshots, monkeypatch):
    layers = []
    for way in ("copy", "overlay"):
        monkeypatch.setenv("VELOCI_SNAPSHOTTER", way)
        snapshots.prepare(way, apply(snapshots, monkeypatch, way[0] * 2))
        with inside(snapshots.mount(way)) as root:
            assert names(root) == ["d/a", "d/c", "hard", "x"]
            os.unlink(root / "x")
            (root / "d/c").write_bytes(b"changed")
            os.utime(root / "d/c", (7, 7))
            os.mkdir(root / "empty")
        layers.append(b"".join(snapshots.changes(way, epoch=9, mount_points=[b"empty"])))
    assert layers[0] == layers[1]
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", "copy")
    with inside(snapshots.view(snapshots.commit("copy", of(layers[0])))) as root:
        assert names(root) == ["d/a", "d/c", "hard"]
        assert (root / "d/c").read_bytes() == b"changed"


@erofs
def test_the_store_chooses_once_and_says_no_to_what_it_does_not_know(snapshots, monkeypatch):
    monkeypatch.delenv("VELOCI_SNAPSHOTTER", raising=False)
    assert driver(snapshots) == "erofs"
    Path(snapshots.root, "driver").write_text("overlay\n")
    assert driver(snapshots) == "overlay"
    assert (problem(snapshots, "erofs"), problem(snapshots, "overlay")) == ("", "")
    assert better(snapshots) == [("erofs", "works here, by --snapshotter or in a new store")]
    assert sorted(os.listdir(snapshots.root)) == ["driver", "ingest", "lock"]
    Path(snapshots.root, "driver").write_text("tape\n")
    with pytest.raises(InvalidInput, match="no snapshotter 'tape'"):
        driver(snapshots)


def test_a_store_on_a_file_system_that_takes_no_overlay_copies_and_says_why(tmp_path, monkeypatch):
    monkeypatch.delenv("VELOCI_SNAPSHOTTER", raising=False)
    for name in ("lower", "upper", "work", "store"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", tmp_path / "store"], check=True)
    try:
        snapshots = Snapshots(str(tmp_path / "store/snapshots"))
        assert driver(snapshots) == "copy"
        assert [name for name, why in better(snapshots) if why.startswith("not here: mount 2 layers")] == list(
            NAMES[:2]
        )
        for name in NAMES[:2]:
            with pytest.raises(Unsupported) as refused:
                apply(snapshots, monkeypatch, name[0])
            assert refused.value.hint == "copy works here"
            assert better(snapshots)[-1] == (name, str(refused.value).replace(f"--snapshotter: {name}", "not here"))
        monkeypatch.delenv("VELOCI_SNAPSHOTTER")
        assert snapshots.chain_ids() == os.listdir(f"{snapshots.root}/ingest") == []
        snapshots.prepare("a", snapshots.apply("", of(FIRST), [FIRST]))
        with inside(snapshots.mount("a")) as root:
            assert names(root) == ["d/a", "d/b", "x"]
    finally:
        subprocess.run(["umount", tmp_path / "store"], check=True)
