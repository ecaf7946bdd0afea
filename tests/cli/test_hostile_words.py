"""What images and registries say is shown on a terminal, whatever it is, and never obeyed by it."""

import json
import os
import subprocess
import sys

import pytest
from peers import Built, Scripted, digest, tar
from peers import inside as veloci

from veloci.spec import media

pytestmark = pytest.mark.needs("root")
EVIL = "a\x1b[2J\x1b]0;mine\x07\x9b31m\u202eb"  # clears, names the window, colours by C1, turns the direction


def on_screen(*words):
    """What a terminal gets of a command, and its status."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "veloci", *(str(word) for word in words)]
    environment = {**os.environ, "TERM": "dumb"}  # so that none of what moves the cursor is ours
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 1 << 16):
            seen += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return seen.decode(), process.wait()


def is_harmless(text):
    return all(each.isprintable() or each in "\r\n\t" for each in text)


@pytest.fixture
def hostile(roots, tmp_path):
    """A layout whose image says EVIL wherever it may say anything; it is in the store too."""
    built = Built(tmp_path / "layout", [tar({EVIL: b"x"}), tar({EVIL: b"xy", "etc/b": b""})])
    config = json.loads(built.config)
    config |= {"author": EVIL, "created": EVIL, "os.version": EVIL}
    config["config"] = {"Labels": {EVIL: EVIL}, "Cmd": [EVIL], "Env": [f"A={EVIL}"], "WorkingDir": "/" + EVIL}
    config["history"] = [{"created_by": EVIL, "comment": EVIL, "author": EVIL}] * 2
    # As it stands there, not by \u: only characters below blank may not.
    built.config = json.dumps(config, ensure_ascii=False).encode()
    built.document["config"] |= {"digest": digest(built.config), "size": len(built.config)}
    built.document["annotations"] = {EVIL: EVIL}
    built.manifest = json.dumps(built.document, ensure_ascii=False).encode()
    built.write([(built.manifest, media.MANIFEST, "v0")])
    veloci("copy", "-q", f"oci:{built.path}:v0", "evil:v0")
    return f"oci:{built.path}:v0"


@pytest.mark.parametrize(
    "words",
    [
        "inspect evil:v0",
        "inspect --format {{.Config.Labels}}{{.Author}} evil:v0",
        "inspect PLACE",
        "inspect --raw PLACE",
        "inspect --config --raw PLACE",
        "inspect --config PLACE",
        "history --no-trunc evil:v0",
        "image history PLACE",
        "image history --json PLACE",
        "image files PLACE",
        "image files --json PLACE",
        "explore --json PLACE",
        "images",
        "pull PLACE",
        "run evil:v0",
        "artifact discover --format json PLACE",
        "system check",
        "image validate PLACE",
    ],
)
def test_what_an_image_says_is_shown_and_not_obeyed(hostile, words):
    seen, _status = on_screen(*(hostile if word == "PLACE" else word for word in words.split()))
    assert is_harmless(seen), [each for each in seen if not (each.isprintable() or each in "\r\n\t")]
    assert seen


def test_what_a_directory_is_called_is_shown_and_not_obeyed(hostile, tmp_path):
    veloci("copy", "-q", hostile, f"dir:{tmp_path}/tree/{EVIL}")
    for words in (["--dry-run"], []):
        seen, _status = on_screen("sync", *words, f"dir:{tmp_path}/tree", f"dir:{tmp_path}/out")
        assert is_harmless(seen), [each for each in seen if not (each.isprintable() or each in "\r\n\t")]
        assert "31m" in seen


@pytest.mark.parametrize(
    "words", ["inspect PLACE", "inspect --config PLACE", "image validate PLACE", "unpack PLACE OUT"]
)
def test_what_is_nested_deeply_is_one_line(roots, tmp_path, words):
    """In what a config's volumes hold, which may be anything."""
    built = Built(tmp_path / "deep")
    config = json.loads(built.config)
    config["config"] = {"Volumes": {"/v": "deep"}}
    built.config = json.dumps(config).replace('"deep"', "[" * 700 + "]" * 700).encode()
    built.document["config"] |= {"digest": digest(built.config), "size": len(built.config)}
    built.manifest = json.dumps(built.document).encode()
    built.write([(built.manifest, media.MANIFEST, "v0")])
    place = f"oci:{built.path}:v0"
    done = veloci(*words.replace("PLACE", place).replace("OUT", str(tmp_path / "out")).split(), check=False)
    assert "Traceback" not in done.stderr
    assert "nested too deeply" in done.stderr + done.stdout
    assert (done.stderr + done.stdout).count("\n") <= 2


@pytest.mark.parametrize(
    ("config", "said"), [(b"{", "its config is not JSON"), (b"[]", "its config is no JSON object")]
)
def test_a_config_that_is_none_is_one_line(roots, tmp_path, config, said):
    built = Built(tmp_path / "none")
    built.config = config
    built.document["config"] |= {"digest": digest(config), "size": len(config)}
    built.manifest = json.dumps(built.document).encode()
    built.write([(built.manifest, media.MANIFEST, "v0")])
    done = veloci("inspect", "--config", f"oci:{built.path}:v0", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"veloci: {built.path}:v0: {said}")


def test_a_pipe_gets_what_an_image_says_byte_for_byte(hostile):
    manifest = veloci("inspect", "--raw", hostile)
    assert json.loads(manifest)["annotations"] == {EVIL: EVIL}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("list-tags docker://{}/app", json.dumps({"tags": [EVIL]}, ensure_ascii=False)),
        ("catalog {}", json.dumps({"repositories": [EVIL]}, ensure_ascii=False)),
        ("pull -a {}/app", json.dumps({"tags": [EVIL]}, ensure_ascii=False)),
        ("pull {}/app:v0", json.dumps({"errors": [{"code": "X", "message": EVIL}]})),
        ("pull {}/app:v0", EVIL),
        ("inspect docker://{}/app:v0", json.dumps({"schemaVersion": 2, "mediaType": EVIL}, ensure_ascii=False)),
        ("digest docker://{}/app:v0", EVIL),
        ("login --username u --password p {}", EVIL),
    ],
)
def test_what_a_registry_says_is_shown_and_not_obeyed(roots, monkeypatch, words, answer):
    monkeypatch.setenv("HOME", str(roots))

    def says(request):
        status = 200 if request.path == "/v2/" and "login" not in words else 200 if '"tags"' in answer else 400
        status = 200 if '"repositories"' in answer or "schemaVersion" in answer else status
        warning = '299 - "a\x1b[2Jb"'
        request.reply(status, answer.encode(), Content_Type=media.MANIFEST, Warning=warning)

    with Scripted(says) as server:
        seen, _status = on_screen(*(word.format(server.address) for word in words.split()))
    assert is_harmless(seen), [each for each in seen if not (each.isprintable() or each in "\r\n\t")]
    assert seen
