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


@pytest.mark.needs("umoci")
def test_a_bundle_is_annotated_with_what_the_image_says_of_itself(roots, image):
    """image-spec v1.1.1 conversion.md: each field MUST be set in annotations, a label MUST take precedence."""
    place, layout = f"oci:{image}:docker.io/library/app:latest", f"oci:{roots}/layout:v1"
    fields = ["--author", "me", "--created", "2020-01-02T03:04:05Z", "--stop-signal", "SIGINT", "--port", "80/tcp"]
    labels = {"a.label": "x", "org.opencontainers.image.author": "another", "org.opencontainers.image.os": "windows"}
    given = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    done = veloci("image", "config", "-q", "--to", layout, *fields, "--port", "53/udp", *given, place)
    assert done.stderr == ""
    assert veloci("unpack", layout, str(roots / "bundle")).stderr == ""
    found = json.loads((roots / "bundle/config.json").read_bytes())["annotations"]
    prefix = "org.opencontainers.image."
    assert found == labels | {
        prefix + "architecture": "amd64",
        prefix + "created": "2020-01-02T03:04:05Z",
        prefix + "stopSignal": "SIGINT",
        prefix + "exposedPorts": "53/udp,80/tcp",
    }
    subprocess.run(
        ["umoci", "unpack", "--image", f"{roots}/layout:v1", roots / "theirs"], check=True, capture_output=True
    )
    theirs = json.loads((roots / "theirs/config.json").read_bytes())["annotations"]
    # Its ports come in any order, and its labels do not take precedence.
    assert theirs | labels | {prefix + "exposedPorts": "53/udp,80/tcp"} == found


def test_labels_that_a_runtime_would_obey_are_no_annotations_of_a_bundle(roots, image):
    """conversion.md: a converter MAY omit what is unsafe, and SHOULD say so."""
    place, layout = f"oci:{image}:docker.io/library/app:latest", f"oci:{roots}/layout:v1"
    obeyed = ["org.systemd.property.ExecStopPost", "org.criu.config", "run.oci.hooks.stderr"]
    given = [word for key in obeyed for word in ("--label", f"{key}=x")]
    veloci("image", "config", "-q", "--to", layout, *given, place)
    said = veloci("unpack", layout, str(roots / "bundle")).stderr.splitlines()
    assert said == [
        f"veloci: warning: the label {key!r} is no annotation of the bundle: a runtime would obey it"
        for key in sorted(obeyed)
    ]
    found = json.loads((roots / "bundle/config.json").read_bytes())["annotations"]
    assert sorted(found) == ["org.opencontainers.image.architecture", "org.opencontainers.image.os"]


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
