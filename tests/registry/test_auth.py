"""Who we are, told to those who may know, and to nobody else."""

import base64
import json
import threading
import time
from functools import partial
from urllib.parse import parse_qs, urlsplit

import pytest
from peers import Scripted
from wire import BLOB, DATA, certified, repository, serves, tokens, v2, whole

from veloci.errors import Denied, InvalidInput, Unavailable
from veloci.registry import auth
from veloci.registry.credentials import Credentials

ME = Credentials("me", "secret")


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def stored(home, host, **entry):
    """Let docker's file say who we are at `host`."""
    (home / ".docker").mkdir(parents=True)
    (home / ".docker/config.json").write_text(json.dumps({"auths": {host: entry}}))


def asked(server):
    """The requests for tokens: method and path."""
    return [(method, path) for method, path, _ in server.seen if path.startswith("/token")]


def test_challenges_are_read_as_they_are_written():
    for text, scheme, parameters in (
        ('Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"', "bearer",
         {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"}),
        ('bearer REALM = "a\\"b" , error=insufficient_scope', "bearer", {"realm": 'a"b', "error": "insufficient_scope"}),
        ("Basic", "basic", {}),
        ('Negotiate, Basic realm="x"', "basic", {"realm": "x"}),
        ("Digest realm=x", "", {}),
        ('Digest realm="a, Bearer realm=\\"https://b/t\\", Basic ", nonce=x', "", {}),
        ('Digest realm="a, Bearer x", Basic realm="y"', "basic", {"realm": "y"}),
        ('Digest "' + '\\"' * 100_000, "", {}),
        ("", "", {}),
        (None, "", {}),
    ):  # fmt: skip
        assert auth.challenge(text) == (scheme, parameters)


def test_an_anonymous_token_is_fetched_once_for_a_scope():
    with Scripted(tokens) as server:
        there = repository(server.address)
        assert whole(there) == whole(there) == DATA
        assert asked(server) == [("GET", "/token?service=reg&scope=repository%3Aapp%3Apull")]


def test_many_threads_fetch_one_token():
    def slow(request):
        if request.path.startswith("/token"):
            time.sleep(0.1)
        tokens(request)

    with Scripted(slow) as server:
        there = repository(server.address)
        assert there.own.auth  # which is made once for all
        found = []
        threads = [threading.Thread(target=lambda: found.append(whole(there))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [DATA] * 6
        assert len(asked(server)) == 1


def test_a_password_goes_to_the_token_server_only():
    with Scripted(partial(tokens, right=ME.basic)) as server:
        assert whole(repository(server.address, credentials=ME)) == DATA
    told = {path.partition("?")[0]: auth for _, path, auth in server.seen if auth}
    assert told == {"/token": "Basic bWU6c2VjcmV0", f"/v2/app/blobs/{BLOB.digest}": "Bearer tok"}


def test_a_wrong_password_is_told_in_the_registrys_words():
    with Scripted(partial(tokens, right=ME.basic)) as server, pytest.raises(Denied) as failure:
        whole(repository(server.address, credentials=Credentials("me", "guess")))
    assert str(failure.value) == f"{server.address}: {server.address} denied it: wrong password"
    assert failure.value.hint == f"veloci login {server.address}"


def test_a_token_that_ended_is_fetched_anew_before_it_is_refused(monkeypatch):
    monkeypatch.setattr(auth, "SHORTEST", 1.0)  # the real minute, shortened
    monkeypatch.setattr(auth, "EARLY", 0.5)
    with Scripted(partial(tokens, expires_in=1)) as server:
        there = repository(server.address)
        whole(there)
        time.sleep(0.6)
        whole(there)
        assert len(asked(server)) == 2
        assert [auth for _, path, auth in server.seen if "/blobs/" in path] == [None, "Bearer tok", "Bearer tok"]


def test_a_token_that_the_registry_forgot_is_fetched_anew():
    given = []

    def forgets(request):
        if request.path.startswith("/token"):
            given.append(f"tok{len(given)}")
            return request.reply(200, json.dumps({"access_token": given[-1]}).encode())
        if given and request.headers.get("Authorization") == f"Bearer {given[-1]}" and len(given) != 1:
            return serves(request)
        return tokens(request, token="never")

    with Scripted(forgets) as server:
        given.append("tok0")
        assert whole(repository(server.address)) == DATA
    assert given == ["tok0", "tok1"]


def test_a_stored_login_that_is_bad_does_not_stop_reading_what_all_may_read(nobody):
    told = []

    def public(request):
        if request.path.startswith("/token") and request.headers.get("Authorization"):
            return request.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')
        return tokens(request)

    with Scripted(public) as server:
        stored(nobody, server.address, auth=basic("me:old")[6:])
        there = repository(server.address, warn=told.append)
        assert whole(there) == whole(there) == DATA
        with pytest.raises(Denied, match="denied it: wrong password"):
            there.put_manifest(b"{}", "x", "v0")
        host = server.address
    assert told == [f"{host} refused the stored login; going on without it: veloci login {host}"]


def test_an_identity_token_is_changed_for_a_token(nobody):
    forms = []

    def oauth(request):
        if request.path == "/token":
            forms.append(parse_qs(request.body.decode()))
            return request.reply(200, b'{"access_token":"tok"}')
        return tokens(request)

    with Scripted(oauth) as server:
        stored(nobody, server.address, auth="", identitytoken="refresh me")
        assert whole(repository(server.address)) == DATA
        assert asked(server) == [("POST", "/token")]
    assert forms == [
        {
            "grant_type": ["refresh_token"],
            "refresh_token": ["refresh me"],
            "client_id": ["veloci"],
            "service": ["reg"],
            "scope": ["repository:app:pull"],
        }
    ]


def test_an_identity_token_that_ended_says_to_log_in_again(nobody):
    def oauth(request):
        if request.path.startswith("/token"):
            return request.reply(400, b'{"error":"invalid_grant"}')
        return tokens(request)

    with Scripted(oauth) as server:
        stored(nobody, server.address, identitytoken="old")
        with pytest.raises(Denied) as failure:
            whole(repository(server.address))
    assert failure.value.hint == f"veloci login {server.address}"


def test_a_push_asks_for_what_it_does():
    with Scripted(tokens) as server:
        there = repository(server.address, "team/app:v0")
        there.put_manifest(b"{}", "x", "v0")
        with pytest.raises(InvalidInput):
            there.mount(BLOB, "other")
    scopes = [sorted(parse_qs(urlsplit(path).query)["scope"]) for _, path in asked(server)]
    assert scopes[0] == ["repository:app:pull", "repository:team/app:pull,push"]
    assert scopes[1] == ["repository:app:pull", "repository:other:pull", "repository:team/app:pull,push"]


@pytest.mark.parametrize(
    "realm",
    ["http://192.0.2.7/token", "http://other.example/token", "ftp://x/", "", "http://[", "http://127.0.0.1:99999/"],
)
def test_a_password_is_not_sent_in_the_open_to_another_host(realm):
    with Scripted(partial(tokens, realm=realm)) as server:
        with pytest.raises(Denied, match="the registry asks for a token"):
            whole(repository(server.address, credentials=ME))
        assert asked(server) == []


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254", "localhost", "[::ffff:127.0.0.1]", "127.1", "localhost."]
)
def test_a_registry_out_there_names_no_inner_address_also_behind_a_proxy(host):
    """By a proxy we connect to no address, so what stands in the realm is all that can be looked at."""
    asks = []
    there = auth.Auth("https://images.example", ME, lambda *asked: asks.append(asked))
    with pytest.raises(Denied) as failure:
        there.learn(f'Bearer realm="https://{host}/token"', "repository:app:pull", None)
    assert str(failure.value) == f"images.example: the registry asks for a token from the inner address {host}"
    assert asks == []


@pytest.mark.needs("openssl")
def test_a_realm_must_not_leave_encryption(tmp_path):
    authority = certified(tmp_path, "authority")
    cert, key = certified(tmp_path, "server", authority=authority)
    both = tmp_path / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    with Scripted(partial(tokens, realm="http://{host}/token"), both) as server:
        with pytest.raises(Denied, match=r"asks for a token from 127.0.0.1:\d+ without encryption"):
            whole(repository(server.address, credentials=ME, tls_verify=False))
        assert asked(server) == []


def test_a_registry_that_never_has_enough_is_denied():
    answer = v2(lambda request: request.reply(401, WWW_Authenticate='Basic realm="x"'))
    with Scripted(answer) as server, pytest.raises(Denied, match="unauthorized"):
        whole(repository(server.address, credentials=ME))
    assert len(server.seen) < 5

    def insatiable(request):
        if request.path.startswith("/token"):
            return request.reply(200, b'{"token":"never enough"}')
        if len(server.seen) > 40:  # whoever is still there gets it
            return serves(request)
        where = f'Bearer realm="http://{request.headers["Host"]}/token"'
        return request.reply(401, WWW_Authenticate=where) if request.path != "/v2/" else request.reply(200)

    with Scripted(insatiable) as server, pytest.raises(Denied, match="unauthorized"):
        whole(repository(server.address))
    assert len(server.seen) < 8


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"token":5}',
        b'{"token":"a\\nb"}',
        b"{",
        b'{"token":"a","refresh_token":7}',
        b'{"token":"a","expires_in":"soon"}',
        b'{"token":"a","expires_in":1%s}' % (b"0" * 400),
    ],
)
def test_a_garbage_token_is_refused(body):
    def script(request):
        if request.path.startswith("/token"):
            return request.reply(200, body)
        return request.reply(401, WWW_Authenticate=f'Bearer realm="http://{request.headers["Host"]}/token"')

    expected = r"the answer holds no token|the token's answer is not JSON"
    with Scripted(script) as server, pytest.raises(InvalidInput, match=expected):
        whole(repository(server.address))


def test_an_endless_token_is_not_read_to_its_end():
    """It comes after 16 MiB; whoever reads so far has it."""
    late = b" " * (16 << 20) + b'{"token":"tok"}'

    def script(request):
        return request.reply(200, late) if request.path.startswith("/token") else tokens(request)

    with Scripted(script) as server, pytest.raises(InvalidInput, match="the answer is longer than 4194304 bytes"):
        whole(repository(server.address))


def test_a_token_server_that_is_busy_is_asked_again_but_not_for_ever():
    def script(request):
        return request.reply(503) if request.path.startswith("/token") else tokens(request)

    with Scripted(script) as server:
        with pytest.raises(Unavailable, match="answered 503"):
            whole(repository(server.address))
        assert len(asked(server)) == 5


def test_the_token_servers_redirect_is_not_followed():
    def script(request):
        if request.path.startswith("/token"):
            return request.reply(302, Location="/elsewhere")
        return tokens(request)

    with Scripted(script) as server, pytest.raises(InvalidInput, match="answered 302: found"):
        whole(repository(server.address, credentials=ME))
    assert not [path for _, path, _ in server.seen if path == "/elsewhere"]
