"""The embedded registry, asked as any client may ask."""

import hashlib
import json
import os
import signal
import socket
from uuid import uuid4

import pytest
import urllib3
from peers import Built, Serving, digest, run, veloci

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("registry")) as (address, _process):
        yield Client(address)


@pytest.fixture
def name():
    return f"team/app-{uuid4().hex[:8]}"


class Client:
    """HTTP without any of our client."""

    def __init__(self, address):
        self.base = f"http://{address}"
        self.pool = urllib3.PoolManager(retries=False)

    def __call__(self, method, path, body=None, **headers):
        url = path if path.startswith("http") else self.base + path
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.pool.request(method, url, body=body, headers=headers, redirect=False)

    def push(self, name, data):
        where = self("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
        assert self("PUT", f"{where}?digest={digest(data)}", data).status == 201
        return digest(data)

    def image(self, name, tag, config=b"{}", **fields):
        self.push(name, config)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/x", "digest": digest(config), "size": len(config)},
            "layers": [],
            **fields,
        }
        raw = json.dumps(document).encode()
        answer = self("PUT", f"/v2/{name}/manifests/{tag}", raw, Content_Type=MANIFEST)
        assert answer.status == 201, answer.data
        return raw, answer


def code(answer):
    return answer.status, answer.json()["errors"][0]["code"]


def test_it_says_that_it_is_a_registry(server):
    answer = server("GET", "/v2/")
    assert answer.status == 200
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_a_blob_goes_in_by_one_request_and_comes_back(server, name):
    data = os.urandom(3_000_000)
    answer = server("POST", f"/v2/{name}/blobs/uploads/?digest={digest(data)}", data)
    assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest(data))
    got = server("GET", answer.headers["Location"])
    assert (got.status, got.data) == (200, data)
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    head = server("HEAD", answer.headers["Location"])
    assert (head.status, head.headers["Content-Length"]) == (200, "3000000")


def test_a_blob_goes_in_by_chunks_each_at_its_place(server, name):
    data = os.urandom(300_000)
    where = server("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
    first = server("PATCH", where, data[:100_000], Content_Range="0-99999")
    assert (first.status, first.headers["Range"]) == (202, "0-99999")
    wrong = server("PATCH", where, data[:100_000], Content_Range="0-99999")
    assert code(wrong) == (416, "BLOB_UPLOAD_INVALID")
    assert wrong.headers["Range"] == "0-99999"
    status = server("GET", where)
    assert (status.status, status.headers["Range"]) == (204, "0-99999")
    assert server("PATCH", where, data[100_000:200_000], Content_Range="100000-199999").status == 202
    assert server("PUT", f"{where}?digest={digest(data)}", data[200_000:]).status == 201
    assert server("GET", f"/v2/{name}/blobs/{digest(data)}").data == data
    assert code(server("GET", where)) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_sha512_is_verified_too(server, name):
    data = b"some text"
    wanted = f"sha512:{hashlib.sha512(data).hexdigest()}"
    where = server("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
    assert server("PUT", f"{where}?digest={wanted}", data).status == 201
    assert server("GET", f"/v2/{name}/blobs/{wanted}").data == data


def test_wrong_bytes_are_refused_and_gone(server, name):
    where = server("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
    answer = server("PUT", f"{where}?digest={digest(b'right')}", b"wrong")
    assert code(answer) == (400, "DIGEST_INVALID")
    assert server("GET", where).status == 404
    assert server("HEAD", f"/v2/{name}/blobs/{digest(b'right')}").status == 404


@pytest.mark.parametrize(
    ("asked", "status", "want"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=10-", 416, None),
        ("bytes=1-2,4-5", 200, b"0123456789"),
    ],
)
def test_a_range_of_a_blob(server, name, asked, status, want):
    where = f"/v2/{name}/blobs/{server.push(name, b'0123456789')}"
    answer = server("GET", where, Range=asked)
    assert answer.status == status
    if want is not None:
        assert answer.data == want
    if status == 206:
        first = int(b"0123456789".index(want))
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(want) - 1}/10"


def test_an_upload_belongs_to_its_repository(server, name):
    where = server("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
    assert server("PATCH", where.replace(name, "other/app"), b"x").status == 404
    assert server("DELETE", where).status == 204
    assert server("DELETE", where).status == 404


def test_a_blob_is_mounted_from_where_it_is_and_only_there(server, name):
    blob = server.push(name, b"shared")
    assert server("HEAD", f"/v2/other/{name}/blobs/{blob}").status == 404
    answer = server("POST", f"/v2/other/{name}/blobs/uploads/?mount={blob}&from={name}")
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/other/{name}/blobs/{blob}")
    assert server("GET", answer.headers["Location"]).data == b"shared"
    assert server("POST", f"/v2/third/{name}/blobs/uploads/?mount={blob}&from=not/there").status == 202


def test_a_deleted_blob_stays_with_who_else_holds_it(server, name):
    blob = server.push(name, b"held twice")
    server("POST", f"/v2/other/{name}/blobs/uploads/?mount={blob}&from={name}")
    assert server("DELETE", f"/v2/{name}/blobs/{blob}").status == 202
    assert server("GET", f"/v2/{name}/blobs/{blob}").status == 404
    assert server("GET", f"/v2/other/{name}/blobs/{blob}").data == b"held twice"


def test_the_last_holder_frees_the_disk(tmp_path):
    with Serving(tmp_path / "r") as (address, _):
        server = Client(address)
        blob = server.push("app", b"x" * 100)
        there = tmp_path / "r/blobs/sha256" / blob[7:]
        assert there.read_bytes() == b"x" * 100
        server("DELETE", f"/v2/app/blobs/{blob}")
        assert not there.exists()
    assert not [path for path in (tmp_path / "r").rglob("*") if path.is_file()]


def test_a_manifest_by_tag_and_by_digest(server, name):
    raw, answer = server.image(name, "v1")
    assert answer.headers["Docker-Content-Digest"] == digest(raw)
    for reference in ("v1", digest(raw)):
        got = server("GET", f"/v2/{name}/manifests/{reference}")
        assert (got.data, got.headers["Content-Type"], got.headers["Docker-Content-Digest"]) == (
            raw,
            MANIFEST,
            digest(raw),
        )
        head = server("HEAD", f"/v2/{name}/manifests/{reference}")
        assert (head.status, head.headers["Content-Length"], head.data) == (200, str(len(raw)), b"")
    assert code(server("GET", f"/v2/{name}/manifests/v2")) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    ("change", "want"),
    [
        (
            lambda d: d | {"layers": [{"mediaType": "x/y", "digest": digest(b"absent"), "size": 1}]},
            (404, "MANIFEST_BLOB_UNKNOWN"),
        ),
        (lambda d: d | {"mediaType": "application/vnd.oci.image.index.v1+json"}, (400, "MANIFEST_INVALID")),
        (lambda d: d | {"manifests": []}, (400, "MANIFEST_INVALID")),
        (lambda d: d | {"schemaVersion": 1}, (400, "MANIFEST_INVALID")),
        (lambda d: d | {"config": None}, (400, "MANIFEST_INVALID")),
        (lambda d: d | {"annotations": {"pad": "x" * (4 << 20)}}, (413, "SIZE_INVALID")),
        (lambda d: [d], (400, "MANIFEST_INVALID")),
    ],
)
def test_what_is_no_whole_manifest_is_refused(server, name, change, want):
    config = server.push(name, b"{}")
    good = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "x/y", "digest": config, "size": 2},
        "layers": [],
    }
    raw = json.dumps(change(good)).encode()
    assert code(server("PUT", f"/v2/{name}/manifests/v1", raw, Content_Type=MANIFEST)) == want
    assert server("GET", f"/v2/{name}/manifests/v1").status == 404


def test_a_manifest_under_another_digest_is_refused(server, name):
    raw, _ = server.image(name, "v1")
    answer = server("PUT", f"/v2/{name}/manifests/{digest(b'other')}", raw, Content_Type=MANIFEST)
    assert code(answer) == (400, "DIGEST_INVALID")


def test_tags_come_in_order_and_by_pages(server, name):
    for tag in ("c", "a", "b"):
        server.image(name, tag)
    assert server("GET", f"/v2/{name}/tags/list").json() == {"name": name, "tags": ["a", "b", "c"]}
    page = server("GET", f"/v2/{name}/tags/list?n=2")
    assert page.json()["tags"] == ["a", "b"]
    assert page.headers["Link"] == f'</v2/{name}/tags/list?n=2&last=b>; rel="next"'
    rest = server("GET", f"/v2/{name}/tags/list?n=2&last=b")
    assert (rest.json()["tags"], rest.headers.get("Link")) == (["c"], None)
    assert server("GET", f"/v2/{name}/tags/list?n=99999999999999").json()["tags"] == ["a", "b", "c"]
    assert code(server("GET", f"/v2/{name}/tags/list?n=x")) == (400, "PAGINATION_NUMBER_INVALID")
    assert code(server("GET", "/v2/not/there/tags/list")) == (404, "NAME_UNKNOWN")


def test_the_catalog_lists_repositories(server, name):
    server.image(name, "v1")
    names = server("GET", "/v2/_catalog").json()["repositories"]
    assert name in names
    assert names == sorted(names)


def test_deleting_a_tag_leaves_the_manifest_and_deleting_the_manifest_its_tags_not(server, name):
    raw, _ = server.image(name, "v1")
    server.image(name, "v2")
    assert server("DELETE", f"/v2/{name}/manifests/v1").status == 202
    assert server("GET", f"/v2/{name}/manifests/v1").status == 404
    assert server("GET", f"/v2/{name}/manifests/{digest(raw)}").status == 200
    assert server("DELETE", f"/v2/{name}/manifests/{digest(raw)}").status == 202
    assert server("GET", f"/v2/{name}/tags/list").json()["tags"] == []
    assert server("DELETE", f"/v2/{name}/manifests/{digest(raw)}").status == 404


def test_referrers_are_listed_by_subject_and_kind(server, name):
    subject, _ = server.image(name, "v1")
    about = {"mediaType": MANIFEST, "digest": digest(subject), "size": len(subject)}
    sbom, answer = server.image(name, "sbom", subject=about, artifactType="application/sbom", annotations={"a": "b"})
    assert answer.headers["OCI-Subject"] == digest(subject)
    server.image(name, "sig", config=b'{"s":1}', subject=about)
    every = server("GET", f"/v2/{name}/referrers/{digest(subject)}")
    assert every.headers["Content-Type"] == "application/vnd.oci.image.index.v1+json"
    assert {m["artifactType"] for m in every.json()["manifests"]} == {"application/sbom", "application/x"}
    one = server("GET", f"/v2/{name}/referrers/{digest(subject)}?artifactType=application/sbom")
    assert one.headers["OCI-Filters-Applied"] == "artifactType"
    assert one.json()["manifests"] == [
        {
            "mediaType": MANIFEST,
            "digest": digest(sbom),
            "size": len(sbom),
            "annotations": {"a": "b"},
            "artifactType": "application/sbom",
        }
    ]
    server("DELETE", f"/v2/{name}/manifests/{digest(sbom)}")
    assert len(server("GET", f"/v2/{name}/referrers/{digest(subject)}").json()["manifests"]) == 1
    assert server("GET", f"/v2/{name}/referrers/{digest(b'none')}").json()["manifests"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/../../etc/passwd", 400),
        ("/v2/a/../b/tags/list", 400),
        ("/v2/%2e%2e/manifests/v1", 400),
        ("/v2/a%2f..%2fb/manifests/v1", 400),
        ("/v2/UPPER/manifests/v1", 400),
        ("/v2/_uploads/manifests/v1", 400),
        (f"/v2/{'a/' * 150}b/manifests/v1", 400),
        ("/v2/app/manifests/-x", 400),
        ("/v2/app/manifests/v1%00", 400),
        ("/v2/app/blobs/sha256:..", 400),
        (f"/v2/app/blobs/md5:{'0' * 32}", 400),
        ("/v2/app/blobs/uploads/..%2f..%2fx", 404),
        ("/etc/passwd", 404),
    ],
)
def test_names_never_lead_out_of_the_folder(server, path, status):
    host, port = server.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head = link.makefile("rb").readline()
    assert int(head.split()[1]) == status


def test_a_method_that_is_not_in_the_table_is_refused(server):
    assert code(server("POST", "/v2/app/manifests/v1")) == (405, "UNSUPPORTED")
    assert server("DELETE", "/v2/_catalog").status == 405


def test_uploads_survive_a_restart(tmp_path):
    data = os.urandom(50_000)
    with Serving(tmp_path / "r") as (address, process):
        server = Client(address)
        where = server("POST", "/v2/app/blobs/uploads/").headers["Location"]
        server("PATCH", where, data[:20_000])
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    with Serving(tmp_path / "r") as (address, _):
        server = Client(address)
        assert server("GET", where).headers["Range"] == "0-19999"
        assert server("PUT", f"{where}?digest={digest(data)}", data[20_000:]).status == 201
        assert server("GET", f"/v2/app/blobs/{digest(data)}").data == data


def test_a_port_in_use_is_one_clear_line(server, tmp_path):
    address = server.base.removeprefix("http://")
    done = veloci("registry", "serve", "--root", tmp_path, "--listen", address, check=False)
    assert done.returncode == 1
    assert done.stderr == f"veloci: {address}: the port is in use\n  try: choose another: --listen HOST:PORT\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--listen", "5000"], "veloci: --listen: '5000' is not HOST:PORT\n  try: --listen 127.0.0.1:5000\n"),
        (["--listen", "127.0.0.1:x"], "veloci: --listen: 'x' is not a port\n  try: 0 to 65535\n"),
        (["--listen", "203.0.113.9:5000"], "veloci: 203.0.113.9:5000: this host has no such address\n"),
    ],
)
def test_a_wrong_address_is_one_clear_line(tmp_path, words, message):
    done = veloci("registry", "serve", "--root", tmp_path, *words, check=False)
    assert (done.returncode, done.stderr) == (1, message)


@pytest.mark.needs("skopeo")
def test_skopeo_pushes_lists_inspects_and_deletes(server, name, tmp_path):
    built = Built(tmp_path / "layout")
    address = server.base.removeprefix("http://")
    there = f"docker://{address}/{name}:v0"
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{built.path}:v0", there)
    assert json.loads(run("skopeo", "inspect", "--tls-verify=false", there))["Digest"] == digest(built.manifest)
    assert json.loads(run("skopeo", "list-tags", "--tls-verify=false", there.removesuffix(":v0")))["Tags"] == ["v0"]
    run("skopeo", "copy", "--src-tls-verify=false", there, f"dir:{tmp_path / 'dir'}")
    assert (tmp_path / "dir/manifest.json").read_bytes() == built.manifest
    run("skopeo", "delete", "--tls-verify=false", there)
    assert server("GET", f"/v2/{name}/manifests/v0").status == 404
