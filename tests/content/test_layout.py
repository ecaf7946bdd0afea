"""The store is an OCI layout, and what one image costs does not grow with the others."""

import subprocess
from pathlib import Path

import pytest
from box import VELOCI
from peers import Built, digest, run, veloci

from veloci.content.names import Names
from veloci.content.store import Store
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.spec.image import Manifest


@pytest.mark.needs("skopeo")
def test_skopeo_reads_an_image_from_the_store_by_its_name(roots, tmp_path):
    built = Built(tmp_path / "layout")
    veloci("copy", "-q", f"oci:{built.path}:v0", "app:v0")
    veloci("tag", "app:v0", "other:v1")
    veloci("rmi", "app:v0")
    run("skopeo", "copy", "-q", f"oci:{roots}/data/content:docker.io/library/other:v1", f"dir:{tmp_path}/out")
    assert digest((tmp_path / "out/manifest.json").read_bytes()) == digest(built.manifest)
    assert run("skopeo", "inspect", f"oci:{roots}/data/content:docker.io/library/app:v0", check=False).returncode == 1


def opened(trace, *words):
    """How many files a command opens in the store."""
    subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=openat", "-o", trace, VELOCI, *words], check=True, capture_output=True
    )
    return sum("/content/" in line for line in trace.read_text().splitlines())


@pytest.mark.needs("strace")
@pytest.mark.parametrize("words", [["inspect", "app:v0"], ["images", "-q", "app:v0"], ["tag", "app:v0", "app:v1"]])
def test_one_image_opens_no_more_files_among_two_hundred(roots, tmp_path, words):
    built = Built(tmp_path / "layout")
    veloci("copy", "-q", f"oci:{built.path}:v0", "app:v0")
    alone = opened(tmp_path / "trace", *words)
    store, names = (kind(str(roots / "data/content")) for kind in (Store, Names))
    with store.leased():
        for number in range(200):
            manifest = Manifest.decode(built.manifest, name="it").replace(annotations={"n": str(number)})
            names.set(f"docker.io/library/n{number}:v0", store.put(dumps(manifest.plain()), media.MANIFEST))
    assert Path(roots / "data/content/refs/docker.io/library/n199/:v0").exists()
    assert opened(tmp_path / "trace", *words) <= alone
