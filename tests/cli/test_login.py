"""login and logout: docker's and podman's words, files and exit codes."""

import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from peers import Scripted, veloci


def basic(text):
    return "Basic " + b64encode(text.encode()).decode()


def private(request):
    if request.headers.get("Authorization") == basic("me:secret"):
        return request.reply(200, b"{}")
    words = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
    return request.reply(401, words, WWW_Authenticate='Basic realm="r"')


@pytest.fixture(autouse=True)
def home(tmp_path, roots, monkeypatch):
    """A home of the test's own, and no docker engine in reach."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/podman"\nrunroot = "{tmp_path}/podman-run"\n'
    )  # else podman mounts something even to log in
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    (tmp_path / "home").mkdir()
    (tmp_path / "run").mkdir()
    return tmp_path / "home"


@pytest.fixture
def host():
    with Scripted(private) as server:
        yield server.address


def login(*words, **options):
    return veloci("login", *words, check=False, **options)


def failed(*words, **options):
    done = veloci(*words, check=False, **options)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def right(host, *words):
    done = login("-u", "me", "--password-stdin", *words, host, input="secret\n")
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n")
    return done


def test_login_checks_and_remembers_and_logout_forgets(home, host):
    wrong = failed("login", "-u", "me", "--password-stdin", host, input="guess\n")
    assert wrong == f"veloci: {host}: {host} denied it: authentication required\n  try: veloci login {host}\n"
    assert not (home / ".docker").exists()
    file = home / ".docker/config.json"
    assert right(host).stderr == (
        f"veloci: warning: the login is kept unencrypted in {file}; credsStore there names a helper that does better\n"
    )
    assert list(json.loads(file.read_text())["auths"]) == [host]
    assert veloci("login", "--get-login", host) == "me\n"
    again = login(host, input="")
    assert again.stdout == f"Authenticating with existing credentials for {host}\nLogin Succeeded\n"
    assert veloci("logout", host) == f"Removing login credentials for {host}\n"
    assert veloci("logout", host) == f"Not logged in to {host}\n"
    assert failed("login", "--get-login", host) == f"veloci: not logged in to {host}\n  try: veloci login {host}\n"


def test_what_is_called_wrongly_is_told(host):
    for words, message in (
        ((host,), "cannot perform an interactive login from a non TTY device\n  try: veloci login --username NAME --password-stdin HOST\n"),
        (("-u", "me", "-p", "x", "--password-stdin", host), "--password-stdin: --password and --password-stdin are mutually exclusive\n"),
        (("--password-stdin", host), "--password-stdin: must provide --username with --password-stdin\n"),
        (("debian",), "'debian' is not a registry's host\n  try: HOST[:PORT]\n"),
        (("-u", "a", "--password-stdin", "127.0.0.1:1"), "cannot reach 127.0.0.1:1: connection refused\n  try: is the registry up?\n"),
    ):  # fmt: skip
        assert failed("login", *words, input="") == f"veloci: {message}"


def test_a_password_on_the_command_line_is_warned_of(host):
    done = login("-u", "me", "-p", "secret", host)
    assert done.returncode == 0
    assert done.stderr.startswith(
        "veloci: warning: --password shows the password to everyone on this host; use --password-stdin\n"
    )


def test_an_address_is_as_good_as_a_host(home, host):
    right(f"http://{host}/v2/")
    assert list(json.loads((home / ".docker/config.json").read_text())["auths"]) == [host]


def test_the_file_can_be_chosen(home, host, tmp_path, monkeypatch):
    right(host, "--authfile", str(tmp_path / "one.json"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "two.json"))
    assert "not logged in" in failed("login", "--get-login", host)
    right(host)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert not (home / ".docker").exists()
    assert veloci("logout", "--all", "--authfile", str(tmp_path / "one.json")) == (
        "Removed login credentials for all registries\n"
    )
    assert json.loads((tmp_path / "one.json").read_text()) == {"auths": {}}
    assert veloci("login", "--get-login", host) == "me\n"
    gone = str(tmp_path / "gone.json")
    assert failed("list-tags", "--authfile", gone, f"{host}/x") == (
        f"veloci: {gone}: no such file\n  try: veloci login --authfile FILE makes one\n"
    )


def test_an_identity_token_is_kept_instead_of_the_password(home):
    asked = []

    def oauth(request):
        if request.path.startswith("/token"):
            asked.append((request.command, request.path, request.body))
            return request.reply(200, b'{"token":"tok","refresh_token":"lasting"}')
        if request.headers.get("Authorization") != "Bearer tok":
            where = f'Bearer realm="http://{request.headers["Host"]}/token",service="reg"'
            return request.reply(401, WWW_Authenticate=where)
        return request.reply(200, b"{}")

    with Scripted(oauth) as server:
        right(server.address)
        assert asked == [
            ("GET", "/token?service=reg&account=me&client_id=veloci&offline_token=true", b""),
        ]
        assert json.loads((home / ".docker/config.json").read_text())["auths"] == {
            server.address: {"auth": b64encode(b"me:").decode(), "identitytoken": "lasting"}
        }
        assert login(server.address).returncode == 0
        assert asked[1][0] == "POST"
        assert b"refresh_token=lasting" in asked[1][2]


HELPER = """#!{python}
import json, os, sys
path = {store!r}
known = json.load(open(path)) if os.path.exists(path) else {{}}
verb, data = sys.argv[1], sys.stdin.read().strip()
if verb == "get":
    if data not in known:
        print("credentials not found in native keychain")
        sys.exit(1)
    print(json.dumps({{"ServerURL": data, **known[data]}}))
elif verb == "store":
    entry = json.loads(data)
    known[entry.pop("ServerURL")] = entry
elif verb == "erase":
    known.pop(data, None)
json.dump(known, open(path, "w"))
"""


@pytest.fixture
def helper(home, tmp_path, monkeypatch):
    """A credential helper named `test`, and the file in which it keeps what it is told."""
    program = tmp_path / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER.format(python=sys.executable, store=str(tmp_path / "kept.json")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "kept.json"


@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
def test_a_helper_keeps_and_forgets(home, host, helper, setting):
    file = home / ".docker/config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({setting: "test" if setting == "credsStore" else {host: "test"}}))
    assert right(host).stderr == ""
    assert json.loads(helper.read_text()) == {host: {"Username": "me", "Secret": "secret"}}
    assert json.loads(file.read_text())["auths"] == {host: {}}
    assert veloci("login", "--get-login", host) == "me\n"
    assert veloci("logout", host) == f"Removing login credentials for {host}\n"
    assert json.loads(helper.read_text()) == {}


def test_a_helper_of_registries_conf_is_asked(home, host, helper):
    file = home / ".config/containers/registries.conf"
    file.parent.mkdir(parents=True)
    file.write_text('credential-helpers = ["test", "containers-auth.json"]\n')
    helper.write_text(json.dumps({host: {"Username": "helped", "Secret": "x"}}))
    assert veloci("login", "--get-login", host) == "helped\n"
    assert "not logged in" in failed("login", "--get-login", "127.0.0.1:1")


def test_twenty_logins_at_once_are_all_kept(home):
    text = (
        "import sys; from veloci.registry.credentials import Credentials, keep; "
        "keep(f'127.0.0.1:{sys.argv[1]}', Credentials('me', 'x'))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", text, str(n)]) for n in range(20)]
    assert [process.wait() for process in processes] == [0] * 20
    auths = json.loads((home / ".docker/config.json").read_text())["auths"]
    assert sorted(auths) == sorted(f"127.0.0.1:{n}" for n in range(20))


# -- beside the peers


def peer(tool, *words, **options):
    insecure = [] if tool == "docker" or words[0] == "logout" else ["--tls-verify=false"]
    return subprocess.run(
        [tool, words[0], *insecure, *words[1:]], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize("tool", [pytest.param(t, marks=pytest.mark.needs(t)) for t in ("docker", "podman", "skopeo")])
def test_files_are_the_peers_byte_for_byte(home, host, tmp_path, tool):
    theirs = home / ".docker/config.json" if tool == "docker" else tmp_path / "run/containers/auth.json"
    ours = tmp_path / "ours.json"
    before = {"auths": {"z.example": {"auth": "eDp5"}, "a.example": {"auth": "eDp5"}}}
    for path in (theirs, ours):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(before))
    assert peer(tool, "login", "-u", "me", "--password-stdin", host, input="secret\n").returncode == 0
    right(host, "--authfile", str(ours))
    assert ours.read_bytes() == theirs.read_bytes()
    assert peer(tool, "logout", host).returncode == 0
    veloci("logout", "--authfile", str(ours), host)
    assert ours.read_bytes() == theirs.read_bytes()
    for name in ("z.example", "a.example"):
        assert peer(tool, "logout", name).returncode == 0
        veloci("logout", "--authfile", str(ours), name)
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.needs("docker", "podman", "skopeo")
def test_a_login_is_one_for_all(home, host, tmp_path):
    """What docker or podman keeps we know, and they what we keep."""
    assert peer("podman", "login", "-u", "me", "--password-stdin", host, input="secret\n").returncode == 0
    assert veloci("login", "--get-login", host) == "me\n"
    assert veloci("logout", host) == f"Removing login credentials for {host}\n"
    assert peer("podman", "login", "--get-login", host).returncode != 0
    right(host)
    assert peer("skopeo", "login", "--get-login", host).stdout == "me\n"


@pytest.mark.needs("docker")
def test_exit_codes_are_dockers(home, host):
    for words, text in (
        (("login", "-u", "me", "--password-stdin", host), "guess\n"),
        (("login", "-u", "me", "--password-stdin", host), "secret\n"),
        (("logout", host), ""),
        (("logout", host), ""),
        (("login", host), ""),
        (("login", "-u", "me", "-p", "x", "--password-stdin", host), ""),
        (("login", "--password-stdin", host), ""),
        (("login", "--nonsense", host), ""),
        (("logout", "a", "b"), ""),
        (("login", "-u", "a", "-p", "b", "127.0.0.1:1"), ""),
    ):
        assert veloci(*words, check=False, input=text).returncode == peer("docker", *words, input=text).returncode, (
            words
        )


def test_a_symbolic_link_stays_one(home, host, tmp_path):
    real = tmp_path / "elsewhere.json"
    real.write_text("{}")
    (home / ".docker").mkdir()
    (home / ".docker/config.json").symlink_to(real)
    right(host)
    assert (home / ".docker/config.json").is_symlink()
    assert host in real.read_text()
    assert [path.name for path in Path(tmp_path).glob(".config-*")] == []
