"""Every parser of what others wrote, as a function of bytes: an answer, or an error of ours, and nothing else.

test_targets.py tries each briefly, with damaged copies of its seeds; at_length.py with atheris, guided by coverage.
"""

import asyncio
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import tarfile
import tempfile
from pathlib import Path
from urllib.parse import unquote

import zstandard

from veloci.build import expand
from veloci.build.graph import graph
from veloci.build.ignore import Ignore
from veloci.build.parse import parse as dockerfile_of
from veloci.bundle.cdi import Spec
from veloci.bundle.defaults import default
from veloci.bundle.users import resolve
from veloci.cli.template import Template
from veloci.content import index as indexes
from veloci.engine import device_names
from veloci.errors import VelociError
from veloci.kernel.netlink import Netlink, attributes
from veloci.layer import mtree
from veloci.layer.apply import apply
from veloci.layer.erofs.read import Reading
from veloci.layer.erofs.write import Index as Erofs
from veloci.layer.merge import Tree
from veloci.layer.stream import decompressed
from veloci.layer.tar import Reader
from veloci.monitor.logs import Reader as Log
from veloci.network.ports import parse as ports_of
from veloci.registry import auth, configuration, credentials, protocol
from veloci.registry.failures import Failure
from veloci.registry.server.application import application
from veloci.registry.wire import Wire
from veloci.runtime.cgroup.gvariant import annotated
from veloci.runtime.plan import compile
from veloci.spec import duration, platform
from veloci.spec.document import dumps
from veloci.spec.image import Descriptor, ImageConfig, Index, Manifest
from veloci.spec.media import INDEX
from veloci.spec.reference import Reference
from veloci.spec.runtime import Config
from veloci.transport import semver, sync
from veloci.transport.docker_archive import DockerArchiveSource
from veloci.transport.files import Archive
from veloci.transport.layout import LayoutSource

MUCH = 4 << 20  # bytes of output after which a bomb is left alone
_SCRATCH = tempfile.TemporaryDirectory(prefix="veloci-fuzz-", dir="/dev/shm")
SCRATCH = Path(_SCRATCH.name)
HOST = platform.host()


def text(data):
    return data.decode("utf-8", "surrogateescape")


def written(name, data):
    path = SCRATCH / f"{os.getpid()}-{name}"
    path.write_bytes(data)
    return str(path)


def documents(data):
    for kind in (Descriptor, Manifest, Index, ImageConfig):
        with contextlib.suppress(VelociError):
            found = kind.decode(data, name="x")
            assert kind.decode(dumps(found.plain()), name="x") == found
    with contextlib.suppress(VelociError):
        indexes.names(indexes.changed(data, "a", None), "sha256:" + "0" * 64)


def reference(data):
    found = Reference.parse(text(data))
    assert Reference.parse(str(found)) == found


def words(data):
    """Short things that are written on a command line or in a document."""
    for read in (platform.parse, ports_of, semver.version, semver.constraint, credentials.parse, device_names.graphics):
        with contextlib.suppress(VelociError):
            read(text(data))
    with contextlib.suppress(VelociError):
        duration.parse(text(data))
    with contextlib.suppress(VelociError):
        list(annotated({"org.systemd.property.CPUWeight": text(data)}))


def tar(data):
    reader = Reader([data])
    for _entry in reader:
        for _piece in reader.body():
            pass
    Tree().add([data])


def applied(data):
    with contextlib.suppress(VelociError):
        for overlay in (False, True):
            path = SCRATCH / f"{os.getpid()}-tree"
            path.mkdir()
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                apply([data], root, overlay=overlay)
            finally:
                os.close(root)
                shutil.rmtree(path)


def erofs(data):
    reading = Reading()
    reading.read([data])
    with tempfile.TemporaryFile(dir=SCRATCH) as plain, tempfile.TemporaryFile(dir=SCRATCH) as index:
        plain.write(data)
        plain.flush()
        Erofs(index.fileno(), plain.fileno()).finish(reading.tree, bytes(16))


def stream(data):
    size = 0
    for chunk in decompressed([data], limit=1 << 16):
        size += len(chunk)
        if size > MUCH:
            return


def manifest(data):
    for values in mtree.parse(io.BytesIO(data)).values():
        assert all(isinstance(value, bytes) for value in values.values())
    assert mtree.unescaped(mtree.escaped(data)) == data


def headers(data):
    header = text(data)
    assert auth.challenge(header)[0] in ("", "basic", "bearer")
    for read in (protocol.next_page, protocol.byte_range, protocol.retry_after):
        read(header)
    protocol.warnings([header])
    assert "\n" not in protocol.words(data, "x")
    for status in (400, 401, 404, 429, 503):
        protocol.failure(status, data, {}, where="a", host="a")


class Said:
    """A connection to whoever says `data`, and nothing more."""

    def __init__(self, data):
        self.recv = io.BytesIO(data).read

    def sendall(self, data):
        pass

    settimeout = sendall

    def close(self):
        pass


def answers(data):
    for method in ("GET", "HEAD"):
        with contextlib.suppress(Failure):
            wire = Wire(Said(data), lambda _wire: None)
            answer = wire.ask(method, "/", {"Host": "x"}, None, sending=1.0, reading=1.0)
            assert 200 <= answer.status < 1000
            assert len(answer.read(100)) <= 100
            assert len(answer.read()) <= len(data)
            assert answer.read1() == b""


def registries(data):
    found = configuration.Configuration()
    configuration._merge(found, written("registries.conf", data))
    found.endpoints(Reference.parse("a:1/x"))
    found.candidates("debian")


def logins(data):
    credentials.find("reg:1", "team/app", authfile=written("auth.json", data))


def dockerfile(data):
    graph(dockerfile_of(data), platform=HOST, host=HOST)


def ignored(data):
    Ignore.read(data, name="x").rule("a/b.c")


def expanded(data):
    for read in (expand.word, expand.words, expand.missing, expand.body):
        with contextlib.suppress(VelociError):
            read(text(data), {"a": "b", "c": ""})


def config(data):
    compile(Config.decode(data, name="config.json"), "/bundle", {"": "/sys/fs/cgroup/x"})


def users(data):
    for name in ("a", "0", "b:c", "1:2"):
        with contextlib.suppress(VelociError):
            resolve(name, data, data[::-1])
            resolve(name, data, data)


def netlink(data):
    attributes(data)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    talk = Netlink.__new__(Netlink)
    talk._socket, talk._sequence = ours, 0
    with theirs, ours, contextlib.suppress(OSError):
        theirs.send(data or b"\0")
        list(talk._receive())


def templates(data):
    Template(text(data)).render({"A": [1, "b"], "C": {"d": None}})


def lists(data):
    for origin in sync.read(written("sync.yaml", data)):
        assert isinstance(origin.cert_dir, str | None)


def devices(data):
    for name in ("cdi.json", "cdi.yaml"):
        with contextlib.suppress(VelociError):
            device_names._read(written(name, data))
    Spec.decode(data, name="x")


def archives(data):
    path = written("archive", data)
    for kind in (DockerArchiveSource, LayoutSource):
        with contextlib.suppress(VelociError):
            archive = Archive(path)
            try:
                kind(archive).manifest()
            finally:
                archive.close()


def logs(data):
    reader = Log(written("log", data))
    list(reader.entries())
    reader.close()


def server(data):
    """A request to our registry, which holds a manifest: whatever it asks, the answer is none of 500."""
    head, _, body = data.partition(b"\n\n")
    first, *rest = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    fields = [each.partition(b": ") for each in rest]
    plain = lambda words: words.decode("ascii", "replace")  # noqa: E731 -- uvicorn lets nothing else come so far
    scope = {
        "type": "http",
        "method": plain(method),
        "path": unquote(plain(path)),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, _, value in fields],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 5000),
        "scheme": "http",
    }
    root = SCRATCH / f"{os.getpid()}-registry"
    shutil.rmtree(root, ignore_errors=True)
    found = []

    async def one(way, scope, body):
        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            found.append(message.get("status", 0))

        await way(scope, receive, send)

    async def both():
        way = application(str(root))
        kept = {"method": "PUT", "path": "/v2/a/manifests/v1", "headers": [(b"content-type", INDEX.encode())]}
        await one(way, {**scope, **kept, "query_string": b""}, b'{"schemaVersion":2,"manifests":[]}')
        await one(way, scope, body)

    asyncio.run(both())
    assert found[0] == 201
    assert max(found) < 500, found


# -- seeds: what is right, to begin with


def _tar(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, *fields in members:
            info = tarfile.TarInfo(name)
            for key, value in fields[0].items() if fields else ():
                setattr(info, key, value)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


DIGEST = "sha256:" + "a" * 64
ENTRY = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 3}
DOCUMENTS = [
    {"schemaVersion": 2, "config": {**ENTRY, "mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": [ENTRY], "annotations": {"a": "b"}},
    {"schemaVersion": 2, "manifests": [{**ENTRY, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}], "subject": ENTRY},
    {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"], "Cmd": ["sh"], "Volumes": {"/v": {}}}, "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "history": [{"created": "2020-01-01T00:00:00Z", "empty_layer": True}]},
]  # fmt: skip
LAYER = _tar(
    ("d", b"", {"type": tarfile.DIRTYPE, "pax_headers": {"SCHILY.xattr.user.a": "b", "mtime": "1.5"}}),
    ("d/" + "n" * 120, b"abc"),
    ("d/l", b"", {"type": tarfile.SYMTYPE, "linkname": "../d"}),
    ("h", b"", {"type": tarfile.LNKTYPE, "linkname": "d/l"}),
    ("d/.wh.x", b""),
    ("d/.wh..wh..opq", b""),
)
SPARSE = _tar(("s", b"2\n0\n1\n9\n1\n".ljust(512, b"\0") + b"ab", {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "10"}}))  # fmt: skip
IMAGE = [("manifest.json", json.dumps([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l"]}]).encode()), ("c.json", json.dumps(DOCUMENTS[2]).encode()), ("l", b"x"), ("index.json", json.dumps(DOCUMENTS[1]).encode()), ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')]  # fmt: skip
PACK = (gzip.compress, zstandard.compress, lzma.compress, bz2.compress)
MANIFEST = b"#mtree v2.0\n/set type=file uid=0 gid=0 mode=0644\n. type=dir nlink=3\n    a\\040b size=3 tar_time=1.5 sha256digest=00 \\\n  xattr.user.k=dg==\n..\n"
NETLINK = b"\x24\0\0\0\x10\0\0\0\1\0\0\0\0\0\0\0" + bytes(16) + b"\x04\0\x01\0"

TARGETS = {
    documents: [json.dumps(each).encode() for each in (*DOCUMENTS, ENTRY)],
    reference: [b"debian", b"reg:5000/team/app:v1@" + DIGEST.encode(), b"[::1]:5000/a", b"docker.io/library/a"],
    words: [b"linux/arm/v7", b"127.0.0.1:8080-8081:80-81/tcp", b"[::1]::53/udp", b">= 1.2, < 2.0 || ~1", b"v1.2.3-rc.1+b", b"device=0,1", b"1h2m3.5s", b"uint64 5", b"['a', 'b']"],
    tar: [LAYER, SPARSE],
    applied: [LAYER, SPARSE],
    erofs: [LAYER, SPARSE],
    stream: [pack(LAYER) for pack in PACK] + [LAYER],
    manifest: [MANIFEST, b"\\\n  "],
    headers: [b'Bearer realm="https://a/t",service="b",scope="c:d:pull"', b'Basic realm="x"', b'</v2/a/tags/list?n=1&last=b>; rel="next"', b"bytes 0-1/2", b'299 - "old"', b"120", b'{"errors":[{"code":"DENIED","message":"no","detail":{}}]}'],
    answers: [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n c\r\n\r\nhello", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1f\r\n" + b"x" * 31 + b"\r\n0\r\nA: b\r\n\r\n", b"HTTP/1.0 404\n\nall"],
    registries: [b'unqualified-search-registries = ["a:1"]\n[[registry]]\nprefix = "*.b.c"\nlocation = "d:1/e"\ninsecure = true\nblocked = false\n[[registry.mirror]]\nlocation = "f"\n[aliases]\n"x" = "y/z"\n'],
    logins: [b'{"auths": {"reg:1": {"auth": "bWU6eA==", "identitytoken": "t"}}, "credHelpers": {}, "credsStore": ""}'],
    dockerfile: [b'# syntax=a\nARG V=1\nFROM --platform=$BUILDPLATFORM debian:${V} AS a\nRUN --mount=type=cache,target=/c <<E\nx\nE\nCOPY --from=a --chown=1:1 ["a b", "/c"]\nHEALTHCHECK --interval=1s CMD x\nENV A=b \\\n C="d"\n'],
    ignored: [b"# c\n**/*.py\n!a/b?[a-z]\n/x/\n\\!y\n"],
    expanded: [b"${a:-$c} $a\\$ ${a##*b} ${a/b/c} '${c:?x}' \"${a:+y}\""],
    config: [json.dumps(default(rootless=False)).encode()],
    users: [b"a:x:5:6::/h:/bin/sh\nb:x:7:\n", b"c:x:9:a,b\n"],
    netlink: [NETLINK],
    templates: [b'{{range $i, $e := .A}}{{if eq $i 1}}{{printf "%5.2q" $e}}{{else}}{{json .}}{{end}}{{end}}{{with .C.d}}{{.}}{{end}}{{index .A 1}}{{/* c */}}'],
    lists: [b"reg:1:\n  images:\n    a/b: ['1', 'v2']\n  images-by-tag-regex: {c: '^1'}\n  images-by-semver: {d: '>= 1'}\n  tls-verify: false\n  credentials: {username: a, password: b}\n"],
    devices: [b'{"cdiVersion": "0.6.0", "kind": "a.b/c", "devices": [{"name": "x", "containerEdits": {"env": ["A=b"], "deviceNodes": [{"path": "/dev/null"}], "mounts": [{"hostPath": "/a", "containerPath": "/b"}]}}]}'],
    archives: [_tar(*IMAGE), gzip.compress(_tar(*IMAGE))],
    server: [b"GET /v2/_catalog?n=1&last=a", b"GET /v2/a/tags/list?n=1\naccept: x/y", b"HEAD /v2/a/manifests/v1\naccept: */*", b"PUT /v2/b/c/manifests/v2\ncontent-type: application/vnd.oci.image.index.v1+json\n\n" + json.dumps({"schemaVersion": 2, "manifests": []}).encode(), b"POST /v2/a/blobs/uploads/?digest=" + DIGEST.encode() + b"\ncontent-length: 1\n\nx", b"POST /v2/a/blobs/uploads/?mount=" + DIGEST.encode() + b"&from=b", b"GET /v2/a/blobs/" + DIGEST.encode() + b"\nrange: bytes=0-5", b"PATCH /v2/a/blobs/uploads/00000000-0000-0000-0000-000000000000\ncontent-range: 0-5\n\nx", b"GET /v2/a/referrers/" + DIGEST.encode() + b"?artifactType=a/b", b"DELETE /v2/a/manifests/v1"],
    logs: [b'{"log":"a\\n","stream":"stdout","time":"2020-01-01T00:00:00.5Z","attrs":{"a":"b"}}\n{"log'],
}  # fmt: skip


# What broke a target once; errors of ours are right now.
BROKEN = {lists: [b"reg:1:\n  tls-verify: {}\n", b"reg:1:\n  cert-dir: {a: b}\n"], words: [b"20000000"]}


def tried(target, data):
    """Let a target have `data`; errors of ours are right."""
    with contextlib.suppress(VelociError):
        target(data)
