"""`system check` says what is damaged, all of it and nothing else; --repair takes away that alone."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from box import VELOCI
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from peers import Built, digest, tar
from peers import inside as veloci

from veloci.errors import VelociError
from veloci.layer.apply import apply
from veloci.layer.differences import differences

pytestmark = pytest.mark.needs("root", "overlay")
BOTH = pytest.mark.parametrize("pulled", ["overlay", "erofs"], indirect=True)
REPAIR = "veloci system check --repair"


def check(*words, says=None):
    """The lines of a check, but the last, which is compared."""
    done = veloci("system", "check", *words, check=False)
    *lines, last = done.stdout.splitlines()
    assert done.stderr == ""
    if says:
        assert (done.returncode, last.partition(": ")[2], lines) == (0, says, [])
    else:
        count = "1 damage" if len(lines) == 1 else f"{len(lines)} damages"
        assert (done.returncode, last.partition(": ")[2]) == (1, count)
    return lines


def tree(path):
    """Every file below a path, and what is in it; not what is locked, and written anew each time."""
    found = {}
    for top, _, names in os.walk(path):
        if not top.endswith("/leases"):
            found |= {f"{top}/{name}": os.lstat(f"{top}/{name}").st_ino for name in names}
    return found


@pytest.fixture
def pulled(request, pushed, roots, monkeypatch):
    """The image, pulled from a registry and unpacked, in the way that the test says; its blobs' paths."""
    pushed.form = getattr(request, "param", "overlay")
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", pushed.form)
    try:
        veloci("pull", "-q", pushed.name)
    except AssertionError:
        if pushed.form == "erofs":
            pytest.skip("this kernel mounts no file by EROFS")
        raise
    pushed.root = root = roots / "data"
    pushed.blob = lambda data: str(root / "content/blobs/sha256" / digest(data)[7:])
    return pushed


def flip(path, at=100):
    with Path(path).open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@BOTH
def test_a_whole_store_is_left_as_it_is(pulled):
    before = tree(pulled.root)
    check(says="whole")
    check("--repair", says="whole")
    assert tree(pulled.root) == before


def test_an_empty_store_is_whole(roots):
    check(says="whole")


@pytest.mark.parametrize(
    ("part", "how"),
    [("manifest", "changed"), ("config", "changed"), *(("layer", how) for how in ("changed", "cut", "gone", "link"))],
)
def test_a_damaged_blob_is_told_removed_and_pulled_again(pulled, tmp_path, part, how):
    raw = {"manifest": pulled.manifest, "config": pulled.config, "layer": pulled.layers[2]}[part]
    path = pulled.blob(raw)
    if how == "changed":
        flip(path)
    elif how == "cut":
        os.truncate(path, len(raw) // 2)
    else:
        os.unlink(path)
        if how == "link":
            (tmp_path / "there").write_bytes(raw)
            os.symlink(tmp_path / "there", path)
    got = digest(Path(path).read_bytes()) if how in ("changed", "cut") else ""
    pull = f"veloci pull {pulled.name}"
    if how == "gone":
        expected = f"blob {digest(raw)}: is not here; {pulled.name} needs it: {pull}"
        assert check() == check("--repair") == [expected]
    else:
        problem = f"has other bytes, those of {got}" if got else "is no plain file"
        assert check() == [f"blob {path}: {problem}: {REPAIR}, then {pull}"]
        assert os.path.lexists(path)
        assert check("--repair") == [f"blob {path}: {problem}: removed, {pull}"]
        assert not os.path.lexists(path)
    others = tree(pulled.root)
    veloci("pull", "-q", pulled.name)
    check(says="whole")
    assert {name: inode for name, inode in tree(pulled.root).items() if name in others and "/blobs/" in name} == {
        name: inode for name, inode in others.items() if "/blobs/" in name
    }


def test_what_is_no_blob_and_names_that_cannot_be_read_are_told(pulled):
    stray = pulled.root / "content/blobs/sha256/stray"
    stray.write_bytes(b"x")
    name = next((pulled.root / "content/refs").rglob(":v0"))
    name.write_bytes(b'{"mediaType":')
    found = check("--repair")
    assert len(found) == 2
    assert found[0].startswith(f"name {name}: ")
    assert found[0].endswith(": removed")
    assert found[1] == f"{stray}: is no blob: remove it: rm -r {stray}"
    stray.unlink()
    veloci("pull", "-q", pulled.name)
    check(says="whole")


@pytest.mark.parametrize("how", ["garbage", "old", "gone", "no layout"])
def test_what_other_tools_read_is_written_anew(pulled, how):
    content = pulled.root / "content"
    index, problem = content / "index.json", "index.json cannot be read"
    before = index.read_bytes()
    if how == "garbage":
        index.write_bytes(b"{")
    elif how == "old":
        index.write_bytes(b'{"schemaVersion":2,"manifests":[]}')
        problem = "index.json does not list the images"
    else:
        path = index if how == "gone" else content / "oci-layout"
        path.unlink()
        problem = f"{path.name} is not there"
    assert check() == [f"{content}: {problem}: {REPAIR}"]
    assert check("--repair") == [f"{content}: {problem}: written anew"]
    assert index.read_bytes() == before
    check(says="whole")


def layer(pulled, at):
    """The directory of the image's layer, unpacked."""
    from veloci.spec.digest import chain_ids

    chain = chain_ids([digest(each) for each in pulled.tars])[at]
    return pulled.root / "snapshots/layers" / chain.replace(":", "-")


@BOTH
@pytest.mark.parametrize("how", ["content", "mode", "gone", "lowers", "layer"])
def test_a_damaged_layer_is_unpacked_again(pulled, how):
    path, problem = layer(pulled, 2), "/data/x1 has other content"
    file = path / "fs/data/x1"
    if how == "layer":
        for each in path.iterdir():
            subprocess.run(["rm", "-r", each], check=True)
        problem = "does not say what is below it"
    elif how == "lowers":
        (path / "lowers").write_text("sha256-" + "1" * 64 + "\n")
        problem = "does not say what is below it"
    elif pulled.form == "erofs":
        flip(path / "tar", 100_000)
        got = digest((path / "tar").read_bytes())
        problem = f"has another tar: content: expected {digest(pulled.tars[2])}, got {got}"
    elif how == "content":
        flip(file)
    elif how == "mode":
        file.chmod(0o700)
        problem = "/data/x1 has the mode 0700, not 0755"
    else:
        file.unlink()
        problem = "/data/x1 is not there"
    above, second = layer(pulled, 3), os.stat(layer(pulled, 1)).st_ino
    found = check()
    assert found[0] == f"layer {path}: {problem}: {REPAIR}"
    assert check("--repair")[0] == f"layer {path}: {problem}: unpacked again"
    assert above.exists()
    assert os.stat(layer(pulled, 1)).st_ino == second  # what is below was whole
    check(says="whole")


def test_a_layer_whose_blob_is_damaged_too_waits_for_the_pull(pulled):
    (layer(pulled, 2) / "lowers").unlink()
    flip(pulled.blob(pulled.layers[2]))
    blob, found, *_ = check("--repair")
    assert blob.endswith(f": removed, veloci pull {pulled.name}")
    assert found == f"layer {layer(pulled, 2)}: does not say what is below it: removed, veloci pull {pulled.name}"
    assert not layer(pulled, 2).exists()
    assert not layer(pulled, 3).exists()  # it stood on that
    assert layer(pulled, 1).exists()
    veloci("pull", "-q", pulled.name)
    check(says="whole")


@pytest.mark.needs("busybox", "namespaces")
def test_what_a_running_container_stands_on_stays(box):
    id = box.started("bb", "sleep", "60")
    box.ok("system", "check")
    (place,) = (box.path / "data/snapshots/layers").glob("sha256-*")
    (place / "lowers").write_text("nothing\n")  # its mount is there already
    done = box.veloci("system", "check", "--repair")
    assert done.returncode == 1
    assert f"layer {place}: does not say what is below it: in use; veloci stop {id[:12]}, then {REPAIR}" in done.stdout
    assert box.ok("exec", id, "cat", "/etc/group") == "root:x:0:\nguest:x:1000:\n"
    box.ok("stop", "-t", "0", id)
    assert "unpacked again" in box.veloci("system", "check", "--repair").stdout
    box.ok("start", id)
    box.ok("rm", "-f", id)
    box.ok("system", "check")


@pytest.mark.needs("busybox", "namespaces")
def test_a_container_whose_files_are_gone_is_told(box):
    id = box.ok("create", "--network", "none", "bb", "true").strip()
    subprocess.run(["rm", "-r", box.path / "data/snapshots/writable" / id], check=True)
    done = box.veloci("system", "check")
    assert done.stdout.splitlines()[0] == f"container {id[:12]}: snapshot {id} is not here: veloci rm -f {id[:12]}"
    box.ok("rm", "-f", id)
    box.ok("system", "check")


def test_checks_and_pulls_go_on_side_by_side(pushed, roots):
    code = f"""
from peers import inside
for _ in range(6):
    inside("pull", "-q", {pushed.name!r})
    inside("rmi", {pushed.name!r})
"""
    others = [subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "tests"}, cwd=Path(__file__).parents[2]) for _ in range(2)]  # fmt: skip
    while any(other.poll() is None for other in others):
        done = subprocess.run([VELOCI, "system", "check", "--repair"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for other in others:
        other.wait()
    veloci("pull", "-q", pushed.name)
    check(says="whole")


def test_an_image_that_was_made_wrong_is_told(roots, tmp_path):
    built = Built(tmp_path / "layout")
    other = Built(tmp_path / "other", [built.tars[0], tar({"c": b"c"})])
    built.document["config"] = other.document["config"]
    built.config = other.config
    from json import dumps

    built.manifest = dumps(built.document).encode()
    built.write([(built.manifest, built.document["mediaType"], "v0")])
    veloci("copy", "-q", f"oci:{built.path}:v0", "app:v0")
    (found,) = check()
    want = digest(other.tars[1])
    assert found == (
        f"blob {digest(built.layers[1])}: does not unpack to {want}: content: expected {want}, "
        f"got {digest(built.tars[1])}: it was made so; veloci rmi docker.io/library/app:v0"
    )
    assert check("--repair") == [found]


NAMES = st.sampled_from(["a", "b", "a/c", "a/c/d", "b/e", ".wh.a", ".wh.b", "a/.wh.c", "a/.wh..wh..opq", "l", "l/f"])
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])


@settings(max_examples=100)
@example([("b/e", tarfile.REGTYPE, b""), ("b", tarfile.REGTYPE, b""), ("b", tarfile.DIRTYPE, b"")])
@given(st.lists(st.tuples(NAMES, KINDS, st.binary(max_size=20)), max_size=8))
def test_what_was_just_unpacked_differs_in_nothing(tmp_path_factory, entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, data in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.REGTYPE if ".wh." in name else kind
            info.size = len(data) if info.type == tarfile.REGTYPE else 0
            info.linkname = "b" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info, io.BytesIO(data))
    root = os.open(tmp_path_factory.mktemp("tree"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            apply([out.getvalue()], root, overlay=True)
        except VelociError:
            assume(False)
        assert differences([out.getvalue()], root) == {}
    finally:
        os.close(root)
