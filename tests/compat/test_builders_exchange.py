"""umoci, buildah and podman: what they write is read, and what we write they unpack, take as a base, and run."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from peers import Built, busybox, digest, run, veloci

pytestmark = pytest.mark.needs("root")
# podman asks for limits that a root without CAP_SYS_RESOURCE may not raise.
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "none"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """An image that runs."""
    return Built(tmp_path_factory.mktemp("shell") / "layout", busybox())


@pytest.fixture
def stores(tmp_path):
    """The words that give podman and buildah a store of their own; its run directory's name may not be long."""
    short = tempfile.mkdtemp(prefix="v")
    yield ["--root", tmp_path / "store", "--runroot", short, "--storage-driver", "vfs"]
    shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def buildah(stores):
    base = ["buildah", *stores]
    yield base
    run(*base, "rm", "--all", check=False)
    run(*base, "rmi", "--all", "--force", check=False)


@pytest.fixture
def podman(stores):
    base = ["podman", "--cgroup-manager", "cgroupfs", "--events-backend", "none", *stores]
    yield base
    run(*base, "rmi", "--all", "--force", check=False)


def tree(folder):
    """What is in a directory: each name with its mode, its owner, and its content."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        state = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (state.st_mode, state.st_uid, state.st_gid, content)
    return found


@pytest.mark.needs("umoci")
def test_umoci_unpacks_our_layout_to_our_tree(roots, shell, tmp_path):
    veloci("copy", "-q", f"oci:{shell.path}:v0", "app:v0")
    veloci("copy", "-q", "app:v0", f"oci:{tmp_path}/ours:v0")
    run("umoci", "unpack", "--image", f"{tmp_path}/ours:v0", tmp_path / "theirs")
    veloci("unpack", f"oci:{tmp_path}/ours:v0", tmp_path / "bundle")
    assert tree(tmp_path / "bundle/rootfs") == tree(tmp_path / "theirs/rootfs")
    ours, theirs = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("bundle", "theirs"))
    assert [ours["process"][key] for key in ("args", "cwd")] == [theirs["process"][key] for key in ("args", "cwd")]
    assert [ours["process"]["user"][key] for key in ("uid", "gid")] == [0, 0]


@pytest.mark.needs("umoci")
def test_a_layout_that_umoci_wrote_is_read(roots, tmp_path):
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/text").write_text("by umoci\n")
    (tmp_path / "tree/link").symlink_to("etc/text")
    run("umoci", "init", "--layout", tmp_path / "layout")
    run("umoci", "new", "--image", f"{tmp_path}/layout:v0")
    run("umoci", "config", "--image", f"{tmp_path}/layout:v0", "--config.cmd", "/bin/sh", "--config.env", "A=b")
    run("umoci", "insert", "--image", f"{tmp_path}/layout:v0", tmp_path / "tree", "/data")
    veloci("copy", "-q", f"oci:{tmp_path}/layout:v0", "theirs:v0")
    assert json.loads(veloci("inspect", "theirs:v0"))[0]["Config"]["Env"] == ["A=b"]
    veloci("unpack", "theirs:v0", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/data/etc/text").read_text() == "by umoci\n"
    assert os.readlink(tmp_path / "bundle/rootfs/data/link") == "etc/text"


@pytest.mark.needs("buildah")
@pytest.mark.parametrize(
    "place", ["oci:{}/b:v0", "docker-archive:{}/b.tar:theirs:v0", "oci-archive:{}/b.tar:v0", "dir:{}/b"]
)
@pytest.mark.parametrize("format", ["oci", "docker"])
def test_what_buildah_builds_on_ours_and_writes_is_read(roots, shell, tmp_path, buildah, place, format):
    veloci("copy", "-q", f"oci:{shell.path}:v0", f"oci-archive:{tmp_path}/ours.tar:v0")
    base = run(*buildah, "from", "--name", "work", f"oci-archive:{tmp_path}/ours.tar").strip()
    (tmp_path / "added").write_text("by buildah\n")
    run(*buildah, "copy", base, tmp_path / "added", "/added")
    run(*buildah, "config", "--env", "BY=buildah", base)
    run(*buildah, "commit", "-q", "--format", format, base, place.format(tmp_path))
    veloci("copy", "-q", place.format(tmp_path), "theirs:v0")
    assert "BY=buildah" in json.loads(veloci("inspect", "theirs:v0"))[0]["Config"]["Env"]
    veloci("unpack", "theirs:v0", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/added").read_text() == "by buildah\n"
    assert (tmp_path / "bundle/rootfs/etc/text").read_text() == "hello\n"


@pytest.mark.needs("podman")
@pytest.mark.parametrize(
    "place", ["oci:{}/o:v0", "oci-archive:{}/o.tar:v0", "dir:{}/d", "docker-archive:{}/d.tar:app:v0"]
)
def test_podman_takes_every_place_of_ours_and_runs_it(roots, shell, tmp_path, podman, place):
    veloci("copy", "-q", f"oci:{shell.path}:v0", place.format(tmp_path))
    theirs = place.format(tmp_path).removesuffix(":app:v0")
    (found,) = run(*podman, "pull", "-q", theirs).split()
    assert found == digest(shell.config)[7:]
    said = run(*podman, "run", "--rm", *LIMITS, found, "/bin/busybox", "cat", "/etc/text")
    assert said == "hello\n"


@pytest.mark.needs("podman")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_every_form_that_podman_saves_is_read(roots, shell, tmp_path, podman, form):
    run(*podman, "pull", "-q", f"oci:{shell.path}:v0")
    run(*podman, "tag", digest(shell.config)[7:], "app:v0")
    run(*podman, "save", "-q", "--format", form, "-o", tmp_path / "saved", "app:v0")
    place = {"oci-dir": "oci", "docker-dir": "dir"}.get(form, form)
    veloci("copy", "-q", f"{place}:{tmp_path}/saved", "theirs:v0")
    veloci("unpack", "theirs:v0", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/etc/text").read_text() == "hello\n"
