"""Power that fails after a command said it was done; a disk without inodes, or that fails; no more descriptors."""

import fcntl
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from box import VELOCI
from peers import Scripted, run, veloci

pytestmark = [pytest.mark.needs("root", "overlay"), pytest.mark.timeout(120)]
# linux/ext4.h: EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_LOGFLUSH, EXT4_GOING_FLAGS_NOLOGFLUSH
SHUTDOWN, WITH_JOURNAL, WITHOUT_JOURNAL = 0x8004587D, 1, 2


def cut(place, image, how=WITHOUT_JOURNAL):
    """Let the power of an ext4 file system fail, and come back: what was not on the disk is lost.

    WITH_JOURNAL: names are there already, as the journal is written every few seconds, and the bytes of files not yet.
    It comes back from a copy: other namespaces may hold the one that failed.
    """
    directory = os.open(place, os.O_RDONLY)
    fcntl.ioctl(directory, SHUTDOWN, struct.pack("I", how))
    os.close(directory)
    run("umount", "-l", place)
    run("cp", "--sparse=always", image, f"{image}+")
    os.rename(f"{image}+", image)
    run("mount", "-o", "loop", image, place)


@pytest.mark.needs("mkfs.ext4")
@pytest.mark.parametrize("driver", ["", "overlay"], ids=["archives", "unpacked"])
def test_what_was_reported_done_outlives_a_power_cut(pushed, small, tmp_path, monkeypatch, driver):
    """skopeo lost its index.json so, umoci the bundle; podman listed an image of empty files."""
    image = tmp_path / "image"
    if driver:
        monkeypatch.setenv("VELOCI_SNAPSHOTTER", driver)
    veloci("pull", "-q", pushed.name)
    cut(small, image)
    assert veloci("system", "check").endswith(": whole\n")
    assert veloci("images", "--format", "{{.Repository}}:{{.Tag}}") == f"{pushed.name}\n"
    assert veloci("run", "--rm", "--network", "none", pushed.name, "sh", "-c", "echo there") == "there\n"
    veloci("tag", pushed.name, "other:v0")
    cut(small, image)
    assert veloci("images", "-q", "other").count("\n") == 1
    assert veloci("system", "check").endswith(": whole\n")
    place = f"oci:{small}/layout:a"
    veloci("copy", "-q", pushed.name, place)
    cut(small, image)
    assert veloci("image", "validate", place).endswith(": valid\n")
    veloci("rmi", "-f", pushed.name, "other:v0")
    cut(small, image)
    assert veloci("system", "check").endswith(": whole\n")
    assert veloci("images", "-q") == ""


@pytest.mark.needs("mkfs.ext4")
@pytest.mark.parametrize(
    "words",
    [
        ("unpack", "oci:{path}:v0", "{to}"),
        ("copy", "-q", "oci:{path}:v0", "dir:{to}"),
        ("copy", "-q", "oci:{path}:v0", "oci-archive:{to}:v0"),
        ("save", "-o", "{to}", "{name}"),
        ("export", "-o", "{to}", "one"),
        ("build", "-q", "-o", "type=tar,dest={to}", "{context}"),
    ],
    ids=lambda words: words[0],
)
def test_what_was_reported_written_outlives_a_power_cut(pushed, roots, tmp_path, small, monkeypatch, words):
    """Whole, and with nothing beside it: an archive of veloci's was there under its temporary name alone."""
    monkeypatch.setenv("VELOCI_ROOT", str(tmp_path / "data"))
    if words[0] in ("save", "export"):
        veloci("create", "-q", "--name", "one", pushed.name)
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /a\n")
    places = {"path": pushed.path, "name": pushed.name, "context": tmp_path / "context"}
    veloci(*(word.format(to=small / "to", **places) for word in words))
    cut(small, tmp_path / "image")
    assert sorted(set(os.listdir(small)) - {"lost+found"}) == ["to"]
    again = tmp_path / "again"
    veloci(*(word.format(to=again, **places) for word in words))
    if words[0] == "unpack":
        run("diff", "-r", "--exclude=*.mtree", small / "to", again)
        veloci("repack", "-q", small / "to", f"oci:{tmp_path}/new:v1")  # which reads the .mtree
    elif words[0] == "copy":
        place = words[3].partition(":")[0]
        assert veloci("image", "validate", f"{place}:{small}/to").endswith(": valid\n")
    else:
        assert (small / "to").read_bytes() == again.read_bytes()


@pytest.mark.needs("mkfs.ext4", "strace")
@pytest.mark.parametrize("verb", ["pull", "tag", "copy"])
def test_power_that_fails_in_the_midst_leaves_the_old_or_the_new(pushed, small, tmp_path, verb):
    """Whenever it waits for the disk: the journal has the names that there are, and what was not synced is lost."""
    image = tmp_path / "image"
    words = {"pull": ("pull", "-q", pushed.name), "tag": ("tag", pushed.name, "other:v0")}
    words["copy"] = ("copy", "-q", f"oci:{pushed.path}:v0", f"oci:{small}/layout:v1")
    if verb != "pull":
        veloci("pull", "-q", pushed.name)
        veloci("copy", "-q", f"oci:{pushed.path}:v0", f"oci:{small}/layout:v0")
    calls = "fdatasync,fsync,syncfs"
    for step in range(1, 7):  # of each thread
        trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
        run(*trace, "-e", f"inject={calls}:signal=KILL:when={step}", VELOCI, *words[verb], check=False)
        cut(small, image, WITH_JOURNAL)
        check = veloci("system", "check", check=False).stdout
        assert check.endswith((": whole\n", "is empty\n")), (step, check)
        if verb == "copy":
            for name in veloci("layout", "ls", small / "layout").split():
                assert veloci("image", "validate", "--fast", f"oci:{small}/layout:{name}").endswith(": valid\n")
    veloci(*words[verb])
    assert veloci("system", "check").endswith(": whole\n")


@pytest.mark.needs("mkfs.ext4")
def test_a_container_that_was_reported_made_outlives_a_power_cut(pushed, small, tmp_path):
    """With its name, what it stands on, its init, its volumes and what an image has for them, and its network."""
    image, make = tmp_path / "image", ("create", "-q", "--network", "none")
    veloci("volume", "create", "kept")
    cut(small, image)
    assert veloci("volume", "ls", "-q") == "kept\n"
    veloci("network", "create", "net")
    cut(small, image)
    assert veloci("network", "ls", "-q", "--filter", "name=net").count("\n") == 1
    words = ("--init", "-v", "kept:/a", "-v", "other:/b", "-v", "filled:/etc")
    veloci(*make, "--name", "one", *words, pushed.name, "sh", "-c", "echo there")
    cut(small, image)
    assert veloci("start", "-a", "one") == "there\n"
    assert veloci("volume", "inspect", "--format", "{{.Name}}", "filled", "kept", "other") == "filled\nkept\nother\n"
    assert (small / "data/volumes/filled/_data/text").read_bytes() == b"hello\n"
    veloci("rename", "one", "two")
    cut(small, image)
    assert veloci("ps", "-a", "--format", "{{.Names}}") == "two\n"
    veloci("update", "--restart", "on-failure", "two")
    cut(small, image)
    assert veloci("inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "two") == "on-failure\n"
    # The end of an overlay brings all to the disk: the power fails before.
    veloci("run", "-d", "--name", "three", "--network", "none", pushed.name, "sh", "-c", "sleep 0.5; echo went")
    cut(small, image)
    veloci("wait", "three")
    assert veloci("start", "-a", "three").endswith("went\n")
    for verb in ("create", "start"):
        options = f"RunOptions(name={verb!r}, network='none')"
        code = f"Engine().{verb}({pushed.name!r}, ['sh', '-c', 'sleep 0.5; echo {verb}'], {options})"
        imports = "from veloci.engine.engine import Engine; from veloci.engine.run_options import RunOptions"
        run(sys.executable, "-c", f"{imports}; {code}")
        cut(small, image)
        veloci("wait", verb)
        assert veloci("start", "-a", verb).endswith(f"{verb}\n")
    assert veloci("system", "check").endswith(": whole\n")


@pytest.mark.needs("mkfs.ext4")
def test_layers_that_were_copied_outlive_a_power_cut(pushed, small, tmp_path, monkeypatch):
    """Those of a container, and those that a difference is told from, which are copied once."""
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", "copy")
    (tmp_path / "root.tar").write_bytes(pushed.tars[0])
    veloci("import", tmp_path / "root.tar", "shell")
    veloci("create", "--name", "one", "--network", "none", "shell", "/bin/sh", "-c", "echo there")
    cut(small, tmp_path / "image")
    assert veloci("start", "-a", "one") == "there\n"
    before = veloci("diff", "one")
    cut(small, tmp_path / "image", WITH_JOURNAL)
    assert veloci("diff", "one") == before


@pytest.mark.needs("mkfs.ext4")
def test_what_is_made_once_for_all_is_whole_after_a_power_cut(small, tmp_path, monkeypatch):
    """What images without layers stand on, what an image has for a volume, and a download that is known.

    From Python: the end of an overlay, which commands look into, brings all to the disk.
    """
    monkeypatch.setenv("VELOCI_SNAPSHOTTER", "overlay")
    data, image = os.urandom(1 << 16), tmp_path / "image"
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/text").write_bytes(data)

    def answer(request):
        known = request.headers.get("If-None-Match") == '"one"'
        request.reply(304 if known else 200, b"" if known else data, ETag='"one"')

    def python(code):
        head = "import os; from types import SimpleNamespace as Any; from veloci.engine.engine import Engine\n"
        return run(sys.executable, "-c", f"{head}engine = Engine()\n{code}")

    python("engine.snapshots.prepare('one', '')")
    cut(small, image, WITH_JOURNAL)
    python("engine.snapshots.prepare('two', ''); os.close(engine.snapshots.mount('two'))")
    python(
        f"root = os.open({str(tmp_path / 'tree')!r}, os.O_RDONLY); volume = engine.volumes.create('filled')\n"
        "engine.volumes.fill(volume, root, '/etc')"
    )
    cut(small, image, WITH_JOURNAL)
    assert (small / "data/volumes/filled/_data/text").read_bytes() == data
    with Scripted(answer) as server:
        told = "Any(start=print, advance=print, done=print)"
        get = (
            f"from veloci.build.download import Downloads; downloads = Downloads({str(small)!r})\n"
            f"found = downloads.get('http://{server.address}/file', {told}); print(downloads.path(found.digest))"
        )
        for _ in range(2):
            python(get)
        cut(small, image, WITH_JOURNAL)
        assert Path(python(get).splitlines()[-1]).read_bytes() == data


def failed(words, **options):
    """The one line that a command ends with, which fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 1, done
    first, *rest = done.stderr.splitlines()
    assert len(rest) <= 1, done.stderr
    return first


def test_no_inodes_left_is_one_line_and_nothing_stays(pushed, tmp_path, monkeypatch):
    place = tmp_path / "few"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "nr_inodes=20", "tmpfs", place)
    try:
        monkeypatch.setenv("VELOCI_ROOT", f"{place}/data")
        monkeypatch.setenv("VELOCI_RUN", str(tmp_path / "run"))
        assert failed([VELOCI, "pull", "-q", pushed.name]).endswith("No space left on device")
        run("mount", "-o", "remount,nr_inodes=2000", place)
        veloci("pull", "-q", pushed.name)
        assert veloci("system", "check").endswith(": whole\n")
    finally:
        run("umount", place)


@pytest.mark.needs("strace")
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_a_disk_that_fails_is_one_line_and_the_store_is_whole(pushed, roots, tmp_path, call):
    """At one call in the middle of a pull; what writes less than it was asked to is gone on with."""
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    line = failed([*trace, "-e", f"inject={call}:error=EIO:when=2", VELOCI, "pull", "-q", pushed.name])
    assert line.endswith("Input/output error")
    assert veloci("system", "check").splitlines()[-1].endswith((": whole", "is empty"))
    veloci("pull", "-q", pushed.name)
    assert veloci("system", "check").endswith(": whole\n")


def test_too_many_open_files_is_one_line_and_the_store_is_whole(pushed, roots):
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (14, 14))  # noqa: E731
    assert failed([VELOCI, "pull", "-q", pushed.name], preexec_fn=few).endswith("Too many open files")
    veloci("pull", "-q", pushed.name)
    assert veloci("system", "check").endswith(": whole\n")
