"""Registries looked at from the command line: list-tags, catalog, digest, delete, inspect; skopeo beside them."""

import json
import subprocess

import pytest
from peers import Built, Scripted, digest
from peers import inside as veloci


@pytest.fixture
def built(tmp_path, roots, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return Built(tmp_path / "layout")


def pushed(built, registry, *names, **options):
    for name in names:
        veloci("copy", "-q", *options.get("flags", ()), f"oci:{built.path}:v0", f"docker://{registry}/{name}")


def failed(*words):
    done = veloci(*words, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def skopeo(*words):
    return subprocess.run(
        ["skopeo", words[0], "--tls-verify=false", *words[1:]], check=True, capture_output=True
    ).stdout.decode()


def test_all_tags_are_listed_page_by_page(built):
    def pages(request):
        last = int(request.path.rpartition("last=")[2]) if "last=" in request.path else 0
        link = {"Link": f'</v2/app/tags/list?last={last + 3}>; rel="next"'} if last < 9 else {}
        request.reply(200, json.dumps({"name": "app", "tags": [f"t{last + n}" for n in range(3)]}).encode(), **link)

    with Scripted(lambda r: r.reply(200, b"{}") if r.path == "/v2/" else pages(r)) as server:
        assert veloci("list-tags", "-q", f"docker://{server.address}/app").split() == [f"t{n}" for n in range(12)]


@pytest.mark.needs("skopeo")
def test_tags_are_listed_as_skopeo_lists_them(built, registry):
    pushed(built, registry, "tags/app:v0", "tags/app:v1")
    name = f"docker://{registry}/tags/app"
    assert veloci("list-tags", name) == skopeo("list-tags", name)
    assert veloci("list-tags", name.removeprefix("docker://"), "--format", "{{.Tags}}") == "[v0 v1]\n"
    assert failed("list-tags", f"{name}:v0") == (
        f"veloci: {name}:v0: no tag or digest allowed in reference\n  try: {registry}/tags/app\n"
    )
    assert failed("list-tags", f"docker://{registry}/none") == (
        f"veloci: {registry}/none: name unknown\n  try: check the name, the tag and the registry\n"
    )
    assert (
        failed("list-tags", "dir:/x") == "veloci: 'dir:/x' is at no registry\n  try: docker://HOST[:PORT]/NAME[:TAG]\n"
    )


def test_the_names_in_a_layout_are_listed(built):
    assert json.loads(veloci("list-tags", f"oci:{built.path}")) == {"Tags": ["v0"]}


def test_the_repositories_of_a_registry_are_listed(built, registry):
    pushed(built, registry, "cat/b:v0", "cat/a:v0")
    lines = veloci("catalog", registry).split()
    assert [line for line in lines if line.startswith("cat/")] == ["cat/a", "cat/b"]
    assert f"{registry}/cat/a" in veloci("catalog", "--full", f"http://{registry}/").split()


def test_a_digest_is_told_without_fetching_the_image(built, registry):
    pushed(built, registry, "digest:v0")
    expected = digest(built.manifest)
    assert veloci("digest", f"docker://{registry}/digest:v0") == f"{expected}\n"
    assert veloci("digest", "--full-ref", f"docker://{registry}/digest:v0") == f"{registry}/digest@{expected}\n"
    assert veloci("digest", f"oci:{built.path}:v0") == f"{expected}\n"
    veloci("copy", "-q", f"oci:{built.path}:v0", "here:v0")
    assert veloci("digest", "here:v0") == f"{expected}\n"
    assert veloci("digest", "-q", "here:v0") == ""
    assert failed("digest", "-q", f"docker://{registry}/digest:none").startswith(f"veloci: {registry}/digest:none: ")


def test_a_digest_of_a_platform_is_that_images(built, registry):
    entry = {"mediaType": built.document["mediaType"], "digest": digest(built.manifest), "size": len(built.manifest)}
    kind = "application/vnd.oci.image.index.v1+json"
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "manifests": [{**entry, "platform": built.platform}]}
    ).encode()
    built.write([(index, kind, "v0")])
    pushed(built, registry, "multi:v0", flags=["--all"])
    name = f"docker://{registry}/multi:v0"
    assert veloci("digest", name) == f"{digest(index)}\n"
    assert (
        veloci("digest", "--platform", f"linux/{built.platform['architecture']}", name) == f"{digest(built.manifest)}\n"
    )
    assert "no image for linux/s390x" in failed("digest", "--platform", "linux/s390x", name)


def test_an_image_is_deleted_with_all_its_tags(built, registry):
    pushed(built, registry, "gone:v0", "gone:v1")
    veloci("copy", "-q", "--format", "docker", f"oci:{built.path}:v0", f"docker://{registry}/gone:other")
    assert veloci("delete", f"docker://{registry}/gone:v1") == f"Deleted: {registry}/gone@{digest(built.manifest)}\n"
    assert veloci("list-tags", "-q", f"{registry}/gone") == "other\n"
    assert failed("delete", f"{registry}/gone:v1") == (
        f"veloci: {registry}/gone:v1: manifest unknown\n  try: check the name, the tag and the registry\n"
    )


def test_a_tag_is_deleted_alone(built, registry):
    pushed(built, registry, "tag:v0", "tag:v1")
    assert veloci("delete", "--only-tag", f"{registry}/tag:v1") == f"Untagged: {registry}/tag:v1\n"
    assert veloci("list-tags", "-q", f"{registry}/tag") == "v0\n"
    assert "takes a tag, no digest" in failed("delete", "--only-tag", f"{registry}/tag@{digest(built.manifest)}")


@pytest.mark.parametrize(("status", "code"), [(400, "DIGEST_INVALID"), (405, "UNSUPPORTED")])
def test_a_registry_that_deletes_no_tag_alone_is_said_to_be_one(built, status, code):
    """Debian's docker-registry answers 400, as if what it was sent were damaged; that was handed on."""
    answer = json.dumps({"errors": [{"code": code, "message": "no"}]}).encode()
    with Scripted(lambda r: r.reply(status if r.command == "DELETE" else 200, answer)) as server:
        name = f"{server.address}/tag:v1"
        assert failed("delete", "--only-tag", name) == (
            f"veloci: {name}: {server.address} deletes no tag alone\n"
            "  try: without --only-tag the manifest goes, with every tag of it\n"
        )


# -- inspect


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("format", ["oci", "docker"])
def test_an_image_is_shown_as_skopeo_shows_it(built, registry, format):
    pushed(built, registry, f"look/{format}:v0", f"look/{format}:v1", flags=["--format", format])
    name = f"docker://{registry}/look/{format}:v0"
    assert veloci("inspect", "--raw", name) == skopeo("inspect", "--raw", name)
    assert veloci("inspect", "--raw", "--config", name) == skopeo("inspect", "--raw", "--config", name)
    shown = json.loads(veloci("inspect", name))
    assert [layer["Size"] for layer in shown.pop("LayersData")] == [len(layer) for layer in built.layers]
    theirs = skopeo("inspect", name)
    assert json.dumps(shown, indent=4) + "\n" == theirs
    assert veloci("inspect", "--config", name) == skopeo("inspect", "--config", name)
    assert json.loads(veloci("inspect", "-n", name))["RepoTags"] == []
    for text in (
        "{{.Name}} {{.Tag}} {{.Digest}} {{.RepoTags}} {{.Os}}/{{.Architecture}} {{.Env}} {{range .Layers}}{{.}}{{end}}",
    ):
        assert veloci("inspect", "--format", text, name) == skopeo("inspect", "--format", text, name)
    text = "{{.Config.Env}} {{.RootFS.DiffIDs}} {{(index .History 0).CreatedBy}}"
    assert veloci("inspect", "--config", "--format", text, name) == skopeo(
        "inspect", "--config", "--format", text, name
    )


def test_an_image_in_a_layout_or_here_is_shown_alike(built):
    shown = json.loads(veloci("inspect", f"oci:{built.path}:v0"))
    assert (shown["Digest"], "Name" in shown) == (digest(built.manifest), False)
    veloci("copy", "-q", f"oci:{built.path}:v0", "here:v0")
    assert veloci("inspect", "--raw", "here:v0").encode() == built.manifest
    assert json.loads(veloci("inspect", "veloci:here:v0"))["Digest"] == digest(built.manifest)


def test_nothing_is_pulled_by_looking(built, registry, tmp_path):
    pushed(built, registry, "look:v0")
    for words in (("inspect",), ("inspect", "--config"), ("digest",)):
        veloci(*words, f"docker://{registry}/look:v0")
    blobs = tmp_path / "data/content/blobs/sha256"
    assert not blobs.exists() or not list(blobs.iterdir())


def test_what_goes_wrong_is_one_line(built, registry):
    for words, message in (
        (("inspect", f"docker://{registry}/none:v0"), f"veloci: {registry}/none:v0: manifest unknown\n"),
        (("inspect", "docker://127.0.0.1:1/x"), "veloci: cannot reach 127.0.0.1:1: connection refused\n"),
        (("inspect", "foo://x"), "veloci: 'foo://x' names no kind of place\n"),
        (("inspect", "--raw", "--format", "x", f"oci:{built.path}:v0"), "veloci: --raw: shows bytes as they are, --format does not\n"),
        (("inspect", "--platform", "linux/arm64", "here"), "veloci: --no-tags, --platform and the options of places are for images elsewhere\n"),
        (("inspect", "--size", "docker://x/y"), "veloci: --type and --size are for what is here\n"),
        (("digest", "none:v0"), "veloci: no such image: none:v0\n"),
        (("catalog", "debian"), "veloci: 'debian' is not a registry's host\n"),
    ):  # fmt: skip
        assert failed(*words).startswith(message), words
