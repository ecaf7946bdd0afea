"""A registry that misbehaves: one clear line, and a store that holds nothing it did not hold before, but what is right."""

import itertools
import json
import re
import time

import pytest
from peers import Built, Scripted, digest, tar

from veloci.cli.main import escaped
from veloci.content.names import Names
from veloci.content.store import Store
from veloci.errors import VelociError
from veloci.registry.session import Session
from veloci.spec import media
from veloci.spec.reference import Reference
from veloci.transport.exchange import pull


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return Built(tmp_path_factory.mktemp("built") / "layout", [tar({"a": bytes(range(256)) * 2000})])


def layer(request, built):
    return digest(built.layers[0]) in request.path


def manifest(request, _built=None):
    return "/manifests/" in request.path


def chunked(request, parts):
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.send_header("Content-Type", media.MANIFEST)
    request.end_headers()
    for part in parts:
        request.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))


def for_ever(part):
    """So often that nobody should read on."""
    return itertools.repeat(part, 512)


def cut(request, data):
    request.send_response(200)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data[: len(data) // 2])
    request.cut()


def drip(request, head):
    request.wfile.write(head)
    for _ in range(200):
        request.wfile.write(b"x")
        time.sleep(0.02)
    request.cut()


def changed(built, **fields):
    return json.dumps({**built.document, **fields}).encode()


def says(raw, kind=media.MANIFEST, **headers):
    return lambda request, _built: request.reply(200, raw, Content_Type=kind, **headers)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: 9999\r\n\r\n" % media.MANIFEST.encode()
GARBAGE = {
    "a cut layer": (layer, lambda r, b: cut(r, b.layers[0]), r"cannot reach \S+: the connection was cut"),
    "a layer of another digest": (layer, lambda r, b: r.reply(200, bytes(len(b.layers[0]))), r"content: expected sha256:\w+, got sha256:\w+"),
    "a short layer": (layer, lambda r, b: r.reply(200, b.layers[0][:-1]), r"expected \d+ bytes, got \d+"),
    "a long layer": (layer, lambda r, b: r.reply(200, b.layers[0] + b"x"), r"expected \d+ bytes, got \d+"),
    "an endless layer": (layer, lambda r, _b: chunked(r, for_ever(bytes(65536))), r"expected \d+ bytes, got more"),
    "a layer that redirects for ever": (layer, lambda r, _b: r.reply(307, Location=r.path), "redirects more than 8 times"),
    "a layer at no web address": (layer, lambda r, _b: r.reply(307, Location="file:///etc/passwd"), "the registry points to 'file:///etc/passwd'"),
    "a layer that is not there": (layer, lambda r, _b: r.reply(404), "not found"),
    "a layer that breaks the protocol": (layer, lambda r, _b: (r.wfile.write(b"garbage\r\n\r\n"), r.cut()), r"cannot reach \S+: the connection was cut"),
    "a layer with two lengths": (layer, lambda r, _b: (r.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), r.cut()), r"expected|cannot reach"),
    "a layer of negative length": (layer, lambda r, _b: (r.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), r.cut()), r"content: expected|expected \d+ bytes, got|cannot reach"),
    "a dripping layer": (layer, lambda r, b: drip(r, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(b.layers[0])), r"cannot reach \S+: it sent less than 1024 bytes"),
    "a dripping manifest": (manifest, lambda r, _b: drip(r, HEAD), r"cannot reach \S+: it sent less than 1024 bytes"),
    "an endless manifest": (manifest, lambda r, _b: chunked(r, for_ever(b" " * 65536)), "the answer is longer than 4194304 bytes"),
    "a manifest that is HTML": (manifest, says(b"<html>", "text/html"), "its manifest is not JSON"),
    "a manifest of the wrong type": (manifest, lambda r, b: r.reply(200, b.manifest, Content_Type=media.INDEX), "its manifest says it is"),
    "a manifest of no type": (manifest, says(b"{}", "text/plain"), "'text/plain' is no manifest's media type"),
    "a manifest that is garbage": (manifest, says(b"\x00\xff\x1b[2J"), "its manifest is not JSON"),
    "a manifest too deep": (manifest, says(b"[" * 100_000), "nested too deeply"),
    "a manifest of another digest": (manifest, lambda r, b: r.reply(200, b.manifest, Content_Type=media.MANIFEST, Docker_Content_Digest=digest(b"x")), r"expected sha256:\w+, got sha256:\w+"),
    "a manifest with a digest that is a path": (manifest, lambda r, b: r.reply(200, changed(b, layers=[{"mediaType": media.LAYER_GZIP, "digest": "sha256:../../../etc/passwd", "size": 5}]), Content_Type=media.MANIFEST), "expected a digest"),
    "a manifest with a digest that is a path of the right length": (manifest, lambda r, b: r.reply(200, changed(b, layers=[{"mediaType": media.LAYER_GZIP, "digest": "sha256:" + "../" * 21 + "x", "size": 5}]), Content_Type=media.MANIFEST), "expected a digest"),
    "a manifest with a negative size": (manifest, lambda r, b: r.reply(200, changed(b, layers=[{"mediaType": media.LAYER_GZIP, "digest": digest(b"x"), "size": -5}]), Content_Type=media.MANIFEST), r"\$.layers\[0\].size"),
    "a config that is too large": (manifest, lambda r, b: r.reply(200, changed(b, config={"mediaType": media.CONFIG, "digest": digest(b"x"), "size": 1 << 40}), Content_Type=media.MANIFEST), "config sha256:[0-9a-f]* has more than 4194304 bytes"),
    "an index without end": (manifest, lambda r, _b: index_of_itself(r), r"more than 8 indexes within each other|no image for"),
}  # fmt: skip


def index_of_itself(request):
    """Every index holds another one, as many as one asks for."""
    number = int(request.server.count)
    request.server.count += 1
    raws = [b"%d" % number]
    inner = json.dumps(
        {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [], "annotations": {"n": "0"}}
    ).encode()
    for depth in range(12):
        raws.append(inner)
        entry = {"mediaType": media.INDEX, "digest": digest(inner), "size": len(inner)}
        inner = json.dumps(
            {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [entry], "annotations": {"n": str(depth)}}
        ).encode()
    known = {digest(raw): raw for raw in raws}
    wanted = request.path.rpartition("/")[2]
    request.reply(200, known.get(wanted, inner), Content_Type=media.INDEX)


def tree(root):
    return {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file()}


def kept(root):
    """The tree without what only speeds things up, and what is held while a command runs."""
    return {path: size for path, size in tree(root).items() if not path.startswith(("leases/", "known/"))}


@pytest.mark.parametrize("what", GARBAGE)
def test_one_clear_line_and_nothing_is_left(what, built, tmp_path, monkeypatch):
    from veloci.registry import session

    monkeypatch.setattr(session, "TRIES", 2)
    where, answer, message = GARBAGE[what]

    def script(request):
        if where(request, built):
            return answer(request, built)
        if manifest(request):
            return request.reply(200, built.manifest, Content_Type=media.MANIFEST)
        return request.reply(200, built.config if digest(built.config) in request.path else b"{}")

    root = tmp_path / "content"
    store, names = Store(str(root)), Names(str(root))
    good = Reference.parse("127.0.0.1:1/good:v0")
    names.set(str(good), store.put(b'{"schemaVersion":2}', media.INDEX))
    before = kept(root)
    with Scripted(script) as bad:
        bad.server.count = 0
        with pytest.raises(VelociError) as failure:
            pull(store, names, Reference.parse(f"{bad.address}/app:v0"), session=Session(wait=0.01, stall=0.3))
    assert re.search(message, str(failure.value)), str(failure.value)
    assert "\n" not in escaped(str(failure.value))
    after = kept(root)
    after.pop(f"blobs/sha256/{digest(built.config)[7:]}", None)  # which is right
    if what in ("a cut layer", "a dripping layer"):  # the next try goes on from there
        assert 0 < after.pop(f"ingest/sha256-{digest(built.layers[0])[7:]}", 1) < len(built.layers[0])
    assert after == before
    assert [name for name, _ in names.all()] == [str(good)]


def test_a_layer_that_was_cut_is_fetched_on_by_the_next_pull(built, tmp_path):
    ranges, data = [], built.layers[0]

    def script(request):
        if layer(request, built):
            if not request.headers.get("Range"):
                return cut(request, data)
            start = int(request.headers["Range"][6:-1])
            ranges.append(start)
            if len(ranges) == 1:
                return request.reply(404)
            return request.reply(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        if manifest(request):
            return request.reply(200, built.manifest, Content_Type=media.MANIFEST)
        return request.reply(200, built.config if digest(built.config) in request.path else b"{}")

    store, names = Store(str(tmp_path)), Names(str(tmp_path))
    with Scripted(script) as server:
        name = Reference.parse(f"{server.address}/app:v0")
        with pytest.raises(VelociError, match="not found"):
            pull(store, names, name, session=Session(wait=0.01))
        pulled = pull(store, names, name, session=Session(wait=0.01))
    assert ranges == [len(data) // 2] * 2
    assert pulled.descriptor.digest == digest(built.manifest)
    assert not [path for path in tree(tmp_path) if path.startswith("ingest/")]
