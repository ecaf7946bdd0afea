"""Whom we trust, by which way we go, where we do not go, and how long we wait."""

import contextlib
import socket
import subprocess
import threading
import time
from functools import partial

import pytest
from peers import Scripted
from wire import BLOB, DATA, MANIFEST, certified, opened, repository, serves, tokens, v2, verified, whole

from veloci.errors import Denied, InvalidInput, Unavailable
from veloci.registry.answers import check_target
from veloci.registry.credentials import Credentials
from veloci.registry.inner import is_inner
from veloci.registry.proxies import proxy
from veloci.spec import media

# -- TLS


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A directory with an authority, a server's certificate and a client's, both of it: NAME.crt, NAME.key, NAME.pem."""
    directory = tmp_path_factory.mktemp("tls")
    authority = certified(directory, "authority")
    for name, purpose in (("server", "serverAuth"), ("client", "clientAuth")):
        cert, key = certified(directory, name, authority=authority, purpose=purpose)
        (directory / f"{name}.pem").write_text(cert.read_text() + key.read_text())
    return directory


def trusting(directory, tls, *, client=False):
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes((tls / "authority.crt").read_bytes())
    if client:
        (directory / "me.cert").write_bytes((tls / "client.crt").read_bytes())
        (directory / "me.key").write_bytes((tls / "client.key").read_bytes())


@pytest.mark.needs("openssl")
def test_a_certificate_that_nobody_vouches_for_is_taken_only_when_told(tls):
    with Scripted(serves, tls / "server.pem") as server:
        with pytest.raises(Unavailable) as failure:
            whole(repository(server.address))
        assert whole(repository(server.address, tls_verify=False)) == DATA
    assert str(failure.value) == f"no trusted connection to {server.address}: unable to get local issuer certificate"
    assert failure.value.hint == "use a trusted certificate, or --tls-verify=false if you trust the network"


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("place", [".config/containers/certs.d", ".config/docker/certs.d"])
def test_an_authority_of_certs_d_is_trusted(nobody, tls, place):
    with Scripted(serves, tls / "server.pem") as server:
        trusting(nobody / place / server.address, tls)
        assert whole(repository(server.address)) == DATA


@pytest.mark.needs("openssl")
def test_a_servers_own_certificate_may_be_trusted_as_it_is(tls, tmp_path):
    (tmp_path / "server.crt").write_bytes((tls / "server.crt").read_bytes())
    with Scripted(serves, tls / "server.pem") as server:
        assert whole(repository(server.address, cert_dir=str(tmp_path))) == DATA


@pytest.mark.needs("openssl")
def test_the_systems_authorities_may_be_elsewhere(tls, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tls / "authority.crt"))
    with Scripted(serves, tls / "server.pem") as server:
        assert whole(repository(server.address)) == DATA


@pytest.mark.needs("openssl")
def test_a_client_certificate_is_shown(nobody, tls, tmp_path):
    with Scripted(serves, tls / "server.pem", authority=tls / "authority.crt") as server:
        trusting(tmp_path / "without", tls)
        with pytest.raises(Unavailable, match=r"certificate required|connection reset|was cut"):  # as it comes first
            whole(repository(server.address, cert_dir=str(tmp_path / "without")))
        trusting(tmp_path / "with", tls, client=True)
        assert whole(repository(server.address, cert_dir=str(tmp_path / "with"))) == DATA
        trusting(nobody / ".config/containers/certs.d" / server.address, tls, client=True)
        assert whole(repository(server.address)) == DATA


@pytest.mark.needs("openssl")
def test_a_client_certificate_is_for_the_registry_alone(tls, tmp_path):
    trusting(tmp_path / "certs", tls, client=True)
    with Scripted(serves, tls / "server.pem", authority=tls / "authority.crt") as curious:
        answer = v2(lambda request: request.reply(307, Location=f"https://{curious.address}/blob"))
        with Scripted(answer, tls / "server.pem", authority=tls / "authority.crt") as server:
            there = repository(server.address, cert_dir=str(tmp_path / "certs"))
            with pytest.raises(Unavailable, match=r"certificate required|connection reset|was cut"):
                whole(there)
        assert curious.seen == []
        assert whole(repository(curious.address, cert_dir=str(tmp_path / "certs"))) == DATA


@pytest.mark.needs("openssl")
def test_a_certificate_without_its_key_is_an_error(tls, tmp_path):
    with Scripted(serves, tls / "server.pem") as server:
        for missing, message in (
            ("me.key", "missing key me.key for client certificate me.cert"),
            ("me.cert", "missing client certificate me.cert for key me.key"),
        ):
            directory = tmp_path / missing
            trusting(directory, tls, client=True)
            (directory / missing).unlink()
            with pytest.raises(InvalidInput) as failure:
                whole(repository(server.address, cert_dir=str(directory)))
            assert str(failure.value) == f"{directory}: {message}"
        (directory / "me.key").unlink()
        (directory / "ca.crt").write_text("no certificate")
        with pytest.raises(InvalidInput, match=r"ca.crt: not a usable certificate"):
            whole(repository(server.address, cert_dir=str(directory)))


@pytest.mark.needs("openssl")
def test_insecure_in_the_configuration_is_overruled_by_an_explicit_verify(nobody, tls):
    with Scripted(serves, tls / "server.pem") as server:
        path = nobody / ".config/containers/registries.conf"
        path.parent.mkdir(parents=True)
        path.write_text(f'[[registry]]\nlocation = "{server.address}"\ninsecure = true\n')
        assert whole(repository(server.address)) == DATA
        with pytest.raises(Unavailable, match="no trusted connection"):
            whole(repository(server.address, tls_verify=True))


@pytest.mark.needs("openssl")
def test_a_registry_that_speaks_tls_is_not_spoken_to_without(tls, tmp_path):
    """One that ends the connection after the handshake, for want of our certificate or for no reason, is not plain."""
    trusting(tmp_path / "certs", tls)
    with Scripted(lambda request: request.cut(), tls / "server.pem") as server:
        with pytest.raises(Unavailable, match="was cut"):
            repository(server.address, cert_dir=str(tmp_path / "certs")).manifest()
        with pytest.raises(Unavailable, match="was cut"):
            repository(server.address, tls_verify=False).manifest()


# -- proxies


def test_the_variables_are_read_as_go_reads_them(monkeypatch):
    for variables, url, expected in (
        ({}, ("http", "a.example", 80), None),
        ({"HTTP_PROXY": "http://p:1"}, ("http", "a.example", 80), "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, ("https", "a.example", 443), None),
        ({"https_proxy": "p:1"}, ("https", "a.example", 443), "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, ("http", "localhost", 80), None),
        ({"HTTP_PROXY": "http://p:1"}, ("http", "127.9.9.9", 80), None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, ("http", "a.example", 80), None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "x, example"}, ("http", "a.example", 80), None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": ".a.example"}, ("http", "a.example", 80), "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "a.example:81"}, ("http", "a.example", 80), "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "a.example:80"}, ("http", "a.example", 80), None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ("http", "10.2.3.4", 80), None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ("http", "11.2.3.4", 80), "http://p:1"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            found = proxy(*url)
            assert (found and found.url) == expected, variables
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:pass@p:1")
    with pytest.raises(InvalidInput, match=r"^HTTP_PROXY: is no proxy's address$"):
        proxy("http", "a.example", 80)


def test_plain_http_goes_by_the_proxy_with_its_password(monkeypatch):
    shown = []

    def forward(request):
        shown.append((request.path, request.headers.get("Proxy-Authorization")))
        request.path = "/" + request.path.split("/", 3)[3]
        serves(request)

    with Scripted(forward) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{server.address}")  # which answers no CONNECT
        monkeypatch.setenv("HTTP_PROXY", f"http://me:se%63ret@{server.address}")
        assert whole(repository("images.example", tls_verify=False)) == DATA
    assert shown[-1] == (f"http://images.example/v2/app/blobs/{BLOB.digest}", "Basic bWU6c2VjcmV0")


class Tunnel:
    """A proxy that knows CONNECT, and leads everybody to `target`; `asked` is where they wanted to go."""

    def __init__(self, target):
        self.target, self.asked = target, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        self.asked.append(head.split(b"\r\n")[0].decode())
        host, port = self.target.split(":")
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        def pump(source, sink):
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
            except OSError:
                pass
            finally:
                for each in (source, sink):
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

        other = threading.Thread(target=pump, args=(server, client), daemon=True)
        other.start()
        pump(client, server)
        other.join()
        client.close()
        server.close()


@pytest.mark.needs("openssl")
def test_tls_goes_through_the_proxy(monkeypatch, tls):
    with Scripted(serves, tls / "server.pem") as server:
        tunnel = Tunnel(server.address)
        monkeypatch.setenv("https_proxy", tunnel.address)
        assert whole(repository("images.example:8443", tls_verify=False)) == DATA
        tunnel.socket.close()
    assert {line.rpartition(" ")[0] for line in tunnel.asked} == {"CONNECT images.example:8443"}


def test_a_proxy_that_is_down_is_named_as_one(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(Unavailable) as failure:
        repository("images.example").manifest()
    assert str(failure.value) == "images.example/app:v0: cannot reach images.example by its proxy: connection refused"
    assert failure.value.hint == "check HTTP_PROXY and HTTPS_PROXY"


# -- where a registry may not send us


@pytest.mark.parametrize(
    ("host", "inner"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("192.168.0.1", True), ("169.254.169.254", True), ("100.64.0.1", True),
        ("0.0.0.0", True), ("224.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("fd00::1", True),
        ("::ffff:10.0.0.1", True), ("64:ff9b::7f00:1", True), ("2002:7f00:1::", True), ("localhost", True), ("a.localhost", True),
        ("127.1", True), ("2130706433", True), ("0x7f.1", True), ("017700000001", True), ("0", True), ("169.254.43518", True),
        ("127.0.0.1.", True), ("LocalHost.", True), ("１２７.0.0.1", True), ("localhost。", True), ("ⓛocalhost", True),
        ("::127.0.0.1", True), ("64:ff9b:1::7f00:1", True), ("fec0::1", True), ("::ffff:127.0.0.1%1", True),
        ("1.example", False), ("0xg", False), ("185273099", False), ("ü" * 70, False), ("bücher.example", False),
        ("11.0.0.1", False), ("2600::1", False), ("::ffff:11.0.0.1", False), ("images.example", False),
    ],
)  # fmt: skip
def test_inner_addresses_are_known_in_every_dress(host, inner):
    assert is_inner(host) is inner


@pytest.fixture
def outside(own_netns):
    """An address of the open network that is this machine's, in a namespace of the test's own."""
    subprocess.run(
        "ip link set lo up && ip addr add 11.0.0.1/32 dev lo && ip addr add 11.0.0.2/32 dev lo", shell=True, check=True
    )
    return "11.0.0.1"


@pytest.mark.needs("root", "ip")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost", "inner.example"])
def test_a_registry_out_there_cannot_send_us_to_an_inner_host(outside, host, monkeypatch):
    """Also not by a name of its own that stands for one."""
    from veloci.registry import connections

    resolve = connections.getaddrinfo
    monkeypatch.setattr(
        connections, "getaddrinfo", lambda name, *more: resolve(name.replace(b"inner.example", b"127.0.0.1"), *more)
    )
    with Scripted(serves) as victim:
        port = victim.address.rpartition(":")[2]

        def leads_in(request):
            if "/blobs/uploads/" in request.path:
                return request.reply(202, Location=f"http://{host}:{port}/upload")
            if "/blobs/" in request.path:
                return request.reply(307, Location=f"http://{host}:{port}/secret")
            return request.reply(200, b"{}")

        with Scripted(leads_in, host=outside) as registry:
            there = repository(registry.address, tls_verify=False)
            with pytest.raises(Denied, match="inner address"):
                whole(there)
            with pytest.raises(Denied, match="inner address"):
                there.upload(BLOB, opened())
        assert victim.seen == []


@pytest.mark.needs("root", "ip")
def test_a_registry_out_there_cannot_have_us_ask_an_inner_host_for_a_token(outside):
    with Scripted(tokens) as victim:
        for realm in (f"http://{victim.address}/token", "https://127.1:1/token"):
            answer = partial(tokens, realm=realm)
            refused = pytest.raises(Denied, match=r"without encryption|inner address")
            with Scripted(answer, host=outside) as registry, refused:
                whole(repository(registry.address, tls_verify=False, credentials=Credentials("me", "secret")))
        assert victim.seen == []


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://images.example/x", "images.example without encryption"),
        ("http://cdn.example/x", "cdn.example without encryption"),
        ("https://10.0.0.1/x", "the inner address 10.0.0.1"),
        ("https://localhost:5000/x", "the inner address localhost:5000"),
        ("https://127.1/x", "the inner address 127.1"),
        ("https://2130706433/x", "the inner address 2130706433"),
        ("https://localhost./x", "the inner address localhost."),
        ("https://１２７.0.0.1/x", "the inner address １２７.0.0.1"),
        ("https://images.example@10.0.0.1/x", "the inner address images.example@10.0.0.1"),
    ],
)
def test_an_encrypted_registry_leads_to_none_in_the_open_and_none_inside_also_behind_a_proxy(target, why):
    """By a proxy we connect to no address, so what stands there is all that can be looked at."""
    with pytest.raises(Denied) as failure:
        check_target(target, "https://images.example", "app")
    assert str(failure.value) == f"app: the registry points to {why}"
    check_target("https://cdn.example/x", "https://images.example", "app")


@pytest.mark.needs("openssl")
def test_a_redirect_must_not_leave_encryption(tls):
    with Scripted(lambda request: request.reply(200, DATA)) as plain:
        status = {"GET": 307, "POST": 202}
        answer = v2(lambda request: request.reply(status[request.command], Location=f"http://{plain.address}/blob"))
        with Scripted(answer, tls / "server.pem") as server:
            there = repository(server.address, tls_verify=False)
            with pytest.raises(Denied, match="without encryption"):
                whole(there)
            with pytest.raises(Denied, match="without encryption"):
                there.upload(BLOB, opened())
        assert plain.seen == []


@pytest.mark.needs("root", "ip")
def test_a_registry_out_there_may_send_us_to_another_out_there(outside):
    with Scripted(lambda request: request.reply(200, DATA), host="11.0.0.2") as cdn:
        answer = v2(lambda request: request.reply(307, Location=f"http://{cdn.address}/blob"))
        with Scripted(answer, host=outside) as registry:
            verified(repository(registry.address, tls_verify=False))


@pytest.mark.needs("root", "ip")
def test_plain_http_is_for_this_machine_and_who_is_said_to_be_insecure(outside, nobody):
    with Scripted(serves, host=outside) as server:
        with pytest.raises(Unavailable):
            repository(server.address).manifest()
        path = nobody / ".config/containers/registries.conf"
        path.parent.mkdir(parents=True)
        path.write_text(f'[[registry]]\nlocation = "{server.address}"\ninsecure = true\n')
        assert repository(server.address).manifest()[1] == MANIFEST


# -- how long we wait


def dripping(data, *, each, head=b""):
    """Send `data` after the header in pieces of a byte, `each` seconds apart."""

    def answer(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        try:
            request.wfile.write(head)
            for byte in data:
                request.wfile.write(bytes([byte]))
                time.sleep(each)
        except OSError:
            pass
        return request.cut()

    return answer


HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: {len(DATA)}\r\n\r\n".encode()


@pytest.mark.parametrize("head", [HEAD, b"HTTP/1.1 200 OK\r\nX-Long: "])
def test_a_drip_is_cut_off(head, monkeypatch):
    from veloci.registry import session

    monkeypatch.setattr(session, "TRIES", 1)
    began = time.monotonic()
    with Scripted(dripping(DATA[:100], each=0.05, head=head)) as bad, pytest.raises(Unavailable) as failure:
        repository(bad.address, stall=1.5).manifest()
    assert (
        str(failure.value) == f"{bad.address}/app:v0: cannot reach {bad.address}: it sent less than 1024 bytes in 1 s"
    )
    assert time.monotonic() - began < 20


def test_silence_is_cut_off():
    def silent(request):
        if request.path != "/v2/":
            time.sleep(1)
        return request.reply(200, b"{}")

    with Scripted(silent) as bad, pytest.raises(Unavailable) as failure:
        repository(bad.address, stall=0.1).manifest()
    assert str(failure.value) == f"{bad.address}/app:v0: cannot reach {bad.address}: no answer"


def test_what_is_long_but_steady_is_waited_for():
    def steady(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        request.send_response(200)
        request.send_header("Content-Length", str(len(DATA)))
        request.end_headers()
        for at in range(0, len(DATA), 65536):
            request.wfile.write(DATA[at : at + 65536])
            time.sleep(0.06)
        return None

    began = time.monotonic()
    with Scripted(steady) as server:
        verified(repository(server.address, stall=0.3))
    assert time.monotonic() - began > 0.9


def test_a_slow_reader_is_no_slow_sender():
    with Scripted(serves) as server:
        there = repository(server.address, stall=0.2)
        with there.blob(BLOB) as chunks:
            got = b""
            for chunk in chunks:
                got += chunk
                time.sleep(0.05)
        assert got == DATA


# -- what a registry says besides


def test_warnings_are_told_once(tmp_path):
    told = []
    warnings = '299 - "old \\"client\\"", 199 - "not this", 299 other "nor this", 299 - "moves on Monday"'

    def warns(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        return request.reply(200, MANIFEST, Content_Type="application/vnd.oci.image.index.v1+json", Warning=warnings)

    with Scripted(warns) as server:
        there = repository(server.address, warn=told.append)
        there.manifest()
        there.manifest()
    assert told == [f'{server.address} says: old "client"', f"{server.address} says: moves on Monday"]


def test_a_registry_that_wants_us_back_tomorrow_is_not_waited_for(monkeypatch):
    from veloci.registry import session

    waits = []
    monkeypatch.setattr(session, "sleep", waits.append)
    answer = v2(lambda request: request.reply(429, Retry_After="86400"))
    with Scripted(answer) as server, pytest.raises(Unavailable) as failure:
        repository(server.address).manifest()
    assert str(failure.value) == f"{server.address}/app:v0: {server.address} asks to come back in 86400 s"
    assert (failure.value.retry_after, waits) == (86400, [])


def test_every_try_waits_longer_and_never_as_long_as_another(monkeypatch):
    from veloci.registry import session

    waits = []
    monkeypatch.setattr(session, "sleep", waits.append)
    with Scripted(v2(lambda request: request.reply(503))) as server, pytest.raises(Unavailable, match="answered 503"):
        repository(server.address).manifest()
    assert [limit / 2 <= wait <= limit for wait, limit in zip(waits, (0.01, 0.02, 0.04, 0.08), strict=True)] == [
        True
    ] * 4


def test_headers_without_end_are_an_error():
    """They end after 16 MiB, and then comes what was asked for: whoever reads on gets it."""

    def floods(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(16 << 4):
            request.wfile.write(b"X-%d: " % number + b"y" * (64 << 10) + b"\r\n")
        request.wfile.write(b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n" % (media.INDEX.encode(), len(MANIFEST)))
        return request.wfile.write(MANIFEST)

    with Scripted(floods) as bad, pytest.raises(Unavailable, match="cannot reach"):
        repository(bad.address).manifest()
