"""cp, diff, commit: what is in a container, taken out, put in, listed and kept."""

import io
import json
import os
import tarfile

import pytest
from box import until

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")

TREE = "mkdir -p /tmp/dir/sub; echo z >/tmp/dir/sub/z; echo g >/tmp/g; chown 77:88 /tmp/g; ln -s /tmp/g /tmp/link; echo w >/tmp/dir/.wh.z"


@pytest.fixture(params=["running", "ended"])
def it(box, request):
    """A container with some files, that runs or has ended."""
    box.started("--name", "it", "bb", "sh", "-c", f"test -e /tmp/g || {{ {TREE}; }}; echo up; sleep 60")
    until(lambda: box.ok("logs", "it") == "up\n")
    if request.param == "ended":
        box.ok("stop", "-t", "0", "it")
    return box


def inside(box, *words):
    """What a command in the container says: in a look at a copy of its files, as it may not run."""
    data = box.ok("inspect", "-f", "{{.State.Running}}", "it") == "true\n"
    if data:
        return box.ok("exec", "it", *words)
    box.ok("start", "it")
    try:
        return box.ok("exec", "it", *words)
    finally:
        box.ok("stop", "-t", "0", "it")


def test_files_and_directories_come_out(it, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    it.ok("cp", "it:/tmp/g", out)
    assert ((out / "g").read_text(), (out / "g").stat().st_uid) == ("g\n", 0)
    it.ok("cp", "-a", "it:tmp/g", out / "kept")
    assert ((out / "kept").stat().st_uid, (out / "kept").stat().st_gid) == (77, 88)
    it.ok("cp", "it:/tmp/link", out)
    assert os.readlink(out / "link") == "/tmp/g"
    it.ok("cp", "-L", "it:/tmp/link", out / "led")
    assert (out / "led").read_text() == "g\n"
    it.ok("cp", "it:/tmp/dir", out)
    it.ok("cp", "it:/tmp/dir", out / "new")
    it.ok("cp", "it:/tmp/dir/.", out / "contents")
    it.ok("cp", "it:/tmp/dir/.", out / "dir/sub")
    for path in ("dir/sub/z", "new/sub/z", "contents/sub/z", "dir/sub/sub/z"):
        assert (out / path).read_text() == "z\n"
    assert (out / "new/.wh.z").read_text() == "w\n"  # a name as any other


def test_files_and_directories_go_in(it, tmp_path):
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/a").write_text("a\n")
    (tmp_path / "one").write_text("one\n")
    os.chown(tmp_path / "one", 1234, 5678)
    (tmp_path / "one").chmod(0o640)
    it.ok("cp", tmp_path / "one", "it:/tmp")
    it.ok("cp", tmp_path / "one", "it:/tmp/two")
    it.ok("cp", tmp_path / "one", "it:/tmp/link")  # which leads to g
    it.ok("cp", tmp_path / "src", "it:/tmp")
    it.ok("cp", f"{tmp_path}/src/.", "it:/tmp/dir")
    it.ok("cp", tmp_path / "src", "it:/tmp/new")
    assert inside(it, "sh", "-c", "cd /tmp; cat two g src/sub/a dir/sub/a new/sub/a dir/sub/z").split() == [
        "one",
        "one",
        "a",
        "a",
        "a",
        "z",
    ]
    assert inside(it, "ls", "-ln", "/tmp/one").split()[:4] == ["-rw-r-----", "1", "1234", "5678"]
    assert inside(it, "ls", "-l", "/tmp/link").split()[-1] == "/tmp/g"


def test_a_tar_comes_out_and_goes_in(it):
    stream = it.veloci("cp", "it:/tmp/dir", "-", text=False).stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        assert sorted(tar.getnames()) == ["dir", "dir/.wh.z", "dir/sub", "dir/sub/z"]
    stream = it.veloci("cp", "it:/tmp/dir/.", "-", text=False).stdout
    done = it.veloci("cp", "-", "it:/root", input=stream, text=False)
    assert (done.returncode, done.stderr) == (1, b"veloci: destination 'it:/root' must be a directory\n")
    assert it.veloci("cp", "-", "it:/etc", input=stream, text=False).returncode == 0
    assert inside(it, "cat", "/etc/sub/z") == "z\n"
    with tarfile.open(fileobj=io.BytesIO(it.veloci("cp", "it:/tmp/g", "-", text=False).stdout)) as tar:
        assert tar.getnames() == ["g"]


def test_what_cannot_be_copied_says_why(it, tmp_path):
    (tmp_path / "file").write_text("x")
    for source, destination, error in (
        ("it:/nope", tmp_path, "veloci: no such file or directory: it:/nope"),
        ("it:/tmp/g/", tmp_path, "veloci: no such directory: it:/tmp/g/"),
        ("it:/tmp/dir", tmp_path / "file", f"veloci: cannot copy a directory to a file: {tmp_path}/file"),
        ("it:/tmp/g", f"{tmp_path}/file/", f"veloci: not a directory: {tmp_path}/file/"),
        ("it:/tmp/g", tmp_path / "no/x", f"veloci: no such directory: {tmp_path}/no"),
        (tmp_path / "file", "it:/nope/x", "veloci: no such directory: it:/nope"),
        (tmp_path / "file", "it:/nope/", "veloci: no such directory: it:/nope/"),
        (tmp_path / "no", "it:/tmp", f"veloci: no such file or directory: {tmp_path}/no"),
        (tmp_path / "file", "nobody:/tmp", "veloci: no such container: nobody"),
        ("it:/tmp", "it:/x", "veloci: veloci cp: copying between containers is not supported"),
        (tmp_path, tmp_path, "veloci: veloci cp: must specify at least one container source"),
    ):
        done = it.veloci("cp", source, destination)
        assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (1, "", error)


def test_it_tells_what_it_did_unless_it_is_quiet(it, tmp_path):
    assert it.veloci("cp", "it:/tmp/g", tmp_path).stderr == f"Successfully copied 2.05kB to {tmp_path}\n"
    assert it.veloci("cp", "-q", "it:/tmp/g", tmp_path).stderr == ""


def test_no_link_of_a_container_leads_out_of_it(box, tmp_path):
    """CVE-2018-15664 and its kin: links, dots and absolute paths end in the container."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("host\n")
    script = f"ln -s {victim} /out; ln -s ../../../../../..{victim} /up; ln -s {victim}/secret /file; echo up; sleep 60"
    box.started("--name", "it", "bb", "sh", "-c", script)
    until(lambda: box.ok("logs", "it") == "up\n")
    (tmp_path / "new").write_text("new\n")
    for path in ("/out/new", "/up/new", "/out", "/file"):
        done = box.veloci("cp", tmp_path / "new", f"it:{path}")
        assert done.returncode == 1
    for path in ("/out/secret", "/up/secret", "/out/.", "/../../../../../.." + str(victim / "secret")):
        assert box.veloci("cp", f"it:{path}", tmp_path / "got").returncode == 1
    assert [path.name for path in victim.iterdir()] == ["secret"]
    assert (victim / "secret").read_text() == "host\n"
    assert not (tmp_path / "got").exists()


def test_a_hostile_directory_stays_where_it_is_copied_to(box, tmp_path):
    box.started("--name", "it", "bb", "sh", "-c", f"mkdir /d; ln -s {tmp_path} /d/a; echo up; sleep 60")
    until(lambda: box.ok("logs", "it") == "up\n")
    (tmp_path / "to/a").mkdir(parents=True)
    (tmp_path / "to/a/kept").write_text("kept\n")
    box.ok("cp", "it:/d/.", tmp_path / "to")
    assert os.readlink(tmp_path / "to/a") == str(tmp_path)


def test_volumes_are_reached_and_what_is_read_only_is_refused(box, tmp_path):
    (tmp_path / "ro").mkdir()
    (tmp_path / "file").write_text("x\n")
    words = ("--name", "it", "--read-only", "-v", "data:/data", "-v", f"{tmp_path}/ro:/ro:ro", "bb", "sleep", "60")
    box.started(*words)
    for _ in ("running", "ended"):
        box.ok("cp", tmp_path / "file", "it:/data/file")
        assert box.veloci("cp", tmp_path / "file", "it:/ro/file").returncode == 1
        assert box.veloci("cp", tmp_path / "file", "it:/etc/file").returncode == 1
        box.ok("cp", "it:/data/file", tmp_path / "back")
        assert (tmp_path / "back").read_text() == "x\n"
        box.ok("stop", "-t", "0", "it")
    assert list((tmp_path / "ro").iterdir()) == []


CHANGES = "echo 1 >/new; mkdir /made; echo 2 >/made/in; rm /bin/yes; echo x >>/etc/group; rm -r /etc/passwd; mkdir /etc/passwd"


def test_diff_lists_what_was_added_changed_and_deleted(box, tmp_path):
    box.veloci("run", "--name", "it", "--network", "none", "-v", f"{tmp_path}:/mounted/here", "bb", "sh", "-c", CHANGES)
    assert box.ok("diff", "it").splitlines() == [
        "C /bin", "D /bin/yes", "C /etc", "C /etc/group", "C /etc/passwd", "A /made", "A /made/in",
        "A /mounted", "A /mounted/here", "A /new",
    ]  # fmt: skip
    box.ok("create", "--name", "idle", "bb", "true")
    assert box.ok("diff", "idle") == ""
    box.ok("run", "--name", "plain", "bb", "true")
    assert box.ok("diff", "plain") == ""  # mount points are no changes


def test_commit_keeps_what_was_written_and_how_to_run_it(box):
    words = ("--name", "it", "-e", "A=1", "-w", "/tmp", "-u", "guest", "-l", "tier=web", "--expose", "80", "-u", "0")
    box.veloci("run", "--network", "none", *words, "bb", "sh", "-c", CHANGES)
    changes = ("-c", "CMD cat /new /etc/group", "-c", "ENV B=2")
    id = box.ok("commit", "-a", "me", "-m", "as it is", *changes, "it", "kept:v1").strip()
    [image] = json.loads(box.ok("inspect", "--type", "image", "kept:v1"))
    assert (image["Id"], image["Author"], image["Comment"]) == (id, "me", "as it is")
    config = image["Config"]
    assert sorted(config["Env"]) == ["A=1", "B=2"]
    assert (config["WorkingDir"], config["Labels"], config["ExposedPorts"]) == ("/tmp", {"tier": "web"}, {"80/tcp": {}})
    assert len(image["RootFS"]["Layers"]) == 2
    assert box.ok("run", "--rm", "--network", "none", "kept:v1").splitlines()[0] == "1"
    assert box.ok(
        "run",
        "--rm",
        "--network",
        "none",
        "kept:v1",
        "sh",
        "-c",
        "pwd; echo $A$B; ls -d /bin/yes /etc/passwd 2>/dev/null; true",
    ).splitlines() == ["/tmp", "12", "/etc/passwd"]
    assert "as it is" in box.ok("history", "kept:v1")
    assert box.ok("commit", "it").strip() in box.ok("images", "-aq", "--no-trunc")


def test_commit_holds_what_runs_and_lets_it_go_on(box):
    box.started("--name", "it", "bb", "sh", "-c", "while :; do echo x >>/grows; sleep 0.01; done")
    box.ok("commit", "it", "kept")
    assert box.show("it", "{{.State.Status}}") == "running"
    box.ok("commit", "--pause=false", "it", "kept")
    assert box.ok("run", "--rm", "--network", "none", "kept", "head", "-n", "1", "/grows") == "x\n"
