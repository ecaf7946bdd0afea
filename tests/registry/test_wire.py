"""HTTP over our own connections: raw answers, cut wherever a network may cut them."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from peers import Scripted
from wire import certified

from veloci.errors import InvalidInput
from veloci.registry.connections import Connections
from veloci.registry.failures import ByProxy, Cut, Gone, Silent, Untrusted


class Raw:
    """Answers every connection with the same bytes, in pieces of `size`; `asked` holds what was asked."""

    def __init__(self, data, size=None):
        self.data, self.size, self.asked = data, size or len(data) or 1, []

    def __enter__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/v2/a?n=1"
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(10)

    def _serve(self):
        while True:
            try:
                peer, _ = self.listening.accept()
            except OSError:
                return
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.asked.append(peer.recv(1 << 16))
                for at in range(0, len(self.data), self.size):
                    peer.sendall(self.data[at : at + self.size])


def ask(url, method="GET", body=None, headers=None):
    return Connections(stall=5.0).request(method, url, body=body, headers=headers)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_answer_is_whole_however_it_is_cut(size):
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw += b"5;x=y\r\nhello\r\nc\r\n to the last\r\n0\r\nX: y\r\n\r\n"
    with Raw(raw, size) as server:
        assert ask(server.url).read() == b"hello to the last"
    assert server.asked[0].startswith(b"GET /v2/a?n=1 HTTP/1.1\r\nHost: 127.0.0.1:")


def test_an_answer_without_a_length_goes_to_the_end():
    with Raw(b"HTTP/1.0 200 OK\r\n\r\nall of it") as server:
        answer = ask(server.url)
        assert (answer.read(3), answer.read(), answer.read1()) == (b"all", b" of it", b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nshorts",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellooo\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 40 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (200 << 10),
        b"",
    ],
)
def test_what_is_no_answer_or_a_cut_one_is_said(raw):
    with Raw(raw) as server, pytest.raises(Cut):
        ask(server.url).read()


def test_a_connection_serves_again_and_a_closed_one_is_made_anew():
    ports = []

    def answer(request):
        ports.append(request.client_address[1])
        request.reply(200, b"x", **({"Connection": "close"} if len(ports) == 2 else {}))

    there = Connections(stall=5.0)
    with Scripted(answer) as server:
        for _ in range(3):
            assert there.request("GET", f"http://{server.address}/").read() == b"x"
    assert ports[0] == ports[1] != ports[2]


FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@pytest.mark.parametrize("wait", [0, 0.1])
@pytest.mark.parametrize("chunked", [False, True])
def test_what_nobody_asked_for_answers_nothing(chunked, wait):
    """An answer that goes on after its end: no connection serves again with more in it, or after more was in it."""
    framing = (
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" if chunked else b"Content-Length: 5\r\n\r\nhello"
    )
    ports, said = [], threading.Event()

    def answer(request):
        ports.append(request.client_address[1])
        whole = b"HTTP/1.1 200 OK\r\n" + framing
        request.wfile.write(whole if wait else whole + FORGED)
        time.sleep(wait)
        request.wfile.write(FORGED if wait else b"")
        said.set()

    there = Connections(stall=5.0)
    with Scripted(answer) as server:
        for _ in range(2):
            said.clear()
            assert there.request("GET", f"http://{server.address}/").read() == b"hello"
            assert said.wait(5)
    assert len(set(ports)) == 2


def test_a_long_body_that_nobody_reads_is_not_drained():
    sent, ended = [], threading.Event()

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Length", str(64 << 20))
        request.end_headers()
        try:
            for _ in range(64):
                request.wfile.write(bytes(1 << 20))
                sent.append(1)
        finally:
            ended.set()

    with Scripted(answer) as server:
        ask(f"http://{server.address}/").close()
        assert ended.wait(10)
    assert len(sent) < 64


def test_a_body_without_a_length_is_sent_in_chunks():
    got = []

    def answer(request):
        while size := int(request.rfile.readline(), 16):
            got.append(request.rfile.read(size))
            request.rfile.readline()
        request.rfile.readline()
        request.reply(201)

    large = bytes(300_000)
    with Scripted(answer) as server:
        assert ask(f"http://{server.address}/", "PATCH", iter((b"one", b"", large, b"two"))).status == 201
    assert got == [b"one", large, b"two"]


@pytest.mark.parametrize("value", ["x\r\nY: z", "ü"])
def test_a_header_that_http_cannot_carry_is_refused(value):
    with (
        Scripted(lambda request: request.reply(200)) as server,
        pytest.raises(InvalidInput, match="cannot be asked for"),
    ):
        ask(f"http://{server.address}/", headers={"Authorization": value})
    assert server.seen == []


def test_nobody_to_connect_to_is_said():
    with pytest.raises(Gone, match=r"^connection refused$"):
        ask("http://127.0.0.1:1/")


@pytest.mark.needs("openssl")
def test_tls_goes_through_a_proxy_that_speaks_tls_itself(tmp_path, monkeypatch):
    """TLS within TLS: the proxy's certificate is checked, and the server's."""
    authority = certified(tmp_path, "authority")
    cert, key = certified(tmp_path, "server", authority=authority, purpose="serverAuth")
    both = tmp_path / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    asked = []

    def lead(listening, target):
        with contextlib.suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True) as client:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            asked.append(head.split(b"\r\n")[0])
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection(target) as server:
                server.setblocking(False)
                client.settimeout(0.01)
                for _ in range(300):
                    for source, sink in ((client, server), (server, client)):
                        try:
                            data = source.recv(65536)
                        except (TimeoutError, BlockingIOError):
                            continue
                        if not data:
                            return
                        sink.sendall(data)

    with Scripted(lambda request: request.reply(200, b"within"), both) as server:
        host, port = server.address.split(":")
        listening = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=lead, args=(listening, (host, int(port))), daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(ByProxy, match="unable to get local issuer certificate"):
            Connections(stall=5.0).request("GET", "https://images.example/", verify=False)
        thread.join(5)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
        thread = threading.Thread(target=lead, args=(listening, (host, int(port))), daemon=True)
        thread.start()
        answer = Connections(stall=5.0).request("GET", "https://images.example:8443/", verify=False)
        assert answer.read() == b"within"
        answer.close()
        del answer
        listening.close()
    thread.join(5)
    assert asked == [b"CONNECT images.example:8443 HTTP/1.1"]


class Relay:
    """Leads to `target`; what comes from there goes on a byte at a time once `slow` is set."""

    def __init__(self, target):
        self.slow = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listening.getsockname()[1]}/"
        host, port = target.split(":")
        self.thread = threading.Thread(target=self._lead, args=((host, int(port)),))
        self.thread.start()

    def end(self):
        self.thread.join(10)
        self.listening.close()

    def _lead(self, target):
        with contextlib.suppress(OSError), self.listening.accept()[0] as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with socket.create_connection(target) as server:
                back = threading.Thread(target=self._back, args=(server, client))
                back.start()
                while data := client.recv(65536):
                    server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
                back.join()

    def _back(self, server, client):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                for at in range(0, len(data), 1 if self.slow.is_set() else len(data)):
                    client.sendall(data[at : at + 1] if self.slow.is_set() else data)
                    time.sleep(0.02 if self.slow.is_set() else 0)


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("handshake", [True, False])
def test_a_drip_within_tls_is_cut_off(tmp_path, handshake):
    """Neither a handshake nor a record of TLS is waited for longer than an answer that is silent."""
    authority = certified(tmp_path, "authority")
    cert, key = certified(tmp_path, "server", authority=authority)
    both = tmp_path / "both.pem"
    both.write_text(cert.read_text() + key.read_text())

    def answer(request):
        there.slow.set()
        request.reply(200, b"x" * 100)

    with Scripted(answer, both) as server:
        there = Relay(server.address)
        if handshake:
            there.slow.set()
        expected = pytest.raises(Untrusted if handshake else Silent, match="was cut" if handshake else "no answer")
        with expected:
            Connections(stall=0.5).request("GET", there.url, verify=False, connect=0.5 if handshake else 10.0).read()
        there.end()


def test_plain_http_imports_no_tls():
    program = "import sys; from veloci.cli.main import main; main(sys.argv[1:]); print(*sorted(sys.modules))"
    with Scripted(lambda request: request.reply(200, b'{"tags":["a"]}')) as server:
        words = [sys.executable, "-c", program, "list-tags", f"docker://{server.address}/x"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not {"urllib3", "h11", "ssl", "http.client", "asyncio", "rich"} & set(done.stdout.split())
