"""ADD from servers and Git repositories, and builds whose context is one."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time

import pytest
from peers import Scripted

pytestmark = pytest.mark.needs("root", "overlay")

BODY = b"from a server\n"
DIGEST = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


def veloci(*words, **options):
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run([sys.executable, "-m", "veloci", *map(str, words)], check=False, **options)


@pytest.fixture
def context(roots):
    directory = roots / "context"
    directory.mkdir()
    return directory


def built(context, text, *words, **options):
    (context / "Dockerfile").write_text(text)
    return veloci("build", "-t", "t:1", *words, context, **options)


def members(roots):
    archive = roots / "saved.tar"
    assert veloci("save", "-o", archive, "t:1").returncode == 0
    found = {}
    with tarfile.open(archive) as saved:
        (manifest,) = json.load(saved.extractfile("manifest.json"))
        for name in manifest["Layers"]:
            layer = tarfile.open(fileobj=io.BytesIO(saved.extractfile(name).read()))  # noqa: SIM115
            found |= {member.name: (member, layer) for member in layer.getmembers()}
    return found


def packed():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("inside")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"in"))
    return out.getvalue()


PACKED = packed()


def answer(request):
    """/file with a date and an ETag, /moved to it, /archive, /named with a name of its own."""
    path = request.path
    if path == "/moved":
        request.send_response(302)
        request.send_header("Location", "/file.txt")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    body = {"/file.txt": BODY, "/named": BODY, "/archive.tgz": PACKED}.get(path, b"")
    known = request.headers.get("If-None-Match") == '"one"' and path == "/file.txt"
    request.send_response(304 if known else 200 if body else 404)
    request.send_header("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
    if path == "/file.txt":
        request.send_header("ETag", '"one"')
    if path == "/named":
        request.send_header("Content-Disposition", 'attachment; filename="../../called.txt"')
    request.send_header("Content-Length", str(0 if known else len(body)))
    request.end_headers()
    if not known:
        request.wfile.write(body)


@pytest.fixture
def server():
    with Scripted(answer) as scripted:
        yield scripted


def test_a_file_from_a_server_keeps_its_date_and_is_not_unpacked(context, roots, server):
    url = f"http://{server.address}"
    text = f"FROM scratch\nADD {url}/moved /one/\nADD {url}/archive.tgz {url}/named /two/\nADD --chmod=644 --chown=5:6 {url}/file.txt /three\nADD --unpack {url}/archive.tgz /four/\n"
    done = built(context, text)
    assert done.returncode == 0, done.stderr
    found = members(roots)
    one, layer = found["one/moved"]
    assert layer.extractfile(one).read() == BODY
    assert (one.mode, one.uid, one.mtime) == (0o600, 0, 1136214245)
    assert found["two/archive.tgz"][0].size == len(PACKED)
    assert "two/called.txt" in found
    three = found["three"][0]
    assert (three.mode, three.uid, three.gid) == (0o644, 5, 6)
    assert found["four/inside"][1].extractfile("four/inside").read() == b"in"
    again = built(context, text)
    assert again.stderr.count("CACHED") == 4


def test_an_unchanged_file_does_not_travel_twice(context, server):
    text = f"FROM scratch\nADD {{}}http://{server.address}/file.txt /one\n"
    assert built(context, text.format("")).returncode == 0
    assert built(context, text.format("")).stderr.count("CACHED") == 1
    asked = len(server.seen)
    assert asked == 2
    assert built(context, text.format(f"--checksum={DIGEST} ")).stderr.count("CACHED") == 1
    assert len(server.seen) == asked  # known by its digest: nobody is asked


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ADD {url}/nope /", "{url}/nope: 404 Not Found"),
        ("ADD http://127.0.0.1:1/x /", "http://127.0.0.1:1/x: connection refused"),
        ("ADD --checksum=sha256:" + "0" * 64 + " {url}/file.txt /", "{url}/file.txt: expected sha256:" + "0" * 64 + ", got " + DIGEST),
        ("ADD --checksum=x {url}/file.txt /", "invalid checksum 'x'"),
        ("ADD --checksum=" + DIGEST + " Dockerfile /", "checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=" + DIGEST + " {url}/a {url}/b /", "checksum can't be specified for multiple sources"),
        ("COPY {url}/file.txt /", "COPY {url}/file.txt: not in the build context"),
    ],
)  # fmt: skip
def test_what_a_server_does_not_give_is_one_line(context, server, line, message):
    url = f"http://{server.address}"
    done = built(context, f"FROM scratch\n{line.format(url=url)}\n")
    assert done.returncode == 1
    assert f"veloci: Dockerfile:2: {message.format(url=url)}\n" in done.stderr


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with a branch, a tag and a hook, served by git's own daemon; gives its address and commits."""
    base = tmp_path_factory.mktemp("git")
    work = base / "app.git"
    work.mkdir()
    settings = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    for name in ("AUTHOR", "COMMITTER"):
        settings |= {f"GIT_{name}_NAME": "a", f"GIT_{name}_EMAIL": "a@b"}

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=work, env=settings, check=True, capture_output=True, text=True
        ).stdout

    git("init", "-q", "-b", "main")
    (work / "sub").mkdir()
    (work / "sub/file").write_text("one\n")
    (work / "Dockerfile").write_text("FROM scratch\nCOPY . /all/\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("tag", "-a", "v1", "-m", "v1")
    first = git("rev-parse", "HEAD").strip()
    (work / "sub/file").write_text("two\n")
    git("commit", "-q", "-a", "-m", "two")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        "/usr/lib/git-core/git-daemon",
        "--export-all",
        f"--base-path={base}",
        "--listen=127.0.0.1",
        f"--port={port}",
        "--reuseaddr",
        str(base),
    ]
    with subprocess.Popen(command, env=settings, stderr=subprocess.DEVNULL) as daemon:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"git://127.0.0.1:{port}/app.git", first
        daemon.terminate()


@pytest.mark.needs("git")
def test_a_git_repository_is_added_at_a_branch_a_tag_a_commit(context, roots, repository):
    url, first = repository
    text = (
        f"FROM scratch\nADD {url} /head\nADD {url}#v1:sub /tag\nADD {url}#main /branch/\nADD --keep-git-dir {url}#{first} /commit\n"
        f"ADD --checksum={first[:10]} {url}#v1 /checked\n"
    )
    done = built(context, text)
    assert done.returncode == 0, done.stderr
    found = members(roots)

    def content(name):
        return found[name][1].extractfile(name).read()

    assert content("head/sub/file") == content("branch/sub/file") == b"two\n"
    assert content("tag/file") == content("commit/sub/file") == content("checked/sub/file") == b"one\n"
    assert found["head/sub/file"][0].mode == 0o644
    assert "commit/.git/HEAD" in found
    assert not [name for name in found if name.startswith(("head/.git", "tag/.git"))]
    assert built(context, text).stderr.count("CACHED") == 5


@pytest.mark.needs("git")
def test_what_git_does_not_find_is_one_line(context, repository):
    url, first = repository
    done = built(context, f"FROM scratch\nADD {url}#nope /\n")
    assert f"veloci: Dockerfile:2: {url} has no ref 'nope'\n" in done.stderr
    done = built(context, f"FROM scratch\nADD --checksum=abcdef0 {url}#v1 /\n")
    assert f"Dockerfile:2: expected checksum abcdef0, but {url} v1 is at commit {first}\n" in done.stderr
    done = built(context, f"FROM scratch\nADD {url}#--upload-pack=x /\n")
    assert "veloci: Dockerfile:2: invalid Git reference '--upload-pack=x'\n" in done.stderr
    done = built(context, "FROM scratch\nADD git://127.0.0.1:1/x.git /\n")
    assert "veloci: Dockerfile:2: git ls-remote git://127.0.0.1:1/x.git: unable to connect to 127.0.0.1:" in done.stderr
