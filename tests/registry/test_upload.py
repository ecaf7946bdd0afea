"""Blobs sent: whole, in parts, and on from where they stopped, also after kill -9."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from peers import Scripted, digest
from wire import BLOB, DATA, opened, repository, v2, whole

from veloci.errors import Corrupt, Denied, InvalidInput, Unavailable
from veloci.spec.image import Descriptor

PLACE = "/v2/app/blobs/uploads/1"


class Uploads:
    """A registry that takes one blob; `parts` are the (offset, size) of what it took, `got` the bytes.

    refuse(size): a status for a part of `size` bytes, or None to take it; take(size): how many bytes of it.
    """

    def __init__(self, refuse=lambda _size: None, take=lambda size: size, **headers):
        self.refuse, self.take, self.headers = refuse, take, headers
        self.got, self.parts, self.ranges = bytearray(), [], []

    def __call__(self, request):
        where = {"Location": PLACE}
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        if request.command == "POST":
            self.got.clear()
            return request.reply(202, **where, **self.headers)
        if request.command == "GET":
            return request.reply(204, Range=f"0-{len(self.got) - 1}", **where)
        if request.command == "PUT":
            self.got.extend(request.body)
            return request.reply(201)
        status = self.refuse(len(request.body))
        if status:
            return request.reply(status, **self.headers)
        self.parts.append((len(self.got), len(request.body)))
        self.ranges.append(request.headers.get("Content-Range"))
        count = self.take(len(request.body))
        self.got.extend(request.body[:count])
        if count < len(request.body):
            return request.cut()
        return request.reply(202, Range=f"0-{len(self.got) - 1}", **where)


def methods(server):
    return [method for method, path, _ in server.seen if path != "/v2/"]


def test_a_small_blob_goes_with_the_request_that_ends_it():
    data, taken = b"small", Uploads()
    with Scripted(taken) as server:
        repository(server.address).upload(BLOB.replace(digest=digest(data), size=5), opened(data))
        assert methods(server) == ["POST", "PUT"]
    assert taken.got == data


def test_a_tiny_blob_goes_with_the_request_that_begins_its_upload():
    data, got = b"tiny", []

    def answer(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        got.append((request.command, request.path, request.body))
        return request.reply(201)

    with Scripted(answer) as server:
        repository(server.address).upload(BLOB.replace(digest=digest(data), size=4), opened(data))
    assert got == [("POST", f"/v2/app/blobs/uploads/?digest={digest(data).replace(':', '%3A')}", data)]


@pytest.mark.parametrize("refusal", [None, 400, 404, 405])
def test_a_registry_that_takes_no_blob_so_is_asked_once(refusal):
    data, taken, bodies = b"tiny", Uploads(), []

    def answer(request):
        if request.path != "/v2/":
            bodies.append((request.command, request.body))
        if refusal and request.command == "POST" and request.body:
            return request.reply(refusal)
        return taken(request)

    with Scripted(answer) as server:
        target = repository(server.address)
        for _ in range(2):
            target.upload(BLOB.replace(digest=digest(data), size=4), opened(data))
            assert taken.got == data
    stepwise = [("POST", b""), ("PUT", data)]
    assert bodies == [("POST", data), *(stepwise if refusal else stepwise[1:]), *stepwise]


def test_a_body_that_became_a_part_is_not_sent_twice():
    data, taken = b"tiny", Uploads(Range="0-3")
    with Scripted(taken) as server:
        repository(server.address).upload(BLOB.replace(digest=digest(data), size=4), opened(data))
        assert methods(server) == ["POST", "POST", "PUT"]
    assert taken.got == data


def test_a_large_blob_is_one_stream():
    taken = Uploads()
    with Scripted(taken) as server:
        repository(server.address).upload(BLOB, opened())
        assert methods(server) == ["POST", "PATCH", "PUT"]
    assert (taken.got, taken.ranges) == (DATA, [None])


def test_a_cut_upload_goes_on_where_the_registry_stopped():
    taken = Uploads(take=lambda size: min(size, 300_000))
    with Scripted(taken) as server:
        repository(server.address).upload(BLOB, opened())
    assert [offset for offset, _ in taken.parts] == [0, 300_000, 600_000, 900_000]
    assert taken.ranges[1:] == [f"{n}-{len(DATA) - 1}" for n in (300_000, 600_000, 900_000)]
    assert taken.got == DATA


def test_what_is_too_much_at_once_goes_in_parts(monkeypatch):
    from veloci.registry import upload

    monkeypatch.setattr(upload, "PART", 400_000)
    monkeypatch.setattr(upload, "LEAST", 100_000)
    taken = Uploads(refuse=lambda size: 413 if size > 250_000 else None)
    with Scripted(taken) as server:
        repository(server.address).upload(BLOB, opened())
    assert taken.got == DATA
    assert [size for _, size in taken.parts] == [200_000] * 5 + [len(DATA) - 1_000_000]
    assert taken.ranges[0] == "0-199999"


def test_parts_are_no_smaller_than_the_registry_wants(monkeypatch):
    from veloci.registry import upload

    monkeypatch.setattr(upload, "PART", 400_000)
    monkeypatch.setattr(upload, "LEAST", 100_000)
    taken = Uploads(refuse=lambda size: 413 if size > 250_000 else None, OCI_Chunk_Min_Length="300000")
    with Scripted(taken) as server, pytest.raises(InvalidInput, match="answered 413"):
        repository(server.address).upload(BLOB, opened())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408, 416])
def test_what_may_pass_is_tried_again(status):
    left = [status, status]
    taken = Uploads(refuse=lambda _size: left.pop() if left else None, Retry_After="0")
    with Scripted(taken) as server:
        repository(server.address).upload(BLOB, opened())
    assert taken.got == DATA


def test_what_does_not_pass_ends_in_one_error():
    taken = Uploads(refuse=lambda _size: 503)
    with Scripted(taken) as server, pytest.raises(Unavailable) as failure:
        repository(server.address).upload(BLOB, opened())
    assert str(failure.value) == f"{BLOB.digest}: {server.address} answered 503: service unavailable"


def test_a_refusal_is_told_in_the_registrys_words():
    def quota(request):
        if request.command == "POST":
            return request.reply(202, Location=PLACE)
        return request.reply(403, b'{"errors":[{"code":"DENIED","message":"quota exceeded"}]}')

    with Scripted(v2(quota)) as server, pytest.raises(Denied, match="denied it: quota exceeded"):
        repository(server.address).upload(BLOB, opened())


def test_a_token_that_ends_in_mid_upload_is_fetched_anew():
    given = []

    def script(request):
        if request.path.startswith("/token"):
            given.append(f"tok{len(given)}")
            return request.reply(200, b'{"token":"%s"}' % given[-1].encode())
        wanted = "tok1" if request.command in ("PATCH", "PUT") else "tok"
        if not (request.headers.get("Authorization") or "").startswith(f"Bearer {wanted}"):
            where = f'Bearer realm="http://{request.headers["Host"]}/token"'
            return request.reply(401, WWW_Authenticate=where)
        return taken(request)

    taken = Uploads()
    with Scripted(script) as server:
        repository(server.address).upload(BLOB, opened())
    assert (given, taken.got) == (["tok0", "tok1"], DATA)


def test_a_redirected_beginning_is_followed_without_credentials_for_others():
    taken = Uploads()
    with Scripted(taken) as other:

        def moved(request):
            if not request.headers.get("Authorization"):
                return request.reply(401, WWW_Authenticate='Basic realm="x"')
            return request.reply(307, Location=f"http://{other.address}{request.path}")

        from veloci.registry.credentials import Credentials

        with Scripted(v2(moved)) as server:
            repository(server.address, credentials=Credentials("me", "secret")).upload(BLOB, opened())
        assert {auth for _, _, auth in other.seen} == {None}
    assert taken.got == DATA


def test_a_registry_that_forgot_an_upload_gets_it_anew():
    state = {"patches": 0}

    def forgets(request):
        if request.command == "GET":
            return request.reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
        if request.command == "PATCH":
            state["patches"] += 1
            if state["patches"] == 1:
                return request.cut()
        return taken(request)

    taken = Uploads()
    with Scripted(v2(forgets)) as server:
        repository(server.address).upload(BLOB, opened())
        assert methods(server) == ["POST", "PATCH", "GET", "POST", "PATCH", "PUT"]
    assert taken.got == DATA


def test_a_registry_that_loses_an_upload_again_and_again_gets_it_no_more():
    """It has two bytes, then none, then two: nothing was won."""

    def loses(request):
        count = methods(server).count("GET")
        if request.command == "PATCH" and count < 20:
            return request.reply(503)
        if request.command == "GET":
            return request.reply(204, Location=PLACE, Range="0-1") if count % 2 else request.reply(404)
        return request.reply(202 if request.command in ("POST", "PATCH") else 201, Location=PLACE)

    with Scripted(v2(loses)) as server, pytest.raises(Unavailable, match="answered 503"):
        repository(server.address).upload(BLOB, opened())
    assert methods(server).count("PATCH") == 5


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x"])
def test_a_blob_that_is_not_as_long_as_promised_is_not_ended(data, registry):
    there = repository(registry, "liar")
    with pytest.raises(Corrupt):
        there.upload(BLOB, opened(data))
    assert not there.has(BLOB)


def test_sha512_is_a_digest_too(ours):
    import hashlib

    there = repository(ours, "sha512")
    blob = Descriptor(media_type="x", digest=f"sha512:{hashlib.sha512(DATA).hexdigest()}", size=len(DATA))
    there.upload(blob, opened())
    assert there.has(blob)
    assert whole(there, blob) == DATA
    raw = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    name = f"sha512:{hashlib.sha512(raw).hexdigest()}"
    assert there.put_manifest(raw, "application/vnd.oci.image.index.v1+json", name) == name
    assert there.manifest(name)[0].digest == name


# -- after kill -9

SENDER = """
    import sys, time
    from contextlib import nullcontext
    sys.path.insert(0, {tests!r})
    from wire import BLOB, DATA, repository
    def slowly(at):
        for i in range(at, len(DATA), 65536):
            yield DATA[i : i + 65536]
            time.sleep(0.02)
            if i > 500_000:
                print(i, flush=True)
                time.sleep(60)
    repository({address!r}, "killed", uploads={uploads!r}).upload(BLOB, lambda at: nullcontext(slowly(at)))
"""


def killed_in_mid_upload(address, uploads):
    text = textwrap.dedent(SENDER).format(tests=str(Path(__file__).parents[1]), address=address, uploads=str(uploads))
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_an_upload_goes_on_after_kill_9(registry, tmp_path, request):
    killed_in_mid_upload(registry, tmp_path / "uploads")
    assert len(list((tmp_path / "uploads").iterdir())) == 1
    time.sleep(0.3)  # the registry notices
    begins = []
    there = repository(registry, "killed", uploads=str(tmp_path / "uploads"))
    there.upload(BLOB, lambda at: begins.append(at) or nullcontext([DATA[at:]]))
    if "ours" in request.node.name:
        assert begins[0] > 400_000
    else:
        assert begins == [0]  # distribution drops an upload whose request was cut, and says so
    assert there.has(BLOB)
    assert whole(there) == DATA
    assert list((tmp_path / "uploads").iterdir()) == []


def test_an_upload_begins_anew_where_nothing_was_noted(registry, tmp_path):
    killed_in_mid_upload(registry, tmp_path / "uploads")
    (record,) = (tmp_path / "uploads").iterdir()
    for text in ("", "http://127.0.0.1:1/torn", "http://127.0.0.1:1/elsewhere\n", "file:///etc/passwd\n"):
        record.write_text(text)
        there = repository(registry, "killed", uploads=str(tmp_path / "uploads"))
        begins = []
        there.upload(BLOB, lambda at, begins=begins: begins.append(at) or nullcontext([DATA[at:]]))
        assert begins == [0]
    assert there.has(BLOB)


def test_two_processes_that_send_one_blob_send_it_each(ours, tmp_path):
    from veloci.registry.unfinished import Unfinished

    there = repository(ours, "twice", uploads=str(tmp_path))
    with Unfinished(str(tmp_path), f"{there.own.base} {BLOB.digest}") as other:
        other.note("http://127.0.0.1:1/theirs")
        there.upload(BLOB, opened())
        assert len(list(tmp_path.glob("?" * 64))) == 1
    assert there.has(BLOB)


def test_old_records_are_swept(tmp_path):
    from veloci.registry.unfinished import OLD, Unfinished

    old = tmp_path / "old"
    old.write_text("http://127.0.0.1:1/x\n")
    os.utime(old, (0, time.time() - OLD - 1))
    with Unfinished(str(tmp_path), "other") as record:
        assert record.address == ""
        record.done()
    assert list(tmp_path.iterdir()) == []


def test_what_is_cut_twice_goes_in_parts(monkeypatch):
    from veloci.registry import upload

    monkeypatch.setattr(upload, "PART", 300_000)
    monkeypatch.setattr(upload, "LEAST", 100_000)
    taken = Uploads(take=lambda size: size if size <= 300_000 else 0)
    with Scripted(taken) as server:
        repository(server.address).upload(BLOB, opened())
    assert taken.got == DATA
    assert [size for _, size in taken.parts] == [len(DATA)] * 2 + [300_000] * 3 + [len(DATA) - 900_000]


class Streamed(Uploads):
    """Of a blob whose size is not told it takes `count` bytes, and refuses it with `status` or cuts."""

    def __init__(self, count, status=0):
        super().__init__()
        self.count, self.status = count, status

    def __call__(self, request):
        if request.command != "PATCH" or request.headers.get("Content-Length"):
            return super().__call__(request)
        while len(self.got) < self.count:
            size = int(request.rfile.readline(), 16)
            self.got.extend(request.rfile.read(size))
            request.rfile.readline()
            if size == 0:
                return request.reply(202, Location=PLACE)
        self.got = self.got[: self.count]
        if self.status:
            request.reply(self.status)
        return request.cut()


@pytest.mark.parametrize(("count", "status"), [(10**9, 0), (300_000, 0), (0, 0), (0, 411), (500_000, 503)])
def test_a_blob_of_unknown_size_goes_on_where_it_was_cut(count, status):
    taken, made = Streamed(count, status), []

    def chunks():
        for at in range(0, len(DATA), 65536):
            made.append(at)
            yield DATA[at : at + 65536]

    with Scripted(taken) as server:
        found = repository(server.address).adopt(chunks(), BLOB.media_type)
    assert (found, taken.got) == (BLOB, DATA)
    assert made == list(range(0, len(DATA), 65536))
    if count < len(DATA):
        assert taken.parts == [(count if count > 1 else 0, len(DATA) - count)]


def test_what_cannot_be_made_is_not_ended():
    def breaks():
        yield DATA[:100_000]
        raise Corrupt("the source", want="more", got="less")

    taken = Streamed(10**9)
    with Scripted(taken) as server:
        with pytest.raises(Corrupt, match="the source"):
            repository(server.address).adopt(breaks(), BLOB.media_type)
        assert "PUT" not in methods(server)


def test_no_room_for_what_is_kept_aside_is_told_as_that(tmp_path, monkeypatch):
    import resource

    from veloci.errors import HostError

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Scripted(Streamed(10**9)) as server:
        there = repository(server.address)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(HostError) as failure:
                there.adopt([DATA[:65536]] * 8, BLOB.media_type)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(failure.value) == "keep a blob aside: File too large"
    assert failure.value.hint == "set TMPDIR to where there is room"
    assert list(tmp_path.glob("*")) == []


def test_a_registry_that_stops_reading_is_not_waited_for():
    size = 24 << 20
    data = bytes(size)
    taken, began = Uploads(), time.monotonic()

    def stops(request):
        if request.command == "PATCH" and not request.headers.get("Content-Length"):
            time.sleep(5)  # and reads nothing
            return request.cut()
        return taken(request)

    with Scripted(stops) as server:
        found = repository(server.address, stall=0.4).adopt(
            (data[at : at + 65536] for at in range(0, size, 65536)), "x"
        )
        assert time.monotonic() - began < 4.5
    assert (found.digest, taken.got == data) == (digest(data), True)


def test_an_upload_that_is_reset_every_64_kib_arrives():
    taken = Uploads(take=lambda size: min(size, 65536))
    with Scripted(taken) as server:
        repository(server.address).upload(BLOB, opened())
    assert taken.got == DATA
    assert len(taken.parts) == 16
