"""Digests, media types, platforms, image documents."""

import hashlib

import pytest

from veloci.errors import InvalidInput
from veloci.spec import digest, media, platform
from veloci.spec.image import ImageConfig, Manifest

ZERO = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (ZERO, True),
        ("sha512:" + "a" * 128, True),
        ("sha256:" + "A" * 64, False),
        ("sha256:00", False),
        ("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", True),  # descriptor.md#digests
        ("sha256:../../etc", False),
        ("a..b:00", False),
        ("no", False),
        ("x:", False),
    ],
)
def test_what_a_digest_is(text, good):
    assert digest.valid(text) is good


def test_chain_ids_are_the_specification_s():
    a, b, c = ("sha256:" + hashlib.sha256(x).hexdigest() for x in (b"a", b"b", b"c"))
    two = digest.of(f"{a} {b}".encode())
    assert digest.chain_ids([a, b, c]) == [a, two, digest.of(f"{two} {c}".encode())]
    assert digest.of(b"x") == "sha256:" + hashlib.sha256(b"x").hexdigest()
    with pytest.raises(InvalidInput, match="digests by 'md5' cannot be verified"):
        digest.hasher("md5:00")


def test_media_types_go_to_the_other_family_and_back():
    assert media.converted(media.DOCKER_LAYER, "oci") == media.LAYER_GZIP
    assert media.converted(media.LAYER_GZIP, "docker") == media.DOCKER_LAYER
    assert media.converted("application/x", "oci") == "application/x"
    assert [media.compression(t) for t in (media.LAYER, media.LAYER_GZIP, media.DOCKER_LAYER, media.LAYER_ZSTD)] == [
        "",
        "gzip",
        "gzip",
        "zstd",
    ]
    assert media.is_layer(media.DOCKER_LAYER)
    assert not media.is_layer(media.CONFIG)


@pytest.mark.parametrize(
    ("wanted", "offered", "fits"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm/v6", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("amd64", "linux/x86_64", True),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_platforms(wanted, offered, fits):
    assert platform.matches(platform.parse(wanted), platform.parse(offered)) is fits


def test_no_platform():
    with pytest.raises(InvalidInput, match="'a/b/c/d' is not a platform"):
        platform.parse("a/b/c/d")


def test_docker_writes_null_for_nothing():
    raw = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null},"config":{"Cmd":null,"Env":["A=1"],"Labels":null}}'
    config = ImageConfig.decode(raw, name="config")
    assert (config.config.cmd, config.config.labels, config.config.env) == (None, {}, ("A=1",))
    assert config.rootfs.diff_ids == ()


def test_a_wrong_document_names_the_place():
    with pytest.raises(InvalidInput) as failure:
        Manifest.decode(
            b'{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"sha256:1","size":2},"layers":[]}',
            name="manifest",
        )
    assert str(failure.value) == "manifest: $.config.digest: expected a digest, got 'sha256:1'"
