"""Our client against our registry, Debian's, and registries that misbehave."""

import time
from contextlib import nullcontext

import pytest
from peers import Built, Scripted, Serving, digest
from wire import BLOB, DATA, opened, repository, v2, verified, whole

from veloci.errors import Corrupt, Denied, InvalidInput, NotFound, Unavailable, Unsupported
from veloci.registry.credentials import Credentials
from veloci.registry.session import Session
from veloci.spec import media
from veloci.spec.image import Descriptor
from veloci.spec.reference import Reference
from veloci.transport.registry import RegistryPlace


def test_what_is_pushed_comes_back(registry, tmp_path):
    built = Built(tmp_path / "layout")
    there = repository(registry, "team/app:v1")
    assert there.resolve() is None
    with pytest.raises(NotFound, match=r"team/app:v1: manifest unknown"):
        there.manifest()
    for data in (built.config, *built.layers):
        blob = Descriptor(media_type="x", digest=digest(data), size=len(data))
        assert not there.has(blob)
        there.upload(blob, lambda at, data=data: nullcontext([data[at : at + 999], data[at + 999 :]]))
        assert there.has(blob)
        assert whole(there, blob) == data
        assert whole(there, blob, 10) == data[10:]
    assert there.put_manifest(built.manifest, media.MANIFEST, "v1") == digest(built.manifest)
    descriptor, raw = there.manifest()
    assert (raw, descriptor.media_type, descriptor.digest) == (built.manifest, media.MANIFEST, digest(raw))
    assert there.resolve() == descriptor
    assert there.manifest(descriptor.digest) == (descriptor, raw)
    assert list(there.tags()) == ["v1"]
    there.delete(descriptor.digest)
    assert there.resolve() is None


def test_the_blobs_of_what_a_tag_names_are_there_and_not_asked_for(tmp_path):
    built = Built(tmp_path / "layout")
    index = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % media.INDEX.encode()
    answers = {"v0": (built.manifest, media.MANIFEST), "many": (index, media.INDEX)}

    def answer(request):
        raw, kind = answers.get(request.path.rpartition("/")[2], (b"", ""))
        request.reply(200 if kind else 404, raw, Content_Type=kind)

    with Scripted(v2(answer)) as server:
        assert repository(server.address).parts() == {digest(blob) for blob in (built.config, *built.layers)}
        assert repository(server.address, "app:many").parts() == repository(server.address, "app:none").parts() == set()
        layer = Descriptor(media_type=media.LAYER_GZIP, digest=digest(built.layers[0]), size=len(built.layers[0]))
        server.seen.clear()
        place = RegistryPlace(Reference.parse(f"{server.address}/app:v0"), Session(wait=0.01))
        assert place.has(layer)
        assert not place.has(layer.replace(digest=digest(b"another")))
    asked = [(method, path.rpartition("/")[2]) for method, path, _ in server.seen]
    assert asked == [("GET", ""), ("GET", "v0"), ("HEAD", digest(b"another"))]  # the first: whether it speaks TLS


def test_a_blob_is_mounted_across_repositories(registry):
    first, second = repository(registry, "one"), repository(registry, "two")
    first.upload(BLOB, lambda at: nullcontext([DATA[at:]]))
    assert second.mount(BLOB, "one") is True
    assert whole(second) == DATA
    assert second.mount(BLOB.replace(digest=digest(b"?")), "one") is False


def test_a_blob_of_unknown_digest_is_taken_as_it_comes(registry):
    there = repository(registry, "adopted")
    found = there.adopt((DATA[i : i + 70_000] for i in range(0, len(DATA), 70_000)), media.LAYER_GZIP)
    assert found == BLOB
    assert whole(there) == DATA


def test_an_empty_blob_can_be_pushed(registry):
    there, empty = repository(registry, "empty"), Descriptor(media_type="x", digest=digest(b""), size=0)
    there.upload(empty, lambda _start: nullcontext([]))
    assert whole(there, empty) == b""


def test_a_blob_longer_or_shorter_than_promised_is_never_sent_as_whole(registry):
    there = repository(registry, "liar")
    for data in (DATA[:-1], DATA + b"x"):
        with pytest.raises(Corrupt):
            there.upload(BLOB, lambda at, data=data: nullcontext([data[at:]]))
        assert not there.has(BLOB)


# -- registries that misbehave


def test_a_cut_download_goes_on_where_it_stopped():
    ranges = []

    @v2
    def cuts(request):
        asked = request.headers.get("Range", "bytes=0-")
        ranges.append(asked)
        start = int(asked[6:-1])
        size = len(DATA) - start
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(size))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        request.end_headers()
        request.wfile.write(DATA[start : start + 400_000])
        request.cut()

    with Scripted(cuts) as bad:
        assert whole(repository(bad.address)) == DATA
    assert ranges == ["bytes=0-", "bytes=400000-", "bytes=800000-"]


def test_a_registry_without_ranges_is_read_again_from_the_start():
    @v2
    def no_ranges(request):
        request.reply(200, DATA)

    with Scripted(no_ranges) as bad:
        assert whole(repository(bad.address), start=1_000_000) == DATA[1_000_000:]


def test_a_connection_cut_every_time_ends_in_one_clear_error():
    @v2
    def always(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(DATA)))
        request.end_headers()
        request.cut()

    with Scripted(always) as bad, pytest.raises(Unavailable) as failure:
        whole(repository(bad.address))
    assert str(failure.value) == f"{BLOB.digest}: cannot reach {bad.address}: the connection was cut"
    assert len([1 for method, path, _ in bad.seen if "blobs" in path]) == 5


@pytest.mark.parametrize(
    ("body", "length", "message"),
    [
        (DATA[:-1], None, f"{BLOB.digest}: expected 1048576 bytes, got 1048575"),
        (DATA + b"!", None, f"{BLOB.digest}: expected 1048576 bytes, got 1048577"),
        (DATA[:-1] + b"!", None, f"content: expected {BLOB.digest}, got {digest(DATA[:-1] + b'!')}"),
        (DATA + b"!", "chunked", f"{BLOB.digest}: expected 1048576 bytes, got more"),
        (DATA[:-1], "chunked", f"{BLOB.digest}: expected 1048576 bytes, got 1048575"),
    ],
)
def test_a_wrong_blob_is_told_by_what_is_wrong(body, length, message):
    @v2
    def wrong(request):
        if length is None:
            request.reply(200, body)
            return
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for part in (body[:500_000], body[500_000:], b""):
            request.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")

    with Scripted(wrong) as bad, pytest.raises(Corrupt) as failure:
        verified(repository(bad.address))
    assert str(failure.value) == message


@pytest.mark.parametrize("place", ["bytes 5-9/1048576", "bytes 1000-1048575/9", "nonsense", ""])
def test_a_range_that_was_not_asked_for_is_refused(place):
    @v2
    def elsewhere(request):
        request.reply(206, DATA[1000:], Content_Range=place)

    with Scripted(elsewhere) as bad, pytest.raises(Corrupt, match=r"expected bytes 1000-/1048576"):
        whole(repository(bad.address), start=1000)


def endless(request):
    """So much that nobody should read on: 64 MiB."""
    request.send_response(200)
    request.send_header("Content-Type", media.MANIFEST)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    for _ in range(1 << 10):
        request.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
    request.wfile.write(b"0\r\n\r\n")


def test_an_endless_manifest_is_not_read_to_its_end():
    with Scripted(v2(endless)) as bad, pytest.raises(InvalidInput) as failure:
        repository(bad.address).manifest()
    assert str(failure.value) == f"{bad.address}/app:v0: the answer is longer than 4194304 bytes"


def test_an_endless_error_is_not_read_to_its_end():
    """Its words come after 16 MiB; whoever reads so far says them."""
    late = b" " * (16 << 20) + b'{"errors":[{"code":"DENIED","message":"after all"}]}'
    with Scripted(v2(lambda request: request.reply(403, late))) as bad, pytest.raises(Denied) as failure:
        repository(bad.address).manifest()
    assert str(failure.value) == f"{bad.address}/app:v0: {bad.address} denied it: forbidden"


def test_an_endless_blob_is_not_read_past_its_size():
    with Scripted(v2(endless)) as bad, pytest.raises(Corrupt, match="expected 1048576 bytes, got more"):
        whole(repository(bad.address))


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"<html>", media.MANIFEST, "its manifest is not JSON"),
        (b"[]", media.MANIFEST, "its manifest is not a JSON object"),
        (b"{}", "text/html", "'text/html' is no manifest's media type"),
        (b'{"mediaType":"%s"}' % media.INDEX.encode(), media.MANIFEST, "its manifest says it is"),
        (b'{"layers":[],"manifests":[]}', media.MANIFEST, "its manifest has layers and manifests, so it is two things"),
        (b'{"a":1,"a":2}', media.MANIFEST, "its manifest is not JSON: the field 'a' stands twice in one object"),
        (b"[" * 100_000, media.MANIFEST, "its manifest is not JSON: nested too deeply"),
    ],
)
def test_a_garbage_manifest_is_told_by_what_is_wrong(body, kind, message):
    answer = v2(lambda request: request.reply(200, body, Content_Type=kind))
    with Scripted(answer) as bad, pytest.raises(InvalidInput) as failure:
        repository(bad.address).manifest()
    assert str(failure.value).startswith(f"{bad.address}/app:v0: {message}")


def test_a_manifest_of_another_digest_is_refused():
    answer = v2(lambda request: request.reply(200, b"{}", Content_Type=media.MANIFEST))
    with Scripted(answer) as bad, pytest.raises(Corrupt, match="expected sha256:"):
        repository(bad.address).manifest(digest(b"other"))
    said = v2(lambda r: r.reply(200, b"{}", Content_Type=media.MANIFEST, Docker_Content_Digest=digest(b"other")))
    with Scripted(said) as bad, pytest.raises(Corrupt):
        repository(bad.address).manifest()


def test_schema_1_is_named():
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    answer = v2(lambda request: request.reply(200, b"{}", Content_Type=kind))
    with Scripted(answer) as bad, pytest.raises(Unsupported, match="it is in Docker's schema 1"):
        repository(bad.address).manifest()


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (403, b'{"errors":[{"code":"DENIED","message":"not for you"}]}', Denied, "{host} denied it: not for you"),
        (404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}', NotFound, "manifest unknown"),
        (404, b"<html>nginx</html>", NotFound, "not found"),
        (503, b"we are\x1b[2J down", Unavailable, "{host} answered 503: we are\x1b[2J down"),
        (418, b'{"errors":7}', InvalidInput, "{host} answered 418: i'm a teapot"),
        (405, b"", Unsupported, "{host} does not support it: method not allowed"),
    ],
)
def test_an_error_is_told_in_the_registrys_own_words(status, body, kind, message):
    with Scripted(v2(lambda request: request.reply(status, body))) as bad, pytest.raises(kind) as failure:
        repository(bad.address).manifest()
    assert str(failure.value) == f"{bad.address}/app:v0: " + message.format(host=bad.address)


def test_what_may_pass_is_tried_again():
    count = []

    @v2
    def third_time(request):
        count.append(1)
        if len(count) == 1:
            return request.reply(429, b"", Retry_After="0")
        if len(count) == 2:
            return request.cut()
        return request.reply(200, DATA)

    with Scripted(third_time) as bad:
        assert whole(repository(bad.address)) == DATA
    assert len(count) == 3


def test_a_registry_that_is_down_is_one_clear_error():
    with Scripted(print) as gone:
        pass
    with pytest.raises(Unavailable) as failure:
        repository(gone.address).manifest()
    assert str(failure.value) == f"cannot reach {gone.address}: connection refused"


def test_redirects_are_followed_but_not_for_ever():
    @v2
    def around(request):
        if len(bad.seen) > 30:  # whoever is still there gets it
            return request.reply(200, DATA)
        return request.reply(307, Location=request.path)

    with Scripted(around) as bad, pytest.raises(InvalidInput, match="redirects more than 8 times"):
        whole(repository(bad.address))


def test_a_redirect_takes_no_credentials_elsewhere():
    with Scripted(lambda request: request.reply(200, DATA)) as cdn:

        @v2
        def sends_on(request):
            if request.headers.get("Authorization"):
                request.reply(307, Location=f"http://{cdn.address}/blob")
            else:
                request.reply(401, WWW_Authenticate='Basic realm="x"')

        with Scripted(sends_on) as bad:
            assert whole(repository(bad.address, credentials=Credentials("me", "secret"))) == DATA
        assert [auth for _, path, auth in bad.seen if "blobs" in path][-1] == "Basic bWU6c2VjcmV0"
        assert cdn.seen == [("GET", "/blob", None)]


@pytest.mark.parametrize("wants", ["Basic realm=x", 'Bearer realm="http://{host}/token"'])
def test_whom_a_redirect_leads_to_is_not_told_who_we_are_when_it_asks(wants):
    def asks(request):
        request.reply(401, b"{}", WWW_Authenticate=wants.format(host=request.headers["Host"]))

    with Scripted(asks) as cdn:
        answer = v2(lambda request: request.reply(307, Location=f"http://{cdn.address}/blob"))
        with Scripted(answer) as bad, pytest.raises(Denied):
            whole(repository(bad.address, credentials=Credentials("me", "secret")))
        assert cdn.seen == [("GET", "/blob", None)]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::1", "x" * 70_000])
def test_a_redirect_to_no_web_address_is_refused(target):
    answer = v2(lambda request: request.reply(302, Location=target))
    with Scripted(answer) as bad, pytest.raises(InvalidInput, match="the registry points to"):
        whole(repository(bad.address))


def test_who_cannot_be_reached_after_a_redirect_is_named():
    answer = v2(lambda request: request.reply(307, Location="http://who@127.0.0.1:1/x"))
    with Scripted(answer) as bad, pytest.raises(Unavailable) as failure:
        whole(repository(bad.address))
    assert str(failure.value) == f"{BLOB.digest}: cannot reach 127.0.0.1:1: connection refused"


def test_a_list_that_never_ends_is_refused():
    @v2
    def loops(request):
        more = {"Link": '</v2/app/tags/list?n=1000>; rel="next"'} if len(bad.seen) < 30 else {}
        request.reply(200, b'{"tags":["a"]}', **more)

    with Scripted(loops) as bad, pytest.raises(InvalidInput, match="the registry's list does not end"):
        list(repository(bad.address).tags())


@pytest.mark.parametrize(
    ("bound", "value", "message", "asked"),
    [("PAGES", 20, "does not end", 20), ("LIST", 1000, "is longer than 1000 bytes", 4)],
)
def test_a_list_whose_every_page_is_another_is_refused(monkeypatch, bound, value, message, asked):
    from veloci.registry import listing

    monkeypatch.setattr(listing, bound, value)

    @v2
    def goes_on(request):
        number = len(bad.seen)
        more = {"Link": f'</v2/app/tags/list?last={number}>; rel="next"'} if number < 40 else {}
        request.reply(200, b'{"tags":["%d"]}%s' % (number, b" " * 300), **more)

    with Scripted(goes_on) as bad, pytest.raises(InvalidInput, match=f"the registry's list {message}"):
        list(repository(bad.address).tags())
    assert len([path for _, path, _ in bad.seen if "/tags/list" in path]) == asked


def test_a_download_that_gives_a_byte_a_try_is_given_up():
    @v2
    def stingy(request):
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        request.send_header("Content-Length", str(len(DATA) - start))
        request.end_headers()
        request.wfile.write(DATA[start : start + 1] if len(bad.seen) < 40 else DATA[start:])
        request.cut()

    with Scripted(stingy) as bad, pytest.raises(Unavailable, match="the connection was cut"):
        whole(repository(bad.address))
    assert len([path for _, path, _ in bad.seen if "/blobs/" in path]) == 5


def test_a_list_goes_on_at_its_registry_alone():
    with Scripted(lambda request: request.reply(200, b'{"tags":["b"]}')) as other:
        link = f'<http://{other.address}/v2/app/tags/list>; rel="next"'
        answer = v2(lambda request: request.reply(200, b'{"tags":["a"]}', Link=link))
        with Scripted(answer) as bad, pytest.raises(Denied, match="the registry's next page is at"):
            list(repository(bad.address, credentials=Credentials("me", "secret")).tags())
        assert other.seen == []


def test_a_registry_that_kept_another_manifest_than_was_sent_is_not_believed():
    answer = v2(lambda request: request.reply(201, Docker_Content_Digest=digest(b"other")))
    with Scripted(answer) as bad, pytest.raises(Corrupt, match=digest(b"other")):
        repository(bad.address).put_manifest(b"{}", media.MANIFEST, "v1")


def test_bytes_are_taken_as_they_are_whatever_they_are_said_to_be():
    import gzip

    packed = gzip.compress(b"x" * 1000)
    blob = Descriptor(media_type="x", digest=digest(packed), size=len(packed))
    with Scripted(v2(lambda request: request.reply(200, packed, Content_Encoding="gzip"))) as server:
        assert whole(repository(server.address), blob) == packed


def test_a_registry_may_have_an_ipv6_address(tmp_path):
    with Serving(tmp_path, listen="[::1]:0") as (address, _process):
        there = repository(address)
        there.upload(BLOB, opened())
        assert whole(there) == DATA
        assert there.own.origin == f"http://{address}"


def test_a_download_that_is_reset_every_64_kib_arrives():
    import socket
    import struct

    asked = []

    @v2
    def resets(request):
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        asked.append(start)
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(DATA) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        request.end_headers()
        request.wfile.write(DATA[start : start + 65536])
        time.sleep(0.02)  # a reset takes what was not read with it
        if start + 65536 < len(DATA):
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.connection.close()
            request.rfile.close()
        request.cut()

    with Scripted(resets) as bad:
        assert whole(repository(bad.address)) == DATA
    assert len(asked) >= 16
