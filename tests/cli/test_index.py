"""`veloci index …`: images of several platforms under one name, and what skopeo and podman see."""

import json
from pathlib import Path

import pytest
from peers import Built, Serving, digest, run, tar
from peers import inside as veloci

from veloci.spec import media

pytestmark = pytest.mark.needs("root", "skopeo")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


@pytest.fixture
def images(roots, tmp_path):
    """Images for two processors, in layouts of their own."""
    return {
        name: Built(tmp_path / name, [tar({"name": name.encode()})], architecture=name) for name in ("amd64", "arm64")
    }


def raw(place):
    return json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", place))


def shown(document):
    """Architecture -> digest."""
    return {entry.get("platform", {}).get("architecture"): entry["digest"] for entry in document["manifests"]}


def test_an_index_is_made_of_images_from_any_place(images, registry, tmp_path):
    veloci("copy", f"oci:{images['arm64'].path}:v0", "docker-archive:" + str(tmp_path / "arm.tar") + ":arm:v0")
    veloci("copy", f"oci:{images['amd64'].path}:v0", "amd:v0")
    there = f"docker://{registry}/made:v0"
    out = veloci("index", "create", "--annotation", "a=b", there, "amd:v0", f"oci:{images['arm64'].path}:v0")
    found = raw(there)
    assert (
        out
        == f"{there}: digest: {digest(json.dumps(found, separators=(',', ':')).encode())} size: {len(json.dumps(found, separators=(',', ':')))}\n"
    )
    assert (found["mediaType"], found["annotations"]) == (media.INDEX, {"a": "b"})
    assert shown(found) == {name: digest(image.manifest) for name, image in images.items()}
    assert found["manifests"][1]["platform"] == {"architecture": "arm64", "os": "linux"}
    for name, image in images.items():
        words = ["--override-arch", name, "inspect", "--config", "--raw", "--tls-verify=false"]
        assert run("skopeo", *words, there) == image.config.decode()
    veloci("index", "create", f"oci:{tmp_path}/all:v0", there, f"docker-archive:{tmp_path}/arm.tar")
    assert veloci("image", "validate", f"oci:{tmp_path}/all:v0").endswith(": valid\n")
    index = raw(f"oci:{tmp_path}/all:v0")
    assert len(index["manifests"]) == 3
    assert {entry["platform"]["architecture"] for entry in index["manifests"]} == {"amd64", "arm64"}


def test_images_come_and_go(images, registry):
    there = f"docker://{registry}/change:v0"
    places = {name: f"oci:{image.path}:v0" for name, image in images.items()}
    veloci("index", "create", "-q", there)
    assert raw(there)["manifests"] == []
    veloci("index", "add", "-q", there, places["amd64"])
    veloci("index", "add", "-q", there, places["arm64"], places["amd64"])
    assert shown(raw(there)) == {name: digest(images[name].manifest) for name in ("arm64", "amd64")}
    veloci("index", "remove", "-q", there, digest(images["amd64"].manifest)[7:19])
    assert list(shown(raw(there))) == ["arm64"]
    done = veloci("index", "remove", there, "linux/s390x", check=False)
    assert done.stderr == f"veloci: {there}: it lists no linux/s390x\n  try: it has linux/arm64\n"
    veloci("index", "remove", "-q", there, "arm64")
    assert raw(there)["manifests"] == []
    veloci("copy", places["amd64"], there)
    veloci("index", "add", "-q", there, places["arm64"])  # an image becomes an index
    assert list(shown(raw(there))) == ["amd64", "arm64"]


def test_what_an_index_says_is_changed_and_unknown_fields_stay(images, registry, tmp_path):
    entry = {
        "mediaType": media.MANIFEST,
        "digest": digest(images["amd64"].manifest),
        "size": len(images["amd64"].manifest),
    }
    odd = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [{**entry, "x": 1}], "y": 2}
    images["amd64"].write([(json.dumps(odd).encode(), media.INDEX, "v0")])
    there = f"oci:{images['amd64'].path}:v0"
    flags = "--os linux --arch arm64 --variant v8 --os-version 1 --os-features f --annotation a=b"
    veloci("index", "annotate", *flags.split(), there, digest(images["amd64"].manifest))
    veloci("index", "annotate", "--annotation", "c=d", there)
    platform = {"architecture": "arm64", "os": "linux", "variant": "v8", "os.version": "1", "os.features": ["f"]}
    found = raw(there)
    assert found == {
        **odd,
        "manifests": [{**entry, "x": 1, "annotations": {"a": "b"}, "platform": platform}],
        "annotations": {"c": "d"},
    }
    veloci("index", "annotate", "--annotation", "a-", there, "linux/arm64/v8")
    assert "annotations" not in raw(there)["manifests"][0]
    done = veloci("index", "annotate", "--os", "x", there, check=False)
    assert done.stderr == "veloci: index annotate: an index as a whole has no platform\n  try: name an ENTRY\n"


def test_a_list_of_dockers_lists_dockers_images(images, registry):
    there = f"docker://{registry}/docker:v0"
    places = [f"oci:{image.path}:v0" for image in images.values()]
    veloci("index", "create", "-q", "--format", "v2s2", there, places[0])
    veloci("index", "add", "-q", there, places[1])
    found = raw(there)
    assert found["mediaType"] == media.DOCKER_LIST
    assert [entry["mediaType"] for entry in found["manifests"]] == [media.DOCKER_MANIFEST] * 2
    assert [entry["platform"]["architecture"] for entry in found["manifests"]] == ["amd64", "arm64"]


def test_an_index_is_pushed_with_all_it_lists(images, registry, tmp_path):
    places = [f"oci:{image.path}:v0" for image in images.values()]
    veloci("index", "create", "-q", "local:v0", *places)
    veloci("index", "push", "-q", "local:v0", f"docker://{registry}/pushed:v0")
    run(
        "skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{registry}/pushed:v0", f"oci:{tmp_path}/back:v0"
    )
    for image in images.values():
        assert (tmp_path / "back/blobs/sha256" / digest(image.manifest)[7:]).read_bytes() == image.manifest


@pytest.mark.needs("podman")
def test_podman_pulls_its_image_of_it(images, registry, tmp_path):
    there = f"{registry}/podman:v0"
    veloci("index", "create", "-q", f"docker://{there}", *[f"oci:{image.path}:v0" for image in images.values()])
    short = Path("/tmp/veloci-index")
    podman = ["podman", "--root", short / "root", "--runroot", short / "run", "--storage-driver", "vfs"]
    try:
        run(*podman, "pull", "-q", "--tls-verify=false", "--arch", "arm64", there)
        assert run(*podman, "images", "--no-trunc", "--format", "{{.ID}}").strip() == digest(images["arm64"].config)
    finally:
        run(*podman, "rmi", "--all", "--force", check=False)
        run("rm", "-rf", short)
