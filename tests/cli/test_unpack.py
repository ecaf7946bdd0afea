"""`veloci unpack`: any place to a bundle, as umoci makes it."""

import json
import os
import subprocess
import sys

import pytest

from veloci.content.names import Names
from veloci.content.store import Store
from veloci.image.assemble import assemble
from veloci.layer.diff import tree
from veloci.spec import media
from veloci.spec.digest import of

pytestmark = pytest.mark.needs("root")


def veloci(*words):
    return subprocess.run([sys.executable, "-m", "veloci", *words], capture_output=True, text=True, check=False)


@pytest.fixture
def image(roots):
    """An image in the local store that is an OCI layout too; its root as a path."""
    source = roots / "source"
    (source / "bin").mkdir(parents=True)
    (source / "etc").mkdir()
    (source / "bin/sh").write_bytes(b"#!")
    os.chmod(source / "bin/sh", 0o4755)
    (source / "etc/passwd").write_text("app:x:12:34::/home/app:/bin/sh\n")
    root = os.open(source, os.O_DIRECTORY)
    tar = b"".join(tree(root))
    os.close(root)
    store = Store(str(roots / "data/content"))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"User": "app", "Env": ["A=b"], "Cmd": ["sh", "-c", "true"], "WorkingDir": "/tmp"},
        "rootfs": {"type": "layers", "diff_ids": [of(tar)]},
    }
    Names(store.root).set("docker.io/library/app:latest", assemble(store, config, [store.put(tar, media.LAYER)]))
    return store.root


@pytest.mark.parametrize("place", ["app", "oci"])
def test_a_bundle_has_the_files_and_the_configuration(roots, image, place):
    name = "app" if place == "app" else f"oci:{image}:docker.io/library/app:latest"
    done = veloci("unpack", name, str(roots / "bundle"))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    config = json.loads((roots / "bundle/config.json").read_bytes())
    assert config["process"]["args"] == ["sh", "-c", "true"]
    assert (config["process"]["user"]["uid"], config["process"]["user"]["gid"]) == (12, 34)
    assert config["process"]["cwd"] == "/tmp"
    assert "A=b" in config["process"]["env"]
    assert config["root"]["path"] == "rootfs"
    assert os.stat(roots / "bundle/rootfs/bin/sh").st_mode & 0o7777 == 0o4755
    assert sorted(os.listdir(roots)) == ["bundle", "data", "source"]


def test_a_directory_that_holds_something_is_left_alone(roots, image):
    done = veloci("unpack", "app", str(roots / "source"))
    assert done.returncode == 1
    assert done.stderr == f"veloci: {roots}/source is there already\n  try: choose another directory\n"


@pytest.mark.needs("umoci")
def test_umoci_makes_the_same_tree(roots, image):
    assert veloci("unpack", "app", str(roots / "ours")).returncode == 0
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{image}:docker.io/library/app:latest", f"oci:{roots}/layout:app"], check=True
    )
    subprocess.run(
        ["umoci", "unpack", "--image", f"{roots}/layout:app", roots / "theirs"], check=True, capture_output=True
    )
    listing = "find . -printf '%p %m %U %G %T@ %s %l\\n' | sort"
    seen = [
        subprocess.run(["sh", "-c", listing], cwd=roots / side / "rootfs", capture_output=True, check=True).stdout
        for side in ("ours", "theirs")
    ]
    assert seen[0].splitlines()[1:] == seen[1].splitlines()[1:]
