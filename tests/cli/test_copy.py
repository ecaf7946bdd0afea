"""`veloci copy`: its flags, and what skopeo and docker see of what it wrote."""

import base64
import bz2
import gzip
import json
import lzma
import os
import shutil
import sys
from pathlib import Path

import pytest
import zstandard
from peers import Built, Dockerd, Scripted, Serving, digest, run, tar
from peers import inside as veloci

from veloci.content.names import Names
from veloci.content.store import Store
from veloci.image.image import Image
from veloci.spec import media
from veloci.transport.listing import names

pytestmark = pytest.mark.needs("root")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield address


@pytest.fixture
def built(tmp_path):
    return Built(tmp_path / "layout")


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def blob(folder, descriptor):
    return (Path(folder) / "blobs/sha256" / descriptor["digest"][7:]).read_bytes()


def manifest(folder):
    (entry,) = json.loads((Path(folder) / "index.json").read_bytes())["manifests"]
    return json.loads(blob(folder, entry))


UNPACK = {"gzip": gzip.decompress, "zstd": lambda data: zstandard.decompress(data, 1 << 24), "": bytes}


@pytest.mark.parametrize(
    ("flag", "kind", "media_type"),
    [
        ("zstd", "zstd", media.LAYER_ZSTD),
        ("zstd:9", "zstd", media.LAYER_ZSTD),
        ("gzip:9", "gzip", media.LAYER_GZIP),
        ("none", "", media.LAYER),
    ],
)
def test_layers_are_compressed_otherwise_and_hold_the_same(roots, built, tmp_path, flag, kind, media_type):
    for place in ("oci:{}/first:v0", "oci-archive:{}/second.tar:v0", "veloci:third:v0"):
        veloci("copy", "--compress", flag, f"oci:{built.path}:v0", place.format(tmp_path))
    for number, place in enumerate(("oci:{}/first:v0", "oci-archive:{}/second.tar:v0", "third:v0")):
        veloci("copy", "-q", place.format(tmp_path), f"oci:{tmp_path}/seen{number}:v0")
    seen = manifest(tmp_path / "seen0")
    assert [layer["mediaType"] for layer in seen["layers"]] == [media_type] * 2
    assert [UNPACK[kind](blob(tmp_path / "seen0", layer)) for layer in seen["layers"]] == built.tars
    assert seen["config"]["digest"] == digest(built.config)
    assert files(tmp_path / "seen0") == files(tmp_path / "seen1") == files(tmp_path / "seen2")


def test_a_layer_that_is_compressed_so_already_stays(roots, built, tmp_path):
    veloci("copy", "--compress", "gzip", f"oci:{built.path}:v0", f"oci:{tmp_path}/same:v0")
    assert files(tmp_path / "same") == files(built.path)


@pytest.mark.needs("skopeo", "umoci")
def test_skopeo_and_umoci_read_what_was_compressed_anew(roots, built, tmp_path):
    veloci("copy", "--compress", "gzip:6", f"oci:{built.path}:v0", f"oci:{tmp_path}/packed:v0")
    run("umoci", "raw", "unpack", "--image", f"{tmp_path}/packed:v0", tmp_path / "root")
    assert (tmp_path / "root/a").read_bytes() == b"one" * 1000
    veloci("copy", "--compress", "zstd", f"oci:{built.path}:v0", f"oci:{tmp_path}/zstd:v0")
    assert run("skopeo", "inspect", "--config", "--raw", f"oci:{tmp_path}/zstd:v0") == built.config.decode()


def test_a_layer_that_is_not_what_the_config_says_is_not_compressed_anew(roots, built, tmp_path):
    config = json.loads(built.config)
    config["rootfs"]["diff_ids"].reverse()
    built.config = json.dumps(config).encode()
    built.document["config"] |= {"digest": digest(built.config), "size": len(built.config)}
    built.write([(json.dumps(built.document).encode(), media.MANIFEST, "v0")])
    done = veloci("copy", "--compress", "zstd", f"oci:{built.path}:v0", f"oci:{tmp_path}/to:v0", check=False)
    assert done.returncode == 1
    assert "content: expected sha256:" in done.stderr
    assert not (tmp_path / "to/index.json").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--compress", "zstd", "{}", "oci:{dir}/x:v0"], "its layers would be compressed otherwise"),
        (["--format", "v2s2", "{}", "dir:{dir}/x"], "its documents would be Docker's"),
        (["{}", "docker-archive:{dir}/x.tar:app:v0"], "it cannot hold the image as it is"),
    ],
)
def test_digests_are_preserved_or_the_copy_is_refused(roots, built, tmp_path, words, why):
    words = [word.format(f"oci:{built.path}:v0", dir=tmp_path) for word in words]
    done = veloci("copy", "--preserve-digests", *words, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(f": the digests cannot stay: {why}\n  try: leave out --preserve-digests\n")
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "x.tar").exists()
    veloci("copy", "--preserve-digests", f"oci:{built.path}:v0", f"dir:{tmp_path}/fine")
    assert (tmp_path / "fine/manifest.json").read_bytes() == built.manifest


def test_an_image_gets_further_names_and_its_digest_a_file(roots, registry, built, tmp_path):
    source = f"oci:{built.path}:v0"
    more = ["--digestfile", tmp_path / "digest", "--additional-tag"]
    veloci("copy", *more, "v2", "--additional-tag", f"{registry}/more:v3", source, f"docker://{registry}/more:v1")
    assert (tmp_path / "digest").read_text() == digest(built.manifest)
    for tag in ("v1", "v2", "v3"):
        veloci("copy", f"docker://{registry}/more:{tag}", f"oci:{tmp_path}/{tag}:v0")
    veloci("copy", *more, "app:v3", source, f"docker-archive:{tmp_path}/a.tar:app:v2")
    veloci("copy", *more, "two", source, f"oci:{tmp_path}/l:one")
    veloci("copy", *more, "app:v3", source, "app:v2")
    assert names(f"docker-archive:{tmp_path}/a.tar") == ["app:v2", "app:v3"]
    assert names(f"oci:{tmp_path}/l") == ["one", "two"]
    kept = Names(str(tmp_path / "data/content"))
    assert [name for name, _ in kept.all()] == ["docker.io/library/app:v2", "docker.io/library/app:v3"]
    done = veloci("copy", *more, "other/name:v3", source, f"docker://{registry}/more:v1", check=False)
    assert done.stderr == f"veloci: other/name:v3: is not in the same repository\n  try: {registry}/more\n"


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", ["oci:{}/l:v0", "dir:{}/d"])
def test_an_index_goes_as_skopeos_byte_for_byte(roots, registry, tmp_path, kind):
    images = [Built(tmp_path / "multi", architecture=name) for name in ("amd64", "arm64")]
    entries = [
        {"mediaType": media.MANIFEST, "digest": digest(i.manifest), "size": len(i.manifest), "platform": i.platform}
        for i in images
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries}).encode()
    images[0].write([(raw, media.INDEX, "v0")])
    veloci("copy", "--multi-arch", "all", f"oci:{tmp_path}/multi:v0", f"docker://{registry}/multi:v0")
    for side in ("ours", "theirs"):
        (tmp_path / side).mkdir()
    veloci("copy", "--all", f"docker://{registry}/multi:v0", kind.format(tmp_path / "ours"))
    skopeo = ["skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{registry}/multi:v0"]
    run(*skopeo, kind.format(tmp_path / "theirs"))
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    veloci("copy", "--all", kind.format(tmp_path / "theirs"), f"docker://{registry}/back:v0")
    done = veloci("copy", "--multi-arch", "index-only", f"docker://{registry}/back:v0", f"docker://{registry}/back:v1")
    assert done.endswith(f"digest: {digest(raw)} size: {len(raw)}\n")
    done = veloci("copy", "--multi-arch", "index-only", f"docker://{registry}/back:v0", f"oci:{tmp_path}/bare:v0")
    assert sorted(files(tmp_path / "bare")) == [f"blobs/sha256/{digest(raw)[7:]}", "index.json", "oci-layout"]


def test_several_images_are_saved_listed_and_chosen_from(roots, built, tmp_path):
    other = Built(tmp_path / "other", [*built.tars, tar({"more": b"1"})])
    for number, source in enumerate((built, other)):
        veloci("copy", f"oci:{source.path}:v0", f"app:v{number}")
    veloci("save", "-o", tmp_path / "both.tar", "app:v0", "app:v1")
    assert names(f"docker-archive:{tmp_path}/both.tar") == ["app:v0", "app:v1"]
    assert names(f"oci-archive:{tmp_path}/both.tar") == ["v0", "v1"]
    for chosen in ("app:v1", "@1"):
        veloci("copy", "-q", f"docker-archive:{tmp_path}/both.tar:{chosen}", f"dir:{tmp_path}/{chosen}")
        assert digest(other.config)[7:] in files(tmp_path / chosen)
    veloci("copy", "-q", f"oci-archive:{tmp_path}/both.tar:@1", f"dir:{tmp_path}/oci")
    assert digest(other.config)[7:] in files(tmp_path / "oci")
    if Path("/usr/bin/skopeo").exists():
        said = json.loads(run("skopeo", "list-tags", f"docker-archive:{tmp_path}/both.tar"))
        assert said["Tags"] == ["app:v0", "app:v1"]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_archives_are_read_however_they_are_compressed(roots, built, tmp_path, kind):
    pack = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zstd": zstandard.compress}[kind]
    for place in (f"docker-archive:{tmp_path}/plain.tar:app:v0", f"oci-archive:{tmp_path}/oci.tar:v0"):
        veloci("copy", f"oci:{built.path}:v0", place)
        path = Path(place.split(":")[1])
        path.write_bytes(pack(path.read_bytes()))
        veloci("copy", f"{place.partition(':')[0]}:{path}", f"read:{kind}")
        store = Store(str(tmp_path / "data/content"))
        image = Image(store, Names(store.root).get(f"docker.io/library/read:{kind}"))
        assert image.id == digest(built.config)


def test_loading_what_is_here_packs_nothing_and_a_push_then_sends_nothing(roots, registry, built, tmp_path):
    veloci("copy", f"oci:{built.path}:v0", f"docker://{registry}/first:v0")
    veloci("pull", "-q", f"{registry}/first:v0")
    veloci("save", "-o", tmp_path / "a.tar", f"{registry}/first:v0")
    out = veloci("load", "-i", tmp_path / "a.tar")
    assert out.count(": Already exists") == 2
    out = veloci("push", f"{registry}/first:v0")
    assert out.count(": Layer already exists") == 2


def test_layers_are_mounted_from_where_they_came(roots, registry, built):
    veloci("copy", f"oci:{built.path}:v0", f"docker://{registry}/base:v0")
    veloci("pull", "-q", f"{registry}/base:v0")
    veloci("tag", f"{registry}/base:v0", f"{registry}/derived:v0")
    out = veloci("push", f"{registry}/derived:v0")
    assert out.count(": Mounted from base") == 2


def test_a_copy_is_tried_again_as_often_as_asked(roots, built, tmp_path):
    turns = []

    def flaky(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        turns.append(request.path)
        if len(turns) <= 5:  # as often as one copy tries by itself
            return request.reply(503, Retry_After="0")
        if "manifests" in request.path:
            return request.reply(200, built.manifest, Content_Type=media.MANIFEST)
        return request.reply(200, next(b for b in (built.config, *built.layers) if digest(b) in request.path))

    with Scripted(flaky) as server:
        words = ["-q", f"docker://{server.address}/app:v0", f"dir:{tmp_path}/d"]
        done = veloci("copy", *words, check=False)
        assert done.returncode != 0
        turns.clear()
        veloci("copy", "--retry-times", "1", *words)
    assert (tmp_path / "d/manifest.json").read_bytes() == built.manifest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compress", "lz4"], "--compress: 'lz4' is no compression\n  try: gzip[:0-9], zstd[:1-19] or none"),
        (["--compress", "zstd:20"], "--compress: 'zstd:20' is no compression\n  try: gzip[:0-9], zstd[:1-19] or none"),
        (["--multi-arch", "some"], "--multi-arch: 'some' is unknown\n  try: system, all, index-only"),
        (["--format", "v2s1"], "--format: 'v2s1' is no image format\n  try: oci or docker"),
        (
            ["--compress", "gzip", "--dest-decompress"],
            "--compress: not together with --dest-decompress\n  try: leave one of them out",
        ),
        (["--src-creds", "a:b"], "--src-creds: is for a registry\n  try: oci:PATH:v0 is none: leave it out"),
        (["--dest-registry-token", "a"], "--dest-registry-token: is for a registry\n  try: x:v0 is none: leave it out"),
        (
            ["--dest-shared-blob-dir", "b"],
            "--dest-shared-blob-dir: is for a layout\n  try: x:v0 is none: oci:DIRECTORY[:NAME]",
        ),
    ],
)
def test_what_a_flag_cannot_be_is_said(roots, built, words, message):
    done = veloci("copy", *words, f"oci:{built.path}:v0", "x:v0", check=False)
    assert (done.returncode, done.stderr) == (1, f"veloci: {message}\n".replace("PATH", str(built.path)))


@pytest.mark.needs("skopeo")
def test_docker_has_no_zstd_in_its_own_family(roots, built, tmp_path):
    """Refused before anything is copied, as by skopeo in the end; where no family is asked for, it becomes OCI's."""
    veloci("copy", "-q", "--compress", "zstd", f"oci:{built.path}:v0", f"oci:{tmp_path}/z:v0")
    words = ["--format", "v2s2", f"oci:{tmp_path}/z:v0", f"dir:{tmp_path}/d"]
    assert run("skopeo", "copy", *words, check=False).returncode == 1
    shutil.rmtree(tmp_path / "d", ignore_errors=True)
    done = veloci("copy", *words, check=False)
    message = f"dir:{tmp_path}/d: Docker's format holds no layer of type {media.LAYER_ZSTD}"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"veloci: {message}\n  try: --compress gzip, or --format oci\n"
    assert not (tmp_path / "d").exists()
    veloci("copy", "-q", "--compress", "gzip", *words)
    veloci("copy", "-q", "--compress", "zstd", f"dir:{tmp_path}/d", f"dir:{tmp_path}/e")
    seen = json.loads((tmp_path / "e/manifest.json").read_bytes())
    assert (seen["mediaType"], seen["layers"][0]["mediaType"]) == (media.MANIFEST, media.LAYER_ZSTD)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (f"{media.LAYER_GZIP}+encrypted", "it is encrypted"),
        ("application/vnd.example.layer", "its type is application/vnd.example.layer"),
    ],
)
def test_what_is_no_layer_is_copied_but_not_unpacked(roots, built, tmp_path, kind, why):
    for layer in built.document["layers"]:
        layer["mediaType"] = kind
    built.manifest = json.dumps(built.document).encode()
    built.write([(built.manifest, built.document["mediaType"], "v0")])
    place, message = f"oci:{built.path}:v0", f"the layer {digest(built.layers[0])} cannot be unpacked: {why}"
    veloci("copy", "-q", place, "odd:v0")
    veloci("copy", "-q", "odd:v0", f"oci:{tmp_path}/back:v0")
    assert manifest(tmp_path / "back") == json.loads(built.manifest)
    assert veloci("image", "validate", place).endswith(": valid\n")
    for words in (["unpack", place, tmp_path / "b"], ["create", "odd:v0", "true"], ["image", "files", place]):
        done = veloci(*words, check=False)
        assert (done.returncode != 0, done.stderr) == (True, f"veloci: {message}\n")
    assert not (tmp_path / "b").exists()


def test_dockers_schema_1_is_refused(roots, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/manifest.json").write_text('{"schemaVersion": 1, "name": "a", "fsLayers": [], "history": []}')
    done = veloci("copy", f"dir:{tmp_path}/d", f"oci:{tmp_path}/o:v0", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "veloci: manifest.json: it is in Docker's schema 1, which ended in 2017\n  try: push it again\n",
    )


SIGNATURES = (b"\x90a signature, as far as its first byte says\x00", b"\x00simple-signing\nanother")


def signed(path, built):
    """A dir: with two signatures; what comes after a gap is none of them."""
    veloci("copy", "-q", f"oci:{built.path}:v0", f"dir:{path}")
    for number, raw in enumerate(SIGNATURES, 1):
        (path / f"signature-{number}").write_bytes(raw)
    (path / "signature-4").write_bytes(SIGNATURES[0])
    return path


def signatures(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if "signature-" in file.name}


@pytest.mark.needs("skopeo")
def test_signatures_go_along_as_with_skopeo(roots, built, tmp_path):
    source = signed(tmp_path / "d", built)
    (source / "signature-2").write_bytes(b"\xc2two")
    (tmp_path / "theirs").mkdir()
    veloci("copy", "-q", f"oci:{built.path}:v0", f"dir:{tmp_path}/ours")
    (tmp_path / "ours/signature-3").write_bytes(b"of what was here")
    run("skopeo", "copy", "-q", f"dir:{source}", f"dir:{tmp_path}/theirs")
    veloci("copy", "-q", f"dir:{source}", f"dir:{tmp_path}/ours")
    files = [{file.name: file.read_bytes() for file in (tmp_path / each).iterdir()} for each in ("theirs", "ours")]
    assert files[0] == files[1]
    assert set(signatures(tmp_path / "ours")) == {"signature-1", "signature-2"}
    for command in (("skopeo",), (sys.executable, "-m", "veloci")):  # unsigned: what was signed here is gone
        run(*command, "copy", "-q", "--remove-signatures", f"dir:{source}", f"dir:{tmp_path}/ours")
        assert signatures(tmp_path / "ours") == {}
    veloci("copy", "-q", f"dir:{source}", f"dir:{source}")
    assert set(signatures(source)) == {"signature-1", "signature-2"}


@pytest.mark.needs("skopeo")
def test_signatures_of_an_index_and_its_images_go_along(roots, built, tmp_path):
    veloci("copy", "-q", f"oci:{built.path}:v0", f"dir:{tmp_path}/one")
    veloci("index", "create", "-q", f"dir:{tmp_path}/many", f"dir:{tmp_path}/one")
    (tmp_path / "many/signature-1").write_bytes(b"\x90index")
    image = f"{digest(built.manifest)[7:]}.signature-1"
    (tmp_path / "many" / image).write_bytes(b"\x90image")
    run("skopeo", "copy", "-q", "--all", f"dir:{tmp_path}/many", f"dir:{tmp_path}/theirs")
    veloci("copy", "-q", "--all", f"dir:{tmp_path}/many", f"dir:{tmp_path}/ours")
    found = signatures(tmp_path / "ours")
    assert found == signatures(tmp_path / "theirs") == {"signature-1": b"\x90index", image: b"\x90image"}
    veloci("copy", "-q", f"dir:{tmp_path}/many", f"dir:{tmp_path}/ours")
    assert signatures(tmp_path / "ours") == {"signature-1": b"\x90image"}
    done = veloci("copy", "-q", "--all", f"dir:{tmp_path}/many", f"oci:{tmp_path}/other:x", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("place", ["oci:o:x", "oci-archive:o.tar:x", "docker-archive:d.tar:x:1", "x", "docker://{}/x"])
def test_signatures_are_lost_only_when_asked(roots, built, registry, tmp_path, place):
    source, place = signed(tmp_path / "d", built), place.format(registry)
    words = ("copy", "-q", f"dir:{source}", place)
    done = veloci(*words, check=False, cwd=tmp_path)
    assert done.returncode == 1
    message = f"veloci: dir:{source}: its signatures cannot be copied to "
    assert done.stderr.startswith(message), done.stderr
    assert done.stderr.endswith(": only a dir: holds them\n  try: --remove-signatures of copy and sync\n")
    assert sorted(path.name for path in tmp_path.iterdir() if path != built.path) == ["d"]
    veloci(*words, "--remove-signatures", cwd=tmp_path)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--format", "docker"), "its documents would be Docker's"),
        (("--compress", "none"), "its layers would be compressed otherwise"),
        (("--compress", "zstd"), "its layers would be compressed otherwise"),
    ],
)
def test_signatures_are_of_the_image_as_it_is(roots, built, tmp_path, options, why):
    """skopeo would leave out the conversion and not say so."""
    source = signed(tmp_path / "d", built)
    done = veloci("copy", "-q", *options, f"dir:{source}", f"dir:{tmp_path}/e", check=False)
    message = f"dir:{tmp_path}/e: its signatures would be of another image: {why}\n  try: --remove-signatures of copy"
    assert (done.returncode, done.stderr) == (1, f"veloci: {message} and sync\n")
    assert not (tmp_path / "e/manifest.json").exists()
    veloci("copy", "-q", *options, "--remove-signatures", f"dir:{source}", f"dir:{tmp_path}/e")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "it is empty"),
        (b"text", "it begins with the byte 0x74"),
        (b"\0nosuch\nx", "it is of no known format"),
        (b"\0simple-signing", "it is of no known format"),
    ],
)
@pytest.mark.needs("skopeo")
def test_what_is_no_signature_is_refused_as_by_skopeo(roots, built, tmp_path, raw, why):
    source = signed(tmp_path / "d", built)
    (source / "signature-1").write_bytes(raw)
    assert run("skopeo", "copy", "-q", f"dir:{source}", f"dir:{tmp_path}/e", check=False).returncode == 1
    done = veloci("copy", "-q", f"dir:{source}", f"dir:{tmp_path}/f", check=False)
    message = f"veloci: {source}/signature-1: it is no signature: {why}\n  try: --remove-signatures of copy and sync\n"
    assert (done.returncode, done.stderr) == (1, message)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--sign-by", "images are not signed here"),
        ("--sign-by-sigstore", "images are not signed here"),
        ("--sign-by-sigstore-private-key", "images are not signed here"),
        ("--sign-identity", "images are not signed here"),
        ("--encryption-key", "layers are not encrypted here"),
        ("--decryption-key", "layers are not decrypted here"),
        ("--dest-compress", "is said with the kind"),
        ("--src-username", "is said with the other half"),
    ],
)
def test_an_option_of_skopeos_that_is_refused_says_why(roots, flag, message):
    done = veloci("copy", flag, "x", "oci:a:b", "oci:c:d", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"veloci: {flag}: {message}"
    assert done.stderr.splitlines()[1].startswith("  try: ")
    assert veloci("tag", flag, "a", "b", check=False).stderr.splitlines()[0] == f"veloci: {flag}: unknown option"


def test_layers_stay_uncompressed_where_that_is_accepted(roots, built, tmp_path):
    veloci("copy", "-q", f"oci:{built.path}:v0", f"docker-archive:{tmp_path}/a.tar:a:1")
    words = ["copy", "-q", f"docker-archive:{tmp_path}/a.tar"]
    for flags, suffix in (([], "+gzip"), (["--dest-oci-accept-uncompressed-layers"], ""), (["--dest-decompress"], "")):
        name = f"d{len(flags)}{suffix}"
        veloci(*words, *flags, "--image-parallel-copies", "1", f"oci:{tmp_path}/{name}:a")
        kinds = {each["mediaType"] for each in manifest(tmp_path / name)["layers"]}
        assert kinds == {f"application/vnd.oci.image.layer.v1.tar{suffix}"}
    zstd = f"oci:{tmp_path}/z:a"
    veloci(*words, "--compress", "zstd", "--dest-compress-level", "1", zstd)
    veloci("copy", "-q", "--compress", "zstd:1", zstd, f"oci:{tmp_path}/z1:a")
    assert files(tmp_path / "z") == files(tmp_path / "z1")


@pytest.mark.needs("skopeo")
def test_layouts_share_blobs_as_skopeos(roots, built, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for who, top in ((veloci, ours), (lambda *words: run("skopeo", "--insecure-policy", *words), theirs)):
        top.mkdir()
        for name in ("a", "b"):
            who("copy", "-q", "--dest-shared-blob-dir", top / "shared", f"oci:{built.path}:v0", f"oci:{top}/{name}:v0")
        who("copy", "-q", "--src-shared-blob-dir", top / "shared", f"oci:{top}/a:v0", f"dir:{top}/d")
    assert files(ours / "d") == files(theirs / "d")
    assert {path: data for path, data in files(ours).items() if "shared" in path} == {
        path: data for path, data in files(theirs).items() if "shared" in path
    }
    assert not list((ours / "a").glob("blobs/*"))
    shown = veloci("inspect", "--shared-blob-dir", theirs / "shared", f"oci:{theirs}/b:v0")
    assert json.loads(shown)["Digest"] == digest(built.manifest)


# -- docker's engine


def test_no_engine_is_said(roots, tmp_path):
    at = f"unix://{tmp_path}/none.sock"
    done = veloci("copy", "--src-daemon-host", at, "docker-daemon:app:v0", f"dir:{tmp_path}/d", check=False)
    message = "cannot reach the docker engine: no such file or directory\n  try: is dockerd running?"
    assert (done.returncode, done.stderr) == (1, f"veloci: {at}: {message}\n")


@pytest.mark.needs("docker", "dockerd")
def test_images_go_to_a_docker_engine_and_come_back(roots, built, tmp_path):
    with Dockerd("/tmp/veloci-test-daemon") as command:
        host = command[2]
        there = ["--dest-daemon-host", host, f"oci:{built.path}:v0"]
        veloci("copy", *there, "--additional-tag", "app:v1", "docker-daemon:app:v0")
        for name in ("app:v0", "app:v1"):
            assert run(*command, "image", "inspect", "--format", "{{.Id}}", name).strip() == digest(built.config)
        for number, name in enumerate(("app:v0", digest(built.config))):
            veloci("copy", "--src-daemon-host", host, f"docker-daemon:{name}", f"oci:{tmp_path}/back{number}:v0")
            back = tmp_path / f"back{number}/blobs/sha256" / digest(built.config)[7:]
            assert back.read_bytes() == built.config
        done = veloci("copy", "--src-daemon-host", host, "docker-daemon:none:v9", f"dir:{tmp_path}/d", check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("veloci: none:v9: the docker engine says: ")
    assert not os.path.exists("/tmp/veloci-test-daemon")


# -- who we are, at either side


def guarded(built, name, password):
    """A registry with the image that wants a name and a password."""
    want = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()

    def answer(request):
        if request.headers.get("Authorization") != want:
            return request.reply(401, b"{}", WWW_Authenticate='Basic realm="x"')
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        if "manifests" in request.path:
            return request.reply(200, built.manifest, Content_Type=media.MANIFEST)
        return request.reply(200, next(b for b in (built.config, *built.layers) if digest(b) in request.path))

    return answer


def test_each_side_has_its_credentials(roots, built, tmp_path):
    with Scripted(guarded(built, "me", "secret")) as server:
        words = ["-q", f"docker://{server.address}/app:v0"]
        auth = {"auths": {server.address: {"auth": base64.b64encode(b"me:secret").decode()}}}
        (tmp_path / "auth.json").write_text(json.dumps(auth))
        for number, flags in enumerate(
            (["--src-creds", "me:secret"], ["--authfile", "auth.json"], ["--src-authfile", "auth.json"])
        ):
            veloci("copy", *flags, *words, f"dir:{tmp_path}/d{number}", cwd=tmp_path)
            assert (tmp_path / f"d{number}/manifest.json").read_bytes() == built.manifest
        for flags in (["--dest-authfile", "auth.json"], ["--src-creds", "me:guess"]):
            done = veloci("copy", *flags, *words, f"dir:{tmp_path}/no", cwd=tmp_path, check=False)
            assert (done.returncode, f"try: veloci login {server.address}" in done.stderr) == (1, True)
            assert not (tmp_path / "no").exists()


def test_a_side_may_have_no_login_or_a_token(roots, built, tmp_path):
    asked = []

    def answer(request):
        asked.append(request.headers.get("Authorization"))
        if asked[-1] != "Bearer tok":
            return request.reply(401, b"{}", WWW_Authenticate='Basic realm="x"')
        if "manifests" in request.path:
            return request.reply(200, built.manifest, Content_Type=media.MANIFEST)
        return request.reply(200, next((b for b in (built.config, *built.layers) if digest(b) in request.path), b"{}"))

    with Scripted(answer) as server:
        auth = {"auths": {server.address: {"auth": base64.b64encode(b"me:secret").decode()}}}
        (tmp_path / "auth.json").write_text(json.dumps(auth))
        words = ["-q", "--authfile", tmp_path / "auth.json", f"docker://{server.address}/app:v0", f"dir:{tmp_path}/d"]
        veloci("copy", "--src-registry-token", "tok", *words)
        assert set(asked) <= {None, "Bearer tok"}
        assert (tmp_path / "d/manifest.json").read_bytes() == built.manifest
        veloci("inspect", "-n", "--registry-token", "tok", words[3])
        asked.clear()
        done = veloci("copy", "--src-no-creds", *words, check=False)
        assert (done.returncode, set(asked)) == (1, {None})
        done = veloci("copy", "--src-registry-token", "other", *words, check=False)
        assert (done.returncode, f"try: veloci login {server.address}" in done.stderr) == (1, True)
        done = veloci("copy", "--src-no-creds", "--src-creds", "a:b", *words, check=False)
        assert done.stderr == "veloci: --src-creds: not together with --src-no-creds\n  try: leave one of them out\n"


@pytest.mark.needs("openssl")
def test_each_side_has_its_certificates(roots, built, tmp_path):
    for name in ("good", "other"):
        (tmp_path / name).mkdir()
        run(
            *"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1".split(),
            *(
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                tmp_path / f"{name}.key",
                "-out",
                tmp_path / name / "ca.crt",
            ),
        )
    pem = tmp_path / "server.pem"
    pem.write_bytes((tmp_path / "good.key").read_bytes() + (tmp_path / "good/ca.crt").read_bytes())
    with Scripted(guarded(built, "me", "secret"), certificate=pem) as server:
        words = ["-q", "--src-creds", "me:secret", f"docker://{server.address}/app:v0"]
        for number, flags in enumerate(
            (["--cert-dir", "good"], ["--src-cert-dir", "good"], ["--src-tls-verify=false"])
        ):
            veloci("copy", *flags, *words, f"dir:{tmp_path}/d{number}", cwd=tmp_path)
        for flags in ([], ["--src-cert-dir", "other"], ["--dest-cert-dir", "good"], ["--dest-tls-verify=false"]):
            done = veloci("copy", *flags, *words, f"dir:{tmp_path}/no", cwd=tmp_path, check=False)
            assert done.returncode == 1
            assert "no trusted connection" in done.stderr


def test_an_archive_that_names_no_address_holds_a_foreign_layer_or_says_where_it_is(roots, tmp_path):
    """Docker's archive has each layer, as skopeo fills it; it was a traceback."""
    built = Built(tmp_path / "layout")
    built.document["layers"][0] |= {"mediaType": media.LAYER_FOREIGN_GZIP, "urls": ["http://127.0.0.1:9/layer"]}
    built.manifest = json.dumps(built.document).encode()
    built.write([(built.manifest, built.document["mediaType"], "v0")])
    veloci("copy", "-q", f"oci:{built.path}:v0", f"docker-archive:{tmp_path}/whole.tar:some/name:v0")
    veloci("load", "-q", "-i", tmp_path / "whole.tar")
    assert veloci("image", "files", "some/name:v0", "/a") == veloci("image", "files", f"oci:{built.path}:v0", "/a")
    (built.path / "blobs/sha256" / digest(built.layers[0])[7:]).unlink()
    for words in (
        ("copy", f"oci:{built.path}:v0", f"docker-archive:{tmp_path}/none.tar"),
        ("explore", f"oci:{built.path}:v0"),
    ):
        error = veloci(*words, check=False).stderr.partition("veloci: ")[2]
        assert error == (
            f"{built.path}:v0: the layer {digest(built.layers[0])} is kept elsewhere\n"
            "  try: it is said to be at http://127.0.0.1:9/layer; what an image names is not fetched\n"
        )
    assert not (tmp_path / "none.tar").exists()


def test_a_name_with_a_digest_gets_what_has_that_digest_or_nothing(registry, roots, tmp_path):
    """At a registry the copy went elsewhere, and here another image had the name."""
    built = Built(tmp_path / "layout")
    entry = {"mediaType": media.MANIFEST, "digest": digest(built.manifest), "size": len(built.manifest)}
    index = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [entry]}).encode()
    built.write([(index, media.INDEX, "v0")])
    whole, one, other = digest(index), digest(built.manifest), digest(b"other")
    source, there, here = f"oci:{built.path}:v0", f"docker://{registry}/promised", f"{registry}/promised"
    hint = "  try: leave the digest out, or copy what has it: of an index --all\n"
    for words in ((source, f"{there}@{whole}"), (source, f"{there}:v1@{other}"), (source, f"{here}@{other}")):
        error = veloci("copy", "-q", *words, check=False).stderr
        name = words[1].removeprefix("docker://")
        assert error == f"veloci: {name}: what is copied is {one}, not what the name says\n{hint}"
    assert veloci("list-tags", "-q", there, check=False).stdout == veloci("images", "-q") == ""
    veloci("copy", "-q", source, f"{there}@{one}")
    veloci("copy", "-q", "--all", source, f"{there}@{whole}")
    assert veloci("inspect", "--raw", f"{there}@{whole}") == index.decode()
    veloci("copy", "-q", f"{there}@{whole}", f"{here}@{whole}")
    assert veloci("digest", f"veloci:{here}@{whole}").strip() == one
