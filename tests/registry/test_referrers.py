"""What refers to a manifest is found, with the registry's list or with the tag that stands for it."""

import json

import pytest
from peers import Scripted, digest
from wire import MANIFEST, opened, repository, v2

from veloci.errors import InvalidInput
from veloci.registry.referrers import tag
from veloci.spec import media
from veloci.spec.image import Descriptor

EMPTY = b"{}"
SUBJECT = digest(MANIFEST)


def artifact(kind, note="", subject=SUBJECT):
    blob = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(EMPTY), "size": 2}
    document = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": kind,
        "config": blob,
        "layers": [blob],
        "subject": {"mediaType": media.INDEX, "digest": subject, "size": len(MANIFEST)},
        "annotations": {"note": note},
    }
    return json.dumps(document).encode()


def pushed(there, *kinds):
    there.upload(Descriptor(media_type="x", digest=digest(EMPTY), size=2), opened(EMPTY))
    raws = [artifact(kind, str(n)) for n, kind in enumerate(kinds)]
    for raw in raws:
        there.put_manifest(raw, media.MANIFEST, digest(raw))
    return [digest(raw) for raw in raws]


def test_referrers_are_listed_by_type_and_forgotten_when_deleted(registry, request):
    there = repository(registry, "signed")
    there.put_manifest(MANIFEST, media.INDEX, "v0")
    assert there.referrers(SUBJECT) == []
    signature, bill = pushed(there, "a/signature", "a/sbom")
    found = {entry.digest: entry for entry in there.referrers(SUBJECT)}
    assert set(found) == {signature, bill}
    assert (found[signature].artifact_type, found[signature].annotations) == ("a/signature", {"note": "0"})
    assert [entry.digest for entry in there.referrers(SUBJECT, "a/sbom")] == [bill]
    assert there.referrers(SUBJECT, "a/other") == []
    tags = {"v0"} if "ours" in request.node.name else {"v0", tag(SUBJECT)}
    assert set(there.tags()) == tags
    there.delete(signature)
    assert [entry.digest for entry in there.referrers(SUBJECT)] == [bill]


def test_pushing_again_adds_nothing(registry):
    there = repository(registry, "again")
    assert len({*pushed(there, "a/x"), *pushed(there, "a/x")}) == 1
    assert len(there.referrers(SUBJECT)) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sha256:" + "a" * 64, "sha256-" + "a" * 64), ("sha512:" + "b" * 128, "sha512-" + "b" * 64)],
)
def test_the_tag_is_made_of_the_digest(name, expected):
    assert tag(name) == expected


def test_the_list_may_come_in_pages_and_hold_doubles():
    def page(entries, **headers):
        items = [{"mediaType": media.MANIFEST, "digest": digest(n), "size": 5, "artifactType": "a/x"} for n in entries]
        raw = json.dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": items}).encode()
        return lambda request: request.reply(200, raw, Content_Type=media.INDEX, **headers)

    first, last = page((b"1", b"2"), Link='<?page=2>; rel="next"'), page((b"2", b"3"))
    with Scripted(v2(lambda request: (last if "page=2" in request.path else first)(request))) as server:
        found = repository(server.address).referrers(SUBJECT)
    assert [entry.digest for entry in found] == [digest(b"1"), digest(b"2"), digest(b"3")]


def test_a_page_that_is_no_index_counts_as_no_list():
    def script(request):
        if "/referrers/" in request.path:
            return request.reply(200, b"<html>welcome</html>", Content_Type="text/html")
        return request.reply(404)

    with Scripted(v2(script)) as server:
        assert repository(server.address).referrers(SUBJECT) == []
        assert server.seen[-1][1] == f"/v2/app/manifests/{tag(SUBJECT)}"


def test_a_tag_that_is_something_else_is_not_written_over():
    def script(request):
        if request.command == "GET" and "/manifests/" in request.path:
            return request.reply(200, artifact("a/x"), Content_Type=media.MANIFEST)
        return request.reply(404 if request.command == "GET" else 201)

    with Scripted(v2(script)) as server:
        there = repository(server.address)
        with pytest.raises(InvalidInput, match="is no index of referrers"):
            there.put_manifest(artifact("a/y"), media.MANIFEST, "v0")
        assert [path for method, path, _ in server.seen if method == "PUT"] == ["/v2/app/manifests/v0"]
