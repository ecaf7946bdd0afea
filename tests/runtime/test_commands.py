"""Flags of create, run and exec, and those before the command: what runc's callers use."""

import array
import fcntl
import json
import os
import socket
import subprocess
import time

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")


def call(runtime, *words, fds=(), environment=None):
    """The command with descriptors from 3 on, which are copies of `fds`, and its own pid in LISTEN_PID."""
    moves = "".join(f"exec {number}<&{fd}; " for number, fd in enumerate(fds, 3))
    script = f'{moves}export LISTEN_PID=${{OTHER_PID:-$$}}; exec "$@"'
    command = ["bash", "-c", script, "bash", runtime.program, "--root", str(runtime.root), *words]
    return subprocess.run(
        command,
        pass_fds=fds,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.fixture
def files(tmp_path):
    """Two descriptors far above 3."""
    descriptors = []
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}\n")
        low = os.open(tmp_path / name, os.O_RDONLY)
        descriptors.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 200))
        os.close(low)
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_list_of_a_root_that_is_not_there_fails(runtime):
    assert runtime("list").returncode == 1


def test_a_kill_ends_what_no_namespace_of_its_own_would(runtime):
    def change(config):
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "pid"]

    runtime.detached("sh", "-c", "sleep 100 & sleep 100 & wait", change=change)
    for _ in range(100):
        pids = json.loads(runtime("ps", "--format", "json", runtime.id).stdout)
        if len(pids) == 3:
            break
        time.sleep(0.02)
    assert runtime("kill", runtime.id, "KILL").returncode == 0
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids[1:]):
            break
        time.sleep(0.02)
    else:
        raise AssertionError("its processes are still there")
    runtime("delete", "-f", runtime.id)


@pytest.mark.needs("bash")
def test_descriptors_are_preserved_on_demand(either, files):
    either.configure("sh", "-c", "cat <&3; cat <&4; ls /proc/self/fd | wc -l")
    done = call(either, "run", "--preserve-fds", "2", "--bundle", str(either.bundle), either.id, fds=files)
    assert done.stdout.split()[:2] == ["one", "two"], done.stderr
    either.detached("sleep", "100")
    for descriptor in files:
        os.lseek(descriptor, 0, 0)
    done = call(either, "exec", "--preserve-fds", "2", either.id, "sh", "-c", "cat <&3; cat <&4", fds=files)
    assert done.stdout.split() == ["one", "two"], done.stderr


@pytest.mark.needs("bash")
@pytest.mark.parametrize(("other", "seen"), [({}, ["1", "1", "one", "two"]), ({"OTHER_PID": "1"}, ["one"])])
def test_sockets_of_a_service_manager_are_handed_on_by_whom_they_are_for(either, files, other, seen):
    either.configure("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4")
    words = ("run", "--preserve-fds", "1", "--bundle", str(either.bundle), either.id)
    done = call(either, *words, fds=files, environment={"LISTEN_FDS": "1", **other})
    assert done.stdout.split() == seen, done.stderr


@pytest.mark.needs("bash")
def test_a_number_of_sockets_that_is_none_is_refused(runtime):
    runtime.configure("true")
    done = call(runtime, "run", "--bundle", str(runtime.bundle), runtime.id, environment={"LISTEN_FDS": "x"})
    assert done.stderr == "veloci-runtime run failed: LISTEN_FDS: 'x' is not a number\n"


def test_a_descriptor_of_the_process_is_sent(runtime, tmp_path):
    listening = socket.socket(socket.AF_UNIX)
    directory = os.open(tmp_path, os.O_PATH)
    listening.bind(f"/proc/self/fd/{directory}/p")
    os.close(directory)
    listening.listen(2)
    listening.settimeout(10)

    def pid():
        connection, _ = listening.accept()
        with connection:
            _, control, _, _ = connection.recvmsg(100, socket.CMSG_LEN(4))
        descriptor = array.array("i", control[0][2])[0]
        with open(f"/proc/self/fdinfo/{descriptor}") as file:
            found = next(line for line in file if line.startswith("Pid:"))
        os.close(descriptor)
        return int(found.split()[1])

    runtime.configure("sleep", "100")
    runtime._quietly("create", "--pidfd-socket", str(tmp_path / "p"))
    assert pid() == runtime.state()["pid"]
    runtime("start", runtime.id)
    file = tmp_path / "pid"
    words = ["exec", "--pidfd-socket", str(tmp_path / "p"), "--pid-file", str(file), runtime.id, "sleep", "100"]
    with subprocess.Popen([runtime.program, "--root", str(runtime.root), *words]) as process:
        assert pid() == int(file.read_text())
        runtime("kill", runtime.id, "KILL")
        assert process.wait(60) == 137
    listening.close()


def test_the_pid_file_has_the_pid_and_no_newline(either, tmp_path):
    either.configure("sleep", "100")
    either._quietly("create", "--pid-file", str(tmp_path / "pid"))
    assert (tmp_path / "pid").read_text() == str(either.state()["pid"])


def test_without_pivot_the_root_is_the_containers_all_the_same(either):
    either.configure("ls", "/")
    done = either("run", "--no-pivot", "--bundle", str(either.bundle), either.id)
    assert set(done.stdout.split()) == {"bin", "dev", "proc", "sys"}, done.stderr


def test_without_pivot_no_new_proc_can_be_mounted_that_hides_nothing(runtime):
    (runtime.bundle / "rootfs/bin/unshare").symlink_to("busybox")

    def change(config):
        for name in ("bounding", "permitted", "effective"):
            config["process"]["capabilities"][name].append("CAP_SETFCAP")

    runtime.configure("unshare", "-mrpf", "mount", "-t", "proc", "none", "/proc", change=change)
    done = runtime("run", "--no-pivot", "--bundle", str(runtime.bundle), runtime.id)
    assert "permission denied" in done.stderr
    assert done.returncode == 1


def test_ps_hands_over_what_follows_the_id(runtime):
    runtime.detached("sleep", "100")
    assert runtime("ps", runtime.id, "-e", "-x").stdout.split()[:5] == ["PID", "TTY", "STAT", "TIME", "COMMAND"]
    runtime("delete", "-f", runtime.id)


def test_the_callers_keyring_is_kept_on_demand(runtime):
    runtime.configure("cat", "/proc/keys", change=lambda c: c["linux"].update(maskedPaths=[]))
    done = runtime("run", "--no-new-keyring", "--bundle", str(runtime.bundle), runtime.id)
    assert f"_ses.{runtime.id}:" not in done.stdout


def test_a_container_is_kept_on_demand(runtime):
    runtime.configure("true")
    assert runtime("run", "--keep", "--bundle", str(runtime.bundle), runtime.id).returncode == 0
    assert runtime.state()["status"] == "stopped"
    assert runtime("delete", runtime.id).returncode == 0


def test_what_a_container_leaves_running_is_gone_with_it(runtime):
    def change(config):
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "pid"]

    done = runtime.run("sh", "-c", "sleep 4321 > /dev/null 2>&1 & true", change=change)
    assert done.returncode == 0
    time.sleep(0.1)
    left = subprocess.run(["pgrep", "-f", "^sleep 4321"], capture_output=True, text=True, check=False)
    assert left.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rootless", "maybe"], "--rootless: 'maybe' is none of auto, true and false"),
        (["--log-format", "xml"], "--log-format: invalid log-format: 'xml'"),
        (["--nothing", "/x"], "--nothing: unknown option"),
    ],
)
def test_what_cannot_be_is_refused_by_name(runtime, words, message):
    done = runtime(*words, "list")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, f"veloci-runtime: {message}")


@pytest.mark.needs("runc")
@pytest.mark.parametrize("words", [("-o", "nosuch"), ("--no-headers",), ("-o", "comm")])
def test_ps_says_what_ps_complains_of(runtime, words):
    runtime.detached("sleep", "100")
    done = runtime("ps", runtime.id, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"veloci-runtime: ps {' '.join(words)}: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_format_that_there_is_not_is_refused(either):
    either.detached("sleep", "100")
    for words in (("ps", "--format", "x", either.id), ("list", "--format", "x")):
        done = either(*words)
        assert done.returncode == 1
        assert "invalid format option" in done.stderr


def test_an_id_that_is_taken_is_said_before_all_else(either):
    either.detached("sleep", "100")
    done = either("create", "--bundle", str(either.bundle), either.id)
    assert done.returncode == 1
    assert "create failed: container with given ID already exists" in done.stderr


@pytest.mark.parametrize("id", [".", "..", "a/b", "a b", "ü"])
def test_an_id_that_is_none_is_said_before_all_else(either, id):
    either.configure("true")
    for words in (("create", "--bundle", str(either.bundle), id), ("create", "--bundle", "/nowhere", id)):
        done = either(*words)
        assert done.returncode == 1
        if words[2] != "/nowhere" or "runc" not in either.program.rpartition("/")[2]:
            assert "create failed: invalid container ID format" in done.stderr


def test_in_runcs_place_it_has_runcs_name(runtime, tmp_path):
    """A link beside another python3, as in /usr/bin: the program is the one that the link names."""
    link = tmp_path / "bin/runc"
    link.parent.mkdir()
    link.symlink_to(runtime.program)
    (link.parent / "python3").symlink_to("/bin/false")
    runtime.program = str(link)
    for words in (("-h",), ("--help",), ("help",), ("h",)):
        lines = runtime(*words).stdout.splitlines()
        assert lines[:2] == ["NAME:", "   runc - Open Container Initiative runtime"]
    for words in (("state", "-h"), ("state", "--help"), ("help", "state")):
        lines = runtime(*words).stdout.splitlines()
        assert lines[:2] == ["NAME:", "   runc state - Print a container's state as JSON."]
    version = runtime("--version").stdout.splitlines()
    assert version[0].startswith("runc version ")
    assert [line.partition(":")[0] for line in version[1:]] == ["commit", "spec", "libseccomp"]
    assert runtime("create", "--bundle", "/nowhere", "x").stderr.startswith("runc create failed: ")


def test_features_are_at_least_runcs(runtime):
    ours = json.loads(runtime("features").stdout)
    theirs = json.loads(subprocess.run(["runc", "features"], capture_output=True, check=True).stdout)
    assert (ours["ociVersionMin"], ours["ociVersionMax"]) == ("1.0.0", "1.3.0")
    assert set(ours["hooks"]) == set(theirs["hooks"])
    assert set(theirs["mountOptions"]) - set(ours["mountOptions"]) == {"noacl"}  # a file system's own
    assert ours["potentiallyUnsafeConfigAnnotations"] == ["org.criu.config", "org.systemd.property."]
    for name in ("namespaces", "capabilities"):
        assert set(theirs["linux"][name]) <= set(ours["linux"][name])
    for name in ("actions", "operators", "archs"):
        assert set(theirs["linux"]["seccomp"][name]) <= set(ours["linux"]["seccomp"][name])
    assert ours["linux"]["cgroup"] == {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True}
    assert ours["linux"]["netDevices"] == ours["linux"]["mountExtensions"]["idmap"] == {"enabled": True}
    assert "MPOL_BIND" in ours["linux"]["memoryPolicy"]["modes"]


def test_debug_tells_what_is_called(runtime, tmp_path):
    runtime.root.mkdir()
    log = tmp_path / "log"
    runtime("--debug", "--log", str(log), "--log-format", "json", "list", "-q")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["level"], line["msg"]) for line in lines] == [
        ("debug", "list -q"),
        ("debug", "list ended with status 0"),
    ]
    assert runtime("--debug", "list", "-q").stderr.count("level=debug") == 2


def test_a_log_that_takes_no_line_stops_no_container(runtime):
    runtime.configure("sh", "-c", "echo ran")
    done = runtime("--debug", "--log", "/dev/full", "run", "--bundle", str(runtime.bundle), runtime.id)
    assert (done.stdout, done.returncode) == ("ran\n", 0)
    assert {*done.stderr.splitlines()} == {"veloci-runtime: write the log: No space left on device"}
    assert runtime.left() == []
