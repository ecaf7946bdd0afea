"""HTTP over our own connections: raw answers, cut wherever a network may cut them."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from peers import Scripted
from wire import certified

from veloci.errors import InvalidInput
from veloci.registry.connections import Connections
from veloci.registry.failures import ByProxy, Cut, Gone


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
        b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
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


def test_plain_http_imports_no_tls():
    program = "import sys; from veloci.cli.main import main; main(sys.argv[1:]); print(*sorted(sys.modules))"
    with Scripted(lambda request: request.reply(200, b'{"tags":["a"]}')) as server:
        words = [sys.executable, "-c", program, "list-tags", f"docker://{server.address}/x"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not {"urllib3", "h11", "ssl", "http.client", "asyncio", "rich"} & set(done.stdout.split())
