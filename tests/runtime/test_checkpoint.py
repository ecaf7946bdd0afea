"""`checkpoint` and `restore`: what ran goes on, elsewhere or later, as CRIU and runc would have it."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtimes import PROGRAM, Runtime

from veloci.runtime.criu import rpc

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")
checkpoints = pytest.mark.needs("checkpoints")

LINUX = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
COUNTING = "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.02; done"
# CRIU 4.2 changes the options of the whole file system of cgroup version 2 unless it leaves cgroups alone.
ALONE = ("--manage-cgroups-mode", "ignore")
PLAIN = {"runc": ()}  # Debian's does not know that mode


class Checkpoints:
    """A runtime, and a directory for images."""

    def __init__(self, runtime):
        self.runtime, self.images = runtime, runtime.bundle.parent / "images"
        self.alone = PLAIN.get(runtime.program, ALONE)
        (runtime.bundle / "rootfs/tmp").mkdir()  # which CRIU needs in a read-only root

    def start(self, *args, change=None):
        """Run a container without pipes, which would be outside of it."""
        self.runtime.configure(*args, change=change)
        self.made()

    def made(self, *words, stdio=None):
        self("run", "-d", "--bundle", str(self.runtime.bundle), *words, stdio=stdio)

    def __call__(self, *words, stdio=None):
        null = os.open(os.devnull, os.O_RDWR)
        stdin, stdout, stderr = stdio or (null, null, null)
        command = [self.runtime.program, "--root", str(self.runtime.root), "--log", str(self.images) + ".log", *words]
        try:
            subprocess.run(
                [*command, self.runtime.id], stdin=stdin, stdout=stdout, stderr=stderr, timeout=60, check=True
            )
        except subprocess.CalledProcessError:
            logs = [Path(f"{self.images}.log"), *self.images.glob("*.log")]
            said = [line for log in logs for line in log.read_text().splitlines() if "rror" in line]
            raise AssertionError("\n".join(said)) from None
        finally:
            os.close(null)

    def checkpoint(self, *words):
        self("checkpoint", "--image-path", str(self.images), *self.alone, *words)

    def restore(self, *words, stdio=None):
        words = ["--image-path", str(self.images), "--bundle", str(self.runtime.bundle), *self.alone, *words]
        self("restore", "-d", *words, stdio=stdio)

    def count(self):
        return int(self.runtime("exec", self.runtime.id, "cat", "/dev/shm/count").stdout or 0)

    def counted(self, least):
        limit = time.monotonic() + 10
        while (count := self.count()) < least:
            assert time.monotonic() < limit, count
        return count


@pytest.fixture
def container(runtime):
    return Checkpoints(runtime)


@pytest.fixture
def theirs(either):
    return Checkpoints(either)


@checkpoints
def test_a_container_goes_on_where_it_was(theirs):
    theirs.start("sh", "-c", COUNTING)
    before = theirs.counted(5)
    theirs.checkpoint()
    assert theirs.runtime.traces() == []
    theirs.restore("--pid-file", f"{theirs.images}/pid")
    state = theirs.runtime.state()
    assert state["status"] == "running"
    assert state["pid"] == int(Path(f"{theirs.images}/pid").read_text())
    assert theirs.counted(before + 3) < before + 500
    assert theirs.runtime("delete", "--force", theirs.runtime.id).returncode == 0
    assert theirs.runtime.traces() == []


@checkpoints
def test_what_is_hidden_is_no_more_the_containers_to_change_than_before(container):
    """Behind a hidden file is the host's null device, mounted so that its mode stays."""
    (container.runtime.bundle / "rootfs/bin/chmod").symlink_to("busybox")
    change = ("exec", "--cap", "CAP_FOWNER", container.runtime.id, "chmod", "666", "/proc/keys")
    container.start("sh", "-c", COUNTING)
    before = container.runtime(*change)
    container.checkpoint()
    container.restore()
    container.counted(1)
    after = container.runtime(*change)
    assert "Read-only file system" in before.stderr, before.stderr
    assert "Read-only file system" in after.stderr, after.stderr


@checkpoints
def test_it_can_be_left_running(container):
    container.start("sh", "-c", COUNTING)
    pid = container.runtime.state()["pid"]
    container.checkpoint("--leave-running")
    assert container.runtime.state()["pid"] == pid
    count = container.count()
    container.counted(count + 1)


@checkpoints
def test_a_paused_container_can_be_checkpointed(container):
    container.start("sh", "-c", COUNTING)
    container.counted(1)
    container.runtime("pause", container.runtime.id)
    container.checkpoint()
    container.restore()
    container.counted(2)


@checkpoints
def test_what_was_a_pipe_is_the_restorers(container):
    before, after = [os.pipe() for _ in range(2)], [os.pipe() for _ in range(2)]
    container.runtime.configure("sh", "-c", "while read word; do echo got $word; done")
    container.made(stdio=(before[0][0], before[1][1], before[1][1]))
    os.write(before[0][1], b"one\n")
    assert os.read(before[1][0], 100) == b"got one\n"
    container.checkpoint()
    names = json.loads((container.images / "descriptors.json").read_text())
    assert [name[:6] for name in names] == ["pipe:["] * 3
    container.restore(stdio=(after[0][0], after[1][1], after[1][1]))
    os.write(after[0][1], b"two\n")
    assert os.read(after[1][0], 100) == b"got two\n"
    for pipe in (*before, *after):
        for descriptor in pipe:
            os.close(descriptor)


@checkpoints
def test_a_terminal_is_sent_over_the_console_socket(container, console):
    def terminal(config):
        config["process"]["terminal"] = True

    container.runtime.configure("sh", "-c", "while read word; do echo got $word; done", change=terminal)
    container.made("--console-socket", console.path)
    before, _ = console.receive()
    container.checkpoint()
    os.close(before)
    container.restore("--console-socket", console.path)
    descriptor, _ = console.receive()
    os.write(descriptor, b"on\n")
    seen = ""
    while "got on" not in seen:
        seen += os.read(descriptor, 100).decode()
    os.close(descriptor)


@checkpoints
@pytest.mark.needs("ip")
def test_a_network_namespace_that_was_there_stays_the_same(container):
    name = f"veloci-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:

        def joining(config):
            network = next(each for each in config["linux"]["namespaces"] if each["type"] == "network")
            network["path"] = f"/run/netns/{name}"

        container.start("sh", "-c", COUNTING, change=joining)
        container.checkpoint()
        container.restore()
        there = os.stat(f"/proc/{container.runtime.state()['pid']}/ns/net").st_ino
        assert there == os.stat(f"/run/netns/{name}").st_ino
        container.runtime("delete", "--force", container.runtime.id)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@checkpoints
def test_a_network_namespace_of_its_own_has_its_loopback(container):
    container.start("sleep", "100")
    container.checkpoint()
    container.restore()
    flags = container.runtime("exec", container.runtime.id, "cat", "/sys/class/net/lo/flags").stdout
    assert int(flags, 16) & 1  # IFF_UP


@checkpoints
def test_the_places_of_mounts_are_made_again(container):
    one, two = container.runtime.bundle / "one", container.runtime.bundle / "two"
    one.mkdir()
    two.mkdir()
    (two / "word").write_text("inner\n")
    (container.runtime.bundle / "rootfs/real").mkdir()
    (container.runtime.bundle / "rootfs/link").symlink_to("/real")

    def bound(config):
        config["mounts"] += [
            {"destination": "/outer", "type": "bind", "source": str(one), "options": ["bind"]},
            {"destination": "/outer/for/inner", "type": "bind", "source": "two", "options": ["rbind", "ro"]},
            {"destination": "/link/conf", "source": str(two), "options": ["bind"]},
        ]

    container.start("sleep", "100", change=bound)
    container.checkpoint()
    shutil.rmtree(one / "for")
    (two / "word").write_text("changed\n")
    container.restore()
    assert container.runtime("exec", container.runtime.id, "cat", "/outer/for/inner/word").stdout == "changed\n"
    assert container.runtime("exec", container.runtime.id, "cat", "/real/conf/word").stdout == "changed\n"
    assert "Read-only" in container.runtime("exec", container.runtime.id, "sh", "-c", ">/outer/for/inner/x").stderr


@checkpoints
def test_further_processes_and_another_cgroup(container):
    group = f"/{container.runtime.id}-other"

    def limited(config):
        config["linux"]["resources"]["pids"] = {"limit": 50}

    container.start("sleep", "100", change=limited)
    done = container.runtime("exec", container.runtime.id, "sh", "-c", "sleep 200 </dev/null >/dev/null 2>&1 &")
    assert done.returncode == 0, done.stderr
    container.checkpoint()

    def moved(config):
        limited(config)
        config["linux"]["cgroupsPath"] = group

    container.runtime.configure("sleep", "100", change=moved)
    container.restore()
    groups = Path(f"/proc/{container.runtime.state()['pid']}/cgroup").read_text().splitlines()
    # Where version 2 is not mounted it may still be in its root.
    there = " - cgroup2 " in Path("/proc/self/mountinfo").read_text()
    assert [line for line in groups if not line.endswith(group) and (there or line != "0::/")] == []
    listed = container.runtime("ps", "--format", "json", container.runtime.id).stdout
    assert len(json.loads(listed)) == 2
    limits = [*Path("/sys/fs/cgroup").glob(f"*{group}/pids.max"), *Path("/sys/fs/cgroup").glob(f"{group[1:]}/pids.max")]
    assert limits[0].read_text() == "50\n"


@checkpoints
def test_a_restore_in_the_foreground_gives_the_status(container):
    container.start("sh", "-c", "while ! [ -e /dev/shm/go ]; do sleep 0.05; done; exit 7")
    container.checkpoint("--leave-running")
    container.runtime("exec", container.runtime.id, "sh", "-c", ">/dev/shm/go")
    container.runtime("delete", "--force", container.runtime.id)
    words = ["restore", "--image-path", str(container.images), *ALONE, "--bundle", str(container.runtime.bundle)]
    command = [PROGRAM, "--root", str(container.runtime.root), *words, container.runtime.id]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as it:
        limit = time.monotonic() + 10
        while container.runtime("exec", container.runtime.id, "sh", "-c", ">/dev/shm/go").returncode:
            assert time.monotonic() < limit
        assert it.wait(10) == 7
    assert container.runtime.traces() == []


@checkpoints
def test_hooks_run_when_the_namespaces_are_there(container):
    said = container.images.parent / "said"

    def hooked(config):
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >> {said}; echo >> {said}"]}
        config["hooks"] = {"createRuntime": [hook]}

    container.start("sleep", "100", change=hooked)
    container.checkpoint()
    said.unlink()
    container.restore()
    (state,) = [json.loads(line) for line in said.read_text().splitlines()]
    assert state["status"] == "created"
    assert state["pid"] == container.runtime.state()["pid"]


@checkpoints
@pytest.mark.parametrize("seconds", [0.15, 0.4])
def test_what_a_killed_restore_leaves_can_be_deleted(container, seconds):
    container.start("sleep", "100")
    container.checkpoint()
    words = ["restore", "-d", "--image-path", str(container.images), "--bundle", str(container.runtime.bundle), *ALONE]
    command = [PROGRAM, "--root", str(container.runtime.root), *words, container.runtime.id]
    restoring = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    restoring.kill()
    restoring.wait()
    done = container.runtime("delete", "--force", container.runtime.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert container.runtime.traces() == []
    container.restore()  # the name is free


@checkpoints
def test_a_hook_that_fails_ends_the_restore(container):
    container.start("sleep", "100")
    container.checkpoint()

    def failing(config):
        config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no; exit 3"]}]}

    container.runtime.configure("sleep", "100", change=failing)
    words = ("restore", "-d", "--image-path", str(container.images), "--bundle", str(container.runtime.bundle))
    done = container.runtime(*words, container.runtime.id)
    assert done.stderr.startswith("veloci-runtime: config.json: $.hooks.createRuntime[0]: ")
    assert done.stderr.endswith("/bin/sh failed with status 3: no\n")
    assert done.returncode == 1
    assert container.runtime.traces() == []


@checkpoints
@pytest.mark.needs("runc")
@pytest.mark.parametrize("programs", [(PROGRAM, "runc"), ("runc", PROGRAM)], ids=["to runc", "from runc"])
def test_images_travel_between_runtimes(tmp_path, programs):
    first, second = (Runtime(tmp_path / str(number), program) for number, program in enumerate(programs))
    here, there = Checkpoints(first), Checkpoints(second)
    here.alone = there.alone = ()

    def hidden(
        config,
    ):  # on version 2 alone ours, without it, mounts the container's cgroup from outside, runc does not
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            config["linux"]["namespaces"].append({"type": "cgroup"})

    try:
        here.start("sh", "-c", COUNTING, change=hidden)
        before = here.counted(5)
        here.checkpoint()
        second.configure("sh", "-c", COUNTING, change=hidden)
        there.images = here.images
        there.restore()
        assert there.counted(before + 1) < before + 500
    finally:
        for runtime in (first, second):
            runtime("delete", "--force", runtime.id)


@checkpoints
def test_memory_alone_goes_before_where_the_kernel_tracks_changes(container):
    container.start("sh", "-c", COUNTING)
    earlier = container.images.parent / "earlier"
    words = ("checkpoint", "--pre-dump", "--image-path", str(earlier), *ALONE, container.runtime.id)
    done = container.runtime(*words)
    assert container.runtime.state()["status"] == "running"
    if done.returncode:
        assert "criu is missing features: mem_track" in done.stderr
        return
    container.checkpoint("--parent-path", "../earlier")
    assert (container.images / "parent").is_symlink()
    container.restore()
    container.counted(1)


@checkpoints
def test_who_waits_for_pages_is_told_when_they_can_be_fetched(container):
    container.start("sh", "-c", COUNTING)
    count = container.counted(3)
    reader, writer = os.pipe()
    words = ["--lazy-pages", "--page-server", f"127.0.0.1:{20000 + os.getpid() % 10000}", "--status-fd", str(writer)]
    command = [PROGRAM, "--root", str(container.runtime.root), "checkpoint", "--image-path", str(container.images)]
    dumping = subprocess.Popen(
        [*command, *ALONE, *words, container.runtime.id], pass_fds=[writer], stderr=subprocess.PIPE
    )
    os.close(writer)
    told = os.read(reader, 2)
    os.close(reader)
    if told:  # nobody fetches them
        children = Path(f"/proc/{dumping.pid}/task/{dumping.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)
    said = dumping.communicate(timeout=20)[1].decode()
    assert dumping.returncode == 1
    assert told == b"\0" or "criu is missing features: lazy_pages" in said
    container.counted(count + 1)


@checkpoints
@pytest.mark.skipif(
    LINUX >= (6, 18), reason="CRIU up to 4.2 cannot send pages on this kernel: splice, Bad file descriptor"
)
def test_pages_come_when_they_are_used(container):
    container.start("sh", "-c", COUNTING)
    before = container.counted(3)
    reader, writer = os.pipe()
    port = str(20000 + os.getpid() % 10000)
    words = ["--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", str(writer)]
    command = [PROGRAM, "--root", str(container.runtime.root), "checkpoint", "--image-path", str(container.images)]
    dumping = subprocess.Popen(
        [*command, *ALONE, *words, container.runtime.id], pass_fds=[writer], stderr=subprocess.PIPE
    )
    os.close(writer)
    assert os.read(reader, 1) == b"\0"
    os.close(reader)
    fetch = ["criu", "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", port, "-o", "lazy.log"]
    fetching = subprocess.Popen([*fetch, "-D", container.images])
    limit = time.monotonic() + 10
    while not (container.images / "lazy-pages.socket").exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    first, container.runtime.id = container.runtime.id, container.runtime.id + "-again"
    try:
        container.restore("--lazy-pages", "--work-path", str(container.images))
        assert container.counted(before + 1) < before + 500
        assert dumping.communicate(timeout=60)[1] == b""
        assert (dumping.returncode, fetching.wait(60)) == (0, 0)
        assert first not in container.runtime.left()
    finally:
        fetching.kill()
        dumping.kill()


@checkpoints
def test_a_failed_restore_leaves_nothing_and_says_why(container):
    container.runtime.configure("sleep", "100")
    container.images.mkdir()
    (container.images / "descriptors.json").write_text("[]")
    words = ("restore", "-d", "--image-path", str(container.images), "--bundle", str(container.runtime.bundle))
    done = container.runtime(*words, container.runtime.id)
    assert done.returncode == 1
    assert done.stderr.startswith("veloci-runtime: criu failed: type RESTORE errno "), done.stderr
    assert f"  try: cat {container.images}/restore.log\n" in done.stderr
    assert container.runtime.traces() == []


@checkpoints
def test_a_failed_checkpoint_leaves_the_container_as_it_was(container):
    with open(container.images.parent / "outside", "w") as outside:
        container.runtime.configure("sh", "-c", COUNTING)
        container.made(stdio=(outside.fileno(),) * 3)
        done = container.runtime("checkpoint", "--image-path", str(container.images), *ALONE, container.runtime.id)
    assert done.returncode == 1
    assert "criu failed: type DUMP errno " in done.stderr
    assert "outside" in done.stderr
    count = container.count()
    container.counted(count + 1)


def test_what_does_not_run_cannot_be_checkpointed(theirs):
    theirs.runtime.created("sleep", "100")
    done = theirs.runtime("checkpoint", theirs.runtime.id)
    assert "Container cannot be checkpointed in created state" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parent-path", "/above"], "--parent-path must be relative"),
        (["--parent-path", "nowhere"], "invalid --parent-path: "),
        (["--page-server", "host"], "--page-server: Use --page-server ADDRESS:PORT to specify page server"),
        (["--page-server", "host:x"], "--page-server: Invalid port number"),
        (["--manage-cgroups-mode", "some"], "--manage-cgroups-mode: invalid manage-cgroups-mode value"),
        (["--empty-ns", "pid"], '--empty-ns: namespace "pid" is not supported'),
        (["--lazy-pages", "--status-fd", "99"], "invalid --status-fd argument 99: Bad file descriptor"),
    ],
)
def test_a_flag_that_says_nothing_is_refused_by_name(runtime, words, message):
    runtime.detached("sleep", "100")
    done = runtime("checkpoint", "--image-path", str(runtime.bundle / "images"), *words, runtime.id)
    assert done.stderr.startswith(f"veloci-runtime: {message}"), done.stderr
    assert runtime.state()["status"] == "running"


def test_without_criu_nothing_is_begun(runtime):
    runtime.detached("sleep", "100")
    done = runtime("--criu", "no-criu", "checkpoint", "--image-path", str(runtime.bundle / "images"), runtime.id)
    want = "veloci-runtime: no-criu is not installed: executable file not found in $PATH\n  try: apt install criu\n"
    assert (done.stderr, done.returncode) == (want, 1)
    assert runtime.state()["status"] == "running"
    words = ("restore", "-d", "--image-path", "nowhere", "--bundle", str(runtime.bundle), "other")
    assert runtime("--criu", "no-criu", *words).stderr == want
    assert runtime.left() == [runtime.id]


@pytest.mark.parametrize("false", ["", "ln -s /bin/true", "touch", "mkfifo"], ids=["true", "link", "file", "fifo"])
def test_the_null_device_becomes_the_containers_own_if_that_is_one(runtime, false):
    runtime.detached("sleep", "100")
    if false:
        runtime("exec", runtime.id, "sh", "-c", f"busybox rm /dev/null; busybox {false} /dev/null")
    told = runtime("exec", runtime.id, "stat", "-L", "-c", "%t:%T %d", "/proc/self/fd/0", "/dev/null")
    (device, file_system), (_, own) = (line.split() for line in told.stdout.splitlines())
    assert device == "1:3"
    assert (file_system == own) == (not false)


def test_podmans_questions_are_answered(runtime):
    told = json.loads(runtime("features").stdout)
    assert told["annotations"]["org.opencontainers.runc.checkpoint.enabled"] == "true"
    assert "org.criu.config" in told["potentiallyUnsafeConfigAnnotations"]
    assert runtime("checkpoint", "--help").returncode == 0
    assert "flag needs an argument" in runtime("restore", "--lsm-mount-context").stderr


def test_messages_are_as_the_protocol_has_them():
    message = {"type": rpc.DUMP, "opts": {"images_dir_fd": -1, "pid": 300, "ext_mnt": [{"key": "/a", "val": "b"}]}}
    inner = b"\x08" + b"\xff" * 9 + b"\x01" + b"\x10\xac\x02" + b"\xba\x01\x07\x0a\x02/a\x12\x01b"
    assert rpc.encode(message) == b"\x08\x01\x12" + bytes([len(inner)]) + inner
    response = rpc.Response(b"\x08\x06\x10\x01\x2a\x11\x0a\x0cpost-restore\x10\xac\x02")
    assert (response.kind, response.succeeded) == (rpc.NOTIFY, True)
    assert (response.script, response.pid) == ("post-restore", 300)
    assert rpc.Response(b"\x08\x0a\x10\x01\x52\x06\x08\x03\x10\x11\x20\x01").version == 31701


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_a_refusal(data):
    try:
        response = rpc.Response(data)
    except ValueError:
        return
    assert isinstance(response.kind, int)
    assert isinstance(response.script, str)
