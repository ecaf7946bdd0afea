"""Layers become a mounted root file system, in the kernel's own words."""

import contextlib
import io
import os
import random
import signal
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from veloci.content.store import Store
from veloci.errors import Conflict, Corrupt, InvalidInput, NotFound, Unsupported
from veloci.layer.apply import apply
from veloci.snapshot import Snapshots
from veloci.snapshot.drivers import problem
from veloci.snapshot.overlay import classic
from veloci.spec import media
from veloci.spec.digest import chain, of

pytestmark = pytest.mark.needs("root", "overlay")


def layer(*entries):
    """A tar of (name, content, fields); content None is a directory; `a => b` a hard link, `a -> b` a symlink."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content, *fields in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            for arrow, kind in ((" -> ", tarfile.SYMTYPE), (" => ", tarfile.LNKTYPE)):
                if arrow in name:
                    info.name, _, info.linkname = name.partition(arrow)
                    info.type = kind
            info.size, info.mode = len(content or b"") if info.isreg() else 0, 0o755
            for field in fields:
                for key, value in field.items():
                    setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


BASE = layer(
    ("./", None, {"mode": 0o711}),
    ("usr/", None),
    ("usr/lib/", None, {"mode": 0o2750, "gid": 7, "mtime": 77}),
    ("usr/lib/a", b"a", {"uid": 3, "mtime": 5, "mode": 0o640}),
    ("lib -> usr/lib", b""),
    ("etc/", None),
    ("etc/gone", b"1"),
    ("etc/keep", b"1"),
)
TOP = layer(
    ("usr/lib/b", b"b"), ("lib/c", b"c"), ("etc/.wh.gone", b""), ("usr/hard => usr/lib/a", b""), ("usr/x/y", b"y")
)


def overlays():
    """The overlay mounts of ours in our mount table; other tests' commands come and go beside us."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/layers/" in line]


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "content"))


@pytest.fixture(params=["overlay", "erofs", "copy"])
def snapshots(tmp_path, request, monkeypatch):
    why = problem(Snapshots(str(tmp_path / "tried")), request.param) if request.param == "erofs" else ""
    if why:
        pytest.skip(f"this host cannot mount it: {why}")
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", request.param)
    return Snapshots(str(tmp_path / "snapshots"))


@pytest.fixture
def chosen(snapshots, monkeypatch):
    """The store has chosen how layers are kept: what is asked for is tried by every command, on a layer of its own."""
    os.mkdir(snapshots.root, 0o700)
    Path(snapshots.root, "driver").write_text(f"{snapshots.driver}\n")
    monkeypatch.delenv("VELOCI_SNAPSHOTTER")


def layers(store, *tars):
    return [(store.adopt([tar], media.LAYER), of(tar)) for tar in tars]


@contextlib.contextmanager
def inside(tree):
    """The directory behind a detached mount, as a path."""
    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)
    try:
        yield Path(f"/proc/self/fd/{directory}")
    finally:
        os.close(directory)
        os.close(tree)


def files(root):
    """Path -> content, for what is no directory."""
    found = {}
    for top, directories, names in os.walk(f"{root}/."):
        for name in names + [d for d in directories if os.path.islink(os.path.join(top, d))]:
            path = os.path.join(top, name)
            with contextlib.suppress(FileNotFoundError):  # one layer's directory shows overlayfs's whiteouts of nothing
                found[os.path.relpath(path, f"{root}/.")] = (
                    "-> " + os.readlink(path) if os.path.islink(path) else Path(path).read_bytes()
                )
    return found


WHOLE = {
    "usr/lib/a": b"a",
    "usr/lib/b": b"b",
    "usr/lib/c": b"c",
    "usr/hard": b"a",
    "usr/x/y": b"y",
    "lib": "-> usr/lib",
    "etc/keep": b"1",
}


def test_layers_are_one_tree_and_nothing_is_in_the_mount_table(snapshots, store):
    mounts = overlays()
    top = snapshots.unpack(store, layers(store, BASE, TOP))
    assert top == chain(of(BASE), of(TOP))
    with inside(snapshots.view(top)) as root:
        assert files(root) == WHOLE
        assert overlays() == mounts
        with pytest.raises(OSError, match="Read-only file system"):
            (root / "new").write_bytes(b"")


def test_directories_that_a_layer_does_not_list_look_as_those_below(snapshots, store):
    with inside(snapshots.view(snapshots.unpack(store, layers(store, BASE, TOP)))) as root:
        library = os.stat(root / "usr/lib")
        assert (library.st_mode & 0o7777, library.st_gid, library.st_mtime) == (0o2750, 7, 77)
        assert os.stat(f"{root}/.").st_mode & 0o7777 == 0o711
        assert os.stat(root / "usr/x").st_mode & 0o7777 == 0o755


def random_layer(choose):
    """A tar of directories with owners, modes and attributes, files in directories that it does not list, whiteouts."""
    out, names = io.BytesIO(), ["a", "b", "c"]
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for _ in range(choose.randrange(1, 7)):
            path = "/".join(choose.choices(names, k=choose.randrange(1, 4)))
            kind = choose.choice(["directory", "directory", "file", "file", ".wh.", ".wh..wh..opq"])
            name = {"directory": path, "file": f"{path}/f"}.get(kind) or f"{path}/{kind}"
            info = tarfile.TarInfo(f"{name}{choose.choice(names)}" if kind == ".wh." else name)
            if kind == "directory":
                info.type, info.mode = tarfile.DIRTYPE, choose.choice([0o700, 0o755, 0o1777])
                info.pax_headers = {"SCHILY.xattr.trusted.x": str(choose.random())}
            info.uid, info.mtime = choose.randrange(9), choose.randrange(1 << 30)
            archive.addfile(info)
    return out.getvalue()


def described(snapshots, chain_id):
    """Every file's path, mode, owner, time and attributes."""
    with inside(snapshots.view(chain_id)) as root:
        found = {}
        for top, _, names in os.walk(f"{root}/."):
            for path in [top, *(os.path.join(top, name) for name in names)]:
                try:
                    status, keys = os.lstat(path), os.listxattr(path, follow_symlinks=False)
                except FileNotFoundError:
                    continue  # as in `files`
                xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in keys}
                of_file = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)
                found[os.path.relpath(path, f"{root}/.")] = of_file
    return found


@pytest.mark.parametrize("snapshots", ["erofs"], indirect=True)
@pytest.mark.parametrize("seed", range(5))
def test_layers_that_come_together_look_as_those_that_come_one_by_one(snapshots, store, tmp_path, seed):
    """What they want of those below is in memory in the one case, and mounted in the other."""
    choose = random.Random(seed)
    tars = [layer(("./", None, {"mtime": 1})), *(random_layer(choose) for _ in range(5))]
    other, top = Snapshots(str(tmp_path / "other")), ""
    for tar in tars:
        top = other.apply(top, of(tar), [tar])
    assert snapshots.unpack(store, layers(store, *tars)) == top
    assert described(snapshots, top) == described(other, top)


def test_a_file_that_takes_the_place_of_a_directory_stays(snapshots, store):
    top = layer(("usr/lib/b", b"b"), ("usr/hard => etc/keep", b""), ("usr", b"file"), ("lib/c", b"c"), ("lib", b"too"))
    with inside(snapshots.view(snapshots.unpack(store, layers(store, BASE, top)))) as root:
        assert files(root) == {"usr": b"file", "lib": b"too", "etc/gone": b"1", "etc/keep": b"1"}


def quarrelling(choose):
    """A tar whose few names are files and directories by turns, with whiteouts of them."""
    entries = []
    for _ in range(choose.randrange(1, 7)):
        name = choose.choice(["a", "b", "a/a", "a/b", "a/a/b"])
        head, _, last = name.rpartition("/")
        directory, opaque = (name, None), (f"{name}/.wh..wh..opq", b"")
        kinds = [[(name, b"%d" % choose.randrange(99))], [directory], [directory, opaque]]
        entries += choose.choice([*kinds, [(f"{head}/.wh.{last}".lstrip("/"), b"")]])
    return layer(*entries)


BELOW = layer(("a/below", b"1"), ("b/below", b"2"), ("c/below", b"3"), ("d/below", b"4"))
TWICE = layer(
    *(("a", b""), ("a", None), ("b", b""), ("b/in", b"5"), ("c -> a", b""), ("c", None)),
    *(("d", None), ("d", b""), ("d", None), ("d/in", b"6")),
)


@pytest.mark.parametrize("seed", range(12))
def test_a_container_sees_the_tree_that_unpacking_makes(snapshots, store, tmp_path, seed):
    """Entry by entry, as the specification has it and umoci does it; docker refuses a name that comes twice."""
    choose = random.Random(seed)
    tars = [quarrelling(choose) for _ in range(3)] if seed else [BELOW, TWICE]
    (tmp_path / "plain").mkdir()
    root = os.open(tmp_path / "plain", os.O_RDONLY)
    for tar in tars:
        apply([tar], root, overlay=False)
    os.close(root)
    with inside(snapshots.view(snapshots.unpack(store, layers(store, *tars)))) as seen:
        assert files(seen) == files(tmp_path / "plain")


def test_a_hard_link_to_a_lower_layer_is_a_hard_link(snapshots, store):
    with inside(snapshots.view(snapshots.unpack(store, layers(store, BASE, TOP)))) as root:
        one, two = os.stat(root / "usr/lib/a"), os.stat(root / "usr/hard")
        assert (one.st_ino, one.st_uid, one.st_mtime, one.st_mode & 0o7777) == (two.st_ino, 3, 5, 0o640)


def test_a_hard_link_has_what_was_below_whatever_takes_the_other_name(snapshots, store):
    """And what removes below a file of its own layer removes nothing."""
    top = layer(
        *(("1 => etc/keep", b""), ("2 => etc/keep", b""), ("etc/keep", b"new"), ("3 => usr/lib/a", b"")),
        *(("usr/lib/a", None), ("4 => etc/gone", b""), ("etc/.wh.gone", b""), ("5", b""), ("5/.wh..wh..opq", b"")),
        *(("6/x", b""), ("6 => etc/keep", b"")),
    )
    with inside(snapshots.view(snapshots.unpack(store, layers(store, BASE, top)))) as root:
        expected = {
            "1": b"1",
            "2": b"1",
            "3": b"a",
            "4": b"1",
            "5": b"",
            "6": b"new",
            "etc/keep": b"new",
            "lib": "-> usr/lib",
        }
        assert files(root) == expected
        assert os.stat(root / "1").st_ino == os.stat(root / "2").st_ino


def test_layers_may_be_applied_in_any_order_and_at_once(snapshots, store):
    def backwards(function, items):
        return reversed([function(item) for item in reversed(list(items))])

    top = snapshots.unpack(store, layers(store, BASE, TOP), parallel=backwards)
    with inside(snapshots.view(top)) as root:
        assert files(root) == WHOLE


def test_the_next_unpack_does_nothing(snapshots, store):
    images = layers(store, BASE, TOP)
    top = snapshots.unpack(store, images)
    for descriptor, _ in images:
        store.remove(descriptor.digest)
    assert snapshots.unpack(store, images) == top
    assert sorted(snapshots.chain_ids()) == sorted([of(BASE), top])


def test_a_container_writes_above_its_layers(snapshots, store):
    top = snapshots.unpack(store, layers(store, BASE))
    snapshots.prepare("one", top)
    snapshots.prepare("two", top)
    assert snapshots.parent("one") == top
    with inside(snapshots.mount("one")) as root:
        (root / "etc/new").write_bytes(bytes(5000))
        (root / "etc/keep").unlink()
        assert os.stat(f"{root}/.").st_mode & 0o7777 == 0o711
    with inside(snapshots.mount("two")) as root:
        assert "etc/keep" in files(root)
    assert 5000 < snapshots.usage("one") < 40_000
    with pytest.raises(Conflict, match="snapshot one is in use"):
        snapshots.prepare("one", top)
    assert sorted(snapshots.keys()) == ["one", "two"]
    snapshots.remove("one")
    snapshots.remove("one")
    assert snapshots.keys() == ["two"]
    with pytest.raises(NotFound, match="snapshot one is not here"):
        snapshots.mount("one")
    assert os.listdir(f"{snapshots.root}/ingest") == []


def test_a_snapshot_may_stand_on_nothing(snapshots):
    snapshots.prepare("empty", "")
    assert snapshots.parent("empty") == ""
    with inside(snapshots.mount("empty")) as root:
        assert files(root) == {}
        (root / "a").write_bytes(b"a")
    with inside(snapshots.view("")) as root:
        assert files(root) == {}


def test_what_was_written_becomes_a_layer(snapshots, store):
    top = snapshots.unpack(store, layers(store, BASE))
    snapshots.prepare("step", top)
    with inside(snapshots.mount("step")) as root:
        (root / "etc/new").write_bytes(b"2")
        (root / "etc/gone").unlink()
    committed = snapshots.commit("step", of(b"tar"))
    assert committed == chain(top, of(b"tar"))
    assert snapshots.keys() == []
    with inside(snapshots.view(committed)) as root:
        assert files(root)["etc/new"] == b"2"
        assert "etc/gone" not in files(root)


def test_a_layer_comes_from_a_stream(snapshots):
    base = snapshots.apply("", of(BASE), [BASE])
    top = snapshots.apply(base, of(TOP), [TOP])
    assert snapshots.apply(base, of(TOP), [TOP]) == top
    with inside(snapshots.view(top)) as root:
        assert files(root) == WHOLE


def test_a_layer_that_is_not_what_was_promised_leaves_nothing(snapshots, store):
    with pytest.raises(Corrupt):
        snapshots.apply("", of(b"other"), [BASE])
    descriptor = store.adopt([TOP], media.LAYER)
    with pytest.raises(Corrupt):
        snapshots.unpack(store, [*layers(store, BASE), (descriptor, of(b"other"))])
    with pytest.raises(InvalidInput):
        snapshots.apply("", of(b"x" * 600), [b"x" * 600])
    assert snapshots.chain_ids() == []
    assert os.listdir(f"{snapshots.root}/ingest") == []


def test_keys_and_layers_that_are_not_there(snapshots):
    with pytest.raises(NotFound, match=f"layer {of(b'')} is not unpacked"):
        snapshots.prepare("a", of(b""))
    for key in ("", "..", "a/b", ".hidden"):
        with pytest.raises(InvalidInput, match="cannot be a snapshot's key"):
            snapshots.prepare(key, "")


@pytest.mark.parametrize("snapshots", ["overlay"], indirect=True)  # the others take a second a layer on a slow disk
def test_three_hundred_layers_are_one_mount(snapshots):
    top = ""
    for number in range(300):
        tar = layer((f"f{number}", b"x"), ("top", b"%d" % number))
        top = snapshots.apply(top, of(tar), [tar])
    snapshots.prepare("deep", top)
    if snapshots.driver == "overlay" and tuple(map(int, os.uname().release.split(".")[:2])) < (6, 8):
        with pytest.raises(Unsupported, match="this kernel cannot mount 300 layers"):
            snapshots.mount("deep")
        return
    with inside(snapshots.mount("deep")) as root:
        assert len(os.listdir(root)) == 301
        assert (root / "top").read_bytes() == b"299"


def test_long_paths_are_no_limit(tmp_path):
    snapshots = Snapshots(str(tmp_path / ("x" * 200) / "snapshots"))
    snapshots.apply("", of(BASE), [BASE])
    snapshots.prepare("a", of(BASE))
    with inside(snapshots.mount("a")) as root:
        assert "etc/keep" in files(root)


def test_kernels_before_lowerdir_plus_get_the_same_mount(snapshots, store, tmp_path):
    mounts = overlays()
    top = snapshots.unpack(store, layers(store, BASE, TOP))
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    lowers = snapshots._lowers(snapshots.layer(top), "")
    with inside(classic(lowers, str(tmp_path / "upper"), str(tmp_path / "work"))) as root:
        assert files(root) == WHOLE
        (root / "new").write_bytes(b"")
    assert os.listdir(tmp_path / "upper") == ["new"]
    with inside(classic(lowers)) as root, pytest.raises(OSError, match="Read-only"):
        (root / "new").write_bytes(b"")
    with pytest.raises(OSError, match="No such file"):
        classic([str(tmp_path / "none")])
    with pytest.raises(Unsupported, match="this kernel cannot mount 300 layers"):
        classic([lowers[0]] * 300)
    assert overlays() == mounts


def form(snapshots):
    return "Archive" if snapshots.driver == "erofs" else "Directory"


def unpacker(snapshots, store, images, extra=""):
    code = (
        "import sys, time\nfrom veloci.content.store import Store\nfrom veloci.snapshot import Snapshots\n"
        "from veloci.spec.image import Descriptor\n"
        f"images = {[(d.digest, d.size, i) for d, i in images]!r}\n{extra}\n"
        f"print(Snapshots({snapshots.root!r}).unpack(Store({store.root!r}), [(Descriptor(media_type='application/vnd.oci.image.layer.v1.tar', digest=d, size=s), i) for d, s, i in images]))\n"
    )
    return [sys.executable, "-c", code]


@pytest.mark.usefixtures("chosen")
def test_many_unpack_the_same_at_once_and_it_is_done_once(snapshots, store):
    images = layers(store, BASE, TOP)
    count = f"from veloci.snapshot.forms import {form(snapshots)} as Form\nread = Form.read\ndef counted(self, chunks):\n    print('applied', flush=True); time.sleep(0.2); read(self, chunks)\nForm.read = counted"
    running = [
        subprocess.Popen(unpacker(snapshots, store, images, count), stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    said = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 6
    assert sum(words.count("applied") for words in said) == 2
    assert {words[-1] for words in said} == {chain(of(BASE), of(TOP))}


def test_one_takes_over_from_one_that_was_killed(snapshots, store):
    images = layers(store, BASE, TOP)
    hang = f"from veloci.snapshot.forms import {form(snapshots)} as Form\ndef hang(*a):\n    print('here', flush=True); time.sleep(60)\nForm.settle = hang"
    process = subprocess.Popen(unpacker(snapshots, store, images, hang), stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    waiting = subprocess.Popen(unpacker(snapshots, store, images), stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    assert waiting.poll() is None
    process.kill()
    process.wait()
    process.stdout.close()
    assert waiting.communicate()[0].strip() == chain(of(BASE), of(TOP))
    with inside(snapshots.view(chain(of(BASE), of(TOP)))) as root:
        assert files(root) == WHOLE


@pytest.mark.usefixtures("chosen")
@pytest.mark.needs("strace")
@pytest.mark.parametrize("call", ["rename", "mkdir", "fchmod", "openat2", "fsync", "syncfs"])
def test_a_kill_at_any_step_leaves_whole_layers_or_none(snapshots, store, call):
    images = layers(store, BASE, TOP)
    for step in (1, 2, 4, 7):
        killed = subprocess.run(
            [
                "strace",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                f"inject={call}:signal=KILL:when={step}",
                *unpacker(snapshots, store, images),
            ],
            check=False,
            capture_output=True,
        )
        assert killed.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL)
        for found in snapshots.chain_ids():
            with inside(snapshots.view(found)) as root:
                assert len(files(root)) == (len(WHOLE) if found != of(BASE) else 4)
    top = snapshots.unpack(store, images)
    with inside(snapshots.view(top)) as root:
        assert files(root) == WHOLE
    assert os.listdir(f"{snapshots.root}/ingest") == []


def test_what_starts_a_container_imports_almost_nothing(snapshots):
    if snapshots.driver == "copy":
        pytest.skip("copying is not quick anyway")
    snapshots.apply("", of(BASE), [BASE])
    code = (
        "import sys; before = set(sys.modules)\n"
        "from veloci.snapshot import Snapshots; from veloci.content.names import Names; from veloci.content.store import Store\n"
        f"from veloci.image.image import Image; s = Snapshots({snapshots.root!r}); s.prepare('k', {of(BASE)!r}); s.mount('k')\n"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('veloci')))\n"
    )
    seen = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    classic = tuple(map(int, os.uname().release.split(".")[:2])) < (6, 8)  # the mount comes from a child, by a socket
    assert set(seen) - ({"_socket"} if classic else set()) <= {
        "__future__",
        "_ctypes",
        "ctypes",
        "ctypes._endian",
        "_struct",
        "errno",
        "fcntl",
        "stat",
        "struct",
        "types",
        "_sha256",
        "_sha2",
    }


def test_the_store_is_for_its_owner_alone(snapshots):
    snapshots.apply("", of(BASE), [BASE])
    assert stat.S_IMODE(os.stat(snapshots.root).st_mode) == 0o700
