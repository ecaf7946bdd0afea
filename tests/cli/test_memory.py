"""What is done with a layer takes no memory in proportion: 184 MB of repeated and of random bytes, in 100 MB at most.

Bytes that compress a thousand times over are what fills memory, where a decompressor gives all it has at once.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import Serving, run

VELOCI = Path(sys.executable).parent / "veloci"
MOST = 100 << 20  # bytes of private memory, the stacks of threads included (setrlimit(2), RLIMIT_DATA)
KINDS = ("gzip", "zstd")

pytestmark = pytest.mark.needs("root", "prlimit", "tar")


def bounded(*words, **options):
    return run("prlimit", f"--data={MOST}", VELOCI, *words, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with the large file."""
    place = tmp_path_factory.mktemp("large") / "files"
    place.mkdir()
    with (place / "file").open("wb") as file:
        for _ in range(160):
            file.write(bytes(1 << 20))
        for _ in range(24):
            file.write(os.urandom(1 << 20))
    return place


@pytest.fixture(scope="module")
def layouts(files):
    """The image as layouts, packed in either way."""
    place = files.parent
    environment = {**os.environ, "VELOCI_ROOT": str(place / "data"), "VELOCI_RUN": str(place / "run")}
    subprocess.run(["tar", "-C", files, "-cf", place / "large.tar", "."], check=True)
    bounded("import", place / "large.tar", "large", env=environment)
    for kind in KINDS:
        bounded("copy", "-q", "--compress", kind, "large", f"oci:{place}/{kind}:v0", env=environment)
    return {kind: f"oci:{place}/{kind}:v0" for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_of_any_size_is_unpacked_and_packed_in_bounded_memory(roots, layouts, kind):
    bundle = roots / "bundle"
    bounded("unpack", layouts[kind], bundle)
    (bundle / "rootfs/file").rename(bundle / "rootfs/moved")
    bounded("repack", bundle, f"oci:{roots}/new:v1")
    assert (bundle / "rootfs/moved").stat().st_size == 184 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_of_any_size_travels_in_bounded_memory(roots, layouts, kind):
    other = KINDS[kind == "gzip"]
    with Serving(roots / "registry") as (address, _):
        bounded("copy", "-q", layouts[kind], f"docker://{address}/a/large:v0")
        for snapshotter in ("erofs", "overlay"):
            bounded(f"--snapshotter={snapshotter}", "pull", "-q", f"{address}/a/large:v0")
            bounded("rmi", f"{address}/a/large:v0")
        bounded("copy", "-q", "--compress", other, f"docker://{address}/a/large:v0", f"docker://{address}/b/large:v0")


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_of_any_size_is_kept_saved_and_changed_in_bounded_memory(roots, layouts, kind):
    bounded("copy", "-q", layouts[kind], "large:v0")
    bounded("save", "-o", roots / "saved.tar", "large:v0")
    bounded("rmi", "large:v0")
    bounded("load", "-q", "-i", roots / "saved.tar")
    bounded("create", "--network", "none", "--name", "made", "large:v0", "/none")
    bounded("commit", "made", "changed:v0")
    bounded("rm", "made")


def test_a_file_of_any_size_is_built_into_an_image_in_bounded_memory(roots, files):
    (files / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    bounded("build", "-q", "-t", "large:v0", files)
