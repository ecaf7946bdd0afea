"""Images are read as one thing, and put together."""

import json

import pytest

from veloci.content.store import Store
from veloci.errors import InvalidInput, NotFound
from veloci.image.assemble import assemble
from veloci.image.image import Image, select
from veloci.spec import media
from veloci.spec.digest import of
from veloci.spec.platform import Platform

CONFIG = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [of(b"tar")]}}


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "content"))


def index(store, *entries):
    manifests = [{**d.plain(), **({"platform": p} if p else {})} for d, p in entries]
    return store.put(json.dumps({"schemaVersion": 2, "manifests": manifests}).encode(), media.INDEX)


def image(store, **changes):
    return assemble(store, {**CONFIG, **changes}, [store.put(b"tar", media.LAYER)])


@pytest.mark.parametrize(
    ("format", "types"),
    [
        ("oci", (media.MANIFEST, media.CONFIG, media.LAYER)),
        ("docker", (media.DOCKER_MANIFEST, media.DOCKER_CONFIG, media.DOCKER_LAYER_TAR)),
    ],
)
def test_an_image_is_put_together_and_read_again(store, format, types):
    found = Image(store, assemble(store, CONFIG, [store.put(b"tar", media.LAYER)], format=format))
    assert (found.descriptor.media_type, found.manifest.config.media_type, found.layers[0].media_type) == types
    assert json.loads(found.config_raw) == CONFIG
    assert found.id == of(found.config_raw)
    assert found.diff_ids == (of(b"tar"),)
    assert found.chain_id == of(b"tar")
    assert found.size == len(found.raw) + len(found.config_raw) + 3


def test_layers_and_diff_ids_must_be_as_many(store):
    with pytest.raises(InvalidInput, match="0 layers, but 1 diff IDs"):
        Image(store, assemble(store, CONFIG, []))


def test_a_root_file_system_that_is_not_of_layers_is_refused(store):
    found = assemble(store, {**CONFIG, "rootfs": {"type": "disk", "diff_ids": []}}, [])
    with pytest.raises(InvalidInput, match=r"\$\.rootfs\.type: expected 'layers', got 'disk'"):
        Image(store, found)


def test_the_first_that_fits_is_chosen_also_from_an_inner_index(store):
    arm, amd = image(store, architecture="arm64"), image(store)
    both = index(
        store, (arm, {"os": "linux", "architecture": "arm64"}), (amd, {"os": "linux", "architecture": "amd64"})
    )
    top = index(store, (both, None))
    assert select(store, top, Platform(os="linux", architecture="amd64")).descriptor.digest == amd.digest
    assert select(store, top, Platform(os="linux", architecture="arm64")).descriptor.digest == arm.digest


def test_what_there_is_instead_is_said(store):
    arm = image(store, architecture="arm64")
    top = index(
        store,
        (arm, {"os": "unknown", "architecture": "unknown"}),
        (arm, {"os": "linux", "architecture": "arm64", "variant": "v8"}),
    )
    with pytest.raises(NotFound, match="has no image for linux/amd64") as caught:
        select(store, top, Platform(os="linux", architecture="amd64"))
    assert caught.value.hint == "--platform linux/arm64/v8"
    with pytest.raises(NotFound, match="is for linux/arm64, not for linux/amd64"):
        select(store, arm, Platform(os="linux", architecture="amd64"))


def test_indexes_within_each_other_have_an_end(store):
    found = image(store)
    for _ in range(9):
        found = index(store, (found, None))
    with pytest.raises(InvalidInput, match="more than 8 indexes within each other"):
        select(store, found)


def test_an_artifact_is_no_image(store):
    manifest = {"schemaVersion": 2, "config": store.put(b"{}", media.EMPTY).plain(), "layers": []}
    with pytest.raises(InvalidInput, match="is no image but an artifact"):
        Image(store, store.put(json.dumps(manifest).encode(), media.MANIFEST))
