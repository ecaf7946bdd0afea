"""Every MUST of the image specification that concerns documents: github.com/opencontainers/image-spec, v1.1.1.

Each test names the section; what a layer MUST is in tests/layer, what a copy MUST NOT change in tests/transport.
"""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veloci.errors import InvalidInput, Unsupported
from veloci.spec import digest, media, platform
from veloci.spec.document import loads
from veloci.spec.image import Descriptor, ImageConfig, Index, Manifest
from veloci.spec.platform import Platform
from veloci.spec.reference import Reference
from veloci.transport.layout import check_version

HELLO = "sha256:" + hashlib.sha256(b"hello").hexdigest()
ENTRY = {"mediaType": media.LAYER, "digest": HELLO, "size": 5}
CONFIG = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
MANIFEST = {"schemaVersion": 2, "mediaType": media.MANIFEST, "config": ENTRY, "layers": [ENTRY]}
INDEX = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [{**ENTRY, "mediaType": media.MANIFEST}]}
KINDS = {Descriptor: ENTRY, Manifest: MANIFEST, Index: INDEX, ImageConfig: CONFIG}


def decode(kind, value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return kind.decode(raw, name="document")


def refused(kind, **changes):
    """What is said of the usual document with these changes; a value of ... leaves the field out."""
    document = {key: value for key, value in {**KINDS[kind], **changes}.items() if value is not ...}
    with pytest.raises(InvalidInput) as failure:
        decode(kind, document)
    return str(failure.value).removeprefix("document: ")


# -- descriptor.md


def test_a_descriptor_has_all_its_fields():
    """descriptor.md#properties."""
    whole = {
        **ENTRY,
        "urls": ["https://127.0.0.1/x", "urn:x:y"],
        "annotations": {"a": ""},
        "data": base64.b64encode(b"hello").decode(),
        "platform": {"architecture": "arm", "os": "linux", "variant": "v7", "os.version": "1", "os.features": ["x"]},
        "artifactType": "application/vnd.example",
    }
    found = decode(Descriptor, whole)
    assert found.plain() == whole
    assert found.platform == Platform(architecture="arm", os="linux", variant="v7", os_version="1", os_features=("x",))


@pytest.mark.parametrize("field", ["mediaType", "digest", "size"])
def test_what_a_descriptor_requires(field):
    """descriptor.md#properties: REQUIRED."""
    assert refused(Descriptor, **{field: ...}) == f"$: missing {field!r}"


@pytest.mark.parametrize("text", ["", "x", "x/", "/x", "a/b/c", "-a/b", "a/b c", "a/" + "b" * 128, "a/\u00e9"])
def test_a_media_type_complies_with_rfc_6838(text):
    """descriptor.md#properties: values MUST comply with RFC 6838, section 4.2."""
    assert refused(Descriptor, mediaType=text) == f"$.mediaType: expected a media type, got {text!r:.100}"
    assert refused(Descriptor, artifactType=text) == f"$.artifactType: expected a media type, got {text!r:.100}"


@pytest.mark.parametrize("size", [-1, 5.0, "5", True])
def test_a_size_is_not_negative(size):
    """descriptor.md#properties: the size MUST NOT be negative."""
    assert refused(Descriptor, size=size) == f"$.size: expected a size, got {size!r}"


@pytest.mark.parametrize("url", ["", "no scheme", "1:x", "http://a b", "http://a\n", "x"])
def test_an_url_conforms_to_rfc_3986(url):
    """descriptor.md#properties: each entry MUST conform to RFC 3986."""
    assert refused(Descriptor, urls=["https://127.0.0.1", url]) == f"$.urls[1]: expected a URI, got {url!r}"


@pytest.mark.parametrize("data", ["aGVsbG8", "aGVsbG9v", "aGVsbGE=", "!", "aGVs bG8=", "aGVsbG8=\n"])
def test_embedded_data_is_base64_and_identical_to_the_content(data):
    """descriptor.md#properties: data MUST conform to RFC 4648, and be identical to the referenced content."""
    assert refused(Descriptor, data=data) == "$.data: is not the content that digest and size promise"
    assert decode(Descriptor, {**ENTRY, "data": "aGVsbG8="}).data == "aGVsbG8="


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (HELLO, True),
        ("sha256:" + "A" * 64, False),
        ("sha256:" + "a" * 63, False),
        ("sha512:" + "a" * 128, True),
        ("sha512:" + "A" * 128, False),
        ("blake3:" + "a" * 64, True),
        ("blake3:" + "A" * 64, False),
        ("sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564", True),
        ("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", True),
        ("sha256++x:aa", False),
        ("Sha256:aa", False),
        (":aa", False),
        ("a:", False),
        ("a", False),
        ("a:b/c", False),
        ("a:b\n", False),
    ],
)
def test_a_digest_matches_the_grammar(text, good):
    """descriptor.md#digests, #registered-algorithms: MUST match; an unknown but well-formed algorithm passes."""
    assert digest.valid(text) is good
    if good:
        assert decode(Descriptor, {**ENTRY, "digest": text}).digest == text
    else:
        assert refused(Descriptor, digest=text) == f"$.digest: expected a digest, got {text!r}"


# -- manifest.md, image-index.md


@pytest.mark.parametrize("kind", [Manifest, Index])
@pytest.mark.parametrize("version", [1, 3, "2", 2.0])
def test_the_schema_version_is_2(kind, version):
    """manifest.md, image-index.md#properties: schemaVersion MUST be 2."""
    assert refused(kind, schemaVersion=version) == f"$.schemaVersion: expected 2, got {version!r}"
    assert refused(kind, schemaVersion=...) == "$: missing 'schemaVersion'"


def test_the_media_type_is_the_documents_own():
    """manifest.md, image-index.md#properties: when used, mediaType MUST be the manifest's or the index's."""
    assert refused(Manifest, mediaType=media.INDEX).startswith("$.mediaType: expected one of")
    assert refused(Index, mediaType=media.MANIFEST).startswith("$.mediaType: expected one of")
    without = {key: value for key, value in MANIFEST.items() if key != "mediaType"}
    assert decode(Manifest, without).media_type == media.MANIFEST


def test_a_document_is_one_thing():
    """CVE-2021-41190: what is a manifest to one reader and an index to another."""
    assert refused(Manifest, manifests=[]) == "$: is a manifest and an index"
    assert refused(Index, layers=[]) == "$: is a manifest and an index"
    assert refused(Index, config=ENTRY) == "$: is a manifest and an index"


def test_what_a_manifest_and_an_index_require():
    """manifest.md: config and layers; image-index.md: manifests MUST be present, MAY be empty."""
    assert refused(Manifest, config=...) == "$: missing 'config'"
    assert refused(Manifest, layers=...) == "$: missing 'layers'"
    assert refused(Manifest, layers=[HELLO]) == f"$.layers[0]: expected an object, got {HELLO!r}"
    assert refused(Index, manifests=...) == "$: missing 'manifests'"
    assert decode(Index, {**INDEX, "manifests": []}).manifests == ()
    assert decode(Index, {**INDEX, "manifests": None}).manifests == ()  # as Go writes it: umoci init


def test_what_is_unknown_is_no_error():
    """manifest.md, image-index.md: an unknown mediaType or artifactType MUST NOT generate an error."""
    odd = {**ENTRY, "mediaType": "application/vnd.unknown.thing.v7+json", "newField": [1]}
    artifact = {**MANIFEST, "config": odd, "layers": [odd], "artifactType": "x/unknown", "subject": odd}
    found = decode(Manifest, artifact)
    assert (found.artifact_type, found.config.media_type) == ("x/unknown", odd["mediaType"])
    assert found.subject.digest == HELLO
    assert decode(Index, {**INDEX, "manifests": [odd], "x": {}}).manifests[0].media_type == odd["mediaType"]


@pytest.mark.parametrize("field", ["architecture", "os"])
def test_a_platform_requires_architecture_and_os(field):
    """image-index.md#properties: platform."""
    wanted = {"architecture": "amd64", "os": "linux"}
    del wanted[field]
    entry = {**ENTRY, "mediaType": media.MANIFEST, "platform": wanted}
    assert refused(Index, manifests=[entry]) == f"$.manifests[0].platform: missing {field!r}"


@pytest.mark.parametrize(
    ("wanted", "offered", "fits"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64/v9", "linux/arm64/v8", True),
        ("linux/arm64", "linux/arm64/v8.2", False),
        ("linux/arm64/v8.10", "linux/arm64/v8.9", True),
        ("linux/riscv64", "linux/riscv64/rva20", True),
        ("linux/riscv64/rva22", "linux/riscv64/rva20", False),
        ("linux/arm/v7", "linux/arm/v7", True),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm", "linux/arm/v8", False),
        ("linux/arm/v7", "linux/arm/v5", True),
        ("linux/amd64", "linux/amd64/v3", False),
        ("linux/amd64", "linux/amd64/v1", True),
        ("linux/amd64/v3", "linux/amd64", True),
        ("linux/amd64/v2", "linux/amd64/v3", False),
        ("linux/amd64", "freebsd/amd64", False),
    ],
)
def test_variants(wanted, offered, fits):
    """image-index.md#platform-variants."""
    assert platform.matches(platform.parse(wanted), platform.parse(offered)) is fits


@pytest.mark.parametrize(
    ("wanted", "offered", "places"),
    [
        ("linux/arm/v7", "arm/v5 arm/v8 arm/v7 arm/v6 arm/v7", [2, 4, 3, 0]),
        ("linux/amd64", "amd64/v3 amd64/v2 amd64 amd64/v1 arm64", [2, 3]),
        ("linux/amd64/v2", "amd64 amd64/v2", [1, 0]),
        ("linux/riscv64/rva20", "riscv64 riscv64/rva22 riscv64/rva20", [2, 0]),
        ("linux/amd64", "- amd64 -", [1, 0, 2]),
    ],
)
def test_the_nearest_variant_comes_first_and_of_equal_ones_the_first(wanted, offered, places):
    """image-index.md: "If multiple manifests match a client or runtime's requirements, the first matching entry"."""
    there = [None if each == "-" else platform.parse(f"linux/{each}") for each in offered.split()]
    assert platform.preferred(platform.parse(wanted), there) == places


# -- config.md


@pytest.mark.parametrize("field", ["architecture", "os", "rootfs"])
def test_what_a_config_requires(field):
    """config.md#properties: REQUIRED."""
    assert refused(ImageConfig, **{field: ...}) == f"$: missing {field!r}"


def test_the_root_file_system_is_of_layers():
    """config.md#properties: rootfs.type MUST be `layers`; an unknown value MUST be an error."""
    assert (
        refused(ImageConfig, rootfs={"type": "disk", "diff_ids": []}) == "$.rootfs.type: expected 'layers', got 'disk'"
    )
    assert refused(ImageConfig, rootfs={"diff_ids": []}) == "$.rootfs: missing 'type'"
    assert refused(ImageConfig, rootfs={"type": "layers"}) == "$.rootfs: missing 'diff_ids'"
    assert refused(ImageConfig, rootfs={"type": "layers", "diff_ids": ["x"]}) == (
        "$.rootfs.diff_ids[0]: expected a digest, got 'x'"
    )


def test_null_is_absence_and_extra_fields_are_no_error():
    """config.md#properties: extra fields MUST NOT generate an error."""
    nulls = dict.fromkeys(("Env", "Cmd", "Entrypoint", "Volumes", "Labels", "User", "ExposedPorts", "OnBuild"))
    extra = {**CONFIG, "config": {**nulls, "Domainname": "", "x": 1}, "history": None, "moby.buildkit.x": "y"}
    assert decode(ImageConfig, extra) == decode(ImageConfig, {**CONFIG, "config": {}}) == decode(ImageConfig, CONFIG)


def test_a_config_has_all_its_fields():
    """config.md#properties."""
    whole = {
        **CONFIG,
        "created": "2026-01-01T00:00:00Z",
        "author": "a",
        "variant": "v8",
        "os.version": "10",
        "os.features": ["win32k"],
        "config": {
            "User": "1:2",
            "ExposedPorts": {"80/tcp": {}},
            "Env": ["A=b"],
            "Entrypoint": ["e"],
            "Cmd": ["c"],
            "Volumes": {"/v": {}},
            "WorkingDir": "/w",
            "Labels": {"l": "m"},
            "StopSignal": "SIGINT",
            "ArgsEscaped": True,
        },
        "history": [
            {"created": "2026-01-01T00:00:00Z", "created_by": "x", "author": "y", "comment": "z", "empty_layer": True}
        ],
    }
    assert decode(ImageConfig, whole).plain() == whole


# -- annotations.md


@pytest.mark.parametrize("value", [None, 1, {}, ["x"]])
def test_annotations_are_strings(value):
    """annotations.md#rules: both the key and value MUST be strings; the value MUST be present, MAY be empty."""
    assert refused(Manifest, annotations={"a": value}) == f"$.annotations.a: expected a string, got {value!r}"
    assert decode(Manifest, {**MANIFEST, "annotations": {"": ""}}).annotations == {"": ""}
    assert "annotations" not in decode(Manifest, {**MANIFEST, "annotations": {}}).plain()


# -- image-layout.md


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "x: it is no OCI image layout: there is no oci-layout"),
        (b"[]", "x/oci-layout: $: expected an object, got []"),
        (b"{}", "x/oci-layout: $: missing 'imageLayoutVersion'"),
        (b'{"imageLayoutVersion":"2.0.0"}', "x/oci-layout: image layouts of version 2.0.0 are unknown"),
    ],
)
def test_a_layout_says_which_version_it_is(raw, message):
    """image-layout.md#oci-layout-file: MUST exist, MUST be a JSON object, MUST contain imageLayoutVersion."""
    with pytest.raises((InvalidInput, Unsupported)) as failure:
        check_version(raw, "x")
    assert str(failure.value) == message
    check_version(b'{"imageLayoutVersion":"1.0.0"}', "x")


# -- considerations.md


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"mediaType":"a/b","mediaType":"a/c"}', "the field 'mediaType' stands twice in one object"),
        (b'{"annotations":{"a":"1","a":"1"}}', "the field 'a' stands twice in one object"),
        (b'{"annotations":{"a":"\\ud800"}}', "half of a surrogate pair is no character"),
        (b'{"annotations":{"\\uDfFf":"a"}}', "half of a surrogate pair is no character"),
        (b'{"size":NaN}', "NaN is not a JSON number"),
        (b"\xef\xbb\xbf{}", "no value at character 0"),
    ],
)
def test_json_is_i_json(raw, why):
    """considerations.md#canonicalization and RFC 7493: UTF-8, and MUST NOT contain duplicate names."""
    with pytest.raises(InvalidInput) as failure:
        decode(Descriptor, raw)
    assert str(failure.value) == f"document: not JSON: {why}"


def test_json_is_utf_8():
    """considerations.md: the encoding MUST be UTF-8."""
    for raw in (json.dumps(ENTRY).encode("utf-16"), json.dumps(ENTRY).replace("tar", "\u00e9").encode("latin-1")):
        with pytest.raises(InvalidInput, match="document: not JSON: 'utf-8' codec can't decode"):
            decode(Descriptor, raw)
    pair = b'{"mediaType":"a/b","size":5,"digest":"%s","annotations":{"a":"\\ud83d\\ude00"}}' % HELLO.encode()
    assert decode(Descriptor, pair).annotations == {"a": "\U0001f600"}


# -- whatever bytes come in


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def damaged(whole):
    """The document with a value in it replaced, a field added, or one left out."""
    paths = []

    def walk(value, path):
        paths.append(path)
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            walk(inner, (*path, key))

    walk(whole, ())

    def put(path, new):
        document = json.loads(json.dumps(whole))
        if not path:
            return new
        inside = document
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = new
        return document

    return st.builds(put, st.sampled_from(paths), JSON)


def told(failure):
    """The refusal names the document and is short."""
    assert failure.where.startswith("document")
    assert len(str(failure)) < 600


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_document_is_read_or_refused_with_its_path(kind):
    @given(damaged({**KINDS[kind], "annotations": {"a": "b"}, "platform": {"architecture": "a", "os": "b"}}))
    def check(value):
        raw = json.dumps(value).encode()
        try:
            found = kind.decode(raw, name="document")
        except InvalidInput as failure:
            told(failure)
        else:
            assert kind.convert(found.plain()) == found

    check()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_bytes_are_a_document_or_invalid_input(kind):
    good = json.dumps(KINDS[kind]).encode()

    @given(st.binary(max_size=60), st.integers(0, len(good)), st.integers(0, len(good)))
    def check(noise, start, end):
        for raw in (noise, good[:start] + noise + good[end:]):
            try:
                kind.decode(raw, name="document")
            except InvalidInput as failure:
                told(failure)

    check()


@pytest.mark.parametrize(
    "deep", [b'{"a":' * 100_000, b"[" * 100_000, b'{"mediaType":' + b"[" * 900 + b"]" * 900 + b"}"]
)
def test_depth_is_bounded(deep):
    with pytest.raises(InvalidInput) as failure:
        decode(Descriptor, deep)
    assert len(str(failure.value)) < 600


def test_whatever_is_read_as_json_is_not_nested_too_deeply():
    """Also what is no document of ours: tokens, lists, errors. And what is a little less deep than can be read."""
    for raw in (b"[" * 100_000, b"[" * 257 + b"]" * 257, b'{"a":' * 257 + b"1" + b"}" * 257):
        with pytest.raises(ValueError, match="nested too deeply"):
            loads(raw)
    assert loads(b"[" * 256 + b"]" * 256)
    assert len(loads(b"[" + b"[[],{}]," * 1000 + b"0]")) == 1001
    for depth in range(500, 1000):
        with pytest.raises(InvalidInput):
            decode(Descriptor, b'{"mediaType":' + b"[" * depth + b"]" * depth + b"}")


# -- references: github.com/distribution/reference, and distribution-spec v1.1.1 spec.md#pulling-manifests


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("a.b/c", "a.b/c"),
        ("a/b/c", "docker.io/a/b/c"),
        ("host:5000/x", "host:5000/x"),
        ("docker.io/library/x", "docker.io/library/x"),
        ("index.docker.io/x:1", "docker.io/library/x:1"),
        ("[2001:db8::1]/x", "[2001:db8::1]/x"),
        ("[2001:db8::1]:5000/x/y:t", "[2001:db8::1]:5000/x/y:t"),
        ("UPPER/x", "UPPER/x"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128),
        ("127.0.0.1/" + "n" * 245, "127.0.0.1/" + "n" * 245),
        (f"h:1/x:t@{HELLO}", f"h:1/x:t@{HELLO}"),
        ("x@sha512:" + "0" * 128, "docker.io/library/x@sha512:" + "0" * 128),
    ],
)
def test_references_in_full(text, whole):
    assert str(Reference.parse(text)) == whole


@pytest.mark.parametrize(
    "text",
    [
        "x:" + "t" * 129,
        "127.0.0.1/" + "n" * 246,
        "[::1/x",
        "[::g]/x",
        "[::1]:x/y",
        "h:65536/x",
        "h-/x.y/",
        "x//y",
        "/x",
        "x/",
        "x@sha256:" + "0" * 63,
        f"x@{HELLO}@{HELLO}",
        "x:",
        "x y",
        "x\n",
        "https://127.0.0.1/x",
    ],
)
def test_what_is_no_reference(text):
    with pytest.raises(InvalidInput, match="invalid reference"):
        Reference.parse(text)
