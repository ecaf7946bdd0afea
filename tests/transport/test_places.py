"""Images from any place to any other, and the bytes that arrive."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from itertools import product
from types import SimpleNamespace

import pytest
from peers import Built, Scripted, Serving, digest, tar

from veloci.content.names import Names
from veloci.content.store import Store
from veloci.errors import Corrupt, HostError, InvalidInput, NotFound
from veloci.image.convert import convert
from veloci.image.image import Image
from veloci.spec import media
from veloci.spec.platform import parse
from veloci.spec.reference import Reference
from veloci.transport import archives
from veloci.transport import files as transport_files
from veloci.transport.copy import copy
from veloci.transport.names import Places


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


@pytest.fixture
def places(tmp_path):
    root = str(tmp_path / "content")
    return Places(SimpleNamespace(store=Store(root), names=Names(root)))


@pytest.fixture
def built(tmp_path):
    return Built(tmp_path / "layout")


class Told:
    """A Progress that remembers."""

    def __init__(self):
        self.ends, self.bytes = [], {}

    def start(self, key, text, total):
        pass

    def advance(self, key, n):
        self.bytes[key] = self.bytes.get(key, 0) + n

    def done(self, _key, text):
        self.ends.append(text)


def go(places, source, destination, **options):
    return copy(places.source(source), places.destination(destination), **options)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


PLACES = [
    "docker://{registry}/x/{n}:v1",
    "veloci:x/{n}:v1",
    "oci:{dir}/l{n}:v1",
    "oci-archive:{dir}/o{n}.tar:v1",
    "dir:{dir}/d{n}",
]


@pytest.mark.parametrize(("first", "second"), list(product(PLACES, PLACES)))
def test_an_image_goes_through_any_two_places_unchanged(places, built, registry, tmp_path, first, second):
    one, two = (p.format(registry=registry, dir=tmp_path, n=n) for n, p in enumerate((first, second)))
    for source, destination in ((f"oci:{built.path}:v0", one), (one, two), (two, f"oci:{tmp_path}/end:v0")):
        assert go(places, source, destination).digest == digest(built.manifest)
    assert files(tmp_path / "end") == files(built.path)


def test_a_blob_that_a_registry_lost_under_a_tag_is_sent_again(places, built, tmp_path):
    with Serving(tmp_path / "registry") as (address, _process):
        go(places, f"oci:{built.path}:v0", f"docker://{address}/app:v1")
        lost = digest(built.layers[0])[7:]
        (file,) = (path for path in (tmp_path / "registry/repositories").rglob("*") if path.name == lost)
        file.unlink()
        told = Told()
        go(places, f"oci:{built.path}:v0", f"docker://{address}/app:v1", progress=told)
        assert (sorted(told.ends[2:]), told.bytes) == (
            ["Layer already exists", "Pushed"],
            {lost[:12]: len(built.layers[0])},
        )
        go(places, f"docker://{address}/app:v1", "here:v1")


def test_only_what_is_missing_travels(places, built, registry):
    told = Told()
    go(places, f"oci:{built.path}:v0", f"docker://{registry}/again:v1", progress=told)
    assert told.ends == ["Pushed", "Pushed"]
    assert told.bytes == {digest(layer)[7:19]: len(layer) for layer in built.layers}
    told = Told()
    go(places, f"oci:{built.path}:v0", f"docker://{registry}/again:v2", progress=told)
    assert (told.ends, told.bytes) == (["Layer already exists"] * 2, {})
    told = Told()
    go(places, f"docker://{registry}/again:v1", f"docker://{registry}/other:v1", progress=told)
    assert (told.ends, told.bytes) == (["Mounted from again"] * 2, {})
    told = Told()
    go(places, f"docker://{registry}/other:v1", "here:v1", progress=told)
    assert told.ends == ["Pull complete"] * 2
    told = Told()
    go(places, f"docker://{registry}/other:v1", "here:v2", progress=told)
    assert (told.ends, told.bytes) == (["Already exists"] * 2, {})


def test_the_format_changes_documents_and_no_layer(places, built, registry):
    there = f"docker://{registry}/formats:docker"
    done = go(places, f"oci:{built.path}:v0", there, format="docker")
    assert done.media_type == media.DOCKER_MANIFEST
    document = json.loads(places.source(there).manifest()[1])
    assert [layer["digest"] for layer in document["layers"]] == [digest(layer) for layer in built.layers]
    assert {layer["mediaType"] for layer in document["layers"]} == {media.DOCKER_LAYER}
    assert document["config"] == {
        "mediaType": media.DOCKER_CONFIG,
        "size": len(built.config),
        "digest": digest(built.config),
    }
    back = go(places, there, "back:v0", format="oci")
    image = Image(places.home.store, back)
    assert (image.id, image.manifest.config.media_type) == (digest(built.config), media.CONFIG)
    assert [layer.media_type for layer in image.layers] == [media.LAYER_GZIP] * 2


def test_a_layout_holds_oci_images_only(places, built, registry, tmp_path):
    go(places, f"oci:{built.path}:v0", f"docker://{registry}/only:docker", format="docker")
    done = go(places, f"docker://{registry}/only:docker", f"oci:{tmp_path}/there:v0")
    assert done.media_type == media.MANIFEST
    with pytest.raises(InvalidInput, match="cannot hold the format 'docker'"):
        go(places, f"oci:{built.path}:v0", f"oci:{tmp_path}/no:v0", format="docker")


def test_converting_there_and_back_gives_the_same_meaning(built):
    docker, kind, config = convert(built.manifest, built.config, "docker")
    assert (kind, config) == (media.DOCKER_MANIFEST, built.config)
    again, kind, _ = convert(docker, config, "oci")
    assert (kind, json.loads(again)) == (media.MANIFEST, built.document)


def test_an_artifact_stays_oci(places, built, tmp_path):
    built.document["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"
    raw = json.dumps(built.document).encode()
    built.write([(raw, media.MANIFEST, "sbom")])
    assert go(places, f"oci:{built.path}:sbom", f"dir:{tmp_path}/d").digest == digest(raw)
    with pytest.raises(InvalidInput, match="it is no image but an artifact"):
        go(places, f"oci:{built.path}:sbom", f"dir:{tmp_path}/e", format="docker")


# -- layouts


def test_a_layout_keeps_its_other_images(places, built, tmp_path):
    other = Built(tmp_path / "other", [tar({"x": b"y"})])
    for source, name in ((built, "one"), (other, "two"), (other, "one")):
        go(places, f"oci:{source.path}:v0", f"oci:{tmp_path}/both:{name}")
    index = json.loads((tmp_path / "both/index.json").read_text())["manifests"]
    assert [(e["annotations"]["org.opencontainers.image.ref.name"], e["digest"]) for e in index] == [
        ("two", digest(other.manifest)),
        ("one", digest(other.manifest)),
    ]


def test_choosing_in_a_layout(places, built, tmp_path):
    go(places, f"oci:{built.path}:v0", f"oci:{tmp_path}/both:one")
    assert places.source(f"oci:{tmp_path}/both").manifest()[1] == built.manifest
    go(places, f"oci:{built.path}:v0", f"oci:{tmp_path}/both:two")
    with pytest.raises(InvalidInput, match="more than one image is there: one, two"):
        places.source(f"oci:{tmp_path}/both").manifest()
    with pytest.raises(NotFound) as failure:
        places.source(f"oci:{tmp_path}/both:three").manifest()
    assert str(failure.value) == f"{tmp_path}/both: no image is named 'three'"
    assert failure.value.hint == "it has one, two"


def test_a_damaged_blob_ends_the_copy_and_leaves_nothing(places, built, tmp_path):
    blob = built.path / "blobs/sha256" / digest(built.layers[1])[7:]
    blob.write_bytes(built.layers[1][:-1] + b"!")
    for there in (
        f"oci:{tmp_path}/to:v0",
        f"oci-archive:{tmp_path}/to.tar:v0",
        f"dir:{tmp_path}/todir",
        "veloci:to:v0",
    ):
        with pytest.raises(Corrupt):
            go(places, f"oci:{built.path}:v0", there)
    assert not (tmp_path / "to/index.json").exists()
    assert not (tmp_path / "todir/manifest.json").exists()
    assert not list(tmp_path.glob("*.tar"))
    assert not [p for p in tmp_path.rglob(".*") if p.is_file()]
    with pytest.raises(NotFound):
        places.home.names.get("docker.io/library/to:v0")


@pytest.mark.parametrize("trick", ["link", "fifo", "directory", "absent"])
def test_a_blob_that_is_no_file_is_refused(places, built, trick):
    """A link leads nowhere even if there are the very bytes: they might be somebody's whose digest alone is known."""
    blob = built.path / "blobs/sha256" / digest(built.layers[0])[7:]
    theirs = built.path.parent / "theirs"
    blob.rename(theirs)
    if trick == "link":
        blob.symlink_to(theirs)
    elif trick == "fifo":
        os.mkfifo(blob)
    elif trick == "directory":
        blob.mkdir()
    with pytest.raises((InvalidInput, NotFound, HostError)):
        go(places, f"oci:{built.path}:v0", "veloci:x:v0")


@pytest.mark.parametrize("name", ["index.json", "blobs/sha256/{}"])
def test_a_document_of_any_size_takes_no_memory(places, built, tmp_path, name):
    """Also one that is as long as is promised; holes cost nothing."""
    size = 1 << 26
    path = built.path / name.format(digest(built.manifest)[7:])
    index = json.loads((built.path / "index.json").read_text())
    index["manifests"][0]["size"] = size
    (built.path / "index.json").write_text(json.dumps(index))
    os.truncate(path, size)
    path.rename(built.path / "aside")
    for sort in ("oci", "dir"):
        os.link(built.path / "aside", path if sort == "oci" else built.path / "manifest.json")
        what = name.partition("{")[0] if sort == "oci" else "manifest.json"
        with pytest.raises(InvalidInput, match=f"{what}.* has more than 4194304 bytes"):
            go(places, f"{sort}:{built.path}" + ":v0" * (sort == "oci"), "veloci:x:v0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://x/y", "'ftp://x/y' names no kind of place"),
        ("oci:", "'oci:' names no path"),
        ("docker-archive::x", "'docker-archive::x' names no path"),
        ("docker://UPPER/x:y:z", "invalid reference"),
    ],
)
def test_a_place_that_is_none_is_named(places, text, message):
    with pytest.raises(InvalidInput, match=message):
        places.source(text)


# -- several platforms


def several(tmp_path, *, nested=False):
    """A layout with an index of amd64, arm64 and an attestation."""
    images = [Built(tmp_path / "multi", architecture=name) for name in ("amd64", "arm64")]
    entries = [
        {"mediaType": media.MANIFEST, "digest": digest(i.manifest), "size": len(i.manifest), "platform": i.platform}
        for i in images
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries}).encode()
    if nested:
        inner = {"mediaType": media.INDEX, "digest": digest(raw), "size": len(raw)}
        images[0].write([(raw, media.INDEX, "inner")])
        raw = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [inner]}).encode()
    images[0].write([(raw, media.INDEX, "v0")])
    return images, raw


@pytest.mark.parametrize("nested", [False, True])
def test_one_platform_is_chosen_or_all_are_copied(places, registry, tmp_path, nested):
    images, raw = several(tmp_path, nested=nested)
    source, there = f"oci:{tmp_path}/multi:v0", f"docker://{registry}/multi{nested:d}:v0"
    for image in images:
        wanted = parse(image.platform["architecture"])
        assert go(places, source, "veloci:one:v0", platform=wanted).digest == digest(image.manifest)
    assert go(places, source, there, all=True).digest == digest(raw)
    assert go(places, there, f"oci:{tmp_path}/all:v0", all=True).digest == digest(raw)
    assert files(tmp_path / "all")["index.json"] == files(tmp_path / "multi")["index.json"]
    with pytest.raises(NotFound) as failure:
        go(places, there, "veloci:one:v0", platform=parse("linux/s390x"))
    assert str(failure.value).endswith("no image for linux/s390x")
    assert failure.value.hint == "--platform linux/amd64 (there is linux/amd64, linux/arm64)"


def test_an_index_in_dockers_family_names_dockers_manifests(places, registry, tmp_path):
    several(tmp_path)
    there = f"docker://{registry}/list:v0"
    assert go(places, f"oci:{tmp_path}/multi:v0", there, all=True, format="docker").media_type == media.DOCKER_LIST
    document = json.loads(places.source(there).manifest()[1])
    assert [m["mediaType"] for m in document["manifests"]] == [media.DOCKER_MANIFEST] * 2
    assert [m["platform"]["architecture"] for m in document["manifests"]] == ["amd64", "arm64"]


def test_a_single_image_for_another_platform_is_refused_when_asked(places, tmp_path):
    Built(tmp_path / "arm", architecture="arm64")
    with pytest.raises(NotFound, match="the image is for linux/arm64, not for linux/amd64"):
        go(places, f"oci:{tmp_path}/arm:v0", "veloci:x:v0", platform=parse("linux/amd64"))


# -- docker's archives


def stored(places, built, *names):
    descriptor = go(places, f"oci:{built.path}:v0", "veloci:kept:v0")
    return descriptor, [Reference.parse(name) for name in names]


def test_an_archive_has_all_that_docker_save_writes(places, built, tmp_path):
    path = tmp_path / "a.tar"
    archives.save(
        places.home.store, places.home.names, [stored(places, built, "app:v0", "127.0.0.1:5000/app:v1")], str(path)
    )
    with tarfile.open(path) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive}
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in archive} == {(0, 0, 0, 0o644)}
    plain = [f"blobs/sha256/{digest(t)[7:]}" for t in built.tars]
    (entry,) = json.loads(found["manifest.json"])
    assert entry["Config"] == f"blobs/sha256/{digest(built.config)[7:]}"
    assert entry["RepoTags"] == ["app:v0", "127.0.0.1:5000/app:v1"]
    assert entry["Layers"] == plain
    assert [found[name] for name in plain] == built.tars
    assert json.loads(found["repositories"]) == {
        "app": {"v0": plain[-1][13:]},
        "127.0.0.1:5000/app": {"v1": plain[-1][13:]},
    }
    assert found["oci-layout"] == b'{"imageLayoutVersion": "1.0.0"}'


def test_the_same_image_gives_the_same_archive(places, built, tmp_path):
    images = [stored(places, built, "app:v0")]
    for name in ("a", "b"):
        archives.save(places.home.store, places.home.names, images, str(tmp_path / name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_saved_is_loaded_with_its_names_and_its_id(places, built, tmp_path):
    other = Built(tmp_path / "other", [*built.tars, tar({"more": b"1"})])
    first, second = stored(places, built, "app:v0", "app:v1"), stored(places, other)
    archives.save(places.home.store, places.home.names, [first, second], str(tmp_path / "a.tar"))
    new = str(tmp_path / "new")
    fresh = Places(SimpleNamespace(store=Store(new), names=Names(new)))
    found = list(archives.load(fresh.home.store, fresh.home.names, str(tmp_path / "a.tar")))
    assert [name for name, _ in found] == ["docker.io/library/app:v0", "docker.io/library/app:v1", ""]
    ids = [Image(fresh.home.store, descriptor).id for _, descriptor in found]
    assert ids == [digest(built.config), digest(built.config), digest(other.config)]
    assert Image(fresh.home.store, fresh.home.names.get("docker.io/library/app:v0")).diff_ids == tuple(
        digest(t) for t in built.tars
    )


def old_archive(built, *, layer=lambda data: data, links=False, tags=("old:v1",)):
    """What docker wrote before version 25: <id>/layer.tar and <config>.json."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        names = []
        for number, data in enumerate(built.tars):
            if links:
                add(f"{digest(data)[7:]}.tar", layer(data))
                info = tarfile.TarInfo(f"layer{number}/layer.tar")
                info.type, info.linkname = tarfile.SYMTYPE, f"../{digest(data)[7:]}.tar"
                archive.addfile(info)
            else:
                add(f"layer{number}/layer.tar", layer(data))
            names.append(f"layer{number}/layer.tar")
        add("config.json", built.config)
        add(
            "manifest.json",
            json.dumps([{"Config": "config.json", "RepoTags": list(tags) or None, "Layers": names}]).encode(),
        )
    return out.getvalue()


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("kind", ["plain", "gzip", "xz", "bz2"])
def test_older_archives_are_loaded_compressed_or_not(places, built, tmp_path, kind, links):
    import bz2
    import lzma

    pack = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[kind]
    path = tmp_path / "old.tar"
    path.write_bytes(pack(old_archive(built, layer=pack, links=links)))
    ((name, descriptor),) = archives.load(places.home.store, places.home.names, str(path))
    image = Image(places.home.store, descriptor)
    assert (name, image.id) == ("docker.io/library/old:v1", digest(built.config))
    assert {layer.media_type for layer in image.layers} == {media.DOCKER_LAYER}
    for layer, data in zip(image.layers, built.tars, strict=True):
        with places.home.store.open(layer) as chunks:
            assert gzip.decompress(b"".join(chunks)) == data


def test_an_archive_comes_through_a_pipe(places, built):
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        with os.fdopen(write, "wb") as out:
            out.write(old_archive(built))
        os._exit(0)
    os.close(write)
    ((name, _),) = archives.load(places.home.store, places.home.names, read)
    os.close(read)
    os.wait()
    assert name == "docker.io/library/old:v1"


def test_a_layout_in_a_tar_or_a_folder_is_loaded_too(places, built, tmp_path):
    go(places, f"oci:{built.path}:v0", f"oci-archive:{tmp_path}/a.tar:some/app:v3")
    for path in (f"{tmp_path}/a.tar", str(built.path)):
        found = list(archives.load(places.home.store, places.home.names, path))
        assert [d.digest for _, d in found] == [digest(built.manifest)]
    assert places.home.names.get("docker.io/some/app:v3").digest == digest(built.manifest)


def hostile(**changes):
    """manifest.json whose one entry has these changes."""
    return lambda entry: {**entry, **changes}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (hostile(Config="../../../../etc/passwd"), "it has no ../../../../etc/passwd"),
        (hostile(Layers=["/etc/passwd", "layer1/layer.tar"]), "it has no /etc/passwd"),
        (hostile(Layers=["layer0/layer.tar"]), "1 layers, but 2 diff IDs"),
        (hostile(Layers=["layer1/layer.tar", "layer0/layer.tar"]), "expected sha256:"),
        (hostile(Layers=[5]), "expected a string, got 5"),
        (hostile(Config=None), "missing 'Config'"),
        (hostile(RepoTags=["a b"]), "invalid reference"),
        (lambda _entry: "text", "expected an object"),
    ],
)
def test_a_hostile_archive_is_told_by_what_is_wrong(places, built, tmp_path, damage, message):
    good = old_archive(built)
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(good)) as source, tarfile.open(fileobj=out, mode="w") as archive:
        for member in source:
            data = source.extractfile(member).read()
            if member.name == "manifest.json":
                data = json.dumps([damage(entry) for entry in json.loads(data)]).encode()
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (tmp_path / "bad.tar").write_bytes(out.getvalue())
    with pytest.raises((InvalidInput, NotFound, Corrupt)) as failure:
        list(archives.load(places.home.store, places.home.names, str(tmp_path / "bad.tar")))
    assert message in str(failure.value)
    assert not list(places.home.names.all())


@pytest.mark.parametrize("size", [0, 100, 700, 5000, -700])
def test_a_cut_or_damaged_tar_is_refused(places, built, tmp_path, size):
    whole = old_archive(built)
    data = whole[:size] if size >= 0 else whole.replace(b"ustar", b"uxtar")
    (tmp_path / "cut.tar").write_bytes(data)
    with pytest.raises((InvalidInput, NotFound, Corrupt)):
        list(archives.load(places.home.store, places.home.names, str(tmp_path / "cut.tar")))


def test_a_header_damaged_in_the_middle_is_not_taken_for_the_end(places, built, tmp_path):
    whole = bytearray(old_archive(built))
    place = whole.rindex(b"manifest.json")
    whole[place + 148 : place + 156] = b"0000000\0"  # the checksum
    (tmp_path / "bad.tar").write_bytes(whole)
    with pytest.raises(InvalidInput, match="the tar file is damaged"):
        list(archives.load(places.home.store, places.home.names, str(tmp_path / "bad.tar")))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(
    "link", ["layer.tar", "layer0/layer.tar", "../layer0/layer.tar", "/etc/passwd", "../../etc/passwd"]
)
def test_a_link_in_an_archive_leads_nowhere_else_and_not_for_ever(places, built, tmp_path, link, hard):
    """To itself, and out of it."""
    lines = io.BytesIO(old_archive(built))
    path = tmp_path / "links.tar"
    with tarfile.open(fileobj=lines) as source, tarfile.open(path, mode="w") as archive:
        for member in source:
            data = source.extractfile(member)
            if member.name == "layer0/layer.tar":
                member.type, member.linkname, member.size = tarfile.LNKTYPE if hard else tarfile.SYMTYPE, link, 0
            archive.addfile(member, data)
    with pytest.raises(NotFound, match="it has no layer0/layer"):
        list(archives.load(places.home.store, places.home.names, str(path)))
    assert not list(places.home.names.all())


def header(kind, size):
    """A tar's header that says its content has `size` bytes, in base 256 as GNU writes it."""
    block = bytearray(tarfile.TarInfo("name").tobuf(tarfile.GNU_FORMAT))
    block[156:157], block[124:136], block[148:156] = kind, b"\xff" + (size % (1 << 88)).to_bytes(11, "big"), b" " * 8
    if size >= 0:
        block[124] = 0x80
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        (b"x", 1 << 26, "a header of 67108864 bytes"),
        (b"g", 1 << 26, "a header of 67108864 bytes"),
        (b"L", 1 << 26, "a header of 67108864 bytes"),
        (b"K", 1 << 26, "a header of 67108864 bytes"),
        (b"x", -1024, "a header of -1024 bytes"),
        (b"L", -1024, "a header of -1024 bytes"),
        (b"0", -1024, "an entry of -1024 bytes"),
        (b"0", -1, "an entry of -1 bytes"),
        (b"V", -1024, "an entry of -1024 bytes"),
        (b"S", -512, "an entry that ends before it begins"),
    ],
)
def test_no_header_of_an_archive_takes_memory_or_leads_back(places, tmp_path, kind, size, message):
    """The file is as long as its header says: holes cost nothing."""
    path = tmp_path / "bad.tar"
    path.write_bytes(header(b"0", 0) + header(kind, size) + bytes(1024))
    os.truncate(path, max(size, 0) + 4096)
    with pytest.raises(InvalidInput, match=f"not a tar file: {message}"):
        places.source(f"docker-archive:{path}")


def test_the_headers_of_an_archive_have_an_end(places, tmp_path, monkeypatch):
    monkeypatch.setattr(transport_files, "HEADERS", 100 * 512)
    for count, message in ((90, "it has no manifest.json"), (110, "more than 51200 bytes of headers")):
        (tmp_path / "many.tar").write_bytes(header(b"0", 0) * count + bytes(1024))
        with pytest.raises((InvalidInput, NotFound), match=message):
            places.source(f"docker-archive:{tmp_path}/many.tar")


def test_choosing_in_an_archive(places, built, tmp_path):
    (tmp_path / "old.tar").write_bytes(old_archive(built, tags=("old:v1", "old:v2")))
    for name in ("", ":old:v2", ":docker.io/library/old:v1", ":@0"):
        assert (
            places.source(f"docker-archive:{tmp_path}/old.tar{name}").manifest()[0].media_type == media.DOCKER_MANIFEST
        )
    with pytest.raises(NotFound, match="no image is named 'new:v1'"):
        places.source(f"docker-archive:{tmp_path}/old.tar:new:v1")
    with pytest.raises(NotFound, match="there is no image @7"):
        places.source(f"docker-archive:{tmp_path}/old.tar:@7")


def test_a_layer_that_is_not_what_the_config_says_is_not_saved(places, built, tmp_path):
    wrong = json.loads(built.config)
    wrong["rootfs"]["diff_ids"].reverse()
    built.config = json.dumps(wrong).encode()
    built.document["config"] |= {"digest": digest(built.config), "size": len(built.config)}
    raw = json.dumps(built.document).encode()
    built.write([(raw, media.MANIFEST, "v0")])
    with pytest.raises(Corrupt):
        go(places, f"oci:{built.path}:v0", f"docker-archive:{tmp_path}/x.tar:x:v1")
    assert not list(tmp_path.glob("*.tar"))


# -- several at once, and killed in between


def spawned(*words):
    return subprocess.Popen([sys.executable, "-m", "veloci", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_eight_writers_of_one_layout_lose_no_name(built, roots, tmp_path):
    writers = [spawned("copy", "-q", f"oci:{built.path}:v0", f"oci:{tmp_path}/shared:n{n}") for n in range(8)]
    assert [(w.wait(60), w.stderr.read()) for w in writers] == [(0, b"")] * 8
    for writer in writers:
        writer.stderr.close()
    index = json.loads((tmp_path / "shared/index.json").read_text())["manifests"]
    assert sorted(e["annotations"]["org.opencontainers.image.ref.name"] for e in index) == [f"n{n}" for n in range(8)]
    assert not [path for path in (tmp_path / "shared").rglob(".*") if path.is_file()]


def test_a_killed_pull_goes_on_where_it_stopped(built, roots, tmp_path):
    """kill -9 in the middle of a layer; the second pull asks for the rest alone."""
    size = 6 << 20
    big = Built(tmp_path / "big", [tar({"data": os.urandom(size)})])
    held = threading.Event()
    ranges = []

    def slow(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        if "manifests" in request.path:
            return request.reply(200, big.manifest, Content_Type=media.MANIFEST)
        if digest(big.config) in request.path:
            return request.reply(200, big.config)
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        ranges.append(start)
        rest = big.layers[0][start:]
        if start:
            return request.reply(
                206, rest, Content_Range=f"bytes {start}-{len(big.layers[0]) - 1}/{len(big.layers[0])}"
            )
        request.send_response(200)
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        request.wfile.write(rest[: 4 << 20])
        held.wait(30)
        return request.cut()

    partial = tmp_path / "data/content/ingest" / digest(big.layers[0]).replace(":", "-")
    with Scripted(slow) as server:
        first = spawned("pull", "-q", f"{server.address}/big:v0")
        while not (partial.exists() and partial.stat().st_size >= 4 << 20) and first.poll() is None:
            time.sleep(0.02)
        first.kill()
        first.wait()
        first.stderr.close()
        held.set()
        second = spawned("pull", "-q", f"{server.address}/big:v0")
        assert (second.wait(60), second.stderr.read()) == (0, b"")
        second.stderr.close()
    assert ranges == [0, 4 << 20]
    blob = tmp_path / "data/content/blobs/sha256" / digest(big.layers[0])[7:]
    assert blob.read_bytes() == big.layers[0]
    assert not partial.exists()


def test_no_address_that_a_layer_names_is_asked(places, tmp_path):
    """Where a foreign layer is said to be is somebody's guess: it is passed over, as by docker, and stays as it is."""
    with Scripted(lambda request: request.reply(200, b"")) as server:
        built = Built(tmp_path / "layout")
        built.document["layers"][0] |= {
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "urls": [f"http://{server.address}/layer"],
        }
        built.manifest = json.dumps(built.document).encode()
        built.write([(built.manifest, built.document["mediaType"], "v0")])
        (tmp_path / "layout/blobs/sha256" / digest(built.layers[0])[7:]).unlink()
        to = tmp_path / "to"
        assert copy(places.source(f"oci:{built.path}:v0"), places.destination(f"oci:{to}:v0")).digest == digest(
            built.manifest
        )
        assert not server.seen
    assert not (to / "blobs/sha256" / digest(built.layers[0])[7:]).exists()
