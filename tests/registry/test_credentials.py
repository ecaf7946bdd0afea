"""Where names and passwords are found and kept."""

import json
import stat
from base64 import b64encode
from pathlib import Path

import pytest

from veloci.errors import Denied, InvalidInput
from veloci.registry import credentials, helpers


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def entry(text):
    return {"auth": b64encode(text.encode()).decode()}


def found(registry, repository=""):
    known = credentials.find(registry, repository)
    return known and (known.name, known.secret)


def test_nothing_is_known_at_first():
    assert found("127.0.0.1:5000") is None


def test_what_is_kept_is_found_and_nobody_else_can_read_it(home):
    path = Path(credentials.keep("127.0.0.1:5000", credentials.Credentials("me", "pass:word")))
    assert found("127.0.0.1:5000") == ("me", "pass:word")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (home / ".docker").stat().st_mode & 0o777 == 0o700
    assert json.loads(path.read_text()) == {"auths": {"127.0.0.1:5000": entry("me:pass:word")}}
    assert credentials.forget("127.0.0.1:5000") is True
    assert found("127.0.0.1:5000") is None
    assert credentials.forget("127.0.0.1:5000") is False


def test_keeping_leaves_the_rest_of_dockers_file_alone(home):
    write(home / ".docker/config.json", {"auths": {"other": entry("a:b")}, "psFormat": "x"})
    credentials.keep("docker.io", credentials.Credentials("me", "x"))
    document = json.loads((home / ".docker/config.json").read_text())
    assert document["psFormat"] == "x"
    assert set(document["auths"]) == {"other", "https://index.docker.io/v1/"}
    assert found("docker.io") == ("me", "x")


def test_containers_file_comes_first_and_the_longest_prefix_wins(home):
    write(home / ".docker/config.json", {"auths": {"reg:1": entry("docker:x")}})
    write(
        home / "run/containers/auth.json",
        {"auths": {"reg:1/team": entry("team:t"), "reg:1/team/app": entry("app:a"), "reg:1": entry("all:x")}},
    )
    assert found("reg:1", "team/app") == ("app", "a")
    assert found("reg:1", "team/other") == ("team", "t")
    assert found("reg:1", "else") == ("all", "x")


def test_an_identity_token_is_known_as_one(home):
    write(home / ".docker/config.json", {"auths": {"reg:1": {"auth": "", "identitytoken": "tok"}}})
    assert credentials.find("reg:1").is_token


def helper(home, monkeypatch, script):
    program = home / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    write(home / ".docker/config.json", {"credHelpers": {"reg:1": "test"}})


def test_a_credential_helper_is_asked(home, monkeypatch):
    helper(home, monkeypatch, """read host; echo "{\\"Username\\":\\"$1\\",\\"Secret\\":\\"$host\\"}" """)
    assert found("reg:1") == ("get", "reg:1")


def test_a_helper_that_knows_nothing_is_no_error(home, monkeypatch):
    helper(home, monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert found("reg:1") is None


@pytest.mark.parametrize("script", ["echo broken; exit 1", "echo '{}'"])
def test_a_helper_that_fails_is_an_error(home, monkeypatch, script):
    helper(home, monkeypatch, script)
    with pytest.raises(Denied, match="docker-credential-test"):
        credentials.find("reg:1")


def test_a_helper_that_is_silent_is_not_waited_for(home, monkeypatch):
    monkeypatch.setattr(helpers, "PATIENCE", 0.2)
    helper(home, monkeypatch, "exec sleep 5")
    with pytest.raises(Denied, match="docker-credential-test: the credential helper took more than a minute"):
        credentials.find("reg:1")


@pytest.mark.parametrize("name", ["test/../evil", "a\0b"])
def test_a_helper_is_a_name_and_no_path(home, monkeypatch, name):
    (home / "docker-credential-test").mkdir()
    (home / "evil").write_text('#!/bin/sh\necho \'{"Username":"a","Secret":"b"}\'\n')
    (home / "evil").chmod(0o755)
    monkeypatch.chdir(home)
    write(home / ".docker/config.json", {"credsStore": name})
    with pytest.raises(InvalidInput) as failure:
        credentials.find("reg:1")
    assert str(failure.value) == f"{name!r} is no credential helper's name"


def test_a_helper_that_is_missing_is_an_error(home):
    write(home / ".docker/config.json", {"credsStore": "absent"})
    with pytest.raises(Denied, match="docker-credential-absent: the credential helper cannot be run"):
        credentials.find("reg:1")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths":[]}', '{"auths":{"reg:1":{"auth":"!"}}}'])
def test_a_damaged_file_is_named(home, text):
    path = home / ".docker/config.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"\.docker/config\.json"):
        credentials.find("reg:1")


def test_credentials_on_a_command_line_have_a_name_and_a_password():
    parsed = credentials.parse("me:a:b")
    assert (parsed.name, parsed.secret) == ("me", "a:b")
    with pytest.raises(InvalidInput):
        credentials.parse("me")
