"""Volumes from the outside: made at first use, filled from the image, kept, shared, in use, removed."""

import json
import re
import subprocess

import pytest
from box import VELOCI
from peers import Dockerd

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")


@pytest.fixture
def image(box):
    """An image with a VOLUME that has something in it, owned by somebody."""
    script = "mkdir -p /data/sub; echo one > /data/one; echo two > /data/sub/two; ln -s one /data/link; "
    script += (
        "ln /data/one /data/again; busybox chown -R 5:6 /data; busybox chmod 751 /data; busybox chmod u+s /data/one"
    )
    box.ok("run", "--name", "source", "--network", "none", "bb", "sh", "-c", script)
    box.ok("export", "-o", box.path / "image.tar", "source")
    box.ok("rm", "source")
    box.ok("import", "--change", "VOLUME /data", box.path / "image.tar", "vol")
    return "vol"


LOOK = "cd /data && busybox find . | busybox sort | busybox xargs busybox stat -c '%n %a %u:%g %h %F'; cat one sub/two"


def run(box, *words):
    return box.ok("run", "--rm", "--network", "none", *words)


def test_a_volume_is_filled_from_the_image_once_and_kept(box, image):
    plain = run(box, image, "sh", "-c", LOOK)  # an anonymous one, filled too
    assert run(box, "-v", "kept:/data", image, "sh", "-c", LOOK) == plain
    assert plain.splitlines()[0] == ". 751 5:6 3 directory"
    assert "./one 4644 5:6 2 regular file" in plain
    run(box, "-v", "kept:/data", image, "sh", "-c", "echo new > /data/one; busybox rm /data/link")
    assert run(box, "-v", "kept:/data", image, "cat", "/data/one") == "new\n"
    assert box.ok("volume", "ls", "-q") == "kept\n"
    run(box, "-v", "kept:/data", image, "sh", "-c", "busybox rm -r /data/*")
    assert (
        run(box, "-v", "kept:/data", image, "cat", "/data/one") == "one\n"
    )  # an empty one is filled again, as docker does


def test_nocopy_and_read_only(box, image):
    assert run(box, "-v", "bare:/data:nocopy", image, "ls", "/data") == ""
    assert run(box, "--mount", "type=volume,src=bare2,dst=/data,volume-nocopy", image, "ls", "/data") == ""
    done = box.veloci("run", "--rm", "--network", "none", "-v", "full:/data:ro", image, "touch", "/data/x")
    assert (done.returncode, done.stderr) == (1, "touch: /data/x: Read-only file system\n")
    done = box.veloci(
        "run", "--rm", "--network", "none", "--mount", "src=full,dst=/data,readonly", image, "touch", "/data/x"
    )
    assert done.returncode == 1


def test_anonymous_volumes_go_with_the_container_if_that_is_asked_for(box, image):
    run(box, "-v", "/more", image, "true")
    assert box.ok("volume", "ls", "-q") == ""
    box.ok("create", "--name", "stay", "-v", "named:/more", image, "true")
    names = box.ok("volume", "ls", "-q").split()
    assert [bool(re.fullmatch("[0-9a-f]{64}", name)) for name in names] == [True, False]
    box.ok("rm", "stay")
    assert box.ok("volume", "ls", "-q").split() == names
    box.ok("create", "--name", "go", "-v", "named:/more", image, "true")
    box.ok("rm", "-v", "go")
    assert box.ok("volume", "ls", "-q").split() == names
    assert box.ok("volume", "prune", "-f").startswith(f"Deleted Volumes:\n{names[0]}\n\nTotal reclaimed space: ")
    assert box.ok("volume", "ls", "-q") == "named\n"


def test_a_volume_in_use_is_not_removed(box, image):
    id = box.ok("create", "--name", "user", "-v", "used:/data", image, "true").strip()
    done = box.veloci("volume", "rm", "nope", "used")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "veloci: no such volume: nope",
        "  try: veloci volume ls",
        f"veloci: volume used is in use by {id[:12]}",
        f"  try: veloci rm {id[:12]}",
    ]
    box.ok("rm", "user")
    assert box.ok("volume", "rm", "used") == "used\n"
    assert box.veloci("volume", "rm", "used").returncode == 1
    assert box.ok("volume", "rm", "-f", "used") == "used\n"


def test_another_container_s_volumes(box, image, tmp_path):
    (tmp_path / "file").write_text("bound\n")
    box.ok("create", "--name", "first", "-v", "shared:/data", "-v", f"{tmp_path}:/host", image, "true")
    look = "cat /data/one /host/file; echo new > /data/one || echo refused"
    assert run(box, "--volumes-from", "first", "bb", "sh", "-c", look) == "one\nbound\n"
    assert run(box, "--volumes-from", "first:ro", "bb", "sh", "-c", look) == "new\nbound\nrefused\n"
    done = box.veloci("run", "--rm", "--volumes-from", "first:w", "bb", "true")
    assert done.stderr.splitlines()[0] == "veloci: --volumes-from: invalid mode: 'first:w'"


def test_an_anonymous_volume_that_two_containers_have_goes_with_the_last(box, image):
    box.ok("create", "--name", "first", image, "true")
    box.ok("create", "--name", "second", "--volumes-from", "first", "bb", "true")
    box.ok("rm", "-v", "first")
    assert len(box.ok("volume", "ls", "-q").split()) == 1
    box.ok("rm", "-v", "second")
    assert box.ok("volume", "ls", "-q") == ""


def test_binds(box, tmp_path):
    (tmp_path / "file").write_text("bound\n")
    assert run(box, "-v", f"{tmp_path}/file:/file:ro", "bb", "cat", "/file") == "bound\n"
    done = box.veloci("run", "--rm", "--network", "none", "-v", "./new/dir:/x:z", "bb", "touch", "/x/y", cwd=tmp_path)
    assert done.stderr == f"veloci: warning: --volume: {tmp_path}/new/dir was not there: it is a new, empty directory\n"
    assert (tmp_path / "new/dir/y").exists()
    done = box.veloci("run", "--rm", "--mount", f"type=bind,src={tmp_path}/none,dst=/x", "bb", "true")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        125,
        f"veloci: --mount: bind source path does not exist: {tmp_path}/none",
    )
    done = box.veloci("run", "--rm", "-v", "/a:/x", "--tmpfs", "/x", "bb", "true")
    assert (done.returncode, done.stderr) == (125, "veloci: --volume: duplicate mount point: /x\n")


def test_a_volume_that_is_a_directory_of_the_host(box, image, tmp_path):
    (place := tmp_path / "here").mkdir()
    box.ok("volume", "create", "--opt", "type=none", "--opt", "o=bind", "-o", f"device={place}", "here")
    assert run(box, "-v", "here:/data", image, "cat", "/data/one") == "one\n"
    assert (place / "sub/two").read_text() == "two\n"
    box.ok("volume", "rm", "here")
    assert (place / "sub/two").exists()
    done = box.veloci("volume", "create", "--opt", "type=nfs", "--opt", "device=:/x", "far")
    assert done.stderr.splitlines()[0] == "veloci: --opt: a volume can only be a directory of ours or of the host's"


def test_volumes_are_listed_shown_and_chosen(box, image):
    assert box.ok("volume", "create", "--label", "tier=db", "--label", "x", "first") == "first\n"
    assert box.ok("volume", "create", "first") == "first\n"
    name = box.ok("volume", "create").strip()
    box.ok("create", "-v", "used:/data", image, "true")
    anonymous, *others = sorted(box.ok("volume", "ls", "-q").split())
    assert anonymous == name
    assert box.ok("volume", "ls").splitlines()[0] == "DRIVER    VOLUME NAME"
    for words, found in {
        "dangling=true": [name, "first"],
        "dangling=false": ["used"],
        "label=x": ["first"],
        "label=tier=web": [],
        "name=irs": ["first"],
        "driver=local": [name, *others],
    }.items():
        assert box.ok("volume", "ls", "-q", "--filter", words).split() == found
    shown = json.loads(box.ok("volume", "inspect", "first"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shown[0].pop("CreatedAt"))
    assert shown == [
        {
            "Driver": "local",
            "Labels": {"tier": "db", "x": ""},
            "Mountpoint": f"{box.path}/data/volumes/first/_data",
            "Name": "first",
            "Options": None,
            "Scope": "local",
        }
    ]
    assert json.loads(box.ok("inspect", "first"))[0]["Mountpoint"] == f"{box.path}/data/volumes/first/_data"
    assert box.ok("inspect", "--type", "volume", "-f", "{{.Name}}", "first") == "first\n"
    done = box.veloci("volume", "inspect", "nope")
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert box.ok("volume", "ls", "--format", '{{.Name}} {{.Label "tier"}}').splitlines()[1] == "first db"
    done = box.veloci("volume", "ls", "--filter", "speed=9")
    assert done.stderr.splitlines()[0] == "veloci: --filter: invalid filter 'speed=9'"
    done = box.veloci("volume", "create", "a/b")
    assert done.stderr.splitlines()[0] == "veloci: 'a/b' is not a volume's name"


def test_an_image_s_volumes_are_paths_in_the_container_and_nothing_else(box, image):
    words = "/a:/b", "../../c", "/data"
    box.ok("import", "--change", "VOLUME " + json.dumps(words), box.path / "image.tar", "odd")
    mounts = run(box, "odd", "busybox", "awk", "$4 ~ /volumes.*_data/ { print $5 }", "/proc/self/mountinfo")
    assert sorted(mounts.splitlines()) == ["/a:/b", "/c", "/data"]
    box.ok("import", "--change", "VOLUME /proc/sys", box.path / "image.tar", "bad")
    for words in (["bad"], ["-v", "/tmp:/proc/sys", image], ["--tmpfs", "/proc", image]):
        done = box.veloci("run", "--rm", "--network", "none", *words, "true")
        assert done.returncode == 125
        assert "cannot be mounted because it is inside /proc" in done.stderr
    assert box.ok("ps", "-aq") == ""
    assert run(box, "-v", "/proc:/proc", image, "echo", "fine") == "fine\n"


def test_what_fails_leaves_no_volume(box, image):
    box.ok("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/tmp", "other")
    clash = "type=volume,src=other,dst=/b,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/"
    done = box.veloci("create", "-v", "/a", "--mount", clash, image, "true")
    assert done.stderr.splitlines()[0] == "veloci: volume other exists with other options"
    assert box.veloci("create", "-v", "/a", "-u", "nobody-at-all", image, "true").returncode == 125
    assert box.ok("volume", "ls", "-q") == "other\n"
    assert box.ok("volume", "rm", "other") == "other\n"


def test_a_volume_that_is_not_taken_over_is_not_in_use(box, image):
    box.ok("create", "--name", "first", "-v", "kept:/data", image, "true")
    box.ok("create", "--name", "second", "--volumes-from", "first", "-v", "mine:/data", image, "true")
    box.ok("rm", "first")
    assert box.ok("volume", "rm", "kept") == "kept\n"


def test_prune_asks_first(box):
    box.ok("volume", "create", "named")
    done = box.veloci("volume", "prune", "-a", input="n\n")
    assert done.stdout.endswith("Are you sure you want to continue? [y/N] ")
    assert box.ok("volume", "prune", "-a", "--filter", "label=x", input="y\n").endswith("Total reclaimed space: 0B\n")
    assert box.ok("volume", "ls", "-q") == "named\n"
    assert "Deleted Volumes:\nnamed\n" in box.ok("volume", "prune", "-a", input="y\n")


def test_many_containers_fill_one_volume_at_once(box, image):
    words = [VELOCI, "run", "--rm", "--network", "none", "-v", "one:/data", image, "sh", "-c", LOOK]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    texts = {process.communicate(timeout=60)[0] for process in running}
    assert len(texts) == 1
    assert texts.pop().endswith("one\ntwo\n")


def test_a_filling_that_was_killed_is_done_again(box, image):
    box.ok("create", "--name", "first", "-v", "torn:/data", image, "true")
    box.ok("rm", "first")
    home = box.path / "data/volumes/torn"
    (home / "_data").rename(home / "fill")  # killed before the last step
    (home / "_data").mkdir()
    (home / ".fill-abc").mkdir()  # and another before that
    assert run(box, "-v", "torn:/data", image, "cat", "/data/one") == "one\n"
    users = home / "users"
    (users / ("0" * 64)).touch()  # of a command that was killed before its container was there
    assert box.ok("volume", "rm", "torn") == "torn\n"


@pytest.mark.needs("dockerd")
def test_docker_s_volumes_hold_the_same(box, image):
    with Dockerd("/tmp/veloci-test-volumes") as docker:
        words = [*docker, "import", "--change", "VOLUME /data", str(box.path / "image.tar"), "vol"]
        subprocess.run(words, check=True, capture_output=True)
        words = [*docker, "run", "--rm", "--network", "none", "-v", "kept:/data", "vol", "sh", "-c", LOOK]
        theirs = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert run(box, "-v", "kept:/data", image, "sh", "-c", LOOK) == theirs
