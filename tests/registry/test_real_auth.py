"""Debian's docker-registry with passwords, with tokens, and with TLS: what it wants, we give."""

import base64
import json
import os
import socket
import subprocess
import time
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from peers import Scripted
from wire import BLOB, DATA, MANIFEST, certified, opened, repository, whole

from veloci.errors import Denied
from veloci.registry import listing
from veloci.registry.credentials import Credentials
from veloci.registry.session import Session
from veloci.spec import media

pytestmark = pytest.mark.needs("docker-registry", "openssl")
ME = Credentials("me", "secret")
HTPASSWD = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"  # secret


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A directory with an authority's certificate and key, and a server's."""
    directory = tmp_path_factory.mktemp("keys")
    certified(directory, "server", authority=certified(directory, "authority"))
    return directory


@contextmanager
def distribution(root, text):
    """A docker-registry with `text` added to its configuration; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (root / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n{text}"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(root / "config.yml")],
        env={**os.environ, "REGISTRY_HTTP_ADDR": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", int(address.split(":")[1]))).close()
                break
            except OSError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def test_a_password_over_tls(keys, tmp_path):
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    trusted = tmp_path / "certs"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes((keys / "authority.crt").read_bytes())
    text = (
        f"http: {{tls: {{certificate: {keys}/server.crt, key: {keys}/server.key}}}}\n"
        f"auth: {{htpasswd: {{realm: r, path: {tmp_path}/htpasswd}}}}\n"
    )
    with distribution(tmp_path, text) as address:
        there = repository(address, credentials=ME, cert_dir=str(trusted))
        there.upload(BLOB, opened())
        assert whole(there) == DATA
        for wrong in (Credentials("me", "guess"), None):
            with pytest.raises(Denied, match="denied it: authentication required"):
                whole(repository(address, credentials=wrong, cert_dir=str(trusted)))
        session = Session(credentials=ME, cert_dir=str(trusted))
        auth = session.login(session.endpoint(address), ME)
        with session.request("GET", f"{auth.origin}/v2/", auth=auth, scope="") as response:
            assert response.status == 200


def token(keys, account, scopes):
    """A token as distribution wants it, for all that `scopes` ask but what is not for `account`.

    https://distribution.github.io/distribution/spec/auth/jwt/
    """

    def packed(value):
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    access = []
    for scope in scopes:
        kind, name, actions = scope.rsplit(":", 2) if scope.startswith("registry:") else scope.split(":", 2)
        allowed = [a for a in actions.split(",") if account or a == "pull"]
        access.append({"type": kind, "name": name, "actions": allowed})
    lines = (keys / "authority.crt").read_text().splitlines()
    header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines[1:-1])]}
    now = int(time.time())
    claims = {"iss": "tests", "sub": account, "aud": "reg", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1"}
    text = packed(header) + b"." + packed({**claims, "access": access})
    sign = ["openssl", "dgst", "-sha256", "-sign", str(keys / "authority.key")]
    return (text + b"." + packed(subprocess.run(sign, input=text, capture_output=True, check=True).stdout)).decode()


@pytest.fixture(scope="module")
def tokened(keys, tmp_path_factory):
    """A docker-registry that takes the tokens of a server which gives everybody pull, and me the rest."""

    def issue(request):
        account, sent = "", request.headers.get("Authorization")
        if sent and sent != ME.basic:
            return request.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')
        if sent:
            account = "me"
        scopes = parse_qs(urlsplit(request.path).query).get("scope", [])
        return request.reply(200, json.dumps({"token": token(keys, account, scopes)}).encode())

    with Scripted(issue) as issuer:
        text = (
            f"auth: {{token: {{realm: 'http://{issuer.address}/token', service: reg, issuer: tests, "
            f"rootcertbundle: {keys}/authority.crt}}}}\n"
        )
        with distribution(tmp_path_factory.mktemp("tokened"), text) as address:
            yield address


def test_tokens_have_the_scopes_that_everything_wants(tokened):
    first, second = repository(tokened, "team/one", credentials=ME), repository(tokened, "team/two", credentials=ME)
    first.upload(BLOB, opened())
    assert second.mount(BLOB, "team/one") is True
    assert whole(second) == DATA
    digest = first.put_manifest(MANIFEST, media.INDEX, "v0")
    assert list(first.tags()) == ["v0"]
    first.delete(digest)
    assert first.resolve("v0") is None
    assert sorted(listing.catalog(Session(credentials=ME), tokened)) == ["team/one", "team/two"]


def test_everybody_may_read_and_nobody_else_may_write(tokened):
    repository(tokened, "public", credentials=ME).upload(BLOB, opened())
    nobody = repository(tokened, "public")
    assert whole(nobody) == DATA
    with pytest.raises(Denied, match="denied it: authentication required"):
        nobody.upload(BLOB.replace(digest="sha256:" + "0" * 64), opened())
    with pytest.raises(Denied, match="wrong password"):
        whole(repository(tokened, "public", credentials=Credentials("me", "guess")))


def test_a_stored_login_that_is_bad_does_not_keep_anybody_from_reading(tokened, nobody):
    repository(tokened, "public", credentials=ME).upload(BLOB, opened())
    (nobody / ".docker").mkdir(parents=True)
    entry = {"auth": base64.b64encode(b"me:old").decode()}
    (nobody / ".docker/config.json").write_text(json.dumps({"auths": {tokened: entry}}))
    told = []
    assert whole(repository(tokened, "public", warn=told.append)) == DATA
    assert told == [f"{tokened} refused the stored login; going on without it: veloci login {tokened}"]
