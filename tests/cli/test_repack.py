"""Bundles: unpacked, changed and packed again, by us and by umoci, one from the other's."""

import gzip
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import isal
import pytest
from peers import Built, digest, run
from peers import inside as veloci

from veloci.layer import mtree
from veloci.layer.pick import pick
from veloci.spec import media

pytestmark = pytest.mark.needs("root", "umoci")

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def layer(*entries):
    """A tar of (name, content, fields); no content is a directory, unless a field says another type."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, fields in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.mode, info.size, info.mtime = 0o755, len(content or b""), 1_700_000_000
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


def xattr(key, value):
    return {"pax_headers": {f"SCHILY.xattr.{key}": value}}


@pytest.fixture
def rich(roots, tmp_path):
    """An image of three layers with everything that a layer can hold."""
    link, hard = {"type": tarfile.SYMTYPE}, {"type": tarfile.LNKTYPE}
    below = layer(
        ("etc/", None, {}),
        ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n", {"mode": 0o644}),
        ("etc/gone", b"1", {}),
        ("bin/", None, {}),
        ("bin/su", b"su" * 1000, {"mode": 0o4755}),
        ("bin/ping", b"ping", xattr("security.capability", CAPABILITY.decode("latin-1"))),
        ("tmp/", None, {"mode": 0o1777}),
        ("hidden/", None, {}),
        ("hidden/a", b"1", {}),
        ("changed/", None, {"uid": 3, "gid": 4}),
        ("changed/x", b"1", {"uid": 5, "gid": 6}),
        ("dirlink", b"", {**link, "linkname": "etc"}),
    )
    middle = layer(
        ("etc/.wh.gone", b"", {}),
        ("hidden/.wh..wh..opq", b"", {}),
        ("hidden/b", b"2", {}),
        ("changed/x", b"2", {"mode": 0o600, "uid": 7, "gid": 8}),
        ("implied/deep/file", b"3", {}),
        ("bin/sudo", b"", {**hard, "linkname": "bin/su", "mode": 0o4755}),
        ("link", b"", {**link, "linkname": "/etc/passwd"}),
        ("fifo", b"", {"type": tarfile.FIFOTYPE}),
        ("n" * 120, b"long", {}),
        ("sp ace #[x]", b"odd", {}),
        ("old", b"", {"mtime": -5}),
    )
    top = layer(
        ("bin/", None, {"mode": 0o711}),
        ("changed/", None, {"mode": 0o700, "uid": 3, "gid": 4}),
        ("hidden/c", b"", {**hard, "linkname": "hidden/b"}),
    )
    return Built(tmp_path / "rich", [below, middle, top])


def seen(root):
    """All that is to be known of a tree."""
    found, links = {}, {}
    for top, directories, names in os.walk(root):
        directories.sort()
        for name in sorted(directories + names):
            path = os.path.join(top, name)
            key, status = os.path.relpath(path, root), os.lstat(path)
            mode = status.st_mode
            content = (
                os.readlink(path) if stat.S_ISLNK(mode) else Path(path).read_bytes() if stat.S_ISREG(mode) else b""
            )
            attributes = {
                k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)
            }
            first = key if stat.S_ISDIR(mode) else links.setdefault(status.st_ino, key)
            time = int(status.st_mtime)
            found[key] = (oct(mode), status.st_uid, status.st_gid, time, content, attributes, status.st_rdev, first)
    return found


def differences(one, two):
    return {key: (one.get(key), two.get(key)) for key in {*one, *two} if one.get(key) != two.get(key)}


def test_umoci_unpacks_the_same(rich, tmp_path):
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "ours")
    run("umoci", "unpack", "--image", f"{rich.path}:v0", tmp_path / "theirs")
    ours, theirs = seen(tmp_path / "ours/rootfs"), seen(tmp_path / "theirs/rootfs")
    assert "hidden/a" not in ours
    assert "etc/gone" not in ours
    times = {"implied", "implied/deep"}  # which no layer lists: umoci gives them the present time
    assert {key: values for key, values in differences(ours, theirs).items() if key not in times} == {}


@pytest.mark.needs("podman")
def test_podman_unpacks_the_same(rich, tmp_path, short):
    veloci("unpack", "--raw", f"oci:{rich.path}:v0", tmp_path / "ours")
    podman = ["podman", "--root", short / "root", "--runroot", short / "run", "--storage-driver", "vfs"]
    name = run(*podman, "pull", "-q", f"oci:{rich.path}:v0").strip()
    theirs = run(*podman, "image", "mount", name).strip()
    try:
        # Its vfs driver copies layer by layer: links of several names come apart, times before 1970 are lost.
        found = differences(
            *({key: values[:7] for key, values in seen(root).items()} for root in (tmp_path / "ours/rootfs", theirs))
        )
        needed = {"etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "etc/group"}  # by its containers
        tops = {"dev", "proc", "sys", "run", "implied", "old"}
        rest = {key for key in found if key.split("/")[0] not in tops} - needed
        assert rest <= {"bin", "changed", "hidden", "etc"}  # their times
    finally:
        run(*podman, "image", "umount", "--all")
        run(*podman, "rmi", "--all", "--force", check=False)


@pytest.fixture
def short():
    """A directory with a short name: podman's sockets want one."""
    path = Path("/tmp/veloci-repack")
    path.mkdir()
    yield path
    shutil.rmtree(path)


def test_the_manifest_is_what_umoci_writes(rich, tmp_path):
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "ours")
    run("umoci", "unpack", "--image", f"{rich.path}:v0", tmp_path / "theirs")
    name = f"sha256_{digest(rich.manifest)[7:]}.mtree"
    ours, theirs = (mtree.parse((tmp_path / side / name).read_bytes().splitlines()) for side in ("ours", "theirs"))
    for manifest in (ours, theirs):
        manifest[b""].pop("tar_time")
        for path in (b"implied", b"implied/deep"):
            manifest[path].pop("tar_time")
        for values in manifest.values():
            values.pop("nlink", None)  # of a device umoci does not say it
    assert ours == theirs
    one, two = (json.loads((tmp_path / side / "umoci.json").read_bytes()) for side in ("ours", "theirs"))
    assert one.pop("veloci_image") == f"oci:{rich.path}:v0"
    two["from_descriptor_path"]["descriptor_walk"][0].pop("annotations")
    assert one == two


def change(root):
    """Changes of every kind. Returns what a layer of them holds."""
    (root / "etc/passwd").write_text("app:x:1:1::/:/bin/sh\n")
    (root / "new").mkdir()
    (root / "new/file").write_bytes(b"new")
    os.chown(root / "new/file", 9, 9)
    (root / "bin/ping").unlink()
    shutil.rmtree(root / "implied")
    os.chmod(root / "tmp", 0o700)
    (root / "link").unlink()
    (root / "link").mkdir()
    shutil.rmtree(root / "hidden")
    (root / "hidden").write_bytes(b"a file now")
    os.setxattr(root / "old", "user.a", b"b")
    return [".wh.implied", "bin/.wh.ping", "etc/passwd", "hidden", "link/", "new/", "new/file", "old", "tmp/"]


def top_layer(image):
    """The names in an image's last layer, and its config."""
    entry = json.loads((Path(image) / "index.json").read_bytes())["manifests"][-1]
    blobs = Path(image) / "blobs/sha256"
    manifest = json.loads((blobs / entry["digest"][7:]).read_bytes())
    with tarfile.open(blobs / manifest["layers"][-1]["digest"][7:]) as archive:
        names = sorted(info.name + ("/" if info.isdir() else "") for info in archive)
    return names, json.loads((blobs / manifest["config"]["digest"][7:]).read_bytes()), manifest


def test_what_changed_becomes_a_layer(rich, tmp_path):
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "bundle")
    want = change(tmp_path / "bundle/rootfs")
    veloci("repack", "--history-created-by", "me", tmp_path / "bundle", f"oci:{rich.path}:v1")
    names, config, manifest = top_layer(rich.path)
    assert names == want
    assert config["history"][-1]["created_by"] == "me"
    assert [layer["digest"] for layer in manifest["layers"][:3]] == [digest(layer) for layer in rich.layers]
    assert veloci("image", "validate", f"oci:{rich.path}:v1").endswith(": valid\n")
    run("umoci", "unpack", "--image", f"{rich.path}:v1", tmp_path / "again")
    times = {path.rstrip("/") for path in want} | {"bin", "etc"}
    found = differences(seen(tmp_path / "bundle/rootfs"), seen(tmp_path / "again/rootfs"))
    assert {key for key in found if key not in times} == set()
    assert Path(tmp_path / "again/rootfs/hidden").read_bytes() == b"a file now"
    assert not (tmp_path / "again/rootfs/implied").exists()


def test_umoci_repacks_our_bundle_and_we_theirs(rich, tmp_path):
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "ours")
    run("umoci", "unpack", "--image", f"{rich.path}:v0", tmp_path / "theirs")
    for side in ("ours", "theirs"):
        change(tmp_path / side / "rootfs")
    run("umoci", "repack", "--image", f"{rich.path}:v1", tmp_path / "ours")
    veloci("repack", tmp_path / "theirs", f"oci:{rich.path}:v2")
    for name in ("v1", "v2"):
        run("umoci", "unpack", "--image", f"{rich.path}:{name}", tmp_path / name)
    found = differences(seen(tmp_path / "v1/rootfs"), seen(tmp_path / "v2/rootfs"))
    fresh = {"etc/passwd", "hidden", "link", "new", "new/file", "bin", "etc", "tmp"}  # changed a moment later
    assert {key for key in found if key not in fresh} == set()


def test_umoci_finds_no_difference_from_our_manifest(rich, tmp_path):
    """It reads the manifest with gomtree's library, go-mtree, and compares the files with it."""
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "bundle")
    run("umoci", "repack", "--image", f"{rich.path}:same", tmp_path / "bundle")
    before, after = (json.loads(veloci("stat", "--json", f"oci:{rich.path}:{name}")) for name in ("v0", "same"))
    assert json.dumps(after).count("layer.v1.tar") == json.dumps(before).count("layer.v1.tar") > 0


def test_nothing_changed_is_no_layer(rich, tmp_path):
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "bundle")
    out = veloci("repack", tmp_path / "bundle", f"oci:{tmp_path}/other:v0")
    assert f"digest: {digest(rich.manifest)}" in out
    assert {p.name for p in (tmp_path / "other/blobs/sha256").iterdir()} == {
        p.name for p in (rich.path / "blobs/sha256").iterdir()
    }


def test_volumes_and_masked_paths_are_left_out_and_a_bundle_is_refreshed(rich, tmp_path):
    veloci("image", "config", "--volume", "/data", f"oci:{rich.path}:v0")
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "bundle")
    root = tmp_path / "bundle/rootfs"
    for name in ("data", "mask", "kept"):
        (root / name).mkdir()
        (root / name / "x").write_bytes(b"1")
    flags = ["--mask-path", "/mask", "--refresh-bundle"]
    veloci("repack", *flags, tmp_path / "bundle", f"oci:{rich.path}:v1")
    assert top_layer(rich.path)[0] == ["kept/", "kept/x"]
    (root / "kept/y").write_bytes(b"2")
    veloci("repack", "--no-mask-volumes", tmp_path / "bundle", f"oci:{rich.path}:v2")
    assert top_layer(rich.path)[0] == ["kept/y"]
    assert len(top_layer(rich.path)[2]["layers"]) == 5
    assert len(list((tmp_path / "bundle").glob("*.mtree"))) == 1


def test_ids_are_mapped_there_and_back(rich, tmp_path):
    maps = [f"--{kind}-map=0:100000:65536" for kind in ("uid", "gid")]
    veloci("unpack", *maps, f"oci:{rich.path}:v0", tmp_path / "ours")
    run("umoci", "unpack", *maps, "--image", f"{rich.path}:v0", tmp_path / "theirs")
    ours, theirs = seen(tmp_path / "ours/rootfs"), seen(tmp_path / "theirs/rootfs")
    assert ours["changed/x"][1:3] == (100007, 100008)
    times = {"implied", "implied/deep"}
    assert {key: values for key, values in differences(ours, theirs).items() if key not in times} == {}
    assert os.stat(tmp_path / "ours/rootfs").st_uid == 100000
    config = json.loads((tmp_path / "ours/config.json").read_bytes())
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 100000, "size": 65536}]
    assert {"type": "user"} in config["linux"]["namespaces"]
    (tmp_path / "ours/rootfs/mine").write_bytes(b"1")
    os.chown(tmp_path / "ours/rootfs/mine", 100005, 100006)
    veloci("repack", tmp_path / "ours", f"oci:{rich.path}:v1")
    run("umoci", "raw", "unpack", "--image", f"{rich.path}:v1", tmp_path / "raw")
    assert (os.stat(tmp_path / "raw/mine").st_uid, os.stat(tmp_path / "raw/mine").st_gid) == (5, 6)
    (tmp_path / "ours/rootfs/root").write_bytes(b"1")  # owned by our root, whom no map has
    done = veloci("repack", tmp_path / "ours", f"oci:{rich.path}:v2", check=False)
    assert done.stderr == "veloci: the user 0 has no counterpart in the ID map\n  try: --uid-map\n"
    done = veloci("unpack", "--uid-map=0:100000:5", f"oci:{rich.path}:v0", tmp_path / "few", check=False)
    assert done.stderr == "veloci: the user 5 has no counterpart in the ID map\n  try: --uid-map\n"
    assert not (tmp_path / "few").exists()


def user(*words, home):
    """A command of ours as an ordinary user."""
    done = subprocess.run(
        ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", *map(str, words)],
        capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(home), "VELOCI_ROOT": str(home / "data")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("setpriv")
def test_an_ordinary_user_unpacks_and_repacks_and_owners_stay(rich, tmp_path):
    home = Path("/tmp/veloci-rootless")
    home.mkdir()
    try:
        os.chown(home, 65533, 65533)
        shutil.copytree(rich.path, home / "rich")
        modules = ":".join((str(Path("src").resolve()), str(Path(isal.__file__).parents[1])))
        program = ["/usr/bin/env", f"PYTHONPATH={modules}", "/usr/bin/python3"]
        if subprocess.run(
            ["setpriv", "--reuid=65533", *program, "-c", "import veloci, isal.isal_zlib"],
            check=False,
            capture_output=True,
        ).returncode:
            pytest.skip("an ordinary user cannot read this checkout")
        user(*program, "-m", "veloci", "unpack", f"oci:{home}/rich:v0", home / "bundle", home=home)
        assert os.stat(home / "bundle/rootfs/changed/x").st_uid == 65533
        assert os.getxattr(home / "bundle/rootfs/changed/x", "user.rootlesscontainers") == b"\x08\x07\x10\x08"
        (home / "bundle/rootfs/changed/x").write_bytes(b"9")
        user(*program, "-m", "veloci", "repack", home / "bundle", f"oci:{home}/new:v1", home=home)
        with tarfile.open(fileobj=io.BytesIO(_last(home / "new"))) as archive:
            assert [(info.name, info.uid, info.gid) for info in archive] == [("changed/x", 7, 8)]
    finally:
        shutil.rmtree(home)


def test_rootless_form_notes_owners_and_gives_them_back(rich, tmp_path):
    """As root, with --rootless: what an ordinary user gets."""
    built = Built(
        tmp_path / "nodes", [*rich.tars, layer(("null", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}))]
    )
    veloci("unpack", "--rootless", f"oci:{built.path}:v0", tmp_path / "ours")
    run("umoci", "unpack", "--rootless", "--image", f"{built.path}:v0", tmp_path / "theirs")
    ours, theirs = seen(tmp_path / "ours/rootfs"), seen(tmp_path / "theirs/rootfs")
    assert ours["changed/x"][5] == {"user.rootlesscontainers": b"\x08\x07\x10\x08"}
    assert ours["changed/x"] == theirs["changed/x"]
    assert stat.S_ISREG(os.stat(tmp_path / "ours/rootfs/null").st_mode)
    config = json.loads((tmp_path / "ours/config.json").read_bytes())
    assert {"type": "user"} in config["linux"]["namespaces"]
    assert "resources" not in config["linux"]
    (tmp_path / "ours/rootfs/changed/x").write_bytes(b"9")
    (tmp_path / "ours/rootfs/mine").write_bytes(b"1")
    veloci("repack", tmp_path / "ours", f"oci:{built.path}:v1")
    with tarfile.open(fileobj=io.BytesIO(_last(built.path))) as archive:
        assert {info.name: (info.uid, info.gid, info.pax_headers) for info in archive} == {
            "changed/x": (7, 8, {}),
            "mine": (0, 0, {}),
        }


def _last(image):
    manifest = top_layer(image)[2]
    assert manifest["layers"][-1]["mediaType"] == media.LAYER_GZIP
    return (Path(image) / "blobs/sha256" / manifest["layers"][-1]["digest"][7:]).read_bytes()


@pytest.mark.parametrize("keep", [False, True])
def test_a_symlink_to_a_directory_stays_if_wanted(rich, tmp_path, keep):
    built = Built(tmp_path / "links", [*rich.tars, layer(("dirlink/", None, {}), ("dirlink/new", b"1", {}))])
    flags = ["--keep-dirlinks"] if keep else []
    veloci("unpack", *flags, f"oci:{built.path}:v0", tmp_path / "ours")
    assert (tmp_path / "ours/rootfs/dirlink").is_symlink() is keep
    assert (tmp_path / "ours/rootfs/etc/new").exists() is keep
    run("umoci", "raw", "unpack", *flags, "--image", f"{built.path}:v0", tmp_path / "theirs")
    assert set(seen(tmp_path / "ours/rootfs")) == set(seen(tmp_path / "theirs"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--uid-map=a:b:c", "--uid-map: 'a:b:c' is no line of an ID map\n  try: CONTAINER:HOST:SIZE, 0:100000:65536"),
        ("--gid-map=0", "--gid-map: '0' is no line of an ID map\n  try: CONTAINER:HOST:SIZE, 0:100000:65536"),
        ("--uid-map=0:4294967290:6", "--uid-map: '0:4294967290:6' goes beyond the last ID, 4294967294"),
    ],
)
def test_what_is_no_map(rich, tmp_path, flag, message):
    done = veloci("unpack", flag, f"oci:{rich.path}:v0", tmp_path / "b", check=False)
    assert (done.returncode, done.stderr) == (1, f"veloci: {message}\n")


def test_what_is_no_bundle(rich, tmp_path):
    (tmp_path / "b").mkdir()
    done = veloci("repack", tmp_path / "b", f"oci:{rich.path}:v1", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"veloci: {tmp_path}/b: is no bundle of unpack's: there is no umoci.json\n",
    )


@pytest.fixture
def outside(tmp_path):
    """A directory of the host with a secret in it, which has an attribute."""
    place = tmp_path / "outside"
    place.mkdir()
    for name in ("secret", "passwd"):
        (place / name).write_bytes(b"the host's")
    os.setxattr(place / "secret", "user.seen", b"1")
    return place


def test_links_of_a_bundle_bring_nothing_of_the_host_into_a_layer(rich, outside, tmp_path):
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "bundle")
    assert stat.S_IMODE(os.stat(tmp_path / "bundle").st_mode) == 0o700  # programs with setuid are below
    root = tmp_path / "bundle/rootfs"
    shutil.rmtree(root / "etc")
    os.symlink("../../outside", root / "etc")
    os.symlink(outside, root / "directory")
    os.symlink(outside / "secret", root / "file")
    veloci("repack", tmp_path / "bundle", f"oci:{rich.path}:v1")
    assert b"the host's" not in gzip.decompress(_last(rich.path))
    with tarfile.open(fileobj=io.BytesIO(_last(rich.path))) as archive:
        kinds = {info.name: (info.issym(), info.linkname, info.pax_headers) for info in archive}
    assert kinds == {
        "directory": (True, str(outside), {}),
        "etc": (True, "../../outside", {}),
        "file": (True, f"{outside}/secret", {}),
    }
    root.rename(tmp_path / "moved")
    root.symlink_to(outside)
    done = veloci("repack", tmp_path / "bundle", f"oci:{rich.path}:v2", check=False)
    assert (done.returncode, done.stderr) == (1, f"veloci: {tmp_path}/bundle: open rootfs: Not a directory\n")


def test_a_directory_that_became_a_link_is_looked_for_in_the_root(outside, tmp_path):
    """Between the comparison and the reading: the container may still run."""
    (tmp_path / "root").mkdir()
    os.symlink(outside, tmp_path / "root/d")
    root = os.open(tmp_path / "root", os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        b"".join(pick(root, [b"d/secret"]))
    os.close(root)


@pytest.mark.parametrize("name", ["..", r"\056\056", r"a\057b", "../../outside/secret"])
def test_a_manifest_whose_names_lead_out_is_refused(rich, tmp_path, name):
    veloci("unpack", f"oci:{rich.path}:v0", tmp_path / "bundle")
    (manifest,) = (tmp_path / "bundle").glob("*.mtree")
    lines = manifest.read_bytes().split(b"\n")
    manifest.write_bytes(b"\n".join([*lines[:5], f"    {name} type=file".encode(), *lines[5:]]))
    done = veloci("repack", tmp_path / "bundle", f"oci:{rich.path}:v1", check=False)
    if name == "..":  # ends the root, and what follows is in none
        assert done.stderr.startswith("veloci: mtree: ")
    else:
        assert done.stderr.endswith("is no file's name\n")
    assert done.returncode == 1


@pytest.mark.parametrize("target", ["{}", "../../../../../../../../../../../..{}"])
def test_a_link_that_is_kept_leads_inside(rich, outside, tmp_path, target):
    link = ("away", b"", {"type": tarfile.SYMTYPE, "linkname": target.format(outside)})
    built = Built(tmp_path / "hostile", [*rich.tars, layer(link), layer(("away/", None, {}), ("away/new", b"1", {}))])
    veloci("unpack", "--keep-dirlinks", f"oci:{built.path}:v0", tmp_path / "ours")
    assert sorted(os.listdir(outside)) == ["passwd", "secret"]
    assert (tmp_path / "ours/rootfs/away/new").read_bytes() == b"1"
